//! The first line of a script: `#!`, the interpreter, and what is behind it as one argument. Read as Linux reads it, by bytes.

use crate::fs::Regular;
use alloc::vec::Vec;
use quire_base::errno::{EACCES, ENOEXEC, Errno};

/// So many scripts may be interpreters of each other.
pub const DEEPEST: u32 = 5;

/// Bytes that are looked at; the line has one less, or ends before.
const LONGEST: usize = 256;

/// What the line says.
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

/// The line of a file; `None`: it is no script.
pub fn read(file: &Regular) -> Result<Option<Line>, Errno> {
    let mut head = [0u8; LONGEST];
    file.read_at(0, &mut head)?;
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
