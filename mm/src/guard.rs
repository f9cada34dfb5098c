//! The guard: below a segment that grows down [`GUARD`] pages stay free of what a stack could run into unseen, a neighbour that may be
//! accessed and does not grow down itself. Two kinds of edits keep that true, and each decides in the list that it replaces:
//!
//! 1. A segment that grows ([`crate::grow`]) claims its new pages *and the guard below them*, and looks at the nearest neighbour.
//! 2. A mapping whose place the system chooses, or a hint proposes, looks at the nearest segment above it. Its claim meets the claim of a
//!    segment that is growing towards it, so the later one of the two sees the other.
//!
//! A mapping at a fixed place asks nobody, as on Linux.

use crate::arena::Arena;
use crate::list::List;
use crate::machine::Machine;
use crate::page::{ARENA_PAGES, PageRange};
use crate::segment::{Flags, Part};
pub use crate::sizes::GUARD;
use crate::space::Space;
use crate::sync::Ordering::*;

impl Arena {
    /// A segment that grows down is about to be published here.
    pub(crate) fn guard(&self) {
        // Relaxed: the publish of the segment releases it, so whoever finds the segment finds this.
        self.guarded.store(1, Relaxed);
    }

    /// Whether there has been a segment that grows down.
    #[inline]
    pub(crate) fn is_guarded(&self) -> bool {
        self.guarded.load(Relaxed) != 0
    }
}

impl<M: Machine> Space<M> {
    /// The segment that grows down in whose guard a mapping would lie that ends at `end`.
    #[inline]
    pub(crate) fn guarded(&self, arena: &Arena, list: List<'_>, end: u32) -> Option<Part> {
        if arena.is_guarded() || end + GUARD > ARENA_PAGES { self.guarded_above(arena, list, end) } else { None }
    }

    /// As [`Space::guarded`], where there may be one.
    #[inline(never)]
    fn guarded_above(&self, arena: &Arena, list: List<'_>, end: u32) -> Option<Part> {
        let above = match list.at_or_above(end) {
            None => return self.guarded_by_next(arena.index, end),
            Some(above) => above,
        };
        (above.start - end < GUARD && above.flags.contains(Flags::GROWS_DOWN)).then_some(*above)
    }

    /// As [`Space::guarded`], where the arena `index` has nothing above `end`.
    pub(crate) fn guarded_by_next(&self, index: usize, end: u32) -> Option<Part> {
        let rest = GUARD.checked_sub(ARENA_PAGES - end).filter(|&rest| rest != 0)?;
        self.first(index + 1).filter(|p| p.start < rest && p.flags.contains(Flags::GROWS_DOWN))
    }

    /// The lowest segment of an arena.
    pub(crate) fn first(&self, index: usize) -> Option<Part> {
        let arena = self.arena(index)?;
        let pin = self.memory().pin();
        arena.list(&pin).at_or_above(0).copied()
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
