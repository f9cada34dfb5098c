//! The move (mremap): pages go from one range to another, both marked as in transit.
//!
//! 1. Claim both ranges, arena by arena, in ascending order.
//! 2. Publish the destination as in transit, sweep it, flush it: what it held is freed.
//! 3. Publish the source as in transit. What its list grants can only shrink from now on.
//! 4. Make the destination's tables, one for each table of the source. Where the source has none, the absent entry gets a new
//!    generation, so a fault that has looked up the old list fails to install one: what is found here is all that there will be.
//! 5. A piece at a time: the piece's words are gathered, its CPUs answer, and only then they appear at the destination (race 6):
//!    nobody can write through an old translation to a page that has moved. Words that name a slot are answered for, too: one may
//!    come back here with fewer rights, and a fault that has read it must have ended by then (model `swap-move-narrow`).
//! 6. Publish what the source is now (nothing, or the same segment, empty) and the final segment at the destination. Threads that touch
//!    either range meanwhile wait.
//!
//! Up to step 4 a shortage puts the source back; the destination stays unmapped, as on Linux. What follows needs no memory that was not
//! taken before: each mark is a segment by itself, which is exchanged ([`crate::exchange`]).

use crate::arena::{Arena, index};
use crate::build::Change;
use crate::edit::{EditError, Over, transit};
use crate::entry::Word;
use crate::exchange::Reserve;
use crate::machine::Machine;
use crate::page::{Page, PageRange};
use crate::segment::{Flags, Part};
use crate::shootdown::Pages;
use crate::space::Space;
use crate::stats::Counter;
use crate::swapin::next_table;
use crate::sweep::Fate;
use crate::sync::{Mutant, Ordering::*, fence, mutant};
use core::cell::Cell;

/// Pages that move between two shootdowns.
const PIECE: usize = 64;

/// Where a mapping may go when its size changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Remap {
    /// It stays where it is.
    InPlace,
    /// It may move: here if this is free, out of the guard of segments that grow down, and not page 0; else anywhere.
    MayMove(Page),
    /// It moves here, replacing what is here.
    Fixed(Page),
}

impl<M: Machine> Space<M> {
    /// Changes size and place of the mapping in `old` to `pages` pages. Returns where it is now. `keep`: the old range stays
    /// mapped, empty (MREMAP_DONTUNMAP).
    ///
    /// All of `old` must be one segment (`NotMapped` else). On `OutOfFrames` a fixed destination may be unmapped already, wholly or
    /// in its first arenas.
    pub fn remap(&self, old: PageRange, pages: u64, to: Remap, keep: bool) -> Result<Page, EditError> {
        if let Remap::Fixed(dst) = to {
            let dst = PageRange::new(dst, pages).ok_or(EditError::Invalid)?;
            if dst.overlaps(&old) {
                return self.one_segment(old).and(Err(EditError::Invalid));
            }
            return self.move_to(old, dst, keep, true);
        }
        if !keep {
            if pages <= old.pages() {
                self.one_segment(old)?;
                if let Some(rest) = PageRange::new(Page(old.start.0 + pages), old.pages() - pages) {
                    self.unmap(rest)?;
                }
                return Ok(old.start);
            }
            if let Some(more) = PageRange::new(old.end, pages - old.pages()) {
                match self.extend(old, more) {
                    Err(EditError::Exists) => {}
                    other => return other.map(|()| old.start),
                }
            }
        }
        let Remap::MayMove(hint) = to else { return Err(EditError::NoSpace) };
        if hint != Page(0)
            && let Some(dst) = PageRange::new(hint, pages).filter(|dst| !dst.overlaps(&old))
        {
            match self.move_to(old, dst, keep, false) {
                Err(EditError::Exists) => {}
                other => return other,
            }
        }
        loop {
            let at = self.find_hole(pages, false)?;
            let dst = PageRange::new(at, pages).ok_or(EditError::Invalid)?;
            match self.move_to(old, dst, keep, false) {
                Err(EditError::Exists) => {}
                other => return other,
            }
        }
    }

    /// Maps `more`, right behind `old`, as a continuation of what is there.
    fn extend(&self, old: PageRange, more: PageRange) -> Result<(), EditError> {
        let all = PageRange { start: old.start, end: more.end };
        let like = Cell::new(None);
        let look = || {
            like.set(Some(self.shown(old)?));
            Ok(())
        };
        let part = |index, lo, hi| like.get().expect("seen under the claim").shown_at(all, index, lo, hi);
        self.map_claimed(all, more, &part, Over::Nothing, &look)
    }

