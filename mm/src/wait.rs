//! Waiting for other CPUs, and answering them: whoever waits serves what others ask, so no two wait for each other.

use crate::machine::{Machine, What};
use crate::memory::Memory;
use crate::shootdown::{Pages, Why, poll_until};
use crate::stats::Counter;
use core::cell::Cell;
use core::panic::Location;

impl<M: Machine> Memory<M> {
    /// Serves the requests of other CPUs. Called by the interrupt handler and by whoever polls; never inside a read section.
    #[inline]
    pub fn serve(&self) {
        self.shootdown.serve(&self.machine, &self.stats, || self.drain_here());
    }

    /// Makes the CPUs in `targets` (never the calling one) drop translations; returns after the last answer. `cause` counts it.
    pub(crate) fn shoot(&self, cause: Counter, targets: u64, pages: &Pages) {
        self.check_may_wait();
        self.shootdown.shoot(&self.machine, Why(cause, &self.stats), targets, pages, || self.serve());
    }

    /// Waits until each of `cpus` has been seen outside of any read section. A window is a read section, so the windows that were open
    /// have ended; what the caller has stored before a SeqCst fence is seen in all later ones. Other read sections are waited for, too:
    /// nothing tells them apart. A CPU that goes from one to the next may be found inside at several looks. Read sections are
    /// short and not preempted, so the CPU is not given away.
    pub(crate) fn await_windows(&self, cpus: u64) {
        static WINDOWS: What = What::cpus("the end of other CPUs' windows");
        self.check_may_wait();
        self.machine.may_wait();
        let inside = Cell::new(cpus);
        poll_until(
            &self.machine,
            || self.serve(),
            || {
                inside.set(self.rcu.pinned(inside.get()));
                inside.get() == 0
            },
            |since| self.machine.waiting(&WINDOWS, inside.get(), since, Location::caller()),
        );
    }

    /// Makes all CPUs in `targets` give their caches and retired lists back. For a CPU that is out of memory, and for the audit.
    pub fn drain_all(&self, targets: u64) {
        self.drain_here();
        self.check_may_wait();
        self.shootdown.drain(&self.machine, &self.stats, targets & !(1 << self.machine.cpu()), || self.serve());
        self.drain_here();
    }

    /// Waits until all is freed that was retired before, on whichever of the CPUs `targets`. The caller is in no read section.
    pub fn await_retired(&self, targets: u64) {
        static EPOCH: What = What { text: "the epoch", show: |n, f| write!(f, "{n}") };
        let until = self.rcu.grace_ends();
        let mut since = 0;
        loop {
            // Each CPU tries to advance the epoch; the turn that finds it far enough comes before a last one, which frees.
            let enough = self.rcu.has_come(until);
            self.drain_all(targets);
            if enough {
                return;
            }
            since = self.pause(&EPOCH, until, since);
        }
    }

    /// Gives the CPU away, outside of any read section; what other CPUs ask meanwhile is served. The wait is told to the machine
    /// ([`Machine::waiting`]); the value is for the next turn of the same wait, 0 in the first one.
    #[cold]
    #[inline(never)]
    #[track_caller]
    pub(crate) fn pause(&self, what: &'static What, which: u64, since: u64) -> u64 {
        self.check_may_wait();
        let since = self.machine.waiting(what, which, since, Location::caller());
        self.serve();
        self.machine.pause(since);
        since
    }

    #[inline]
    fn check_may_wait(&self) {
        debug_assert!(!self.is_pinned(), "waits inside a read section");
    }
}
