//! Policies of scheduling: recorded, told and inherited. There is one policy.

use core::ops::RangeInclusive;
use linux_raw_sys::general as l;
use quire_base::errno::{EINVAL, Errno};

/// What a thread has: as one word, so that nobody sees half of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// What a word says.
    pub fn from_word(word: u64) -> Self {
        let (runtime, word) = ((word >> 32) as u32, word as u32);
        let reset = word & l::SCHED_RESET_ON_FORK != 0;
        Policy { policy: word & 0xff, priority: word >> 8 & 0xff, reset, runtime }
    }

    /// The word that says it.
    pub fn word(self) -> u64 {
        let reset = if self.reset { l::SCHED_RESET_ON_FORK } else { 0 };
        u64::from(self.runtime) << 32 | u64::from(self.policy | self.priority << 8 | reset)
    }

    /// As [`Policy::runtime`], of the number that a program gives.
    pub fn runtime_of(asked: u64) -> u32 {
        if asked == 0 { 0 } else { asked.clamp(*RUNTIMES.start(), *RUNTIMES.end()) as u32 }
    }

    /// For how long it runs in turn, where threads have `usual`; real-time ones are not told of it so.
    pub fn slice(&self, usual: u64) -> u64 {
        if self.runtime == 0 { usual } else { u64::from(self.runtime) }
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

    /// What a child of a thread with this policy and this nice value gets.
    pub fn of_child(mut self, mut nice: i32) -> (Self, i32) {
        if self.reset {
            match self.is_realtime() {
                true => (self.policy, self.priority, nice) = (l::SCHED_NORMAL, 0, 0),
                false => nice = nice.max(0),
            }
            (self.reset, self.runtime) = (false, 0);
        }
        (self, nice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(policy: u32, priority: u32, reset: bool) -> Policy {
        Policy { policy, priority, reset, runtime: 0 }
    }

    #[test]
    fn a_word_says_it_all() {
        let long = Policy { runtime: 100_000_000, ..of(l::SCHED_BATCH, 0, true) };
        for one in [of(l::SCHED_NORMAL, 0, false), of(l::SCHED_RR, 99, true), of(l::SCHED_IDLE, 0, true), long] {
            assert_eq!(Policy::from_word(one.word()), one);
        }
    }

    #[test]
    fn real_time_has_priorities_and_nothing_else_has() {
        for policy in [l::SCHED_FIFO, l::SCHED_RR] {
            assert!([1, 99].into_iter().all(|priority| of(policy, priority, false).check().is_ok()));
            assert!([0, 100].into_iter().all(|priority| of(policy, priority, false).check() == Err(EINVAL)));
        }
        for policy in [l::SCHED_NORMAL, l::SCHED_BATCH, l::SCHED_IDLE] {
            assert!(of(policy, 0, false).check().is_ok() && of(policy, 1, false).check() == Err(EINVAL));
        }
        assert_eq!(of(l::SCHED_DEADLINE, 0, false).check(), Err(EINVAL));
    }

    #[test]
    fn a_runtime_is_brought_within_bounds() {
        assert_eq!([0, 1, 5_000_000, u64::MAX].map(Policy::runtime_of), [0, 100_000, 5_000_000, 100_000_000]);
        let one = Policy { runtime: 7, ..of(l::SCHED_NORMAL, 0, true) };
        assert_eq!((one.slice(4), of(l::SCHED_NORMAL, 0, false).slice(4), one.of_child(0).0.slice(4)), (7, 4, 4));
    }

    #[test]
    fn a_reset_policy_does_not_reach_children() {
        let plain = of(l::SCHED_RR, 7, false);
        assert_eq!(plain.of_child(-5), (plain, -5));
        assert_eq!(of(l::SCHED_RR, 7, true).of_child(-5), (of(l::SCHED_NORMAL, 0, false), 0));
        assert_eq!(of(l::SCHED_BATCH, 0, true).of_child(-5), (of(l::SCHED_BATCH, 0, false), 0));
        assert_eq!(of(l::SCHED_BATCH, 0, true).of_child(5), (of(l::SCHED_BATCH, 0, false), 5));
    }
}
