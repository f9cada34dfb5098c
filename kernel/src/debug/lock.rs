//! The kernel's spin lock: `spin`'s, with words that say who took it last and where, and a wait that can be seen.
//!
//! A free lock costs two stores more than `spin`'s own. Who has to wait leaves a [note](super::stall::Wait) of the lock's
//! holder, and says so in the log when the wait takes too long.
//!
//! # Nothing waits under a spin lock
//! Each CPU counts the locks that it holds. Whatever may wait calls [`may_wait`] first, *whether or not it has to wait this time*: every
//! copy to or from a program (it may fault, and the fault wait for a frame, the disk, or other CPUs' answers), every claim, every
//! question to other CPUs, every sleep, every look at interrupts. So a guard that lives too long, as a temporary in an argument does, is
//! found by the first call that takes that path, and not by the one in a million that has to wait.

use super::stall::Wait;
use crate::arch::cpu;
use crate::mem::layout::KERNEL_BASE;
use core::fmt;
use core::ops::{Deref, DerefMut};
use core::panic::Location;
use core::sync::atomic::{AtomicU32, Ordering};
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

/// A CPU, and a place in the kernel's code: the lower half of its address.
struct Taken {
    place: AtomicU32,
    cpu: AtomicU32,
}

impl Taken {
    #[inline]
    fn set(&self, place: &'static Location<'static>) {
        // ordering: Relaxed; for a report, which may be a little late.
        self.place.store(place as *const Location<'_> as u32, Ordering::Relaxed);
        self.cpu.store(cpu::cpu_id() as u32, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        // ordering: Relaxed; as above.
        self.place.load(Ordering::Relaxed) as u64 | (self.cpu.load(Ordering::Relaxed) as u64) << 32
    }
}

/// What [`Taken::get`] returned, to be shown.
struct Holder(u64);

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 as u32 == 0 {
            return f.write_str("nobody");
        }
        let place = (self.0 & 0xffff_ffff | KERNEL_BASE) as *const Location<'static>;
        // SAFETY: only `set` writes halves that are not 0, out of the address of a location in the image; places live for ever.
        let place = unsafe { &*place };
        write!(f, "CPU {} at {}:{}", self.0 >> 32, place.file(), place.line())
    }
}

impl<T> Mutex<T> {
    /// A free lock around `value`.
    pub const fn new(value: T) -> Mutex<T> {
        Mutex { inner: spin::Mutex::new(value), holder: Taken { place: AtomicU32::new(0), cpu: AtomicU32::new(0) } }
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
