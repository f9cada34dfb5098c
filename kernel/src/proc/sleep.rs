//! Waiting as system calls wait: until something happens, a time comes, or a signal must be handled.

use super::signal;
use crate::sched::{self, WaitError, WaitQueue};
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, Ordering};
use quire_base::errno::{EINTR, ETIMEDOUT, Errno};
use quire_base::lock::may_wait;

/// Waits on `queue` until `ready` answers. `ETIMEDOUT` when `deadline` (a `now_ns` value) passes first; `EINTR` when a
/// signal must be handled or the process is ending. A wake-up for a signal that turns out to need nothing goes on waiting.
pub fn wait_on<T>(queue: &WaitQueue, deadline: Option<u64>, mut ready: impl FnMut() -> Option<T>) -> Result<T, Errno> {
    loop {
        match queue.wait(deadline, true, &mut ready) {
            Ok(value) => return Ok(value),
            Err(WaitError::TimedOut) => return Err(ETIMEDOUT),
            Err(WaitError::Interrupted) => {
                if signal::must_interrupt() {
                    return Err(EINTR);
                }
            }
        }
    }
}

/// Waits on `queue` until `ready` answers, whatever signals come; `None`: the process is being killed.
///
/// The attention flag is lowered in between, so it is looked again *at everything* that may have raised it before this returns: whoever
/// lowers the flag owes that, and [`signal::must_interrupt`] pays.
pub fn wait_killable<T>(queue: &WaitQueue, mut ready: impl FnMut() -> Option<T>) -> Option<T> {
    let answer = loop {
        let look = || ready().map(Some).or_else(|| signal::is_dying().then_some(None));
        match queue.wait(None, true, look) {
            Ok(answer) => break answer,
            // By something that does not kill.
            Err(_) => sched::current().attention().store(false, Ordering::SeqCst),
        }
    };
    signal::must_interrupt();
    answer
}

/// Sleeps until `deadline`. `Ok` when it has passed, `EINTR` as for [`wait_on`].
pub fn sleep_until(deadline: Option<u64>) -> Result<(), Errno> {
    // A queue of one's own: nobody wakes it but time and signals.
    let queue = WaitQueue::new();
    match wait_on::<()>(&queue, deadline, || None) {
        Err(e) if e == ETIMEDOUT => Ok(()),
        Err(e) => Err(e),
        Ok(()) => Ok(()),
    }
}

/// A mutual exclusion whose waiters give the CPU away, so its holder may touch user memory and wait for frames.
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
                sched::yield_now();
            }
        }
        SleepGuard(self)
    }

    /// Takes the mutex if nobody has it: for who must not wait for its holder.
    pub fn try_lock(&self) -> Option<SleepGuard<'_, T>> {
        self.try_take().then_some(SleepGuard(self))
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
