//! What the guest says to the host: `[type u8][length u32 little endian][payload]`, as `quire-launch` reads it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitStatus;

use std::os::unix::process::ExitStatusExt;

const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ENDED: u8 = 3;
const DONE: u8 = 5;

/// Longest payload of one frame; the host believes up to 1 MiB.
const LONGEST: usize = 64 << 10;

/// The channel to the host.
pub struct Host(File);

impl Host {
    /// Opens the port.
    pub fn open(path: &Path) -> io::Result<Self> {
        OpenOptions::new().write(true).open(path).map(Self)
    }

    /// What a job wrote to standard output.
    pub fn stdout(&mut self, bytes: &[u8]) -> io::Result<()> {
        bytes.chunks(LONGEST).try_for_each(|chunk| self.frame(STDOUT, chunk))
    }

    /// What a job wrote to standard error.
    pub fn stderr(&mut self, bytes: &[u8]) -> io::Result<()> {
        bytes.chunks(LONGEST).try_for_each(|chunk| self.frame(STDERR, chunk))
    }

    /// How a job ended: by `exit` (kind 0), by a signal (1), or never started (2, with the errno).
    pub fn ended(&mut self, job: u32, how: &io::Result<ExitStatus>) -> io::Result<()> {
        let (kind, value) = match how {
            Ok(status) => match status.code() {
                Some(code) => (0, code),
                None => (1, status.signal().unwrap_or(0)),
            },
            Err(error) => (2, error.raw_os_error().unwrap_or(libc::EIO)),
        };
        let mut payload = job.to_le_bytes().to_vec();
        payload.push(kind);
        payload.extend_from_slice(&value.to_le_bytes());
        self.frame(ENDED, &payload)
    }

    /// The last word.
    pub fn done(&mut self) -> io::Result<()> {
        self.frame(DONE, &[])
    }

    fn frame(&mut self, kind: u8, payload: &[u8]) -> io::Result<()> {
        let mut frame = vec![kind];
        frame.extend_from_slice(&u32::try_from(payload.len()).map_err(io::Error::other)?.to_le_bytes());
        frame.extend_from_slice(payload);
        self.0.write_all(&frame)
    }
}
