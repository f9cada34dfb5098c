//! How many pages a group of objects may have together: what a file system in memory is limited by.
//!
//! A page is charged before it is made, and is *under way* until it is in its object or the charge goes back. Whoever finds the
//! limit reached while others' pages are under way cannot know: one may be the very page that is wanted, or come to nothing.

use core::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

/// One page under way, in the upper half of the word; what is used, those included, is in the lower.
const UNDER_WAY: u64 = 1 << 32;
const USED: u64 = UNDER_WAY - 1;

/// A limit and what is used of it, in pages. An object is charged for each page that has content of its own, in a frame or in the
/// swap area, from its first use until it is cut off or the object goes; and for the tables that lead to its pages: of a small file they
/// are most of what it takes.
#[derive(Debug, Default)]
pub struct Quota {
    most: AtomicU64,
    word: AtomicU64,
}

/// What came of a charge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) enum Charge {
    /// It is charged, and under way.
    Paid,
    /// The limit is reached, but pages are under way: look again.
    Undecided,
    /// The limit is reached.
    Full,
}

impl Quota {
    /// Nothing used, nothing allowed.
    pub const fn new() -> Quota {
        Quota { most: AtomicU64::new(0), word: AtomicU64::new(0) }
    }

    /// Sets the limit, below 2^32; what is used already stays.
    pub fn limit(&self, pages: u64) {
        self.most.store(pages.min(USED), Relaxed);
    }

    /// The limit.
    pub fn most(&self) -> u64 {
        self.most.load(Relaxed)
    }

    /// What is used.
    pub fn used(&self) -> u64 {
        self.word.load(Relaxed) & USED
    }

    /// Charges for a page. Acquire: pairs with the Release of [`Quota::arrived`], so whoever is told that nothing is under way sees the
    /// pages that were.
    pub(crate) fn charge(&self) -> Charge {
        let mut now = self.word.load(Acquire);
        loop {
            if now & USED >= self.most() {
                return if now < UNDER_WAY { Charge::Full } else { Charge::Undecided };
            }
            // Relaxed: that the page is paid for orders nothing.
            match self.word.compare_exchange_weak(now, now + UNDER_WAY + 1, Relaxed, Acquire) {
                Ok(_) => return Charge::Paid,
                Err(word) => now = word,
            }
        }
    }

    /// Counts a table for pages of an object, which stays until the object goes. It comes with a page that is asked whether it may, so it
    /// is not asked itself. Relaxed: a count, which orders nothing.
    pub(crate) fn add_table(&self) {
        self.word.fetch_add(1, Relaxed);
    }

    /// The page that was paid for is in its object.
    pub(crate) fn arrived(&self) {
        self.word.fetch_sub(UNDER_WAY, Release);
    }

    /// The page that was paid for came to nothing. Release: as [`Quota::arrived`], for the one that was there before.
    pub(crate) fn give_back(&self) {
        self.word.fetch_sub(UNDER_WAY + 1, Release);
    }

    /// A page of an object has gone, or a table. Relaxed: a count, which orders nothing.
    pub(crate) fn refund(&self) {
        self.word.fetch_sub(1, Relaxed);
    }
}
