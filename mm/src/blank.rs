//! Blank pages: reads of fresh memory that take a page of their own, and not the zero page.
//!
//! The zero page costs no memory, but the first store puts another page in its place, and whoever may have read it must answer before.
//! A program that reads before it writes would interrupt all its CPUs for each page. A *blank* page is the mapping's own, zeroed and read-only:
//! its first store only adds a right, for which nobody is asked. No transition of an entry is special to it.
//!
//! It costs a frame, and a program that only reads must not fill memory. So a space has a credit, in tenths of a page:
//!
//! | what happens | credit |
//! |---|---|
//! | a store puts a page in the place of the zero page, and other CPUs have to answer | + 1 |
//! | a read takes a blank page, in an arena that other CPUs have joined | - 10 |
//! | the first store to a blank page | + 11 |
//!
//! Nothing else adds to it, so for each blank page that is never stored to, ten pages were. It ends at 64 pages: a program that has
//! stored to much reads 64 pages in vain at most, then one for ten more that it stores to.
//!
//! The credit is a hint, which a race may make wrong by a page for each CPU. It orders nothing, so the model checker need not see it.

use core::sync::atomic::AtomicU64;
// ordering: a number by itself.
use core::sync::atomic::Ordering::Relaxed;

/// A blank page, in tenths of one.
const PAGE: u64 = 10;
/// The most credit that there can be, about.
const MOST: u64 = 64 * PAGE;

/// What a space may spend on blank pages.
#[derive(Debug)]
pub(crate) struct Credit(AtomicU64);

impl Credit {
    /// For `pages` blank pages: none in a new space.
    pub const fn new(pages: u64) -> Credit {
        Credit(AtomicU64::new(pages * PAGE))
    }

    /// Whether a read may take a blank page, where it is `wanted`. It is paid for then.
    pub fn spend(&self, wanted: impl FnOnce() -> bool) -> bool {
        let there = self.0.load(Relaxed);
        // A lost race costs what the zero page costs.
        there >= PAGE && wanted() && self.0.compare_exchange(there, there - PAGE, Relaxed, Relaxed).is_ok()
    }

    /// A read took a blank page, and somebody else has installed something there.
    pub fn give_back(&self) {
        self.0.fetch_add(PAGE, Relaxed);
    }

    /// A first store has replaced the zero page, and others have to answer.
    pub fn replaced(&self) {
        self.earn(1);
    }

    /// A blank page is stored to for the first time.
    pub fn stored(&self) {
        self.earn(PAGE + 1);
    }

    fn earn(&self, tenths: u64) {
        if self.0.load(Relaxed) < MOST {
            self.0.fetch_add(tenths, Relaxed);
        }
    }

    /// For the models, which begin with some.
    #[cfg(loom)]
    pub fn set(&self, pages: u64) {
        self.0.store(pages * PAGE, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads that take a blank page until there is no credit.
    fn scan(credit: &Credit) -> u64 {
        (0..1_000_000).take_while(|_| credit.spend(|| true)).count() as u64
    }

    #[test]
    fn one_page_in_vain_for_ten_that_were_stored_to() {
        let credit = Credit::new(0);
        assert_eq!(scan(&credit), 0);
        for stores in 1..=5 {
            (0..10 * stores).for_each(|_| credit.replaced());
            assert_eq!(scan(&credit), stores);
        }
        (0..1_000_000).for_each(|_| credit.replaced());
        assert_eq!(scan(&credit), MOST / PAGE, "what has been stored to long ago fills memory");
    }

    #[test]
    fn who_stores_to_what_it_has_read_never_runs_out() {
        let credit = Credit::new(1);
        for read in 0..1000 {
            assert!(credit.spend(|| true), "page {read}");
            credit.stored();
        }
        assert_eq!(scan(&credit), MOST / PAGE, "a tenth of a page for each");
    }
}
