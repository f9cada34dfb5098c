//! The few leaf spans that an arena remembers, because their tables may be bare. What for, and by which rules: [`crate::bare`].

use crate::page::TABLE_BITS;
use crate::sizes::BARE;
use crate::sync::{AtomicU64, Ordering::*};

/// The leaf spans, by their numbers plus one; 0: none.
#[derive(Debug)]
pub(crate) struct Spans([AtomicU64; BARE]);

fn number(page: u32) -> u64 {
    (page >> TABLE_BITS) as u64 + 1
}

fn first_page(number: u64) -> u32 {
    (number as u32 - 1) << TABLE_BITS
}

impl Spans {
    pub fn new() -> Spans {
        Spans(core::array::from_fn(|_| AtomicU64::new(0)))
    }

    /// Whether the leaf span of `page` is remembered. Relaxed: rule 4's fence comes before.
    #[inline]
    pub fn has(&self, page: u32) -> bool {
        self.0.iter().fold(false, |found, span| found | (span.load(Relaxed) == number(page)))
    }

    /// Whether one of the remembered leaf spans touches `lo .. hi`. Relaxed: as [`Spans::has`].
    pub fn any_in(&self, lo: u32, hi: u32) -> bool {
        let spans = self.0.iter().map(|span| span.load(Relaxed)).filter(|&n| n != 0);
        spans.map(first_page).any(|first| first < hi && lo < first + (1 << TABLE_BITS))
    }

    /// Remembers the leaf span of `page`: in a free place, or in the place of another span, the first one from place `any` on that is not
    /// edited, if there is one. Returns the first page of the span that was there; it is the caller's alone.
    pub fn put(&self, page: u32, any: usize, is_edited: impl Fn(u32) -> bool) -> Option<u32> {
        let (spans, new) = (&self.0, number(page));
        // Relaxed: hints.
        let free = spans.iter().position(|span| span.load(Relaxed) == 0);
        let first = free.unwrap_or(any);
        for i in 0..BARE {
            let span = &spans[(first + i) % BARE];
            let old = span.load(Relaxed);
            let last = i + 1 == BARE;
            if old != 0 && !last && is_edited(first_page(old)) {
                continue;
            }
            // Release: the edit's publish; Acquire: that of the edit which left the old span. The one who takes a span out of
            // its place is the only one who has it.
            let taken =
                if last { Some(span.swap(new, AcqRel)) } else { span.compare_exchange(old, new, AcqRel, Relaxed).ok() };
            if let Some(old) = taken {
                return (old != 0 && old != new).then(|| first_page(old));
            }
        }
        None
    }
}
