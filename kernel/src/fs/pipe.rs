//! Pipes: 64 KiB, writes of up to 4 KiB in one piece.

use super::io::short;
use super::stat::{Stat, kind};
use super::{File, UserIo, inode, poll};
use crate::mem::user::UserPtr;
use crate::proc::process::arc;
use crate::proc::sleep::{SleepMutex, wait_on};
use crate::sched::WaitQueue;
use crate::sys::errno::*;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicUsize, Ordering};
use linux_raw_sys::general as l;

/// Bytes that a pipe holds.
pub const CAPACITY: usize = 65536;
/// Writes up to this size are not mixed with others.
const ATOMIC: usize = 4096;
const PAGE: usize = 4096;

struct Ring {
    bytes: Vec<u8>,
    start: usize,
}

/// The pipe between its ends.
pub struct Pipe {
    ino: u64,
    /// Held while bytes move to or from programs.
    ring: SleepMutex<Ring>,
    /// Bytes inside; changed by the ring's holder, read by pollers.
    len: AtomicUsize,
    readers: AtomicUsize,
    writers: AtomicUsize,
    /// Wakes readers.
    filled: WaitQueue,
    /// Wakes writers.
    drained: WaitQueue,
}

impl Pipe {
    /// A pipe without ends.
    pub fn new() -> Result<Arc<Self>, Errno> {
        arc(Pipe {
            ino: inode::new_number(),
            ring: SleepMutex::new(Ring { bytes: Vec::new(), start: 0 }),
            len: AtomicUsize::new(0),
            readers: AtomicUsize::new(0),
            writers: AtomicUsize::new(0),
            filled: WaitQueue::new(),
            drained: WaitQueue::new(),
        })
    }
    /// Number for `pipe:[n]`.
    pub fn number(&self) -> u64 {
        self.ino
    }
    fn len(&self) -> usize {
        self.len.load(Ordering::SeqCst)
    }
    fn has_writers(&self) -> bool {
        self.writers.load(Ordering::SeqCst) > 0
    }
    fn has_readers(&self) -> bool {
        self.readers.load(Ordering::SeqCst) > 0
    }

    fn read(&self, io: &mut UserIo, nonblock: bool) -> SysResult {
        if io.left() == 0 {
            return Ok(0);
        }
        loop {
            let mut ring = self.ring.lock();
            if self.len() > 0 {
                let result = self.drain(&mut ring, io);
                drop(ring);
                self.drained.wake_all();
                poll::notify();
                return result;
            }
            drop(ring);
            if !self.has_writers() {
                return Ok(0);
            }
            if nonblock {
                return Err(EAGAIN);
            }
            wait_on(&self.filled, None, || (self.len() > 0 || !self.has_writers()).then_some(()))?;
        }
    }

    fn drain(&self, ring: &mut Ring, io: &mut UserIo) -> SysResult {
        let mut done = 0;
        while self.len() > 0 && io.left() > 0 {
            let run = self.len().min(CAPACITY - ring.start).min(io.left());
            let n = io.put(&ring.bytes[ring.start..ring.start + run]);
            ring.start = (ring.start + n) % CAPACITY;
            self.len.fetch_sub(n, Ordering::SeqCst);
            done += n;
            if n < run {
                return short(done);
            }
        }
        Ok(done)
    }

    fn write(&self, io: &mut UserIo, nonblock: bool) -> SysResult {
        let total = io.left();
        if total == 0 {
            return Ok(0);
        }
        let mut done = 0;
        loop {
            if !self.has_readers() {
                return if done > 0 { Ok(done) } else { Err(EPIPE) };
            }
            let mut ring = self.ring.lock();
            let need = if total <= ATOMIC { total - done } else { 1 };
            if CAPACITY - self.len() >= need {
                let result = self.fill(&mut ring, io);
                drop(ring);
                self.filled.wake_all();
                poll::notify();
                match result {
                    Ok(n) => done += n,
                    Err(e) => return if done > 0 { Ok(done) } else { Err(e) },
                }
                if done == total {
                    return Ok(done);
                }
                continue;
            }
            drop(ring);
            if nonblock {
                return if done > 0 { Ok(done) } else { Err(EAGAIN) };
            }
            let room = || (CAPACITY - self.len() >= need || !self.has_readers()).then_some(());
            if let Err(e) = wait_on(&self.drained, None, room) {
                return if done > 0 { Ok(done) } else { Err(e) };
            }
        }
    }

