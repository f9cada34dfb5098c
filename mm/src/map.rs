//! Mapping: where a new segment goes, and the edits that put it there.
//!
//! A mapping without a hint looks for a hole, then puts itself there by an edit that fails if the hole is none any more: the look is
//! repeated, under the claim, in the root that is replaced (race 42).

use crate::build::Change;
use crate::claims::Claim;
use crate::edit::{EditError, transit};
use crate::exchange::Reserve;
use crate::list::List;
use crate::machine::Machine;
use crate::page::{ARENA_PAGES, ARENAS, Page, PageRange, Prot};
use crate::segment::{Backing, Flags, Part};
use crate::space::Space;
use crate::stats::Counter;

/// Where a new mapping goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Wherever there is room: if possible in an arena where no other CPU has been.
    Anywhere,
    /// Wherever there is room, where it does not matter who has been: for what several CPUs will use, as stacks of threads.
    Shared,
    /// Here if it is free, else anywhere.
    Hint(Page),
    /// Here, in the place of what is here.
    Fixed(Page),
    /// Here, or not at all.
    FixedNoReplace(Page),
}

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
        let range = |p| PageRange::new(p, pages).ok_or(EditError::Invalid);
        match place {
            Place::Fixed(p) => self.map_at(range(p)?, prot, backing, flags, true).map(|()| p),
            Place::FixedNoReplace(p) => self.map_at(range(p)?, prot, backing, flags, false).map(|()| p),
            Place::Hint(p) => match range(p).and_then(|r| self.map_at(r, prot, backing, flags, false)) {
                Ok(()) => Ok(p),
                Err(EditError::OutOfFrames) => Err(EditError::OutOfFrames),
                Err(_) => self.map(Place::Anywhere, pages, prot, backing, flags),
            },
            Place::Anywhere | Place::Shared => loop {
                let at = self.find_hole(pages, place == Place::Shared)?;
                match self.map_at(range(at)?, prot, backing, flags, false) {
                    Ok(()) => return Ok(at),
                    // Somebody was faster: look again.
                    Err(EditError::Exists) => {}
                    Err(e) => return Err(e),
                }
            },
        }
    }

    fn map_at(
        &self,
        range: PageRange,
        prot: Prot,
        backing: &Backing,
        flags: Flags,
        replace: bool,
    ) -> Result<(), EditError> {
        let shared = matches!(backing, Backing::Object { shared: true, .. });
        let flags = if shared { flags | Flags::SHARED } else { flags };
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
            return self.put(self.arena_or_new(arena)?, lo, hi, Some(part(arena, lo, hi)), replace);
        }
        if !replace {
            return self.map_across(range, &part);
        }
        for (arena, lo, hi) in range.by_arena() {
            self.put(self.arena_or_new(arena)?, lo, hi, Some(part(arena, lo, hi)), replace)?;
        }
        Ok(())
    }

    /// A mapping that spans arenas: all or nothing. First all of it is claimed and published as in transit, which may fail;
    /// then what it shows, or nothing again, which may not.
    #[inline(never)]
    fn map_across(&self, range: PageRange, part: &dyn Fn(usize, u32, u32) -> Part) -> Result<(), EditError> {
        let m = self.memory();
        let mut reserve = Reserve::take(m, range.by_arena().count()).ok_or(EditError::OutOfFrames)?;
        let mut marked = 0;
        // Words, as in a fork. In ascending order, each completely: see `claims`.
        let mut claims = [None; ARENAS];
        let result = range.by_arena().try_for_each(|(index, lo, hi)| {
            let arena = self.arena_or_new(index)?;
            claims[index] = Some(arena.claims.acquire(m, &[(lo, hi)]).keep());
            let mark = transit(lo, hi, &part(index, lo, hi));
            let free = |list: List<'_>| if list.is_free(lo, hi) { Ok(()) } else { Err(EditError::Exists) };
            self.publish(arena, lo, hi, &Change::Put(Some(mark)), None, free)?;
            marked += 1;
            Ok(())
        });
        let mut end = Ok(());
        for (n, (index, lo, hi)) in range.by_arena().enumerate() {
            let (Some(arena), Some(word)) = (self.arena(index), claims[index]) else { break };
            if n < marked {
                let all = result.is_ok().then(|| part(index, lo, hi));
                end = end.and(self.publish(arena, lo, hi, &Change::Put(all), Some(&mut reserve), |_| Ok(())));
            }
            drop(Claim::kept(&arena.claims, word));
        }
        result.and(end)
    }

    /// A free place for `pages` pages, as it looks now.
    pub(crate) fn find_hole(&self, pages: u64, shared: bool) -> Result<Page, EditError> {
        let m = self.memory();
        let Some(len) = u32::try_from(pages).ok().filter(|&n| n <= ARENA_PAGES) else {
            return self.find_arenas(pages);
        };
        let hole = |index: usize| {
            let pin = m.pin();
            let (from, limit) = Self::bounds(index);
            // SAFETY: a null list is a list.
            let none = unsafe { List::new(core::ptr::null_mut()) };
            let arena = self.arena(index);
            let list = arena.map_or(none, |a| a.list(&pin));
            let mut at = list.hole(len, from, limit)?;
            // A hole that somebody edits is likely to be none soon, and a mapping there would wait for him: the next one, if there is
            // one.
            while let Some(behind) = arena.and_then(|a| a.claims.over(at, at + len)) {
                match list.hole(len, behind, limit) {
                    Some(next) => at = next,
                    None => break,
                }
            }
            Some(Page::of(index, at))
        };
        let first = self.first_choice(shared);
        // The rest from above, then the lowest arena, whose room programs may want for themselves.
        hole(first)
            .or_else(|| (1..ARENAS).rev().filter(|&i| i != first).chain([0]).find_map(hole))
            .ok_or(EditError::NoSpace)
    }
}
