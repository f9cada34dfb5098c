//! Standard input, output and error: pipes on the host's side, so they behave like pipes here.

use super::io::short;
use super::stat::{Stat, kind};
use super::{File, UserIo};
use crate::host;
use crate::proc::sleep::wait_on;
use core::any::Any;
use linux_raw_sys::general as l;
use quire_base::errno::*;

/// One of the three streams.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Console {
    /// Descriptor 0.
    Input,
    /// Descriptor 1.
    Output,
    /// Descriptor 2.
    Error,
}

/// Bytes that travel at once through the kernel's own memory.
const CHUNK: usize = 2048;

impl File for Console {
    fn read(&self, io: &mut UserIo, _: u64, nonblock: bool) -> SysResult {
        if *self != Console::Input {
            return Err(EBADF);
        }
        let mut chunk = [0u8; CHUNK];
        if io.left() == 0 {
            return Ok(0);
        }
        let want = io.left().min(CHUNK);
        let mut take = || match host::read_stdin(&mut chunk[..want]) {
            0 if host::stdin_ended() => Some(0),
            0 => None,
            n => Some(n),
        };
        let n = match take() {
            Some(n) => n,
            None if nonblock => return Err(EAGAIN),
            None => wait_on(host::stdin_queue(), None, take)?,
        };
        let put = io.put(&chunk[..n]);
        if put < n { short(put) } else { Ok(n) }
    }
    fn write(&self, io: &mut UserIo, _: u64, _: bool) -> SysResult {
        let stream = match self {
            Console::Input => return Err(EBADF),
            Console::Output => host::STDOUT,
            Console::Error => host::STDERR,
        };
        let mut chunk = [0u8; CHUNK];
        let mut done = 0;
        while io.left() > 0 {
            let room = io.left().min(CHUNK);
            let n = io.get(&mut chunk[..room]);
            host::send(stream, &chunk[..n]);
            done += n;
            if n < room {
                return short(done);
            }
        }
        Ok(done)
    }
    fn stat(&self) -> Stat {
        Stat { ino: 10 + *self as u64, mode: kind::FIFO | 0o600, nlink: 1, ..Stat::default() }
    }
    fn poll(&self) -> u32 {
        match self {
            Console::Input => {
                let mut events = 0;
                if host::stdin_len() > 0 {
                    events |= l::POLLIN | l::POLLRDNORM;
                }
                if host::stdin_ended() {
                    events |= l::POLLHUP;
                }
                events
            }
            _ => l::POLLOUT | l::POLLWRNORM,
        }
    }
    fn ioctl(&self, command: u32, argument: usize) -> SysResult {
        if command == linux_raw_sys::ioctl::FIONREAD && *self == Console::Input {
            crate::mem::user::UserPtr::<i32>::new(argument).write(host::stdin_len() as i32)?;
            return Ok(0);
        }
        Err(ENOTTY)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
