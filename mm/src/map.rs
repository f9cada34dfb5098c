//! Mapping: the edits that put a new segment where it goes ([`Place`]).
//!
//! A mapping without a hint looks for a hole, then puts itself there by an edit that fails if the hole is none any more: the look is
//! repeated, under the claim, in the list that is replaced (race 42).

use crate::edit::{Over, transit};
use crate::error::EditError;
use crate::list::List;
use crate::machine::Machine;
use crate::page::{Page, PageRange, Prot};
use crate::place::Place;
use crate::publish::Reserve;
use crate::segment::{Backing, Flags, Part};
use crate::space::Space;
use crate::stats::Counter;
use crate::sweep::Fate;
use crate::tree::See;
use core::cell::Cell;

impl<M: Machine> Space<M> {
    /// Maps `pages` pages. Returns where.
    pub fn map(
        &self,
        place: Place,
        pages: u64,
        prot: Prot,
        backing: &Backing,
        flags: Flags,
    ) -> Result<Page, EditError> {
        self.memory.stats.add(&self.memory.machine, Counter::Map, 1);
        let mut place = place;
        loop {
            let at = match place {
                Place::Anywhere | Place::Shared if flags.contains(Flags::GROWS_DOWN) => {
                    self.find_room(pages, place == Place::Shared)?
                }
                Place::Anywhere | Place::Shared => self.find_hole(pages, place == Place::Shared)?,
                Place::Hint(at) | Place::Fixed(at) | Place::FixedNoReplace(at) => at,
            };
            let range = PageRange::new(at, pages).ok_or(EditError::Invalid);
            let over = match place {
                Place::Fixed(_) => Over::All,
                Place::FixedNoReplace(_) => Over::Nothing,
                _ => Over::Spaced,
            };
            match (range.and_then(|range| self.map_at(range, prot, backing, flags, over)), place) {
                (Ok(()), _) => return Ok(at),
                (Err(error @ (EditError::OutOfFrames | EditError::Closed)), _) => return Err(error),
                (Err(_), Place::Hint(_)) => place = Place::Anywhere,
                // Somebody was faster: look again.
                (Err(EditError::Exists), Place::Anywhere | Place::Shared) => self.memory.serve(),
                (Err(error), _) => return Err(error),
            }
        }
    }

    #[inline]
    fn map_at(
        &self,
        range: PageRange,
        prot: Prot,
        backing: &Backing,
        flags: Flags,
        over: Over,
    ) -> Result<(), EditError> {
        let shared = matches!(backing, Backing::Object { shared: true, .. });
        let flags = if shared { flags | Flags::SHARED } else { flags };
        // Held until the list counts for itself, so that the object is not closed to writers in between.
        let _leave = match backing {
            Backing::Object { object, shared: true, .. } if !flags.contains(Flags::READ_ONLY) => {
                Some(object.write().ok_or(EditError::Closed)?)
            }
            // Closed since the caller has looked at it first.
            _ if shared && prot.contains(Prot::WRITE) => return Err(EditError::Closed),
            _ => None,
        };
        let part = |arena: usize, start: u32, end: u32| {
            let (object, offset) = match backing {
                Backing::Anonymous => (core::ptr::null(), 0),
                Backing::Object { object, offset, .. } => {
                    (&raw const **object, offset + (Page::of(arena, start).0 - range.start.0))
                }
            };
            Part { start, end, prot, flags, object, offset }
        };
        if let Some((arena, lo, hi)) = range.one_arena() {
            let part = part(arena, lo, hi);
            let arena = self.arena_or_new(arena)?;
            if flags.contains(Flags::GROWS_DOWN) {
                arena.guard();
            }
            return self.put(arena, lo, hi, &part, over);
        }
        self.map_across(range, &part, over)
    }

    /// A mapping that may span arenas: all or nothing. If it fails, what was to be replaced may be gone.
    #[inline(never)]
    fn map_across(
        &self,
        range: PageRange,
        part: &dyn Fn(usize, u32, u32) -> Part,
        over: Over,
    ) -> Result<(), EditError> {
        // One answer for all arenas.
        let future = Cell::new(Flags::empty());
        let look = || {
            future.set(self.future_flags());
            Ok(())
        };
        let part = |arena, lo, hi| part(arena, lo, hi).with_future(future.get());
        self.map_claimed([range], range, &part, over, &look)
    }

