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
use crate::whole::Claimed;

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
        let (shared, object, offset) = match backing {
            Backing::Anonymous => (false, core::ptr::null(), 0),
            Backing::Object { object, offset, shared } => (*shared, &raw const **object, *offset),
        };
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
        let like = Part { start: 0, end: 0, prot, flags, object, offset };
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
            match (range.and_then(|range| self.map_at(range, &like, over)), place) {
                (Ok(()), _) => return Ok(at),
                (Err(EditError::OutOfFrames), _) => return Err(EditError::OutOfFrames),
                (Err(_), Place::Hint(_)) => place = Place::Anywhere,
                // Somebody was faster: look again.
                (Err(EditError::Exists), Place::Anywhere | Place::Shared) => self.memory.serve(),
                (Err(error), _) => return Err(error),
            }
        }
    }

    /// Maps what `like` shows at `range`.
    #[inline]
    fn map_at(&self, range: PageRange, like: &Part, over: Over) -> Result<(), EditError> {
        let Some((index, lo, hi)) = range.one_arena() else {
            // One answer for all arenas.
            return self.map_claimed([range], range, over, &|_| Ok(like.with_future(self.future_flags())));
        };
        let arena = self.arena_or_new(index)?;
        if like.flags.contains(Flags::GROWS_DOWN) {
            arena.guard();
        }
        self.put(arena, &Part { start: lo, end: hi, ..*like }, over)
    }

    /// Maps `pages` pages of the object that `view` shows, a page of a shared mapping, from that page on, with the rights and flags
    /// that the view has then: a second view of the same (mremap with an old length of 0). It goes to `fixed`, in the place of what is
    /// there, or anywhere. Returns where. `NotMapped`: `view` is none. `Invalid`: the place contains it.
    pub fn map_again(&self, view: Page, fixed: Option<Page>, pages: u64) -> Result<Page, EditError> {
        self.memory.stats.add(&self.memory.machine, Counter::Map, 1);
        let view = PageRange::new(view, 1).ok_or(EditError::Invalid)?;
        let look = |claims: &Claimed<'_, M>| {
            let shown = claims.shown(view)?;
            if shown.flags.contains(Flags::SHARED) { Ok(shown) } else { Err(EditError::NotMapped) }
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
            match self.map_claimed([view, range], range, over, &look) {
                // Somebody was faster: look again.
                Err(EditError::Exists) => self.memory.serve(),
                done => return done.map(|()| at),
            }
        }
    }

    /// Maps a range that may span arenas, under claims over `claimed`, of which it is a part: all or nothing. If it fails, what was to be
    /// replaced may be gone. `look` says under the claims what the range shows, as the part at its start, or what is against it.
    ///
    /// What replaces something or lies in several arenas is published as in transit first, which may fail; then what it shows, or nothing
    /// again, which may not.
    #[inline(never)]
    pub(crate) fn map_claimed<const N: usize>(
        &self,
        claimed: [PageRange; N],
        range: PageRange,
        over: Over,
        look: &dyn Fn(&Claimed<'_, M>) -> Result<Part, EditError>,
    ) -> Result<(), EditError> {
        let arenas = range.by_arena().count();
        let at_once = arenas == 1 && over != Over::All;
        let reserve = Reserve::take(self.memory(), if at_once { 0 } else { arenas })?;
        range.by_arena().try_for_each(|(index, ..)| self.arena_or_new(index).map(|_| ()))?;
        let claims = self.claim_ranges(claimed);
        let like = look(&claims)?;
        let part = |index, lo, hi| like.shown_at(range, index, lo, hi);
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
