//! Who uses an object: its references, and those of them that may write it.
//!
//! A *writer* is a shared mapping that is writable or may become so, whatever its protection is now (Linux's `i_mmap_writable`), or an
//! edit that is about to make one. An object can be closed to writers, for ever, while it has none: that is how a file is sealed.
//!
//! 1. The leaf of a segment list counts for each of its segments, once as a reference and once as a writer if it is one. A segment
//!    that is copied into a new leaf is counted there before the old leaf goes, so splits, merges, moves and forks never lower the
//!    counts below what is mapped.
//! 2. The first leaf of a new mapping needs leave: [`Users::write`], which a closed object refuses. It is held until the leaf
//!    counts for itself. Every later leaf is made from one that counts.
//! 3. Both numbers and *closed* are one word: whoever closes has seen, in the same step, that there is no writer and no leave.
//!
//! A leaf counts until its grace period is over. So there may be writers where nothing is mapped any more, never the
//! other way round; [`Memory::close_object`](crate::Memory::close_object) waits for grace periods before it believes them.

use crate::sync::{AtomicU64, Ordering::*, fence};

/// One reference.
const REFERENCE: u64 = 1;
/// One writer.
const WRITER: u64 = 1 << 32;
/// The references.
const REFERENCES: u64 = WRITER - 1;
/// No writer comes any more.
const CLOSED: u64 = 1 << 63;

/// The word.
#[derive(Debug)]
pub(crate) struct Users(AtomicU64);

impl Users {
    /// One reference, no writer.
    pub fn new() -> Users {
        Users(AtomicU64::new(REFERENCE))
    }

    /// One more reference, and writer, by a caller that has one like it. Relaxed: a reference makes a reference, nothing is published.
    pub fn add(&self, writer: bool) {
        self.0.fetch_add(REFERENCE + WRITER * writer as u64, Relaxed);
    }

    /// A reference, and writer, goes. True: it was the last reference.
    #[must_use]
    pub fn remove(&self, writer: bool) -> bool {
        // Release: our use comes before the end; Acquire: all others' uses are past for the one who ends it, or closes it.
        let was = self.0.fetch_sub(REFERENCE + WRITER * writer as u64, AcqRel);
        debug_assert!(was & REFERENCES != 0 && (!writer || was & !CLOSED >= WRITER));
        was & REFERENCES == 1
    }

    /// Leave to map it writable, to be given back by [`Users::written`]. False: it is closed.
    #[must_use]
    pub fn write(&self) -> bool {
        let mut was = self.0.load(Relaxed);
        while was & CLOSED == 0 {
            // Acquire: pairs with the closing, though nothing depends on it but the word itself.
            match self.0.compare_exchange(was, was + WRITER, Acquire, Relaxed) {
                Ok(_) => return true,
                Err(now) => was = now,
            }
        }
        false
    }

    /// The leave is given back.
    pub fn written(&self) {
        // Release: the edit comes before; pairs with `close`.
        self.0.fetch_sub(WRITER, Release);
    }

    /// For the audit, which has taken a writer off to see what is left.
    pub fn restore(&self) {
        self.0.fetch_add(WRITER, Relaxed);
    }

    /// Lets no writer come any more. False: there are some.
    #[must_use]
    pub fn close(&self) -> bool {
        let mut was = self.0.load(Relaxed);
        while was & !CLOSED < WRITER {
            // Acquire: the edits that took the last writers away are seen, and their claims.
            match self.0.compare_exchange(was, was | CLOSED, AcqRel, Relaxed) {
                Ok(_) => return true,
                Err(now) => was = now,
            }
        }
        false
    }

    /// The references.
    pub fn references(&self) -> u64 {
        // Pairs with the fence between a fault's reference to a page and its second look at the object's entry: whoever mapped a page
        // that the caller has taken out has had the segment's reference before.
        fence(SeqCst);
        self.0.load(Relaxed) & REFERENCES
    }

    /// The writers.
    pub fn writers(&self) -> u64 {
        (self.0.load(Relaxed) & !CLOSED) / WRITER
    }
}
