//! Policies of scheduling: recorded, told and inherited. There is one policy.

use super::thread::{UserThread, of};
use crate::sched::Thread;
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
}

impl Policy {
    /// A thread's.
    pub fn of(thread: &UserThread) -> Self {
        let word = thread.policy.load(Ordering::Relaxed);
        Policy { policy: word & 0xff, priority: word >> 8 & 0xff, reset: word & l::SCHED_RESET_ON_FORK != 0 }
    }

    /// Gives it to a thread.
    pub fn set(self, thread: &UserThread) {
        let reset = if self.reset { l::SCHED_RESET_ON_FORK } else { 0 };
        thread.policy.store(self.policy | self.priority << 8 | reset, Ordering::Relaxed);
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
        policy.reset = false;
    }
    policy.set(of(child));
    child.set_nice(nice);
}
