//! timerfd: a timer to read and to poll for.

use super::stat::Stat;
use super::{File, OpenFile, UserIo, poll};
use crate::mem::user_time as time;
use crate::proc::process::arc;
use crate::proc::sleep::wait_on;
use crate::proc::thread::user;
use crate::proc::timers::{self, Due, REAL, Setting};
use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::{AtomicU64, Ordering};
use linux_raw_sys::general as l;
use quire_arch::UserRegs;
use quire_base::errno::*;
use quire_base::lock::{Mutex, MutexGuard};
use quire_sched::{WaitQueue, timer};

/// The timer behind a descriptor.
pub struct TimerFd {
    realtime: bool,
    armed: Mutex<Option<u64>>,
    /// Nanoseconds between expirations as set last; it stays when the timer is stopped, as on Linux. Changes with `armed`.
    interval: AtomicU64,
    /// How often it has gone off, and [`TimerFd::settle`] has not seen.
    due: Arc<AtomicU64>,
    fired: Mutex<Fired>,
    changed: WaitQueue,
}

/// Both change together: who polled between the two would see an edge twice, or without a count.
#[derive(Default)]
struct Fired {
    /// How often it went off since the last read.
    count: u64,
    /// How often it went off for the first time since a read: as on Linux, a timer that nobody reads has one edge.
    edges: u64,
}

impl TimerFd {
    /// Counts how often it has gone off by now: the clock tells, for the thread behind the timers may be late.
    fn settle(&self) -> MutexGuard<'_, Fired> {
        // Held meanwhile: what an earlier setting did does not count for a new one.
        let armed = self.armed.lock();
        let late = armed.map_or(0, |id| REAL.take_due_of(id, timer::now_ns()));
        let count = late + self.due.swap(0, Ordering::Relaxed);
        let mut fired = self.fired.lock();
        if count > 0 {
            fired.edges += u64::from(fired.count == 0);
            fired.count += count;
        }
        fired
    }

    /// It has gone off.
    pub fn expired(&self) {
        drop(self.settle());
        self.changed.wake_all();
        poll::notify();
    }
}

impl Drop for TimerFd {
    fn drop(&mut self) {
        if let Some(id) = self.armed.lock().take() {
            REAL.disarm(id);
        }
    }
}

impl File for Arc<TimerFd> {
    fn read(&self, io: &mut UserIo, _: u64, nonblock: bool) -> SysResult {
        if io.left() < 8 {
            return Err(EINVAL);
        }
        let take = || Some(core::mem::take(&mut self.settle().count)).filter(|n| *n > 0);
        let count = match take() {
            Some(count) => count,
            None if nonblock => return Err(EAGAIN),
            None => wait_on(&self.changed, None, take)?,
        };
        if io.put(&count.to_ne_bytes()) < 8 { Err(EFAULT) } else { Ok(8) }
    }
    fn stat(&self) -> Stat {
        Stat { ino: 902, mode: 0o600, nlink: 1, ..Stat::default() }
    }
    fn poll(&self) -> u32 {
        if self.settle().count > 0 { l::POLLIN } else { 0 }
    }
    fn refuses(&self, write: bool) -> bool {
        write
    }
    fn stays(&self) -> bool {
        true
    }
    fn edges(&self) -> [u64; 2] {
        [self.settle().edges, 0]
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// `timerfd_create`
pub fn create(r: &mut UserRegs) -> SysResult {
    let (clock, flags) = (r.a0() as u32, r.a1() as u32);
    if flags & !(l::O_CLOEXEC | l::O_NONBLOCK) != 0 {
        return Err(EINVAL);
    }
    let realtime = match clock {
        l::CLOCK_REALTIME | l::CLOCK_REALTIME_ALARM => true,
        l::CLOCK_MONOTONIC | l::CLOCK_BOOTTIME | l::CLOCK_BOOTTIME_ALARM => false,
        _ => return Err(EINVAL),
    };
    let file = arc(TimerFd {
        realtime,
        armed: Mutex::new(None),
        interval: AtomicU64::new(0),
        due: arc(AtomicU64::new(0))?,
        fired: Mutex::new(Fired::default()),
        changed: WaitQueue::new(),
    })?;
    let file = OpenFile::new(arc(file)?, l::O_RDWR | flags & l::O_NONBLOCK, b"anon_inode:[timerfd]", None)?;
    user().files().add(file, flags & l::O_CLOEXEC != 0)
}

fn with(fd: usize) -> Result<Arc<TimerFd>, Errno> {
    let file = user().files().get(fd as i32)?;
    file.file.as_any().downcast_ref::<Arc<TimerFd>>().cloned().ok_or(EINVAL)
}

fn store(at: usize, interval: u64, setting: Option<Setting>) -> Result<(), Errno> {
    time::store_timespec(at, interval)?;
    time::store_timespec(at + 16, setting.map_or(0, |set| set.deadline.saturating_sub(timer::now_ns())))
}

/// `timerfd_settime`
pub fn settime(r: &mut UserRegs) -> SysResult {
    let flags = r.a1() as u32;
    let (interval, value) = time::read_setting(r.a2())?;
    if flags & !(l::TFD_TIMER_ABSTIME | l::TFD_TIMER_CANCEL_ON_SET) != 0 {
        return Err(EINVAL);
    }
    let file = with(r.a0())?;
    let deadline = match (flags & l::TFD_TIMER_ABSTIME != 0, file.realtime) {
        (true, true) => time::from_realtime(value),
        (true, false) => value,
        _ => timer::now_ns().saturating_add(value),
    };
    // What is told of the old setting is when it goes off next.
    drop(file.settle());
    let (old_interval, old) = {
        let (mut armed, old) = REAL.stop(&file.armed);
        file.due.store(0, Ordering::Relaxed);
        file.fired.lock().count = 0;
        if value > 0 {
            let due = Due::Descriptor(Arc::downgrade(&file), file.due.clone());
            *armed = Some(timers::arm(Setting { deadline, interval }, due));
        }
        (file.interval.swap(interval, Ordering::Relaxed), old)
    };
    if r.a3() != 0 {
        store(r.a3(), old_interval, old)?;
    }
    Ok(0)
}

/// `timerfd_gettime`
pub fn gettime(r: &mut UserRegs) -> SysResult {
    let file = with(r.a0())?;
    drop(file.settle());
    let (interval, setting) = {
        let armed = file.armed.lock();
        (file.interval.load(Ordering::Relaxed), armed.and_then(|id| REAL.look(id)))
    };
    store(r.a1(), interval, setting)?;
    Ok(0)
}
