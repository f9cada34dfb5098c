//! Scans beside edits: the reclaim bit of an arena, which whoever scans it has. A scan that finds it taken goes elsewhere (but for rule 5);
//! forks, moves and locks of pages wait until it is clear (rule 3). (A scan evicts, [`crate::evict`]; emptying a swap area counts as one.)
//!
//! 1. One scan at a time in an arena; others skip the arena. After taking the bit, and a SeqCst fence, the scan looks for claims. If
//!    there is any, it gives up: *no scan begins under an edit*.
//! 2. So an edit that found, after its own fence, the bit clear and no other active CPU that has joined the arena, may skip what it skips
//!    (parities, seals, absent entries): it has its claim, and no scan comes before it has ended. Edits that meet a scan skip nothing, and
//!    shoot down what they sweep even where they met only swapped or empty entries (races 34, 53).
//! 3. Fork and move wait, once they have their claims, until the bit is clear (`wait_for_scans`): the word of an entry comes back the same
//!    only by them (races 35, 57). So does a lock of pages, after its publish: a scan with the older list would still evict them.
//! 4. A scan that comes after eight others in a row which gave the arena up for claims takes all claims before it takes the bit, and gives
//!    them back at once.
//! 5. In the last round (`evict::EVERYTHING`) a scan waits for its turn, for a while.
//!
//! No circle of waits: the scans of rules 4 and 5 hold no bit while they wait (one of rule 4 has seats, for which nobody waits who has a
//! claim there), and neither an edit nor a scan waits for memory or disk.

use crate::arena::Arena;
use crate::machine::{Machine, What};
use crate::memory::Memory;
use crate::space::Space;
use crate::stats::Counter;
use crate::sync::{Ordering::*, fence};

/// Scans in a row that may give up an arena because somebody edits there; the next one waits.
const VAIN: u64 = 8;
/// In the place of their number: one waits.
const WAITS: u64 = u64::MAX;
/// The reclaim bit of an arena, given back on drop.
#[must_use]
pub(crate) struct Reclaim<'a>(&'a Arena);

impl Arena {
    /// Begins a scan (rules 1 and 4); `None`: somebody else scans, or edits. Where too many have given up for an edit, one takes all the
    /// claims for a moment, so that a storm of edits does not keep an arena's pages in memory. So the caller may wait here.
    pub(crate) fn try_reclaim<M: Machine>(&self, memory: &Memory<M>) -> Option<Reclaim<'_>> {
        let vain = self.vain.load(Relaxed);
        if vain >= VAIN {
            // One waits, others give up. Relaxed: what the scan sees comes with the claims.
            if vain == WAITS || self.vain.compare_exchange(vain, WAITS, Relaxed, Relaxed).is_err() {
                return None;
            }
            let nobody = self.claims.all(memory);
            self.vain.store(0, Relaxed);
            // Whoever claims next finds the bit: the seats are given back after it is set (Release), and taken (Acquire).
            let begins = self.reclaim.swap(1, AcqRel) == 0;
            drop(nobody);
            // Made only if the bit is ours: one that is dropped clears it. It may be another scan's, that read a lower number before
            // the last of the eight gave up, and began after it.
            return begins.then(|| Reclaim(self));
        }
        if self.reclaim.swap(1, AcqRel) != 0 {
            return None;
        }
        let bit = Reclaim(self);
        // Pairs with the fence between an edit's claim and its look at the bit.
        fence(SeqCst);
        let begins = !self.claims.any();
        if !begins {
            // A lost race, also one with a scan that waits for all claims, costs a scan or two.
            let _ = self.vain.compare_exchange(vain, vain + 1, Relaxed, Relaxed);
        } else if vain != 0 {
            let _ = self.vain.compare_exchange(vain, 0, Relaxed, Relaxed);
        }
        begins.then_some(bit)
    }

    /// Whether a scan works here. The caller has its claim and has fenced.
    #[inline]
    pub(crate) fn is_scanned(&self) -> bool {
        // Acquire: pairs with the end of a scan, whose answers are in.
        self.reclaim.load(Acquire) != 0
    }
}

impl Drop for Reclaim<'_> {
    fn drop(&mut self) {
        // Release: the last answer comes before.
        self.0.reclaim.store(0, Release);
    }
}

impl<M: Machine> Space<M> {
    /// Waits until no scan works in some arenas. The caller has its claims there, so none begins (rule 3).
    pub(crate) fn wait_for_scans<'a>(&self, arenas: impl Iterator<Item = &'a Arena>) {
        // Pairs with the fence of `try_reclaim`.
        fence(SeqCst);
        static SCAN: What = What::page("the end of a scan");
        for arena in arenas {
            let mut since = 0;
            while arena.is_scanned() {
                self.memory().stats.add(&self.memory().machine, Counter::WaitScan, 1);
                since = self.memory().pause(&SCAN, 0, since);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Cpu, memory};

    /// Whoever has taken all claims, and finds that another one scans, leaves the bit to it.
    #[test]
    fn a_scan_that_waited_in_vain_clears_nobodys_bit() {
        let m = memory(100);
        let _cpu = Cpu::new(m, 0);
        let space = Space::new(m);
        let arena = space.arena_or_new(0).expect("a node");
        let scan = arena.try_reclaim(m).expect("nobody edits or scans");
        // It had read their number before the last of so many gave up.
        arena.vain.store(VAIN, Relaxed);
        assert!(arena.try_reclaim(m).is_none(), "two scans of one arena");
        assert!(arena.is_scanned(), "an edit would believe that nobody scans");
        drop(scan);
        assert!(!arena.is_scanned());
        drop(arena.try_reclaim(m).expect("nobody edits or scans"));
    }

    /// Models show what a scan under an edit does to forks and moves; here is that there is none.
    #[test]
    fn no_scan_begins_under_an_edit() {
        let m = memory(100);
        let _cpu = Cpu::new(m, 0);
        let space = Space::new(m);
        let arena = space.arena_or_new(0).expect("a node");
        let claim = arena.claims.acquire_one(m, 0, 1);
        (1..VAIN).for_each(|n| assert!(arena.try_reclaim(m).is_none(), "try {n} began"));
        assert!(!arena.is_scanned());
        drop(claim);
        drop(arena.try_reclaim(m).expect("nobody edits or scans"));
        assert_eq!(arena.vain.load(Relaxed), 0);
    }
}
