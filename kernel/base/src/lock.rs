//! The kernel's spin lock: `spin`'s, with words that say who took it last and where, and a wait that can be seen.
//!
//! A free lock costs two stores more than `spin`'s own. Who has to wait leaves a [note](crate::wait::Wait) of the lock's
//! holder, and says so in the log when the wait takes too long.
//!
//! # Nothing waits under a spin lock
//! Each CPU counts the locks that it holds. Whatever may wait calls [`may_wait`] first, *whether or not it has to wait this time*: every
//! copy to or from a program (it may fault, and the fault wait for a frame, the disk, or other CPUs' answers), every claim, every
//! question to other CPUs, every sleep, every look at interrupts. So a guard that lives too long, as a temporary in an argument does, is
//! found by the first call that takes that path, and not by the one in a million that has to wait.

use crate::cpu;
use crate::wait::Wait;
use core::fmt;
use core::ops::{Deref, DerefMut};
use core::panic::Location;
use core::ptr::{from_ref, null_mut};
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use quire_mm::What;

/// Holds the value of a locked [`Mutex`], and is counted by its CPU.
pub struct MutexGuard<'a, T>(spin::MutexGuard<'a, T>);

impl<'a, T> MutexGuard<'a, T> {
    #[inline]
    fn new(inner: spin::MutexGuard<'a, T>) -> Self {
        cpu::lock_taken();
        MutexGuard(inner)
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // The same CPU: its holder does not wait.
        cpu::lock_given_back();
    }
}

/// Called by whatever may wait, at its beginning. See [above](self).
#[inline(always)]
#[track_caller]
pub fn may_wait() {
    if cpu::holds_a_lock() {
        held();
    }
}

#[cold]
#[inline(never)]
#[track_caller]
fn held() -> ! {
    panic!("may wait under a spin lock");
}

/// A mutual exclusion for a few instructions. Interrupts are off; the holder does not wait.
pub struct Mutex<T> {
    inner: spin::Mutex<T>,
    /// Who took it last.
    holder: Taken,
}

/// A CPU, and a place in the kernel's code.
struct Taken {
    place: AtomicPtr<Location<'static>>,
    cpu: AtomicU32,
}

impl Taken {
    #[inline]
    fn set(&self, place: &'static Location<'static>) {
        // ordering: Relaxed; for a report, which may be a little late.
        self.place.store(from_ref(place).cast_mut(), Ordering::Relaxed);
        self.cpu.store(cpu::cpu_id() as u32, Ordering::Relaxed);
    }

    /// One word: the CPU above the 48 bits that tell an address.
    fn get(&self) -> u64 {
        // ordering: Relaxed; as above.
        let (place, cpu) = (self.place.load(Ordering::Relaxed), self.cpu.load(Ordering::Relaxed));
        (cpu as u64) << 48 | (place.addr() as u64 & ((1 << 48) - 1))
    }
}

/// What [`Taken::get`] returned, to be shown.
struct Holder(u64);

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = ((self.0 << 16) as i64 >> 16) as *const Location<'static>;
        // SAFETY: `set` writes addresses of places, which live for ever, and the highest 17 bits of an address are the same.
        match unsafe { place.as_ref() } {
            Some(place) => write!(f, "CPU {} at {}:{}", self.0 >> 48, place.file(), place.line()),
            None => f.write_str("nobody"),
        }
    }
}

impl<T> Mutex<T> {
    /// A free lock around `value`.
    pub const fn new(value: T) -> Mutex<T> {
        let holder = Taken { place: AtomicPtr::new(null_mut()), cpu: AtomicU32::new(0) };
        Mutex { inner: spin::Mutex::new(value), holder }
    }

    /// Takes the lock, spinning while another CPU has it.
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let place = Location::caller();
        let guard = match self.inner.try_lock() {
            Some(guard) => guard,
            None => self.wait(place),
        };
        self.holder.set(place);
        MutexGuard::new(guard)
    }

    /// Takes the lock if it is free.
    #[inline]
    #[track_caller]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let guard = self.inner.try_lock()?;
        self.holder.set(Location::caller());
        Some(MutexGuard::new(guard))
    }

    #[cold]
    fn wait(&self, place: &'static Location<'static>) -> spin::MutexGuard<'_, T> {
        /// Polls after which the clock is looked at: some milliseconds.
        const LOOK: u32 = 1 << 16;
        static LOCK: What =
            What { text: "a spin lock", show: |holder, f| write!(f, "taken last by {}", Holder(holder)) };
        let mut wait = Wait::at(&LOCK, place);
        let mut polls = 0u32;
        loop {
            core::hint::spin_loop();
            if !self.inner.is_locked()
                && let Some(guard) = self.inner.try_lock()
            {
                return guard;
            }
            polls += 1;
            if polls.is_multiple_of(LOOK) {
                wait.look(self.holder.get());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use core::sync::atomic::AtomicBool;
    use std::format;
    use std::string::ToString;

    #[test]
    fn whoever_holds_a_lock_must_not_wait() {
        let lock = Mutex::new(1);
        may_wait();
        let guard = lock.lock();
        assert!(cpu::holds_a_lock());
        assert!(lock.try_lock().is_none());
        drop(guard);
        may_wait();
        *lock.lock() += 1;
        assert_eq!(lock.try_lock().map(|value| *value), Some(2));
    }

    #[test]
    #[should_panic = "may wait under a spin lock"]
    fn a_wait_under_a_lock_is_found() {
        let lock = Mutex::new(());
        let _guard = lock.lock();
        may_wait();
    }

    #[test]
    fn the_holder_is_shown() {
        let lock = Mutex::new(());
        assert_eq!(Holder(lock.holder.get()).to_string(), "nobody");
        let line = line!() + 1;
        drop(lock.lock());
        let (cpu, file) = (cpu::cpu_id(), file!());
        assert_eq!(Holder(lock.holder.get()).to_string(), format!("CPU {cpu} at {file}:{line}"));
    }

    #[test]
    fn one_holds_it_at_a_time() {
        let (lock, inside) = (Mutex::new(0), AtomicBool::new(false));
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| {
                    for _ in 0..10_000 {
                        let mut count = lock.lock();
                        assert!(!inside.swap(true, Ordering::Relaxed));
                        *count += 1;
                        inside.store(false, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(*lock.lock(), 40_000);
    }
}
