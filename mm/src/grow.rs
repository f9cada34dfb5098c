//! Segments that grow down: stacks, and what MAP_GROWSDOWN asks for.
//!
//! Below such a segment [`GUARD`] pages stay free of what a stack could run into unseen: a neighbour that may be accessed and does
//! not grow down itself. Two kinds of edits keep that true, and each decides in the root that it replaces:
//!
//! 1. A segment that grows claims its new pages *and the guard below them*, and looks at the nearest neighbour.
//! 2. A mapping whose place the system chooses, or a hint proposes, looks at the nearest segment above it. Its claim meets the claim of a
//!    segment that is growing towards it, so the later one of the two sees the other.
//!
//! A mapping at a fixed place asks nobody, as on Linux.

use crate::arena::Arena;
use crate::build::Change;
use crate::edit::EditError;
use crate::list::List;
use crate::machine::Machine;
use crate::page::{ARENA_PAGES, Page, PageRange};
use crate::segment::{Backing, Flags, Part, Segment};
pub use crate::sizes::GUARD;
use crate::space::Space;
use crate::sync::Ordering::*;

impl<M: Machine> Space<M> {
    /// Extends the segment above `page` down to it, if that one grows down, to at most `most` pages. Nothing is to be done where
    /// `page` is mapped (another thread was faster). `NotMapped`: there is no such segment; `NoSpace`: it may not grow so far.
    pub fn grow_down(&self, page: Page, most: u64) -> Result<(), EditError> {
        loop {
            let above = self.find_settled(page).ok_or(EditError::NotMapped)?;
            if above.range.start <= page {
                return Ok(());
            }
            if !above.flags.contains(Flags::GROWS_DOWN) {
                return Err(EditError::NotMapped);
            }
            // It may go on in the next arena.
            let end = match above.range.end.local() {
                0 => self.find_whole(above.range.start).map_or(above.range.end, |all| all.range.end),
                _ => above.range.end,
            };
            if end.0 - page.0 > most {
                return Err(EditError::NoSpace);
            }
            // Not past the start of an arena in one step.
            let end = above.range.start;
            let start = page.max(Page::of(Page(end.0 - 1).arena(), 0));
            match self.grow_to(PageRange { start, end }, &above) {
                Ok(()) | Err(EditError::Exists) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Maps `new`, the pages below `old`, as `old` is. `Exists`: something has changed since that was looked at.
    fn grow_to(&self, new: PageRange, old: &Segment) -> Result<(), EditError> {
        let (index, lo, hi) = new.one_arena().ok_or(EditError::Invalid)?;
        let Backing::Anonymous = old.backing else { return Err(EditError::NotMapped) };
        let arena = self.arena_or_new(index)?;
        let guard = lo.saturating_sub(GUARD);
        let _claim = arena.claims.acquire(self.memory(), &[(guard, hi)]);
        arena.guard();
        let object = core::ptr::null();
        let part = Part { start: lo, end: hi, prot: old.prot, flags: old.flags, object, offset: 0 };
        self.publish(arena, lo, hi, &Change::Put(Some(part)), None, |list| {
            let still = hi == ARENA_PAGES
                || list.at_or_above(lo).is_some_and(|p| p.start == hi && p.prot == old.prot && p.flags == old.flags);
            if !still || !list.is_free(lo, hi) {
                return Err(EditError::Exists);
            }
            let mut below = last(list, guard, lo);
            if below.is_none() && lo < GUARD && index > 0 {
                // Under no claim: a mapping that comes there now comes later.
                below = self.arena(index - 1).and_then(|arena| {
                    let pin = self.memory().pin();
                    last(arena.list(&pin), ARENA_PAGES - (GUARD - lo), ARENA_PAGES)
                });
            }
            match below {
                Some(p) if !p.prot.is_empty() && !p.flags.contains(Flags::GROWS_DOWN) => Err(EditError::NoSpace),
                _ => Ok(()),
            }
        })
    }

    /// The segment that grows down in whose guard a mapping would lie that ends at `end`.
    pub(crate) fn guarded(&self, arena: &Arena, list: List<'_>, end: u32) -> Option<Part> {
        if !arena.is_guarded() && end + GUARD <= ARENA_PAGES {
            return None;
        }
        let above = match list.at_or_above(end) {
            None => return self.guarded_by_next(arena.index, end),
            Some(above) => above,
        };
        (above.start - end < GUARD && above.flags.contains(Flags::GROWS_DOWN)).then_some(above)
    }

    /// As [`Space::guarded`], where the arena `index` has nothing above `end`.
    pub(crate) fn guarded_by_next(&self, index: usize, end: u32) -> Option<Part> {
        let rest = GUARD.checked_sub(ARENA_PAGES - end).filter(|&rest| rest != 0)?;
        let next = self.arena(index + 1)?;
        let pin = self.memory().pin();
        next.list(&pin).at_or_above(0).filter(|p| p.start < rest && p.flags.contains(Flags::GROWS_DOWN))
    }

    /// Whether a range that is free can be mapped without asking for its place: no segment above it loses its guard. It stays so under
    /// a claim of the range.
    pub(crate) fn is_spaced(&self, range: PageRange) -> bool {
        let last = range.by_arena().last();
        last.is_none_or(|(index, _, hi)| match self.arena(index) {
            Some(arena) => self.guarded(arena, arena.list(&self.memory().pin()), hi).is_none(),
            None => self.guarded_by_next(index, hi).is_none(),
        })
    }
}

impl Arena {
    /// A segment that grows down is about to be published here.
    pub(crate) fn guard(&self) {
        // Relaxed: the publish of the segment releases it, so whoever finds the segment finds this.
        self.guarded.store(1, Relaxed);
    }

    /// Whether there has been a segment that grows down.
    pub(crate) fn is_guarded(&self) -> bool {
        self.guarded.load(Relaxed) != 0
    }
}

/// The highest segment that touches `lo .. hi`.
fn last(list: List<'_>, lo: u32, hi: u32) -> Option<Part> {
    let mut last = None;
    list.each(lo, hi, &mut |p| {
        last = Some(*p);
        true
    });
    last
}
