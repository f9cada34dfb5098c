//! The kernel's spin lock: `spin`'s, with words that say who took it last and where, and a wait that can be seen.
//!
//! A free lock costs two stores more than `spin`'s own. Who has to wait leaves a [note](super::stall::Wait) of the lock's
//! holder, and says so in the log when the wait takes too long.

use super::stall::Wait;
use crate::arch::cpu;
use crate::mem::layout::KERNEL_BASE;
use core::fmt;
use core::panic::Location;
use core::sync::atomic::{AtomicU32, Ordering};
use quire_mm::What;

/// Holds the value of a locked [`Mutex`].
pub type MutexGuard<'a, T> = spin::MutexGuard<'a, T>;

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
        guard
    }

    /// Takes the lock if it is free.
    #[inline]
    #[track_caller]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let guard = self.inner.try_lock()?;
        self.holder.set(Location::caller());
        Some(guard)
    }

    #[cold]
    fn wait(&self, place: &'static Location<'static>) -> MutexGuard<'_, T> {
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
