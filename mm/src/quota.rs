//! How many pages a group of objects may have together: what a file system in memory is limited by.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A limit and what is used of it, in pages. An object is charged for each page that has content of its own, in a frame or in the
/// swap area, from its first use until it is cut off or the object goes.
#[derive(Debug, Default)]
pub struct Quota {
    most: AtomicU64,
    used: AtomicU64,
}

impl Quota {
    /// Nothing used, nothing allowed.
    pub const fn new() -> Quota {
        Quota { most: AtomicU64::new(0), used: AtomicU64::new(0) }
    }

    /// Sets the limit; what is used already stays.
    pub fn limit(&self, pages: u64) {
        self.most.store(pages, Relaxed);
    }

    /// The limit.
    pub fn most(&self) -> u64 {
        self.most.load(Relaxed)
    }

    /// What is used.
    pub fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// Charges for a page. False: the limit is reached. Relaxed, here and below: a count, which orders nothing.
    #[must_use]
    pub(crate) fn charge(&self) -> bool {
        let fits = self.used.fetch_add(1, Relaxed) < self.most.load(Relaxed);
        if !fits {
            self.refund();
        }
        fits
    }

    pub(crate) fn refund(&self) {
        self.used.fetch_sub(1, Relaxed);
    }
}
