//! The ends of a pipe: what descriptors refer to, and who counts as a reader or a writer.

use super::Pipe;
use crate::fs::rights::Rights;
use crate::fs::stat::{Stat, kind};
use crate::fs::{File, UserIo, poll};
use crate::mem::user::UserPtr;
use crate::proc::process::arc;
use crate::proc::sleep::wait_on;
use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use linux_raw_sys::general as l;
use quire_base::errno::*;

/// One end of a pipe, or (a FIFO opened for both) both.
pub struct End {
    pipe: Arc<Pipe>,
    reads: bool,
    writes: bool,
    /// It was opened while nobody had the other end: how often that had been opened by then.
    before: Option<u64>,
    /// O_DIRECT: each write is a packet of its own.
    packets: AtomicBool,
}

impl End {
    /// Opens an end.
    pub fn new(pipe: &Arc<Pipe>, reads: bool, writes: bool) -> Result<Arc<Self>, Errno> {
        let mut end = arc(End {
            pipe: pipe.clone(),
            reads: false,
            writes: false,
            before: None,
            packets: AtomicBool::new(false),
        })?;
        let Some(new) = Arc::get_mut(&mut end) else { unreachable!("just made") };
        {
            // Under the lock, so that of two that open at once the second sees the first, and the first sees the count change.
            let mut opened = pipe.opened.lock();
            let others = [pipe.has_readers(), pipe.has_writers()];
            for (i, (mine, count)) in [(reads, &pipe.readers), (writes, &pipe.writers)].into_iter().enumerate() {
                opened[i] += u64::from(mine);
                count.fetch_add(usize::from(mine), Ordering::SeqCst);
                if !mine && !others[i] {
                    new.before = Some(opened[i]);
                }
            }
            // From here on its drop counts down.
            (new.reads, new.writes) = (reads, writes);
        }
        pipe.wake_both();
        Ok(end)
    }
    /// Whether nobody had the other end when this one was opened, and nobody has opened it since.
    fn is_first(&self) -> bool {
        self.before == Some(self.pipe.opened.lock()[usize::from(self.reads)])
    }
    /// The pipe.
    pub fn pipe(&self) -> &Arc<Pipe> {
        &self.pipe
    }
    /// Whether writes are packets from now on.
    pub fn set_packets(&self, on: bool) {
        self.packets.store(on, Ordering::Relaxed);
    }
    /// Waits until the other end of a named pipe is open, or has been meanwhile.
    pub fn wait_for_other(&self) -> Result<(), Errno> {
        let queue = if self.reads { &self.pipe.filled } else { &self.pipe.drained };
        wait_on(queue, None, || (!self.is_first()).then_some(()))
    }
    /// Reads what is inside, and leaves it there.
    pub fn peek(&self, io: &mut UserIo, nonblock: bool, rights: &mut Option<Rights>) -> SysResult {
        self.pipe.read(io, nonblock, true, rights)
    }
    /// Reads with the files that come with the bytes.
    pub fn receive(&self, io: &mut UserIo, nonblock: bool, rights: &mut Option<Rights>) -> SysResult {
        self.pipe.read(io, nonblock, false, rights)
    }
    /// Writes, and files with it.
    pub fn send(&self, io: &mut UserIo, nonblock: bool, rights: Option<Rights>) -> SysResult {
        self.pipe.write(io, nonblock, false, rights)
    }
    /// Whether the pipe has a reader.
    pub fn has_reader(&self) -> bool {
        self.pipe.has_readers()
    }
    /// From now on readers get what is inside, and writers are refused.
    pub fn shut(&self) {
        self.pipe.shut.store(true, Ordering::SeqCst);
        self.tell_of_end();
    }
    /// An end has gone: an edge for those who poll the other one, though no byte has moved.
    fn tell_of_end(&self) {
        self.pipe.writes.fetch_add(1, Ordering::SeqCst);
        self.pipe.reads.fetch_add(1, Ordering::SeqCst);
        self.pipe.wake_both();
    }
    /// Whether nothing comes behind what is inside.
    pub fn is_over(&self) -> bool {
        !self.pipe.is_open()
    }
    /// Whether writers are refused.
    pub fn is_refused(&self) -> bool {
        !self.pipe.takes()
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let opened = self.pipe.opened.lock();
        let last = self.pipe.readers.fetch_sub(usize::from(self.reads), Ordering::SeqCst) == 1 && self.reads;
        self.pipe.writers.fetch_sub(usize::from(self.writes), Ordering::SeqCst);
        drop(opened);
        // Who writes from now on is refused, see `write`.
        if last && self.pipe.carrier.load(Ordering::SeqCst) {
            fence(Ordering::SeqCst);
            self.pipe.drop_rights();
        }
        self.tell_of_end();
        poll::notify();
    }
}

impl File for End {
    fn read(&self, io: &mut UserIo, _: u64, nonblock: bool) -> SysResult {
        self.pipe.read(io, nonblock, false, &mut None)
    }
    fn write(&self, io: &mut UserIo, _: u64, nonblock: bool) -> SysResult {
        self.pipe.write(io, nonblock, self.packets.load(Ordering::Relaxed), None)
    }
    fn stat(&self) -> Stat {
        Stat { ino: self.pipe.ino, mode: kind::FIFO | 0o600, nlink: 1, ..Stat::default() }
    }
    fn poll(&self) -> u32 {
        let mut events = 0;
        if self.reads {
            // In this order: the last bytes are there when the last writer is gone.
            if !self.pipe.has_writers() && !self.is_first() {
                events |= l::POLLHUP;
            }
            if self.pipe.len() > 0 {
                events |= l::POLLIN | l::POLLRDNORM;
            }
        }
        if self.writes {
            if !self.pipe.is_full() {
                events |= l::POLLOUT | l::POLLWRNORM;
            }
            if !self.pipe.has_readers() {
                events |= l::POLLERR;
            }
        }
        events
    }
    fn held(&self, deep: bool) -> u64 {
        self.pipe.held(deep)
    }
    fn edges(&self) -> [u64; 2] {
        let count = |on: bool, counter: &AtomicU64| if on { counter.load(Ordering::SeqCst) } else { 0 };
        [count(self.reads, &self.pipe.writes), count(self.writes, &self.pipe.reads)]
    }
    fn ioctl(&self, command: u32, argument: usize) -> SysResult {
        if command == linux_raw_sys::ioctl::FIONREAD {
            UserPtr::<i32>::new(argument).write(self.pipe.len() as i32)?;
            return Ok(0);
        }
        Err(ENOTTY)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
