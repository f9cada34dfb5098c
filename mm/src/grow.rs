//! Segments that grow down: stacks, and what MAP_GROWSDOWN asks for. Below them lies their [guard](crate::guard), which grows with them.

use crate::build::Change;
use crate::error::EditError;
use crate::guard::GUARD;
use crate::list::List;
use crate::machine::Machine;
use crate::page::{ARENA_PAGES, Page, PageRange};
use crate::segment::{Backing, Flags, Part, Segment};
use crate::space::Space;

impl<M: Machine> Space<M> {
    /// Extends the segment above `page` down to it, if that one grows down, to at most `most` pages. Nothing is to be done where
    /// `page` is mapped (another thread was faster). `NotMapped`: there is no such segment; `NoSpace`: it may not grow so far.
    pub fn grow_down(&self, page: Page, most: u64) -> Result<(), EditError> {
        loop {
            let above = self.find_arrived(page).ok_or(EditError::NotMapped)?;
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
