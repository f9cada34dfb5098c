//! The clocks that timers and sleeps follow: real time, and the processor time of processes and threads.
//!
//! A processor clock goes on only while threads that it counts run, so they look after its timers themselves: at a timer interrupt,
//! which comes at least once in a slice, a thread whose process has such timers (or a limit) is asked to call [`check`] before it
//! returns to its program. That is as exact as on a Linux whose tick is as long as a slice.

use super::limits::{INFINITY, Limit};
use super::process::Process;
use super::signal::restart::deadline_on;
use super::signal::{SIGKILL, SIGXCPU, SigInfo, send};
use super::sleep::wait_on;
use super::thread::{UserThread, current, of, part, user};
use super::timers::{self, Armed, Due, REAL, Setting};
use super::tree;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, Ordering};
use linux_raw_sys::general as l;
use quire_base::errno::*;
use quire_base::lock::{Mutex, MutexGuard};
use quire_base::usage::Usage;
use quire_sched::{self as sched, Thread, WaitQueue, timer};

/// The processor clocks of a process or thread.
pub struct CpuClock {
    /// Timers of the time in user mode.
    user: Armed,
    /// Timers of all time.
    total: Armed,
    /// There may be timers: set after one was armed, lowered before both tables are looked at.
    watched: AtomicBool,
    /// Who sleeps until the clock says so.
    pub sleepers: WaitQueue,
}

impl Default for CpuClock {
    fn default() -> Self {
        Self::new()
    }
}

impl CpuClock {
    /// Without timers.
    pub const fn new() -> Self {
        CpuClock {
            user: Armed::new(),
            total: Armed::new(),
            watched: AtomicBool::new(false),
            sleepers: WaitQueue::new(),
        }
    }

    fn add(&self, table: &Armed, setting: Setting, due: Due) -> u64 {
        let id = table.add(setting, due);
        // ordering: Release pairs with the Acquire of `go_off`, which lowers the flag: either it finds the timer, or this comes after it.
        self.watched.store(true, Ordering::Release);
        id
    }

    /// Acts for what is due.
    fn go_off(&self, usage: Usage) {
        // ordering: AcqRel; see `add`.
        if self.watched.swap(false, Ordering::AcqRel) {
            let next = [self.user.go_off(usage.user), self.total.go_off(usage.total())];
            if next.iter().any(|next| next.is_some()) {
                self.watched.store(true, Ordering::Release);
            }
        }
    }
}

/// Whether the running thread has to [`check`] its clocks. For the timer interrupt.
pub fn is_watched(thread: &Thread) -> bool {
    // ordering: Relaxed; what is missed is seen at the next tick.
    part(thread).is_some_and(|user| {
        let process = &user.process;
        process.clock.watched.load(Ordering::Relaxed)
            || user.clock.watched.load(Ordering::Relaxed)
            || process.limit(l::RLIMIT_CPU) != INFINITY
    })
}

/// The timers of the current thread's processor clocks that are due go off, and the limit of its process is obeyed.
pub fn check() {
    let user = user();
    let process = &user.process;
    let usage = process.usage();
    process.clock.go_off(usage);
    user.clock.go_off(sched::current().usage());
    obey_limit(process, usage.total());
}

/// RLIMIT_CPU, in seconds: SIGXCPU at the soft limit and each second after it, SIGKILL at the hard one.
fn obey_limit(process: &Arc<Process>, used: u64) {
    let Limit { soft, hard } = process.limits.all()[l::RLIMIT_CPU as usize];
    let over = |limit: u64| limit != INFINITY && used >= limit.saturating_mul(1_000_000_000);
    // Standard signals always find room.
    if over(hard) {
        let _ = send::to_process(process, SigInfo::kernel(SIGKILL));
    } else if over(soft) {
        // Another thread may have done so, or somebody has given it another limit, which is looked at the next time.
        if !process.limits.raise(l::RLIMIT_CPU, Limit { soft, hard }) {
            return;
        }
        let _ = send::to_process(process, SigInfo::kernel(SIGXCPU));
    }
}

/// What a timer or a sleep follows. Whose processor time it is may be gone: then the clock stands still.
#[derive(Clone)]
pub enum Clock {
    /// Since boot.
    Monotonic,
    /// Since 1970; its timers are kept as those of [`Clock::Monotonic`].
    Realtime,
    /// A process's time in user mode.
    User(Weak<Process>),
    /// All time of a process.
    Process(Weak<Process>),
    /// A thread's time in user mode.
    ThreadUser(Weak<Thread>),
    /// All time of a thread.
    Thread(Weak<Thread>),
}

impl Clock {
    /// The clock that a negative id names, with a process or thread in it (`pthread_getcpuclockid`). `only_looks`: its time is asked
    /// for, no more.
    pub fn of_cpu(id: i32, only_looks: bool) -> Result<Clock, Errno> {
        let (who, per_thread, kind) = (!(id >> 3), id & 4 != 0, id & 3);
        if kind == 3 {
            return Err(EINVAL);
        }
        // Linux has three: of all time by ticks, of user time by ticks, of all time as it is.
        let user_only = kind == 1;
        if per_thread {
            let thread = if who == 0 { sched::current_ref() } else { tree::thread(who as u32).ok_or(EINVAL)? };
            if !Arc::ptr_eq(&of(&thread).process, current()) {
                return Err(EINVAL);
            }
            let thread = Arc::downgrade(&thread);
            return Ok(if user_only { Clock::ThreadUser(thread) } else { Clock::Thread(thread) });
        }
        let by_thread = || tree::thread(who as u32).filter(|_| only_looks).map(|thread| of(&thread).process.clone());
        let process = match who {
            0 => current().clone(),
            pid => tree::process(pid as u32).or_else(by_thread).ok_or(EINVAL)?,
        };
        let process = Arc::downgrade(&process);
        Ok(if user_only { Clock::User(process) } else { Clock::Process(process) })
    }

