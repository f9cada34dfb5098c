//! Policies of scheduling: recorded, told and inherited. There is one policy.

use super::thread::{UserThread, of};
use crate::sched::{SLICE, Thread};
use core::ops::RangeInclusive;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as l;
use quire_base::errno::{EINVAL, Errno};

/// What a thread has: as one word, so that nobody sees half of a change.
#[derive(Clone, Copy)]
pub struct Policy {
    /// Linux's number.
    pub policy: u32,
    /// Of real-time policies.
    pub priority: u32,
    /// Children begin with an ordinary one.
    pub reset: bool,
    /// `sched_runtime` of an ordinary one, in nanoseconds: told, and no more. 0: what threads have here.
    pub runtime: u32,
}

/// What an ordinary thread may ask for.
const RUNTIMES: RangeInclusive<u64> = 100_000..=100_000_000;

impl Policy {
    /// A thread's.
    pub fn of(thread: &UserThread) -> Self {
        let word = thread.policy.load(Ordering::Relaxed);
        let (runtime, word) = ((word >> 32) as u32, word as u32);
        let reset = word & l::SCHED_RESET_ON_FORK != 0;
        Policy { policy: word & 0xff, priority: word >> 8 & 0xff, reset, runtime }
    }

    /// Gives it to a thread. As on Linux, timers of a real-time one have no slack, and its own are back behind it.
    pub fn set(self, thread: &UserThread) {
        let reset = if self.reset { l::SCHED_RESET_ON_FORK } else { 0 };
        let word = self.policy | self.priority << 8 | reset;
        thread.policy.store(u64::from(self.runtime) << 32 | u64::from(word), Ordering::Relaxed);
        let slack = &mut thread.settings.lock().slack;
        match (self.is_realtime(), slack[0]) {
            (true, _) => slack[0] = 0,
            (false, 0) => slack[0] = slack[1],
            _ => {}
        }
    }

    /// As [`Policy::runtime`], of the number that a program gives.
    pub fn runtime_of(asked: u64) -> u32 {
        if asked == 0 { 0 } else { asked.clamp(*RUNTIMES.start(), *RUNTIMES.end()) as u32 }
    }

    /// For how long it runs in turn; real-time ones are not told of it so.
    pub fn slice(&self) -> u64 {
        if self.runtime == 0 { SLICE } else { u64::from(self.runtime) }
    }

    /// Whether it has a nice value and a runtime.
    pub fn is_fair(&self) -> bool {
        matches!(self.policy, l::SCHED_NORMAL | l::SCHED_BATCH)
    }

    /// Whether it has priorities.
    pub fn is_realtime(&self) -> bool {
        matches!(self.policy, l::SCHED_FIFO | l::SCHED_RR)
    }

    /// Whether there is such a policy with such a priority.
    pub fn check(self) -> Result<Self, Errno> {
        let known = matches!(self.policy, l::SCHED_NORMAL | l::SCHED_BATCH | l::SCHED_IDLE) || self.is_realtime();
        let fits = if self.is_realtime() { (1..=99).contains(&self.priority) } else { self.priority == 0 };
        if known && fits { Ok(self) } else { Err(EINVAL) }
    }
}

/// Gives a new thread what the one that makes it leaves it.
pub fn inherit(parent: &Thread, child: &Thread) {
    let (mut policy, mut nice) = (Policy::of(of(parent)), parent.nice());
    if policy.reset {
        match policy.is_realtime() {
            true => (policy.policy, policy.priority, nice) = (l::SCHED_NORMAL, 0, 0),
            false => nice = nice.max(0),
        }
        (policy.reset, policy.runtime) = (false, 0);
    }
    policy.set(of(child));
    child.set_nice(nice);
}
