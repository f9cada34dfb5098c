//! Faults that take their time: a fork lets those pass first that it finds under way, or it would starve them.

use crate::sizes::COURTESY;
use crate::sync::{AtomicU64, Ordering::*};

/// A fault that takes its time, counted until it is over: a fork lets it pass first. Relaxed: it may be overlooked.
#[derive(Debug)]
pub(crate) struct Slow {
    /// How many there are.
    pub now: AtomicU64,
    /// How many have ended so far.
    pub ended: AtomicU64,
}

impl Slow {
    pub fn new() -> Slow {
        Slow { now: AtomicU64::new(0), ended: AtomicU64::new(0) }
    }

    /// From now on, until it is dropped.
    pub fn count(&self) -> Counted<'_> {
        // No fork of the model checker's asks.
        if COURTESY != 0 {
            self.now.fetch_add(1, Relaxed);
        }
        Counted(self)
    }
}

/// One that is counted.
#[must_use]
pub(crate) struct Counted<'a>(&'a Slow);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if COURTESY != 0 {
            self.0.ended.fetch_add(1, Relaxed);
            self.0.now.fetch_sub(1, Relaxed);
        }
    }
}