    /// The clock of an id, for timers and sleeps. EOPNOTSUPP: it can only be read.
    pub fn to_wait_for(id: i32) -> Result<Clock, Errno> {
        Ok(match id as u32 {
            // Linux says this first, whatever else is wrong with the id.
            _ if id < 0 && id & 7 == 3 => return Err(EOPNOTSUPP),
            _ if id < 0 => Clock::of_cpu(id, false)?,
            l::CLOCK_REALTIME | l::CLOCK_TAI => Clock::Realtime,
            l::CLOCK_MONOTONIC | l::CLOCK_BOOTTIME => Clock::Monotonic,
            l::CLOCK_PROCESS_CPUTIME_ID => Clock::Process(Arc::downgrade(current())),
            l::CLOCK_THREAD_CPUTIME_ID => Clock::Thread(Arc::downgrade(&sched::current_ref())),
            l::CLOCK_MONOTONIC_RAW | l::CLOCK_REALTIME_COARSE | l::CLOCK_MONOTONIC_COARSE => return Err(EOPNOTSUPP),
            // No clock here wakes a machine that sleeps.
            l::CLOCK_REALTIME_ALARM | l::CLOCK_BOOTTIME_ALARM => return Err(EOPNOTSUPP),
            _ => return Err(EINVAL),
        })
    }

    /// Whether it says how long since 1970.
    pub fn is_realtime(&self) -> bool {
        matches!(self, Clock::Realtime)
    }

    /// What its timers' deadlines are compared with.
    pub fn now(&self) -> u64 {
        match self {
            Clock::Monotonic | Clock::Realtime => timer::now_ns(),
            Clock::User(process) => process.upgrade().map_or(0, |process| process.usage().user),
            Clock::Process(process) => process.upgrade().map_or(0, |process| process.usage().total()),
            Clock::ThreadUser(thread) => thread.upgrade().map_or(0, |thread| thread.usage().user),
            Clock::Thread(thread) => thread.upgrade().map_or(0, |thread| thread.usage().total()),
        }
    }

    /// Gives `act` the table of its timers, and the processor clock that has it; `None` when that is gone.
    fn with<T>(&self, act: impl FnOnce(&Armed, Option<&CpuClock>) -> T) -> Option<T> {
        let of_process = |process: &Weak<Process>| process.upgrade();
        let of_thread = |thread: &Weak<Thread>| thread.upgrade();
        fn clock(thread: &Thread) -> &CpuClock {
            let user: &UserThread = of(thread);
            &user.clock
        }
        Some(match self {
            Clock::Monotonic | Clock::Realtime => act(&REAL, None),
            Clock::User(process) => act(&of_process(process)?.clock.user, Some(&of_process(process)?.clock)),
            Clock::Process(process) => act(&of_process(process)?.clock.total, Some(&of_process(process)?.clock)),
            Clock::ThreadUser(thread) => act(&clock(&*of_thread(thread)?).user, Some(clock(&*of_thread(thread)?))),
            Clock::Thread(thread) => act(&clock(&*of_thread(thread)?).total, Some(clock(&*of_thread(thread)?))),
        })
    }

    /// Arms a timer; returns its id.
    pub fn arm(&self, setting: Setting, due: Due) -> u64 {
        let armed = self.with(|table, clock| match clock {
            Some(clock) => clock.add(table, setting, due),
            None => timers::arm(setting, due),
        });
        // Whose clock is gone has no timers, and no timer has this id.
        armed.unwrap_or(0)
    }

    /// See [`Armed::disarm`].
    pub fn disarm(&self, id: u64) -> Option<Setting> {
        self.with(|table, _| table.disarm(id)).flatten()
    }

    /// See [`Armed::look`].
    pub fn look(&self, id: u64) -> Option<Setting> {
        self.with(|table, _| table.look(id)).flatten()
    }

    /// See [`Armed::catch_up`].
    pub fn catch_up(&self, id: u64) -> u64 {
        let now = self.now();
        self.with(|table, _| table.catch_up(id, now)).unwrap_or(0)
    }

    /// See [`Armed::take_due_of`].
    pub fn take_due_of(&self, id: u64) -> u64 {
        let now = self.now();
        self.with(|table, _| table.take_due_of(id, now)).unwrap_or(0)
    }

    /// See [`Armed::stop`].
    pub fn stop<'p>(&self, place: &'p Mutex<Option<u64>>) -> (MutexGuard<'p, Option<u64>>, Option<Setting>) {
        self.with(|table, _| table.stop(place)).unwrap_or_else(|| (place.lock(), None))
    }

    /// Sleeps until a process's clock says `time`, or has gone on for so long. An interruption gives what is left.
    pub fn sleep(&self, time: u64, absolute: bool) -> Result<(), (Errno, u64)> {
        let (Clock::User(process) | Clock::Process(process)) = self else { return Err((EINVAL, 0)) };
        let Some(process) = process.upgrade() else { return Err((EINVAL, 0)) };
        let deadline = if absolute { time } else { deadline_on(self.now(), time) };
        let id = self.arm(Setting { deadline, interval: 0 }, Due::Sleepers(Arc::downgrade(&process)));
        let slept = wait_on(&process.clock.sleepers, None, || (self.now() >= deadline).then_some(()));
        self.disarm(id);
        slept.map_err(|why| (why, deadline.saturating_sub(self.now())))
    }
}
