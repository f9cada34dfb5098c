//! Bare tables: those in whose span nothing is mapped.
//!
//! A sweep detaches the tables that lie wholly in its range. Those at the ends of the range reach beyond it, and the edit may have
//! left nothing there: then they are bare. A program that maps, uses and unmaps one page in turn would need a new table each time
//! round if such a table went at once; if it never went, a program that does so at ever new addresses would fill memory with them.
//! So an arena remembers a few leaf spans, and a table goes when its span is forgotten.
//!
//! 1. *A reason for each table*: in its span lies a segment or a remembered leaf span. An arena's own table needs none.
//! 2. An edit that has taken segments out looks at both ends of its range, after its publish, its fence and its sweep: where
//!    there is a table and nothing is mapped in its span, it remembers the leaf span, if that is not remembered. Of several edits that
//!    empty a table's span, the one that publishes last sees nothing mapped there. No table appears after its look without a new
//!    segment: a fault that still had an old segment found the sweep's generation in the place of the missing table, or was over.
//! 3. An edit that forgets a span, because it puts another one in its place, looks around it: the largest aligned range without a
//!    segment. It claims that, looks *again*, for somebody may have mapped something there, and only then sweeps it. That is an edit
//!    like any other: faults with an old segment, scans and the hardware's walk are kept out by the same rules. If something
//!    is mapped in the span, there is nothing to do: whoever unmaps it comes to rule 2.
//! 4. *No span is lost between 2 and 3*: whoever unmaps publishes, fences (SeqCst, `Space::sweep`), reads the remembered spans;
//!    whoever forgets changes them, fences (SeqCst, at the beginning of the read section), reads the list. One of them sees what the
//!    other has done.
//! 5. No claim is held when another one is waited for. Spans where somebody edits are left alone as long as there is another one to
//!    forget, so that disjoint edits wait for each other only if all the remembered spans are being edited.

use crate::arena::Arena;
use crate::machine::Machine;
use crate::page::{LEVELS, PageRange, TABLE_BITS};
use crate::space::Space;
use crate::stats::Counter;
use crate::sweep::Fate;
use crate::sync::Ordering::*;

/// The spans of the bare tables on the way to a page.
struct Around {
    /// Of the lowest one.
    least: (u32, u32),
    /// Of the highest one.
    most: (u32, u32),
}

/// Whether a leaf span lies in `lo .. hi` as a whole.
pub(crate) fn holds_a_span(lo: u32, hi: u32) -> bool {
    const SPAN: u32 = 1 << TABLE_BITS;
    lo.next_multiple_of(SPAN) + SPAN <= hi
}

impl<M: Machine> Space<M> {
    /// Rule 2, for an edit after whose publish nothing is mapped in `lo .. hi`. It has fenced and swept since, and holds no claim.
    #[inline]
    pub(crate) fn left_bare(&self, arena: &Arena, lo: u32, hi: u32) {
        let one_span = (lo ^ (hi - 1)) >> TABLE_BITS == 0;
        for page in [lo, hi - 1].into_iter().skip(one_span as usize) {
            if !arena.bare.has(page) {
                self.remember(arena, page);
            }
        }
    }

    /// As [`Space::left_bare`], for a range that may span arenas.
    pub(crate) fn left_bare_across(&self, range: PageRange) {
        for (index, lo, hi) in range.by_arena() {
            self.arena(index).into_iter().for_each(|arena| self.left_bare(arena, lo, hi));
        }
    }

    #[cold]
    #[inline(never)]
    fn remember(&self, arena: &Arena, page: u32) {
        let Some((lo, hi)) = self.bare_around(arena, page).map(|around| around.least) else { return };
        // A table that spans more may have a reason already.
        if arena.bare.any_in(lo, hi) {
            return;
        }
        // Relaxed: any place to begin with.
        let any = arena.generation.load(Relaxed) as usize;
        if let Some(old) = arena.bare.put(page, any, |span| self.is_edited(arena, span)) {
            self.forget(arena, old);
        }
    }

    /// Whether somebody edits what would go with a remembered span, as it looks now.
    fn is_edited(&self, arena: &Arena, span: u32) -> bool {
        let around = self.bare_around(arena, span);
        around.is_some_and(|Around { most: (lo, hi), .. }| arena.claims.over(lo, hi).is_some())
    }

    /// Rule 3. The span was taken out of its place; rule 4's fence is that of the first read section.
    fn forget(&self, arena: &Arena, span: u32) {
        let m = self.memory();
        while let Some(around) = self.bare_around(arena, span) {
            let (lo, hi) = around.most;
            let claim = arena.claims.acquire_one(m, lo, hi);
            let still = {
                let pin = m.pin();
                arena.list(&pin).is_free(lo, hi)
            };
            if still {
                m.stats.add(&m.machine, Counter::Bare, 1);
                self.sweep(arena, lo, hi, Fate::Gone);
                return;
            }
            // Something was mapped meanwhile; less may be left to go.
            drop(claim);
        }
    }

    /// What is bare around `page`, as it looks now. `None`: no table on the way to it, apart from the arena's own.
    fn bare_around(&self, arena: &Arena, page: u32) -> Option<Around> {
        let m = self.memory();
        let pin = m.pin();
        let (_, _, missing) = arena.walk(m, &pin, page);
        let list = arena.list(&pin);
        let mut around: Option<Around> = None;
        for level in missing + 1..LEVELS {
            let span = 1 << (TABLE_BITS * level);
            let lo = page & !(span - 1);
            let range = (lo, lo + span);
            if !list.is_free(range.0, range.1) {
                break;
            }
            around.get_or_insert(Around { least: range, most: range }).most = range;
        }
        around
    }
}
