//! Counters: one set per CPU, added up when somebody asks.

use crate::machine::{CPUS, Machine};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use crossbeam_utils::CachePadded;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What is counted.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(usize)]
        pub enum Counter { $($(#[$doc])* $name,)* }

        impl Counter {
            /// All counters with the names that they are printed under.
            pub const ALL: &[(Counter, &str)] = &[$((Counter::$name, $text),)*];
        }
    };
}

counters! {
    /// Faults taken, of any kind.
    Fault = "faults",
    /// Faults that mapped the zero page.
    FaultZero = "faults_zero_page",
    /// Reads that mapped a blank page in the place of the zero page.
    FaultBlank = "faults_blank",
    /// Faults that mapped a fresh zeroed frame.
    FaultAnonymous = "faults_anonymous",
    /// Faults that mapped an object's page.
    FaultObject = "faults_object",
    /// Faults that mapped a page that had been evicted.
    FaultSwap = "faults_swap",
    /// Faults that only changed rights.
    FaultRights = "faults_rights",
    /// Faults that found everything done already.
    FaultSpurious = "faults_spurious",
    /// Faults refused.
    FaultDenied = "faults_denied",
    /// Copy-on-write breaks that copied.
    Copy = "cow_copies",
    /// Copy-on-write breaks that reused the page in place.
    Reuse = "cow_reuses",
    /// Arenas joined by a CPU.
    Join = "arena_joins",
    /// Edits that map.
    Map = "edits_map",
    /// Edits that unmap.
    Unmap = "edits_unmap",
    /// Edits that change a protection.
    Protect = "edits_protect",
    /// Discards.
    Discard = "edits_discard",
    /// Moves.
    Move = "edits_move",
    /// Times that tables went in which nothing was mapped any more.
    Bare = "edits_bare",
    /// Forks.
    Fork = "forks",
    /// Hot pages that forks copied.
    ForkCopy = "fork_copies",
    /// Shootdowns sent (requests, not interrupts). The next ones say what for.
    ShootdownSent = "shootdowns_sent",
    /// For memory that was unmapped, or mapped over; and for tables in which nothing was mapped any more.
    ShootdownUnmap = "shootdowns_unmap",
    /// For pages that lost rights.
    ShootdownProtect = "shootdowns_protect",
    /// For pages that were discarded.
    ShootdownDiscard = "shootdowns_discard",
    /// For pages that left their file.
    ShootdownCut = "shootdowns_cut",
    /// For moves.
    ShootdownMove = "shootdowns_move",
    /// For forks: two each.
    ShootdownFork = "shootdowns_fork",
    /// For copies of pages that somebody else has as well.
    ShootdownCopy = "shootdowns_copy",
    /// For first stores to pages that had been read as the zero page.
    ShootdownZero = "shootdowns_zero_page",
    /// For pages that were evicted.
    ShootdownEvict = "shootdowns_evict",
    /// For what CPUs cache and have retired.
    ShootdownDrain = "shootdowns_drain",
    /// Shootdown interrupts sent.
    ShootdownInterrupt = "shootdown_interrupts",
    /// Shootdowns served for other CPUs.
    ShootdownServed = "shootdowns_served",
    /// Compare-and-swaps of a list's root that failed.
    RetryRoot = "retries_root",
    /// Transitions of a fault that failed.
    RetryFault = "retries_fault",
    /// Transitions of a sweep, fork or move that failed.
    RetrySweep = "retries_sweep",
    /// Tables for a missing entry that somebody else had put there first.
    RetryTable = "retries_table",
    /// Draws of a claim's slot that failed.
    RetryClaim = "retries_claim",
    /// References to a page that had to be tried again.
    RetryReference = "retries_reference",
    /// Looks for an object's page that had to be tried again.
    RetryObject = "retries_object",
    /// Waits for a claim.
    WaitClaim = "waits_claim",
    /// Waits of a fault for an edit, fork or copy.
    WaitFault = "waits_fault",
    /// Pages evicted from entries.
    Evict = "pages_evicted",
    /// Pages that a scan left in memory.
    EvictKept = "pages_kept",
    /// Waits of a fork or move for a scan.
    WaitScan = "waits_scan",
    /// Grace periods begun.
    Epoch = "grace_periods",
    /// Frames zeroed by idle CPUs.
    ZeroedAhead = "frames_zeroed_ahead",
}

const N: usize = Counter::ALL.len();

/// The counters of all CPUs.
#[derive(Debug)]
pub struct Stats([CachePadded<[AtomicU64; N]>; CPUS]);

impl Stats {
    /// All zero.
    pub fn new() -> Stats {
        Stats(core::array::from_fn(|_| CachePadded::new([const { AtomicU64::new(0) }; N])))
    }

    /// Adds on the calling CPU: a plain addition, since nobody else writes its counters.
    #[inline]
    pub fn add<M: Machine>(&self, machine: &M, counter: Counter, n: u64) {
        let c = &self.0[machine.cpu()][counter as usize];
        c.store(c.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// The sum over all CPUs.
    pub fn get(&self, counter: Counter) -> u64 {
        self.0.iter().map(|c| c[counter as usize].load(Relaxed)).sum()
    }
}

impl Default for Stats {
    fn default() -> Self {
        Self::new()
    }
}