    /// Maps `pages` pages of the object that `view` shows, a page of a shared mapping, from that page on, with the rights and flags
    /// that the view has then: a second view of the same (mremap with an old length of 0). It goes to `fixed`, in the place of what is
    /// there, or anywhere. Returns where. `NotMapped`: `view` is none. `Invalid`: the place contains it.
    pub fn map_again(&self, view: Page, fixed: Option<Page>, pages: u64) -> Result<Page, EditError> {
        self.memory.stats.add(&self.memory.machine, Counter::Map, 1);
        let view = PageRange::new(view, 1).ok_or(EditError::Invalid)?;
        let like = Cell::new(None);
        let look = || {
            let shown = self.shown(view)?;
            like.set(Some(shown));
            if shown.flags.contains(Flags::SHARED) { Ok(()) } else { Err(EditError::NotMapped) }
        };
        loop {
            let (at, over) = match fixed {
                Some(at) => (at, Over::All),
                None => (self.find_hole(pages, false)?, Over::Spaced),
            };
            let range = PageRange::new(at, pages).ok_or(EditError::Invalid)?;
            if range.overlaps(&view) {
                return Err(EditError::Invalid);
            }
            let part = |index, lo, hi| like.get().expect("seen under the claim").shown_at(range, index, lo, hi);
            match self.map_claimed([view, range], range, &part, over, &look) {
                // Somebody was faster: look again.
                Err(EditError::Exists) => self.memory.serve(),
                done => return done.map(|()| at),
            }
        }
    }

    /// As [`Space::map_across`], under claims over `claimed`, of which `range` is a part, if `check` finds nothing against it then. What
    /// `part` tells is asked for only after that.
    /// What replaces something or lies in several arenas is published as in transit first, which may fail; then what it shows, or nothing
    /// again, which may not.
    pub(crate) fn map_claimed<const N: usize>(
        &self,
        claimed: [PageRange; N],
        range: PageRange,
        part: &dyn Fn(usize, u32, u32) -> Part,
        over: Over,
        check: &dyn Fn() -> Result<(), EditError>,
    ) -> Result<(), EditError> {
        let arenas = range.by_arena().count();
        let at_once = arenas == 1 && over != Over::All;
        let reserve = Reserve::take(self.memory(), if at_once { 0 } else { arenas })?;
        range.by_arena().try_for_each(|(index, ..)| self.arena_or_new(index).map(|_| ()))?;
        let claims = self.claim_ranges(claimed);
        check()?;
        let put = |index: usize, lo: u32, hi: u32, all: Part| {
            let arena = self.arena_or_new(index)?;
            if all.flags.contains(Flags::GROWS_DOWN) {
                arena.guard();
            }
            let spaced = |list: List<'_>| self.leaves_guard(arena, list, hi, over);
            let mut refuse = |_: &Part| false;
            let see: See<'_, Part> = if over == Over::All { None } else { Some(&mut refuse) };
            self.publish(arena, lo, hi, Some(all), spaced, see).map(|_| ())
        };
        if at_once && let Some((index, lo, hi)) = range.one_arena() {
            return put(index, lo, hi, part(index, lo, hi));
        }
        let mut marked = 0;
        let result = range.by_arena().try_for_each(|(index, lo, hi)| {
            let mark = transit(lo, hi, &part(index, lo, hi));
            put(index, lo, hi, mark)?;
            marked += 1;
            Ok(())
        });
        if over == Over::All {
            // Before anything is seen there that is new; so an end without success sweeps no segment's pages.
            for (index, lo, hi) in range.by_arena().take(marked) {
                self.sweep(self.arena_or_new(index)?, lo, hi, Fate::Gone);
            }
        }
        for (index, lo, hi) in range.by_arena().take(marked) {
            let (arena, all) = (self.arena_or_new(index)?, result.is_ok().then(|| part(index, lo, hi)));
            self.publish_reserved(arena, lo, hi, all, &reserve)?;
            if result.is_err() {
                // A table that is bare was not, as long as the mark was there.
                self.sweep(arena, lo, hi, Fate::Gone);
            }
        }
        drop(claims);
        if result.is_err() {
            self.left_bare_across(range);
        }
        result
    }
}