    fn fill(&self, ring: &mut Ring, io: &mut UserIo) -> SysResult {
        if ring.bytes.is_empty() {
            ring.bytes.try_reserve_exact(CAPACITY).map_err(|_| ENOMEM)?;
            ring.bytes.resize(CAPACITY, 0);
        }
        let mut done = 0;
        while self.len() < CAPACITY && io.left() > 0 {
            // As on Linux, a page of a write goes in whole or, when the program's memory ends in it, not at all.
            let chunk = PAGE.min(CAPACITY - self.len()).min(io.left());
            let end = (ring.start + self.len()) % CAPACITY;
            let first = chunk.min(CAPACITY - end);
            let mut got = io.get(&mut ring.bytes[end..end + first]);
            if got == first && first < chunk {
                got += io.get(&mut ring.bytes[..chunk - first]);
            }
            if got < chunk {
                return short(done);
            }
            self.len.fetch_add(chunk, Ordering::SeqCst);
            done += chunk;
        }
        Ok(done)
    }
}

/// One end of a pipe, or (a FIFO opened for both) both.
pub struct End {
    pipe: Arc<Pipe>,
    reads: bool,
    writes: bool,
}

impl End {
    /// Opens an end.
    pub fn new(pipe: &Arc<Pipe>, reads: bool, writes: bool) -> Result<Arc<Self>, Errno> {
        let end = arc(End { pipe: pipe.clone(), reads, writes })?;
        // Counted only now: from here on its drop counts down.
        pipe.readers.fetch_add(usize::from(reads), Ordering::SeqCst);
        pipe.writers.fetch_add(usize::from(writes), Ordering::SeqCst);
        pipe.filled.wake_all();
        pipe.drained.wake_all();
        Ok(end)
    }
    /// Waits until the other end of a named pipe is open.
    pub fn wait_for_other(&self) -> Result<(), Errno> {
        let (pipe, reads, writes) = (&self.pipe, self.reads, self.writes);
        if reads && !writes {
            wait_on(&pipe.filled, None, || pipe.has_writers().then_some(()))?;
        }
        if writes && !reads {
            wait_on(&pipe.drained, None, || pipe.has_readers().then_some(()))?;
        }
        Ok(())
    }
    /// Whether the pipe has a reader.
    pub fn has_reader(&self) -> bool {
        self.pipe.has_readers()
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.pipe.readers.fetch_sub(usize::from(self.reads), Ordering::SeqCst);
        self.pipe.writers.fetch_sub(usize::from(self.writes), Ordering::SeqCst);
        self.pipe.filled.wake_all();
        self.pipe.drained.wake_all();
        poll::notify();
    }
}

impl File for End {
    fn read(&self, io: &mut UserIo, _: u64, nonblock: bool) -> SysResult {
        self.pipe.read(io, nonblock)
    }
    fn write(&self, io: &mut UserIo, _: u64, nonblock: bool) -> SysResult {
        self.pipe.write(io, nonblock)
    }
    fn stat(&self) -> Stat {
        Stat { ino: self.pipe.ino, mode: kind::FIFO | 0o600, nlink: 1, ..Stat::default() }
    }
    fn poll(&self) -> u32 {
        let mut events = 0;
        if self.reads {
            if self.pipe.len() > 0 {
                events |= l::POLLIN | l::POLLRDNORM;
            }
            if !self.pipe.has_writers() {
                events |= l::POLLHUP;
            }
        }
        if self.writes {
            if CAPACITY - self.pipe.len() >= ATOMIC {
                events |= l::POLLOUT | l::POLLWRNORM;
            }
            if !self.pipe.has_readers() {
                events |= l::POLLERR;
            }
        }
        events
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
