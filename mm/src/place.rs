//! Where a mapping goes for which the system chooses the place. What is found is free as it looks now; the edit that maps there decides
//! ([`crate::map`]).

use crate::arena::Arena;
use crate::error::EditError;
use crate::guard::GUARD;
use crate::list::List;
use crate::machine::Machine;
use crate::page::{ARENA_PAGES, ARENAS, Page};
use crate::sizes::ROOM;
use crate::space::Space;
use crate::sync::Ordering::*;

/// Home arenas of a CPU.
const HOMES: usize = 3;

/// Where a new mapping goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Wherever there is room: if possible in an arena where no other CPU has been.
    Anywhere,
    /// Wherever there is room, where it does not matter who has been: for what several CPUs will use, as stacks of threads.
    Shared,
    /// Here if it is free and out of the guard of segments that grow down, else anywhere.
    Hint(Page),
    /// Here, in the place of what is here.
    Fixed(Page),
    /// Here, or not at all.
    FixedNoReplace(Page),
}

impl<M: Machine> Space<M> {
    /// Whether there is a free place for so many pages, as it looks now.
    #[cold]
    pub fn has_room(&self, pages: u64) -> bool {
        self.find_hole(pages, true).is_ok()
    }

    /// A free place for `pages` pages, as it looks now.
    #[inline]
    pub(crate) fn find_hole(&self, pages: u64, shared: bool) -> Result<Page, EditError> {
        let first = self.first_choice(shared);
        let len = u32::try_from(pages).ok().filter(|&n| n <= ARENA_PAGES);
        match len.and_then(|len| self.hole_in(first, len)) {
            Some(page) => Ok(page),
            None => self.find_hole_elsewhere(pages, first),
        }
    }

    /// A free place for a segment that grows down: at the upper end of a larger hole, if there is one.
    #[cold]
    pub(crate) fn find_room(&self, pages: u64, shared: bool) -> Result<Page, EditError> {
        match self.find_hole(pages + ROOM, shared) {
            Ok(at) => Ok(Page(at.0 + ROOM)),
            Err(_) => self.find_hole(pages, shared),
        }
    }

    /// As [`Space::find_hole`], where the arena `first` has none.
    #[cold]
    #[inline(never)]
    fn find_hole_elsewhere(&self, pages: u64, first: usize) -> Result<Page, EditError> {
        let Some(len) = u32::try_from(pages).ok().filter(|&n| n <= ARENA_PAGES) else {
            return self.find_arenas(pages);
        };
        // From above, then the lowest arena, whose room programs may want for themselves.
        let mut others = (1..ARENAS).rev().filter(|&i| i != first).chain([0]);
        others.find_map(|index| self.hole_in(index, len)).ok_or(EditError::NoSpace)
    }

    /// A free place in one arena.
    #[inline(always)]
    fn hole_in(&self, index: usize, len: u32) -> Option<Page> {
        let (from, limit) = Self::bounds(index);
        let Some(arena) = self.arena(index) else {
            let fits = limit - from >= len && self.guarded_by_next(index, from + len).is_none();
            return fits.then(|| Page::of(index, from));
        };
        let pin = self.memory.pin();
        let list = arena.list(&pin);
        let at = list.hole(len, from, limit)?;
        if !arena.is_guarded() && at + len + GUARD <= ARENA_PAGES && arena.claims.over(at, at + len).is_none() {
            return Some(Page::of(index, at));
        }
        self.better_hole_in(arena, list, at, len)
    }

    /// The same from the hole `at` on, where a guard or an edit is in the way.
    #[cold]
    #[inline(never)]
    fn better_hole_in(&self, arena: &Arena, list: List<'_>, mut at: u32, len: u32) -> Option<Page> {
        let (_, limit) = Self::bounds(arena.index);
        loop {
            // Where the guard of a segment begins in the hole, its rest is behind that segment.
            while let Some(above) = self.guarded(arena, list, at + len) {
                at = list.hole(len, above.end.max(at + 1), limit)?;
            }
            // A hole that somebody edits is likely to be none soon, and a mapping there would wait: the next one, if there is
            // one.
            let Some(next) = arena.claims.over(at, at + len).and_then(|behind| list.hole(len, behind, limit)) else {
                return Some(Page::of(arena.index, at));
            };
            at = next;
        }
    }

    /// The arena in which room for a mapping without a hint is looked for first.
    ///
    /// A CPU has three home arenas. The first one in which no other CPU has been is chosen: what is unmapped there is nobody
    /// else's business. `shared` chooses the topmost, where no CPU is at home.
    #[inline]
    pub(crate) fn first_choice(&self, shared: bool) -> usize {
        if shared {
            return ARENAS - 1;
        }
        let cpu = self.memory.machine.cpu();
        let homes = (ARENAS - 2) / HOMES;
        let home = |k: usize| ARENAS - 2 - k * homes - cpu % homes.max(1);
        let mine = |i: &usize| self.arena(*i).is_none_or(|a| a.cpus.bits() & !(1 << cpu) == 0);
        (0..HOMES.min((ARENAS - 2).max(1))).map(home).find(mine).unwrap_or(home(0))
    }

    /// The pages of an arena that such a mapping may use: never the first 16 MiB of user space, and the topmost arena only below
    /// the room for the stack.
    pub(crate) fn bounds(index: usize) -> (u32, u32) {
        let low = if index == 0 { ARENA_PAGES / 1024 * 32 } else { 0 };
        let high = if index == ARENAS - 1 { ARENA_PAGES / 2 } else { ARENA_PAGES };
        (low, high)
    }

    /// A run of arenas in which nothing is mapped, for a mapping larger than one.
    pub(crate) fn find_arenas(&self, pages: u64) -> Result<Page, EditError> {
        let need = pages.div_ceil(ARENA_PAGES as u64) as usize;
        let end = (pages - (need as u64 - 1) * ARENA_PAGES as u64) as u32;
        let mut run = 0;
        for i in 1..ARENAS - 1 {
            let empty = self.arena(i).is_none_or(|a| a.list.load(Acquire).is_null());
            run = if empty { run + 1 } else { 0 };
            if run >= need && self.guarded_by_next(i, end).is_none() {
                return Ok(Page::of(i + 1 - need, 0));
            }
        }
        Err(EditError::NoSpace)
    }
}
