//! Atomics, fences and deliberate defects: the only place that knows whether the model checker runs.
//!
//! Outside loom this is `core::sync::atomic`, and [`mutant`] is a constant `false`. Under `--cfg loom` every load and store
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
    /// Sweep: absent entries become `Empty(0)`, whatever the generation.
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
    /// Move: the source is not shot down before its pages appear at the destination.
    MoveNoFlush,
    /// Address search: the hole is not searched again under the claim.
    HoleOnce,
}

/// Whether the defect `m` is switched on. A constant `false` outside the model checker.
#[cfg(not(loom))]
#[inline(always)]
pub const fn mutant(_m: Mutant) -> bool {
    false
}

#[cfg(loom)]
pub use self::model::mutant;

/// Loom's atomics behind the same names, and the switches of a run.
#[cfg(loom)]
pub mod model {
    use super::{Mutant, Ordering};
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

    static RMW: AtomicBool = AtomicBool::new(false);
    static MUTANT: AtomicU32 = AtomicU32::new(0);

    /// Turns every load and store into a read-modify-write (all interleavings, no weak memory), or back.
    pub fn every_access_rmw(on: bool) {
        RMW.store(on, Relaxed);
    }

    /// Switches one defect on, or all off.
    pub fn select(m: Option<Mutant>) {
        MUTANT.store(m.map_or(0, |m| m as u32), Relaxed);
    }

    /// Whether the defect `m` is switched on.
    pub fn mutant(m: Mutant) -> bool {
        MUTANT.load(Relaxed) == m as u32
    }

    /// As `core::sync::atomic::fence`. In the read-modify-write run all accesses are ordered already.
    pub fn fence(order: Ordering) {
        loom::sync::atomic::fence(order);
    }

    macro_rules! atomic {
        ($name:ident, $value:ty $(, $param:ident)?) => {
            /// The model checker's atomic with the interface of `core`'s.
            #[derive(Debug)]
            pub struct $name$(<$param>)?(loom::sync::atomic::$name$(<$param>)?);

            impl$(<$param>)? $name$(<$param>)? {
                /// A new atomic.
                pub fn new(v: $value) -> Self {
                    Self(loom::sync::atomic::$name::new(v))
                }
                /// Loads; a read-modify-write in the second run.
                pub fn load(&self, order: Ordering) -> $value {
                    if RMW.load(Relaxed) {
                        // A compare-and-swap that changes nothing reads the newest value and orders itself against all others.
                        let mut v = self.0.load(Ordering::Relaxed);
                        loop {
                            match self.0.compare_exchange(v, v, Ordering::AcqRel, Ordering::Acquire) {
                                Ok(v) => return v,
                                Err(now) => v = now,
                            }
                        }
                    }
                    self.0.load(order)
                }
                /// Stores; a read-modify-write in the second run.
                pub fn store(&self, v: $value, order: Ordering) {
                    if RMW.load(Relaxed) {
                        self.0.swap(v, Ordering::AcqRel);
                    } else {
                        self.0.store(v, order);
                    }
                }
                /// Swaps.
                pub fn swap(&self, v: $value, order: Ordering) -> $value {
                    self.0.swap(v, order)
                }
                /// Compares and swaps.
                pub fn compare_exchange(&self, old: $value, new: $value, ok: Ordering, err: Ordering) -> Result<$value, $value> {
                    self.0.compare_exchange(old, new, ok, err)
                }
            }
        };
    }
    atomic!(AtomicU64, u64);
    atomic!(AtomicPtr, *mut T, T);

    impl AtomicU64 {
        /// Adds, wrapping; returns the old value.
        pub fn fetch_add(&self, v: u64, order: Ordering) -> u64 {
            self.0.fetch_add(v, order)
        }
        /// Subtracts, wrapping; returns the old value.
        pub fn fetch_sub(&self, v: u64, order: Ordering) -> u64 {
            self.0.fetch_sub(v, order)
        }
        /// Sets bits; returns the old value.
        pub fn fetch_or(&self, v: u64, order: Ordering) -> u64 {
            self.0.fetch_or(v, order)
        }
        /// Keeps bits; returns the old value.
        pub fn fetch_and(&self, v: u64, order: Ordering) -> u64 {
            self.0.fetch_and(v, order)
        }
    }
}