    fn move_to(&self, src: PageRange, dst: PageRange, keep: bool, replace: bool) -> Result<Page, EditError> {
        let m = self.memory();
        m.stats.add(&m.machine, Counter::Move, 1);
        let arenas = src.by_arena().count() + dst.by_arena().count();
        let reserve = Reserve::take(m, arenas).ok_or(EditError::OutOfFrames)?;
        // Before the source is claimed: see `whole`.
        let mut there = dst.by_arena();
        there.try_for_each(|(index, ..)| self.arena_or_new(index).map(|_| ()))?;
        let claims = self.claim_ranges([src, dst]);
        // A reclaimer must not hold a word that may come back here (race 57).
        self.wait_for_scans(src.by_arena().chain(dst.by_arena()).filter_map(|(index, ..)| self.arena(index)));
        let shown = self.shown(src)?;
        if !(replace || self.is_free(dst) && self.is_spaced(dst)) {
            return Err(EditError::Exists);
        }
        if self.has_no_room_to_move(if replace { 2 } else { 0 }) {
            return Err(EditError::TooMany);
        }
        // Counts for the object when neither list does.
        let _held = shown.hold();
        let moved = Move { space: self, src, dst, shown, reserve }.run(keep);
        drop(claims);
        // Where nothing is mapped now: tables may be bare.
        let left = if moved.is_err() { Some(dst) } else { (!keep).then_some(src) };
        left.into_iter().for_each(|range| self.left_bare_across(range));
        moved.map(|()| dst.start)
    }
}

/// A move whose claims are held.
struct Move<'a, M: Machine> {
    space: &'a Space<M>,
    src: PageRange,
    dst: PageRange,
    /// What the source showed, as its part in the first arena.
    shown: Part,
    reserve: Reserve<'a, M>,
}

