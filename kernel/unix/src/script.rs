//! The first line of a script: `#!`, the interpreter, and what is behind it as one argument. Read as Linux reads it, by bytes.

use alloc::vec::Vec;
use quire_base::errno::{EACCES, ENOEXEC, Errno};

/// So many scripts may be interpreters of each other.
pub const DEEPEST: u32 = 5;

/// Bytes that are looked at; the line has one less, or ends before.
pub const LONGEST: usize = 256;

/// What the line says.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// Path of the interpreter.
    pub interpreter: Vec<u8>,
    /// All that is behind it, but for blanks around it.
    pub argument: Option<Vec<u8>>,
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn ends_name(byte: u8) -> bool {
    is_blank(byte) || byte == 0
}

/// The line of a file that begins with `head`, and with zeros behind its end; `None`: it is no script.
pub fn parse(head: &[u8; LONGEST]) -> Result<Option<Line>, Errno> {
    let Some(line) = head.strip_prefix(b"#!") else { return Ok(None) };
    // Behind a zero no end is looked for.
    let end = line.iter().position(|&b| matches!(b, b'\n' | 0)).filter(|&at| line[at] == b'\n');
    let end = match end {
        Some(end) => end,
        // A longer line may be cut in its argument, not in its interpreter's path.
        None => {
            let name = line.iter().position(|&b| !is_blank(b)).ok_or(ENOEXEC)?;
            line[name..].iter().position(|&b| ends_name(b)).ok_or(ENOEXEC)?;
            line.len() - 1
        }
    };
    let last = line[..end].iter().rposition(|&b| !is_blank(b)).ok_or(ENOEXEC)?;
    let first = line.iter().position(|&b| !is_blank(b)).unwrap_or_default();
    let line = &line[first..=last];
    let split = line.iter().position(|&b| ends_name(b)).unwrap_or(line.len());
    let (interpreter, rest) = line.split_at(split);
    if interpreter.is_empty() {
        // As Linux, for which that is the working directory.
        return Err(EACCES);
    }
    // What is behind a zero is not there.
    let argument = rest.iter().position(|&b| !is_blank(b)).filter(|_| rest[0] != 0);
    let argument = argument.and_then(|at| rest[at..].split(|&b| b == 0).next()).map(|text| text.to_vec());
    Ok(Some(Line { interpreter: interpreter.to_vec(), argument }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &[u8]) -> Result<Option<Line>, Errno> {
        let mut head = [0; LONGEST];
        let len = text.len().min(LONGEST);
        head[..len].copy_from_slice(&text[..len]);
        parse(&head)
    }

    fn line(interpreter: &[u8], argument: Option<&[u8]>) -> Result<Option<Line>, Errno> {
        Ok(Some(Line { interpreter: interpreter.to_vec(), argument: argument.map(<[u8]>::to_vec) }))
    }

    #[test]
    fn all_behind_the_interpreter_is_one_argument() {
        assert_eq!(of(b"#!/bin/sh\necho"), line(b"/bin/sh", None));
        assert_eq!(of(b"#! \t/bin/sh  -e  -u \t\n"), line(b"/bin/sh", Some(b"-e  -u")));
        assert_eq!(of(b"#!/bin/sh\0ignored\n"), line(b"/bin/sh", None));
        assert_eq!(of(b"#!/bin/sh -a\0b\n"), line(b"/bin/sh", Some(b"-a")));
        assert_eq!(of(b"\x7fELF"), Ok(None));
        assert_eq!(of(b""), Ok(None));
    }

    #[test]
    fn a_line_without_an_end_may_be_cut_in_its_argument_only() {
        let long = [b"#!/bin/sh ".as_slice(), &[b'x'; 300]].concat();
        assert_eq!(of(&long), line(b"/bin/sh", Some(&[b'x'; LONGEST - 2 - 8 - 1])));
        let name = [b"#!/".as_slice(), &[b'x'; 300]].concat();
        assert_eq!(of(&name), Err(ENOEXEC));
        assert_eq!(of(&[b"#!".as_slice(), &[b' '; 300]].concat()), Err(ENOEXEC));
    }

    #[test]
    fn a_line_without_an_interpreter_is_refused() {
        assert_eq!(of(b"#!\n"), Err(ENOEXEC));
        assert_eq!(of(b"#! \t\n"), Err(ENOEXEC));
        assert_eq!(of(b"#!\0/bin/sh\n"), Err(EACCES));
    }
}
