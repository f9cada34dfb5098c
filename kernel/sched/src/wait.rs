//! Waiting for a condition that others make true.

use crate::thread::Thread;
use crate::{Woken, current, park, timer};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicUsize, Ordering, fence};
use quire_base::lock::{Mutex, may_wait};

/// Why a wait ended without its condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitError {
    /// The deadline came first.
    TimedOut,
    /// The thread's attention flag is up.
    Interrupted,
}

/// A place on the waiter's stack; linked only while the waiter is inside [`WaitQueue::wait`].
struct Waiter {
    thread: *const Thread,
    next: *mut Waiter,
    prev: *mut Waiter,
    linked: bool,
}

struct List {
    head: *mut Waiter,
    tail: *mut Waiter,
}
// SAFETY: the waiters in it live on the stacks of threads that cannot leave `wait` without unlinking; a lock protects all links.
unsafe impl Send for List {}

/// Threads that wait for something. A leaf lock but for the run queues'; wakers may be interrupt handlers.
pub struct WaitQueue {
    list: Mutex<List>,
    /// Waiters in the list: wakers without an audience take no lock.
    pub(super) count: AtomicUsize,
}

impl List {
    /// # Safety
    /// `w` is alive and in no list.
    unsafe fn push(&mut self, w: *mut Waiter) {
        // SAFETY: promised by the caller; the tail is alive as it is linked.
        unsafe {
            (*w).linked = true;
            (*w).next = null_mut();
            (*w).prev = self.tail;
            if self.tail.is_null() {
                self.head = w;
            } else {
                (*self.tail).next = w;
            }
        }
        self.tail = w;
    }

    /// # Safety
    /// `w` is in this list.
    unsafe fn remove(&mut self, w: *mut Waiter) {
        // SAFETY: promised by the caller; neighbours are alive as they are linked.
        unsafe {
            (*w).linked = false;
            let (prev, next) = ((*w).prev, (*w).next);
            if prev.is_null() {
                self.head = next
            } else {
                (*prev).next = next
            }
            if next.is_null() { self.tail = prev } else { (*next).prev = prev }
        }
    }
}

impl Default for WaitQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl WaitQueue {
    /// Nobody waits.
    pub const fn new() -> WaitQueue {
        WaitQueue { list: Mutex::new(List { head: null_mut(), tail: null_mut() }), count: AtomicUsize::new(0) }
    }

    /// Waits until `ready` gives a value, which it is asked for at first and after every wake-up.
    ///
    /// `ready` runs without the queue's lock, possibly while the thread is linked, and may be asked more often than there
    /// are wake-ups. A wake-up of [`wake_one`](Self::wake_one) that comes to a waiter which gives up is passed on.
    pub fn wait<T>(
        &self,
        deadline: Option<u64>,
        interruptible: bool,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Result<T, WaitError> {
        may_wait();
        if let Some(v) = ready() {
            return Ok(v);
        }
        let me = current();
        let mut waiter = Waiter { thread: me, next: null_mut(), prev: null_mut(), linked: false };
        let w = &raw mut waiter;
        let mut timed_out = false;
        loop {
            // SAFETY: the waiter outlives its linking: every way out of this loop unlinks it.
            unsafe {
                let mut list = self.list.lock();
                if !(*w).linked {
                    list.push(w);
                    // ordering: Relaxed; the fence below orders it.
                    self.count.fetch_add(1, Ordering::Relaxed);
                }
            }
            // ordering: SeqCst pairs with the fence of the wakers: either they see the waiter, or `ready` sees their change.
            fence(Ordering::SeqCst);
            let result = match ready() {
                Some(v) => Some(Ok(v)),
                None if interruptible && me.wants_attention() => Some(Err(WaitError::Interrupted)),
                None if timed_out || deadline.is_some_and(|d| d <= timer::now_ns()) => Some(Err(WaitError::TimedOut)),
                None => None,
            };
            if let Some(result) = result {
                let mut list = self.list.lock();
                // SAFETY: the lock protects `linked` and the links.
                let still = unsafe { (*w).linked };
                if still {
                    // SAFETY: it is linked here.
                    unsafe { list.remove(w) };
                    // ordering: Relaxed; under the lock.
                    self.count.fetch_sub(1, Ordering::Relaxed);
                }
                drop(list);
                if !still && result.is_err() {
                    // Woken, yet not served: somebody else may be.
                    self.wake_one();
                }
                return result;
            }
            timed_out = park(deadline) == Woken::TimedOut;
        }
    }

    fn wake(&self, mut n: usize) {
        // ordering: SeqCst pairs with the fence of the waiters, see there.
        fence(Ordering::SeqCst);
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut list = self.list.lock();
        while n > 0 && !list.head.is_null() {
            n -= 1;
            let w = list.head;
            // SAFETY: linked waiters are alive; the thread stays so until the lock is released, since it must take it to leave.
            unsafe {
                list.remove(w);
                // ordering: Relaxed; under the lock.
                self.count.fetch_sub(1, Ordering::Relaxed);
                (*(*w).thread).unpark();
            }
        }
    }

    /// Wakes all waiters.
    #[inline]
    pub fn wake_all(&self) {
        self.wake(usize::MAX);
    }

    /// Wakes the one that has waited longest.
    #[inline]
    pub fn wake_one(&self) {
        self.wake(1);
    }
}
