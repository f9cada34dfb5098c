//! The wire format between guest and host: `[type u8][length u32 little endian][payload]`, both ways.

use std::io::{self, Read, Write};

/// Longest payload that is believed; anything above means that the stream is not what it should be.
const LONGEST: usize = 1 << 20;

/// Host to guest: bytes for the program's standard input.
const STDIN: u8 = 1;
/// Host to guest: no more input will come.
const STDIN_END: u8 = 2;

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It called `exit` with this status.
    Exited(i32),
    /// This signal ended it.
    Signalled(i32),
    /// It could not be started, for this errno.
    NotStarted(i32),
    /// The audit after it found something wrong; the log says what.
    AuditFailed,
}

/// What the guest says.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Bytes that the program wrote to standard output.
    Stdout(&'a [u8]),
    /// Bytes that the program wrote to standard error.
    Stderr(&'a [u8]),
    /// Job number so-and-so ended. An audit that fails is told in a second event for the same job.
    Ended(u32, How),
    /// A line of the kernel's own for standard error, such as a counter.
    Line(&'a str),
    /// Every job has ended and the machine is about to stop.
    Done,
    /// The kernel panicked; its report.
    Panicked(&'a str),
    /// The first program reached its first instruction, so many nanoseconds after the kernel's entry.
    Started(u64),
}

/// Reads frames from the guest.
pub struct Frames<R> {
    from: R,
    payload: Vec<u8>,
}

impl<R: Read> Frames<R> {
    /// Frames will be read from `from`.
    pub fn new(from: R) -> Self {
        Self { from, payload: Vec::new() }
    }

    /// The next event, or `None` when the guest's end of the channel is closed. A channel that closes in the middle of
    /// a frame counts as closed too: the machine was stopped while it wrote.
    pub fn next_event(&mut self) -> io::Result<Option<Event<'_>>> {
        let mut head = [0; 5];
        if !filled(self.from.read_exact(&mut head))? {
            return Ok(None);
        }
        let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if length > LONGEST {
            return Err(nonsense(format!("a frame of {length} bytes (type {})", head[0])));
        }
        self.payload.resize(length, 0);
        if !filled(self.from.read_exact(&mut self.payload))? {
            return Ok(None);
        }
        parse(head[0], &self.payload).map(Some)
    }
}

/// `Ok(false)` for an end of file, which is no error here.
fn filled(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn parse(kind: u8, payload: &[u8]) -> io::Result<Event<'_>> {
    let text = |bytes| std::str::from_utf8(bytes).unwrap_or("(text that is not UTF-8)");
    Ok(match kind {
        1 => Event::Stdout(payload),
        2 => Event::Stderr(payload),
        3 => {
            let &[a, b, c, d, kind, e, f, g, h] = payload else {
                return Err(nonsense(format!("an end of {} bytes", payload.len())));
            };
            let value = i32::from_le_bytes([e, f, g, h]);
            let how = match kind {
                0 => How::Exited(value),
                1 => How::Signalled(value),
                2 => How::NotStarted(value),
                3 => How::AuditFailed,
                other => return Err(nonsense(format!("an end of kind {other}"))),
            };
            Event::Ended(u32::from_le_bytes([a, b, c, d]), how)
        }
        4 => Event::Line(text(payload)),
        5 => Event::Done,
        6 => Event::Panicked(text(payload)),
        7 => Event::Started(payload.try_into().map(u64::from_le_bytes).unwrap_or(0)),
        other => return Err(nonsense(format!("a frame of type {other}"))),
    })
}

fn nonsense(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the guest sent {what}"))
}

/// Sends bytes for standard input. One frame, one write: a frame is never left half sent by another writer.
pub fn send_input(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    send(to, STDIN, bytes)
}

/// Says that standard input has ended.
pub fn send_end_of_input(to: &mut impl Write) -> io::Result<()> {
    send(to, STDIN_END, &[])
}

fn send(to: &mut impl Write, kind: u8, payload: &[u8]) -> io::Result<()> {
    let mut frame = Vec::with_capacity(5 + payload.len());
    frame.push(kind);
    frame.extend_from_slice(&u32::try_from(payload.len()).map_err(io::Error::other)?.to_le_bytes());
    frame.extend_from_slice(payload);
    to.write_all(&frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_back_in_order() {
        let bytes =
            b"\x01\x02\0\0\0hi\x03\x09\0\0\0\x02\0\0\0\x01\x0b\0\0\0\x07\x08\0\0\0\x01\0\0\0\0\0\0\0\x05\0\0\0\0";
        let mut frames = Frames::new(&bytes[..]);
        assert_eq!(frames.next_event().unwrap(), Some(Event::Stdout(b"hi")));
        assert_eq!(frames.next_event().unwrap(), Some(Event::Ended(2, How::Signalled(11))));
        assert_eq!(frames.next_event().unwrap(), Some(Event::Started(1)));
        assert_eq!(frames.next_event().unwrap(), Some(Event::Done));
        assert_eq!(frames.next_event().unwrap(), None);
    }

    #[test]
    fn a_broken_stream_is_told_from_a_closed_one() {
        assert!(Frames::new(&b"\x01\xff\xff\xff\xff"[..]).next_event().is_err());
        assert!(Frames::new(&b"\x2a\0\0\0\0"[..]).next_event().is_err());
        assert!(Frames::new(&b"\x03\x01\0\0\0x"[..]).next_event().is_err());
        assert_eq!(Frames::new(&b"\x01\x09\0\0\0cut"[..]).next_event().unwrap(), None);
    }

    #[test]
    fn input_is_framed() {
        let mut sent = Vec::new();
        send_input(&mut sent, b"ab").unwrap();
        send_end_of_input(&mut sent).unwrap();
        assert_eq!(sent, b"\x01\x02\0\0\0ab\x02\0\0\0\0");
    }
}
