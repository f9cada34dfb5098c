//! The mutex of threads: its waiters sleep.

use crate::{WaitQueue, yield_now};
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, Ordering};
use quire_base::lock::may_wait;

/// A mutual exclusion whose waiters give the CPU away, so its holder may touch user memory and wait for frames.
///
/// It has no order: whoever gives it back wakes the one that has waited longest, but whoever comes first takes it.
pub struct SleepMutex<T: ?Sized> {
    taken: AtomicBool,
    queue: WaitQueue,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached only through the guard, of which one exists at a time.
unsafe impl<T: ?Sized + Send> Send for SleepMutex<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Send> Sync for SleepMutex<T> {}

impl<T> SleepMutex<T> {
    /// A free mutex around `value`.
    pub const fn new(value: T) -> Self {
        SleepMutex { taken: AtomicBool::new(false), queue: WaitQueue::new(), value: UnsafeCell::new(value) }
    }
}

impl<T: ?Sized> SleepMutex<T> {
    /// Takes the mutex, sleeping while another thread has it. Not interruptible: holders always make progress.
    pub fn lock(&self) -> SleepGuard<'_, T> {
        may_wait();
        if !self.try_take() {
            // Neither a deadline nor interruptible: the wait ends only with the mutex taken.
            while self.queue.wait(None, false, || self.try_take().then_some(())).is_err() {
                yield_now();
            }
        }
        SleepGuard(self)
    }

    /// Takes the mutex if nobody has it: for who must not wait for its holder.
    pub fn try_lock(&self) -> Option<SleepGuard<'_, T>> {
        self.try_take().then(|| SleepGuard(self))
    }

    fn try_take(&self) -> bool {
        // Acquire pairs with the Release in the guard's drop.
        self.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }
}

/// The right to use the value of a [`SleepMutex`].
pub struct SleepGuard<'a, T: ?Sized>(&'a SleepMutex<T>);

impl<T: ?Sized> Deref for SleepGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: this guard is the only one.
        unsafe { &*self.0.value.get() }
    }
}
impl<T: ?Sized> DerefMut for SleepGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard is the only one.
        unsafe { &mut *self.0.value.get() }
    }
}
impl<T: ?Sized> Drop for SleepGuard<'_, T> {
    fn drop(&mut self) {
        self.0.taken.store(false, Ordering::Release);
        self.0.queue.wake_one();
    }
}
