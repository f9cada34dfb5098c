//! Atomics and fences: the only place that knows whether the model checker runs, apart from the sizes of both
//! crates and the check of an entry's end.
//!
//! Outside loom this is `core::sync::atomic`. Under `--cfg loom` every load and store can be turned into a read-modify-write
//! ([`model::every_access_rmw`]): loom remembers only the last access of an atomic, so each model runs once as written (weak memory)
//! and once with read-modify-writes (all interleavings).

pub use core::sync::atomic::Ordering;

#[cfg(not(loom))]
pub use core::sync::atomic::{AtomicPtr, AtomicU64, fence};

#[cfg(loom)]
pub(crate) use self::model::{Alive, copies_hot, in_vain, many_retired};
#[cfg(loom)]
pub use self::model::{AtomicPtr, AtomicU64, fence};
#[cfg(not(loom))]
pub(crate) use self::plain::{Alive, copies_hot, in_vain, many_retired};

/// What only the model checker looks at.
#[cfg(not(loom))]
mod plain {
    /// So many retired things make their CPU try to advance the epoch. A model says how many.
    pub(crate) const fn many_retired() -> u32 {
        64
    }

    /// Whether forks copy hot pages. Only models that are about them say so: in the others, what is forked is shared.
    pub(crate) const fn copies_hot() -> bool {
        true
    }

    /// A round of a search was in vain, and others are to go on before the next one.
    #[inline(always)]
    pub(crate) fn in_vain() {}

    /// A part of what is freed and used again: the model checker looks whether somebody still uses it.
    pub(crate) struct Alive;

    impl Alive {
        #[inline(always)]
        pub(crate) fn new() -> Alive {
            Alive
        }
        #[inline(always)]
        pub(crate) fn check(&self) {}
        #[inline(always)]
        pub(crate) fn end(&self) {}
    }
}

/// Loom's atomics behind the same names, and the switches of a run.
#[cfg(loom)]
pub mod model {
    use super::Ordering;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

    static RMW: AtomicBool = AtomicBool::new(false);
    /// Rounds of a search for bits that were promised but not there.
    pub static FRUITLESS: AtomicU32 = AtomicU32::new(0);
    static COLLECT: AtomicU32 = AtomicU32::new(1);
    static HOT: AtomicBool = AtomicBool::new(false);

    /// How many retired things make their CPU collect. Models that are not about grace periods set it out of reach.
    pub fn collect_at(n: u32) {
        COLLECT.store(n, Relaxed);
    }

    pub(crate) fn many_retired() -> u32 {
        COLLECT.load(Relaxed)
    }

    /// Says whether forks copy hot pages.
    pub fn copy_hot(on: bool) {
        HOT.store(on, Relaxed);
    }

    pub(crate) fn copies_hot() -> bool {
        HOT.load(Relaxed)
    }

    pub(crate) fn in_vain() {
        FRUITLESS.fetch_add(1, Relaxed);
        loom::thread::yield_now();
    }

    /// Says whether what it is a part of has been freed.
    pub(crate) struct Alive(AtomicU64);

    impl Alive {
        pub(crate) fn new() -> Alive {
            Alive(AtomicU64::new(1))
        }
        #[track_caller]
        pub(crate) fn check(&self) {
            assert!(self.0.load(Relaxed) == 1, "a freed segment-tree node was read");
        }
        #[track_caller]
        pub(crate) fn end(&self) {
            self.0.end(0);
        }
    }

    /// Turns every load and store into a read-modify-write (all interleavings, no weak memory), or back.
    pub fn every_access_rmw(on: bool) {
        RMW.store(on, Relaxed);
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
