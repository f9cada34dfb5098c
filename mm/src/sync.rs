//! Atomics, fences and deliberate defects: the only place that knows whether the model checker runs.
//!
//! Outside loom this is `core::sync::atomic`, and [`mutant`] is a constant `false`, apart from host tests. Under `--cfg loom` every load and store
//! can be turned into a read-modify-write ([`model::every_access_rmw`]): loom remembers only the last access of an atomic, so
//! each model runs once as written (weak memory) and once with read-modify-writes (all interleavings).

pub use core::sync::atomic::Ordering;

#[cfg(not(loom))]
pub use core::sync::atomic::{AtomicPtr, AtomicU64, fence};

#[cfg(loom)]
pub use self::model::{AtomicPtr, AtomicU64, fence};

/// A deliberate defect of the production code, chosen by a test that must then fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Mutant {
    /// Fault: the list is read before the entry.
    ListBeforeEntry = 1,
    /// Sweep: absent entries become `Empty(0)` with the parity that they had, whatever the generation.
    EmptyZero,
    /// Sweep, fork: entries that stay keep their parity.
    NoParityFlip,
    /// Sweep: absent tables are left as they are, though others are active.
    SkipAbsent,
    /// Edit: the sweep comes before the new list.
    SweepBeforePublish,
    /// Edit: a replaced mapping is not published as in transit first.
    NoTransit,
    /// Edit: whether this CPU is alone is judged before the new list is published.
    AloneTooEarly,
    /// Edit: no claim is taken.
    NoClaim,
    /// Claims: the slot is not marked as choosing before the ticket is drawn.
    NoChoosing,
    /// Flush: frames are freed before the answers.
    FreeBeforeAnswer,
    /// Table retirement: entries are not sealed.
    NoSeal,
    /// Table retirement: freed without a grace period.
    NoGrace,
    /// Copy-on-write: the copy is published writable at once.
    CopyWritable,
    /// Copy-on-write: the copy is not marked fresh.
    NoFresh,
    /// Copy-on-write: whether this CPU is alone is judged before the copy is published.
    CopyAloneTooEarly,
    /// Fork: the forking mark is not set.
    NoForkMark,
    /// Fork: the mark is set, but no answer is awaited before the first entry.
    NoForkAnswer,
    /// Shootdown: the answer is given before the record is read.
    AnswerEarly,
    /// Shootdown: the answer is Relaxed.
    AnswerRelaxed,
    /// Shootdown: a waiter does not serve its own word.
    NoServe,
    /// Shootdown: no interrupt to a target whose word was zero, if another one was.
    NoInterrupt,
    /// Joining: no fence between the CPU's bit and its walk.
    JoinNoFence,
    /// Activation: the table is loaded before the active bit is set.
    ActiveLate,
    /// Activation: no fence between the active bit and the load of the table.
    ActiveNoFence,
    /// Grace periods: pinning without its fence.
    PinNoFence,
    /// Grace periods: an epoch advances although a CPU is pinned in an older one.
    AdvanceEarly,
    /// Frames: a freed frame is counted before its bit is set.
    CountBeforeBit,
    /// Frames: `try_ref` raises a count of zero.
    RefFromZero,
    /// A refused fault signals without waiting for the claims over its page.
    SignalAtOnce,
    /// Address search: the hole is not searched again under the claim.
    HoleOnce,
    /// Edit: the new root is stored, whatever is there meanwhile.
    PublishBlind,
    /// Fault: a table is stored into its entry, whatever is there meanwhile.
    InstallBlind,
    /// Copy-on-write: a page with other owners is reused in place.
    ReuseShared,
    /// Fork: no shootdown after the last entry.
    ForkNoFlush,
    /// Frames: a bit that somebody else has just cleared counts as taken.
    BitBlind,
    /// Slabs: a frame is freed although its bit in the bitmap is not ours.
    SlabUnowned,
    /// Users of an object: leave to write is given although it is closed.
    WriteClosed,
    /// Users of an object: it is closed, whoever may write it.
    CloseBlind,
    /// Protect: whether the segments allow it is looked up before the claim.
    ProtectLookedBefore,
    /// Objects: after the reference to a page is taken, the object's entry is not read again.
    ObjectOnce,
    /// Fork, move: a scan that has begun is not waited for.
    NoScanWait,
    /// Eviction: a scan begins while an edit is under way.
    ScanUnderEdit,
    /// Eviction: slots are answered without answers.
    EvictNoAnswer,
    /// Swap-in: the entry is overwritten, whatever is there meanwhile.
    RestoreBlind,
    /// Edit: a scan that works in the arena changes nothing about the shootdown.
    ScannedNoFlush,
    /// Edit: a scan that works in the arena does not count as another CPU.
    AloneBesideScan,
    /// Copy-on-write: a page is reused in place though its frame is linked to a slot.
    KeepLink,
    /// Objects: a page is given up without a second look at its count.
    GiveUpBlind,
    /// Fork: the slot of a swapped page is held after the entry was shared.
    HoldAfterShare,
    /// Eviction: a page that was stored to since the look at its word goes all the same.
    EvictBlind,
    /// Edit: the last publish of a replacement or move has no nodes of its own.
    NoReserve,
    /// Links: a search for them begins with the first frame each time.
    LinksFromStart,
    /// Fork, cut: an arena that was made while the others were claimed is left out.
    NewArenaLeftOut,
    /// Fork: the child is said to be ready after the claims are gone.
    ReadyLate,
    /// Cut: a private copy that came meanwhile goes with the page.
    CopyTaken,
    /// Table retirement: entries of a discarded table are not sealed where nobody else is in the arena.
    DiscardUnsealed,
    /// Sweep: neighbouring entries that are empty stay as they are, though others are in the arena.
    GroupSkipped,
    /// The kernel's wake-up: a CPU looks at its queue without a fence before it halts.
    HaltNoFence,
    /// The kernel's wake-up: who queues a thread looks at the idle CPUs without a fence.
    WakeNoFence,
    /// The kernel's wake-up: who queues a thread asks before his fence whether the CPU polls.
    AskBeforeFence,
    /// Flush: the other CPUs keep their translations.
    FlushNoShoot,
    /// Bare tables: they are swept without a claim.
    BareUnclaimed,
    /// Bare tables: whether something is mapped in their span is not looked at again under the claim.
    BareOnce,
    /// Bare tables: an unmap looks for them before its sweep.
    BareBeforeSweep,
    /// Move: the destination's tables are made before the source is in transit.
    TablesBeforeTransit,
    /// Move: the source is not swept before its words go: nothing is hidden, and nobody answers.
    MoveNoAnswer,
    /// Sweep: words that name a slot are not answered for.
    SweepNoAnswer,
    /// Eviction: an entry that loses its object's page loses its parity, too.
    UnmapParity,
}

