//! socketpair: two pipes, crosswise. There is no network.

use super::pipe::{End, Pipe};
use super::rights::Rights;
use super::stat::{Stat, kind};
use super::{File, UserIo};
use alloc::sync::Arc;
use core::any::Any;
use linux_raw_sys::general as l;
use quire_base::errno::*;
use quire_base::lock::Mutex;

/// One end of a connected pair of stream sockets.
pub struct Socket {
    ino: u64,
    reads: Arc<End>,
    /// `None` once shut down for writing.
    writes: Mutex<Option<Arc<End>>>,
}

/// What poll says of a socket with room.
const WRITABLE: u32 = l::POLLOUT | l::POLLWRNORM | l::POLLWRBAND;

/// Makes a pair.
pub fn pair() -> Result<(Socket, Socket), Errno> {
    let (a, b) = (Pipe::new()?, Pipe::new()?);
    let half = |reads: &Arc<Pipe>, writes: &Arc<Pipe>| -> Result<Socket, Errno> {
        Ok(Socket {
            ino: reads.number(),
            reads: End::new(reads, true, false)?,
            writes: Mutex::new(Some(End::new(writes, false, true)?)),
        })
    };
    Ok((half(&a, &b)?, half(&b, &a)?))
}

impl Socket {
    /// `shutdown`
    pub fn shutdown(&self, how: u32) -> SysResult {
        if how > 2 {
            return Err(EINVAL);
        }
        if how != 1 {
            self.reads.shut();
        }
        if how != 0 {
            let end = self.writes.lock().take();
            drop(end);
        }
        super::poll::notify();
        Ok(0)
    }

    /// Receives without taking.
    pub fn peek(&self, io: &mut UserIo, nonblock: bool, rights: &mut Option<Rights>) -> SysResult {
        self.reads.peek(io, nonblock, rights)
    }

    /// Receives, with the files that come with the bytes.
    pub fn receive(&self, io: &mut UserIo, nonblock: bool, rights: &mut Option<Rights>) -> SysResult {
        self.reads.receive(io, nonblock, rights)
    }

    /// Sends, and files with it.
    pub fn send(&self, io: &mut UserIo, nonblock: bool, rights: Option<Rights>) -> SysResult {
        let end = self.writes.lock().clone();
        end.ok_or(EPIPE)?.send(io, nonblock, rights)
    }
}

impl File for Socket {
    fn read(&self, io: &mut UserIo, _: u64, nonblock: bool) -> SysResult {
        self.receive(io, nonblock, &mut None)
    }
    fn write(&self, io: &mut UserIo, _: u64, nonblock: bool) -> SysResult {
        self.send(io, nonblock, None)
    }
    fn stat(&self) -> Stat {
        Stat { ino: self.ino, mode: kind::SOCK | 0o777, nlink: 1, ..Stat::default() }
    }
    fn poll(&self) -> u32 {
        // First: the last bytes are there when nothing comes any more.
        let over = self.reads.is_over();
        let end = self.writes.lock().clone();
        let refused = end.as_ref().is_none_or(|end| end.is_refused());
        let writes = end.map_or(WRITABLE, |end| if end.poll() & l::POLLOUT != 0 { WRITABLE } else { 0 });
        let mut events = self.reads.poll() & !l::POLLHUP | writes;
        if over {
            events |= l::POLLIN | l::POLLRDNORM | l::POLLRDHUP;
        }
        if over && refused {
            events |= l::POLLHUP;
        }
        events
    }
    fn held(&self, deep: bool) -> u64 {
        let end = self.writes.lock().clone();
        self.reads.held(deep) + end.map_or(0, |end| end.held(deep))
    }
    fn edges(&self) -> [u64; 2] {
        let writes = self.writes.lock().clone().map_or(0, |end| end.edges()[1]);
        [self.reads.edges()[0], writes]
    }
    fn ioctl(&self, command: u32, argument: usize) -> SysResult {
        self.reads.ioctl(command, argument)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
