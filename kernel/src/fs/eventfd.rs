//! eventfd: a counter to wait for.

use super::stat::Stat;
use super::{File, UserIo, poll};
use crate::proc::sleep::wait_on;
use core::any::Any;
use core::sync::atomic::{AtomicU64, Ordering};
use linux_raw_sys::general as l;
use quire_base::errno::*;
use quire_base::lock::Mutex;
use quire_sched::WaitQueue;

/// The counter.
pub struct EventFd {
    value: Mutex<u64>,
    semaphore: bool,
    changed: WaitQueue,
    written: AtomicU64,
    read: AtomicU64,
}

const MAX: u64 = u64::MAX - 1;

impl EventFd {
    /// A counter with this value.
    pub fn new(value: u64, semaphore: bool) -> Self {
        EventFd {
            value: Mutex::new(value),
            semaphore,
            changed: WaitQueue::new(),
            written: AtomicU64::new(0),
            read: AtomicU64::new(0),
        }
    }
}

impl File for EventFd {
    fn read(&self, io: &mut UserIo, _: u64, nonblock: bool) -> SysResult {
        if io.left() < 8 {
            return Err(EINVAL);
        }
        let take = || {
            let mut value = self.value.lock();
            if *value == 0 {
                return None;
            }
            let taken = if self.semaphore { 1 } else { *value };
            *value -= taken;
            self.read.fetch_add(1, Ordering::SeqCst);
            Some(taken)
        };
        let taken = match take() {
            Some(taken) => taken,
            None if nonblock => return Err(EAGAIN),
            None => wait_on(&self.changed, None, take)?,
        };
        self.changed.wake_all();
        poll::notify();
        if io.put(&taken.to_ne_bytes()) < 8 { Err(EFAULT) } else { Ok(8) }
    }
    fn write(&self, io: &mut UserIo, _: u64, nonblock: bool) -> SysResult {
        if io.left() < 8 {
            return Err(EINVAL);
        }
        let mut bytes = [0; 8];
        if io.get(&mut bytes) < 8 {
            return Err(EFAULT);
        }
        let more = u64::from_ne_bytes(bytes);
        if more == u64::MAX {
            return Err(EINVAL);
        }
        let add = || {
            let mut value = self.value.lock();
            if MAX - *value < more {
                return None;
            }
            *value += more;
            self.written.fetch_add(1, Ordering::SeqCst);
            Some(())
        };
        match add() {
            Some(()) => {}
            None if nonblock => return Err(EAGAIN),
            None => wait_on(&self.changed, None, add)?,
        }
        self.changed.wake_all();
        poll::notify();
        Ok(8)
    }
    fn stat(&self) -> Stat {
        Stat { ino: 900, mode: 0o600, nlink: 1, ..Stat::default() }
    }
    fn poll(&self) -> u32 {
        let value = *self.value.lock();
        let mut events = 0;
        if value > 0 {
            events |= l::POLLIN;
        }
        if value < MAX {
            events |= l::POLLOUT;
        }
        events
    }
    fn stays(&self) -> bool {
        true
    }
    fn edges(&self) -> [u64; 2] {
        [self.written.load(Ordering::SeqCst), self.read.load(Ordering::SeqCst)]
    }
    fn takes_copies(&self) -> bool {
        false
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
