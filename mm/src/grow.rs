//! Segments that grow down: stacks, and what MAP_GROWSDOWN asks for. Below them lies their [guard](crate::guard), which grows with them.

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
        let guard = PageRange { start: Page(new.start.0.saturating_sub(GUARD as u64)), end: new.start };
        // A claim of an arena that is not there keeps nobody out.
        self.arena_or_new(guard.start.arena())?;
        // What the list does not show that is replaced: the arenas below and above.
        let above = if hi == ARENA_PAGES { 1 } else { 0 };
        let claimed = PageRange { start: guard.start, end: Page(new.end.0 + above) };
        let _claims = self.claim_ranges([claimed]);
        arena.guard();
        let object = core::ptr::null();
        let part = Part { start: lo, end: hi, prot: old.prot, flags: old.flags, object, offset: 0 };
        let check = |list: List<'_>| {
            let still = |p: &Part, start: u32| p.start == start && p.prot == old.prot && p.flags == old.flags;
            let still = match list.at_or_above(lo) {
                Some(p) => still(p, hi),
                None => above != 0 && self.first(index + 1).is_some_and(|p| still(&p, 0)),
            };
            if !still {
                return Err(EditError::Exists);
            }
            let below = guard.by_arena().filter_map(|(i, from, to)| match i == index {
                true => last(list, from, to),
                false => self.arena(i).and_then(|arena| last(arena.list(&self.memory().pin()), from, to)),
            });
            match below.last() {
                Some(p) if !p.prot.is_empty() && !p.flags.contains(Flags::GROWS_DOWN) => Err(EditError::NoSpace),
                _ => Ok(()),
            }
        };
        self.publish(arena, lo, hi, Some(part), check, None).map(|_| ())
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
