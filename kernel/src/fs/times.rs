//! When a file was used, written, changed and made: four numbers by themselves, in nanoseconds since 1970.

use core::sync::atomic::{AtomicI64, Ordering};
use quire_sched::timer;

/// The four times, as stat shows them.
#[derive(Clone, Copy, Default)]
pub struct Moments {
    /// Contents read.
    pub access: i64,
    /// Contents changed.
    pub modification: i64,
    /// Contents or attributes changed.
    pub change: i64,
    /// Made.
    pub birth: i64,
}

/// The times of a file.
pub struct Times {
    access: AtomicI64,
    modification: AtomicI64,
    change: AtomicI64,
    birth: i64,
}

/// A time of access that is older is renewed by the next one.
const DAY: i64 = 86_400_000_000_000;

fn now() -> i64 {
    timer::realtime_ns() as i64
}

impl Times {
    /// All of them `at`.
    pub fn at(at: i64) -> Self {
        Times { access: at.into(), modification: at.into(), change: at.into(), birth: at }
    }
    /// All of them now.
    pub fn new() -> Self {
        Self::at(now())
    }
    /// The contents were looked at. As Linux does by default (`relatime`), this is noted if they were changed since the last time, or
    /// that was a day ago.
    pub fn accessed(&self) {
        let seen = self.access.load(Ordering::Relaxed);
        let changed = self.modification.load(Ordering::Relaxed).max(self.change.load(Ordering::Relaxed));
        let now = now();
        if seen <= changed || now - seen >= DAY {
            self.access.store(now, Ordering::Relaxed);
        }
    }
    /// The contents were changed.
    pub fn modified(&self) {
        let now = now();
        self.modification.store(now, Ordering::Relaxed);
        self.change.store(now, Ordering::Relaxed);
    }
    /// An attribute was changed.
    pub fn changed(&self) {
        self.change.store(now(), Ordering::Relaxed);
    }
    /// A program sets them; `None` leaves one as it is.
    pub fn set(&self, access: Option<i64>, modification: Option<i64>) {
        if let Some(access) = access {
            self.access.store(access, Ordering::Relaxed);
        }
        if let Some(modification) = modification {
            self.modification.store(modification, Ordering::Relaxed);
        }
        self.changed();
    }
    /// What they are.
    pub fn moments(&self) -> Moments {
        Moments {
            access: self.access.load(Ordering::Relaxed),
            modification: self.modification.load(Ordering::Relaxed),
            change: self.change.load(Ordering::Relaxed),
            birth: self.birth,
        }
    }
}