impl<M: Machine> Move<'_, M> {
    /// Steps 2 to 6.
    fn run(mut self, keep: bool) -> Result<(), EditError> {
        let (src, dst, shown) = (self.src, self.dst, self.shown);
        let pages = src.pages().min(dst.pages());
        let (moving, rest) =
            (PageRange::new(src.start, pages), PageRange::new(Page(src.start.0 + pages), src.pages() - pages));
        let moving = moving.ok_or(EditError::Invalid)?;
        // Step 2.
        self.mark(dst, None, mutant(Mutant::NoTransit))?;
        self.sweep(dst, Fate::Gone);
        // Step 3, and 4.
        let early = mutant(Mutant::TablesBeforeTransit);
        let short = if early && !self.make_tables(moving) { Err(EditError::OutOfFrames) } else { Ok(()) };
        if let Err(why) = short.and_then(|()| self.mark(src, Some(shown), false)) {
            return self.unmark().and(Err(why));
        }
        if !early && !self.make_tables(moving) {
            self.show(src, Some(shown))?;
            return self.unmark().and(Err(EditError::OutOfFrames));
        }
        // Step 5.
        self.move_pages(moving);
        // Step 6. What is behind the end of a smaller destination goes, and tables in which nothing is mapped. Linux unlocks what is left
        // behind.
        if keep {
            rest.into_iter().for_each(|rest| self.sweep(rest, Fate::Emptied));
            self.show(src, Some(Part { flags: shown.flags - Flags::LOCKED, ..shown }))?;
        } else {
            self.show(src, None)?;
            // Before the look at remembered spans (`bare`, rule 4), where nothing is swept.
            fence(SeqCst);
            let spans = src.by_arena().any(|(_, lo, hi)| crate::bare::holds_a_span(lo, hi));
            let swept = if spans { Some(src) } else { rest };
            swept.into_iter().for_each(|range| self.sweep(range, Fate::Gone));
        }
        self.show(dst, Some(shown))
    }

    /// A move that fails: nothing is mapped at its destination, and tables that were made there go.
    #[cold]
    fn unmark(&mut self) -> Result<(), EditError> {
        self.show(self.dst, None)?;
        self.sweep(self.dst, Fate::Gone);
        Ok(())
    }

    /// Publishes a range as in transit. If that fails, what it has marked shows `back` again; or nothing, and what was there is freed.
    fn mark(&mut self, range: PageRange, back: Option<Part>, blind: bool) -> Result<(), EditError> {
        for (index, lo, hi) in range.by_arena() {
            let part = self.shown.shown_at(range, index, lo, hi);
            let mark = if blind { part } else { transit(lo, hi, &part) };
            let arena = self.space.arena_or_new(index)?;
            if part.flags.contains(Flags::GROWS_DOWN) {
                arena.guard();
            }
            if let Err(short) = self.space.publish(arena, lo, hi, &Change::Put(Some(mark)), None, |_| Ok(())) {
                let marked = PageRange { start: range.start, end: Page::of(index, lo) };
                self.show(marked, back)?;
                if back.is_none() {
                    self.sweep(marked, Fate::Gone);
                }
                return Err(short);
            }
        }
        Ok(())
    }

    /// Publishes what a range that is in transit shows. It cannot fail for lack of memory.
    fn show(&mut self, range: PageRange, what: Option<Part>) -> Result<(), EditError> {
        for (index, lo, hi) in range.by_arena() {
            let arena = self.space.arena_or_new(index)?;
            let part = what.map(|p| p.shown_at(range, index, lo, hi));
            self.space.publish(arena, lo, hi, &Change::Put(part), Some(&mut self.reserve), |_| Ok(()))?;
        }
        Ok(())
    }

    fn sweep(&self, range: PageRange, fate: Fate) {
        for (index, lo, hi) in range.by_arena() {
            if let Some(arena) = self.space.arena(index) {
                self.space.sweep(arena, lo, hi, fate, false);
            }
        }
    }

    /// Where a page of the source goes: its arena, and its page there.
    fn place(&self, page: Page) -> (&Arena, u32) {
        let to = Page(self.dst.start.0 + (page.0 - self.src.start.0));
        // Made before the claims were taken.
        (self.space.arena(to.arena()).expect("an arena that the move has made"), to.local())
    }

    /// Step 4. False: no memory; what was made stays, empty.
    fn make_tables(&self, moving: PageRange) -> bool {
        let m = self.space.memory();
        for (index, lo, hi) in moving.by_arena() {
            let Some(from) = self.space.arena(index) else { continue };
            // AcqRel: as for a sweep; whoever reads `Empty(g)` reads the list with the mark.
            let g = from.generation.fetch_add(1, AcqRel) + 1;
            let mut page = lo;
            while page < hi {
                let pin = m.pin();
                let (entry, e, level) = from.walk(m, &pin, page);
                if level != 0 {
                    if entry.empty(e, g).is_ok() {
                        page = next_table(page, Some(level), hi);
                    } else {
                        m.stats.add(&m.machine, Counter::RetrySweep, 1);
                    }
                    continue;
                }
                let next = next_table(page, None, hi);
                // The pages of one table may go to two.
                let (first, last) = (Page::of(index, page), Page::of(index, next - 1));
                if ![first, last].into_iter().all(|page| self.make_table(page)) {
                    return false;
                }
                page = next;
                drop(pin);
                m.serve();
            }
        }
        true
    }

    /// Makes the table for where `page` goes. False: no memory.
    fn make_table(&self, page: Page) -> bool {
        let m = self.space.memory();
        let (to, at) = self.place(page);
        let pin = m.pin();
        loop {
            let (entry, e, level) = to.walk(m, &pin, at);
            if level == 0 {
                return true;
            }
            let Some(t) = m.new_table() else { return false };
            if entry.install_table(e, t).is_err() {
                m.free(t);
                m.stats.add(&m.machine, Counter::RetryTable, 1);
            }
        }
    }

    /// Step 5.
    fn move_pages(&self, moving: PageRange) {
        let m = self.space.memory();
        for (i, lo, hi) in moving.by_arena() {
            let Some(from) = self.space.arena(i) else { continue };
            let g = from.generation.fetch_add(1, AcqRel) + 1;
            let mut at = lo;
            while at < hi {
                let mut words = [Word::empty(0); PIECE];
                let mut pages = Pages::none();
                let pin = m.pin();
                let table = match from.leaf(m, &pin, at) {
                    Ok(table) => table,
                    Err(missing) => {
                        at = next_table(at, Some(missing), hi);
                        drop(pin);
                        m.serve();
                        continue;
                    }
                };
                let first = at;
                at = next_table(at, None, hi).min(at + PIECE as u32);
                for ((page, entry), word) in (first..at).zip(&table[index(first, 0)..]).zip(&mut words) {
                    *word = entry.take(g);
                    if !word.is_empty() && !mutant(Mutant::MoveNoAnswer) {
                        pages.push(Page::of(i, page));
                    }
                }
                drop(pin);
                if !mutant(Mutant::MoveNoFlush) {
                    self.answered(from, &pages);
                }
                self.arrive(Page::of(i, first), &words);
                if mutant(Mutant::MoveNoFlush) {
                    self.answered(from, &pages);
                }
                m.serve();
            }
        }
    }

    /// Puts the words that were gathered from `first` on where they go.
    fn arrive(&self, first: Page, words: &[Word]) {
        let m = self.space.memory();
        let pin = m.pin();
        for (page, &word) in (first.0..).map(Page).zip(words).filter(|(_, w)| !w.is_empty()) {
            let (to, at) = self.place(page);
            let (entry, e, level) = to.walk(m, &pin, at);
            let arrived = level == 0 && entry.arrive(e, word).is_ok();
            assert!(arrived, "a claimed entry in transit changed under a move");
        }
    }

    /// The CPUs that may have a window open there, or a translation of what was there, have answered.
    fn answered(&self, arena: &Arena, pages: &Pages) {
        if !pages.is_empty() {
            fence(SeqCst);
            let others = self.space.others(arena);
            if others != 0 {
                self.space.memory().shoot(others, pages);
            }
            pages.invalidate_here(&self.space.memory().machine);
        }
    }
}