impl Mutant {
    /// Those that host tests look for, and no model: they need memory to run out, many frames, or four CPUs.
    pub const OF_HOST_TESTS: &[Mutant] = &[Mutant::NoReserve, Mutant::LinksFromStart, Mutant::UnmapParity];
    /// The last one: they are numbered from 1.
    pub const LAST: u32 = Mutant::UnmapParity as u32;
}

/// Whether the defect `m` is switched on. A constant `false` where neither the model checker nor the fake machine is built in.
#[cfg(not(any(loom, test, feature = "fake")))]
#[inline(always)]
pub const fn mutant(_m: Mutant) -> bool {
    false
}

/// Whether the defect `m` is switched on, for a host test in a process of its own (`fake::must_fail`).
#[cfg(all(not(loom), any(test, feature = "fake")))]
pub fn mutant(m: Mutant) -> bool {
    crate::fake::selected() == m as u32
}

#[cfg(loom)]
pub use self::model::mutant;

/// Loom's atomics behind the same names, and the switches of a run.
#[cfg(loom)]
pub mod model {
    use super::{Mutant, Ordering};
    use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64 as Plain, Ordering::Relaxed};

    static RMW: AtomicBool = AtomicBool::new(false);
    /// A bit for each defect, 64 in a word.
    static MUTANTS: [Plain; Mutant::LAST as usize / 64 + 1] = [const { Plain::new(0) }; Mutant::LAST as usize / 64 + 1];
    /// Rounds of a search for bits that were promised but not there.
    pub static FRUITLESS: AtomicU32 = AtomicU32::new(0);
    static COLLECT: AtomicU32 = AtomicU32::new(1);

    /// How many retired things make their CPU collect. Models that are not about grace periods set it out of reach.
    pub fn collect_at(n: u32) {
        COLLECT.store(n, Relaxed);
    }

    pub(crate) fn many() -> u32 {
        COLLECT.load(Relaxed)
    }

    /// Turns every load and store into a read-modify-write (all interleavings, no weak memory), or back.
    pub fn every_access_rmw(on: bool) {
        RMW.store(on, Relaxed);
    }

    /// Switches the defect with number `m` on. At first all are off.
    pub fn select(m: u32) {
        MUTANTS[m as usize / 64].fetch_or(1 << (m % 64), Relaxed);
    }

    /// Whether the defect `m` is switched on.
    pub fn mutant(m: Mutant) -> bool {
        let m = m as u32;
        MUTANTS[m as usize / 64].load(Relaxed) >> (m % 64) & 1 != 0
    }

    /// As `core::sync::atomic::fence`. In the read-modify-write run all accesses are ordered already.
    pub fn fence(order: Ordering) {
        loom::sync::atomic::fence(order);
    }

    /// The model checker's atomic with the interface of `core`'s.
    #[derive(Debug)]
    pub struct AtomicU64(loom::sync::atomic::AtomicU64);

    impl AtomicU64 {
        /// A new atomic.
        pub fn new(v: u64) -> Self {
            Self(loom::sync::atomic::AtomicU64::new(v))
        }
        /// Loads; a read-modify-write in the second run: the newest value, ordered against all other accesses.
        #[track_caller]
        pub fn load(&self, order: Ordering) -> u64 {
            if RMW.load(Relaxed) { self.0.fetch_or(0, Ordering::AcqRel) } else { self.0.load(order) }
        }
        /// Stores; a read-modify-write in the second run.
        #[track_caller]
        pub fn store(&self, v: u64, order: Ordering) {
            if RMW.load(Relaxed) {
                self.0.swap(v, Ordering::AcqRel);
            } else {
                self.0.store(v, order);
            }
        }
        /// Swaps.
        #[track_caller]
        pub fn swap(&self, v: u64, order: Ordering) -> u64 {
            self.0.swap(v, order)
        }
        /// Compares and swaps.
        #[track_caller]
        pub fn compare_exchange(&self, old: u64, new: u64, ok: Ordering, err: Ordering) -> Result<u64, u64> {
            self.0.compare_exchange(old, new, ok, err)
        }
        /// Adds, wrapping; returns the old value.
        #[track_caller]
        pub fn fetch_add(&self, v: u64, order: Ordering) -> u64 {
            self.0.fetch_add(v, order)
        }
        /// Subtracts, wrapping; returns the old value.
        #[track_caller]
        pub fn fetch_sub(&self, v: u64, order: Ordering) -> u64 {
            self.0.fetch_sub(v, order)
        }
        /// Sets bits; returns the old value.
        #[track_caller]
        pub fn fetch_or(&self, v: u64, order: Ordering) -> u64 {
            self.0.fetch_or(v, order)
        }
        /// Keeps bits; returns the old value.
        #[track_caller]
        pub fn fetch_and(&self, v: u64, order: Ordering) -> u64 {
            self.0.fetch_and(v, order)
        }
        /// The end of what the word belonged to: every access so far must have happened before, or the model fails.
        #[track_caller]
        pub fn end(&self, v: u64) {
            // SAFETY: loom's atomic is a handle without a destructor; the copy is forgotten. `with_mut` wants a unique one only to
            // show that nobody else accesses the value, which is what it checks here.
            let mut handle = core::mem::ManuallyDrop::new(unsafe { core::ptr::read(&self.0) });
            handle.with_mut(|at| *at = v);
        }
    }

    /// As [`AtomicU64`], for pointers.
    pub struct AtomicPtr<T>(AtomicU64, core::marker::PhantomData<*mut T>);

    impl<T> core::fmt::Debug for AtomicPtr<T> {
        fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            self.0.fmt(f)
        }
    }

    // SAFETY: as core's: only the pointer itself is shared.
    unsafe impl<T> Sync for AtomicPtr<T> {}
    // SAFETY: as above.
    unsafe impl<T> Send for AtomicPtr<T> {}

    impl<T> AtomicPtr<T> {
        /// A new atomic.
        pub fn new(v: *mut T) -> Self {
            Self(AtomicU64::new(v as u64), core::marker::PhantomData)
        }
        /// As [`AtomicU64::load`].
        #[track_caller]
        pub fn load(&self, order: Ordering) -> *mut T {
            self.0.load(order) as *mut T
        }
        /// As [`AtomicU64::store`].
        #[track_caller]
        pub fn store(&self, v: *mut T, order: Ordering) {
            self.0.store(v as u64, order);
        }
        /// Swaps.
        #[track_caller]
        pub fn swap(&self, v: *mut T, order: Ordering) -> *mut T {
            self.0.swap(v as u64, order) as *mut T
        }
        /// Compares and swaps.
        #[track_caller]
        pub fn compare_exchange(
            &self,
            old: *mut T,
            new: *mut T,
            ok: Ordering,
            err: Ordering,
        ) -> Result<*mut T, *mut T> {
            self.0.compare_exchange(old as u64, new as u64, ok, err).map(|v| v as *mut T).map_err(|v| v as *mut T)
        }
    }
}
