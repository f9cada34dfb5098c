//! The move (mremap): pages go from one range to another, both marked as in transit.
//!
//! 1. Claim both ranges, arena by arena, in ascending order.
//! 2. Publish both as in transit. Threads that touch either range from now on wait, so nothing is added to what is found below.
//! 3. Sweep the destination: what it held is freed.
//! 4. Sweep the source as a protection that takes all rights does: its pages are hidden, and unless the CPU is alone there all other words
//!    get the other parity and everybody answers, once for the whole range. From now on nobody can write through an old translation to a
//!    page that has moved (race 6), and every fault that has read a word of the source has ended or is going to fail: also one that has read
//!    a slot, which may come back here with fewer rights (model `swap-move-narrow`), and one that has looked up the old list and found no
//!    table.
//! 5. Make the destination's tables, one for each table of the source.
//! 6. Take the words of the source and put them where they go. Hidden pages appear with the rights that their segment gives.
//! 7. Publish what the source is now (nothing, or the same segment, empty) and the final segment at the destination.
//!
//! Up to step 5 a shortage puts the source back, its pages waiting for faults; the destination becomes unmapped, as on Linux. What follows
//! needs no memory that was not taken before: each mark is a segment by itself, which needs no more nodes than are put aside ([`crate::publish`]).

use crate::arena::Arena;
use crate::edit::{Over, transit};
use crate::entry::{Entry, Word};
use crate::error::EditError;
use crate::machine::Machine;
use crate::page::{Page, PageRange, Prot};
use crate::publish::Reserve;
use crate::rcu::Pin;
use crate::segment::{Flags, Part};
use crate::space::Space;
use crate::stats::Counter;
use crate::sweep::Fate;
use crate::sync::{Ordering::*, fence};
use crate::walk::{index, next_table};
use crate::whole::Claimed;

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
        let look = |claims: &Claimed<'_, M>| {
            let shown = claims.shown(old)?;
            let before = if shown.object.is_null() { 0 } else { old.pages() };
            Ok(Part { offset: shown.offset + before, ..shown })
        };
        self.map_claimed([all], more, Over::Nothing, &look)
    }

    fn move_to(&self, src: PageRange, dst: PageRange, keep: bool, replace: bool) -> Result<Page, EditError> {
        let m = self.memory();
        m.stats.add(&m.machine, Counter::Move, 1);
        let arenas = src.by_arena().count() + dst.by_arena().count();
        let reserve = Reserve::take(m, arenas)?;
        // Before the source is claimed: see `whole`.
        let mut there = dst.by_arena();
        there.try_for_each(|(index, ..)| self.arena_or_new(index).map(|_| ()))?;
        let (claims, shown, left) = self.claim_move(src, dst, keep)?;
        // No scan may hold a word that may come back here (race 57).
        self.wait_for_scans(src.by_arena().chain(dst.by_arena()).filter_map(|(index, ..)| self.arena(index)));
        if !(replace || self.is_free(dst) && self.is_spaced(dst)) {
            return Err(EditError::Exists);
        }
        if self.has_no_room_to_move(if replace { 2 } else { 0 }) {
            return Err(EditError::TooMany);
        }
        // Counts for the object when neither list does.
        let _held = shown.hold();
        let moved = Move { space: self, src, dst, shown, reserve }.perform(keep);
        if moved.is_ok()
            && let Some(left) = left
        {
            self.unlock_claimed(beside(left, src, dst));
        }
        drop(claims);
        // Where nothing is mapped now: tables may be bare.
        let left = if moved.is_err() { Some(dst) } else { (!keep).then_some(src) };
        left.into_iter().for_each(|range| self.left_bare_across(range));
        moved.map(|()| dst.start)
    }

    /// Step 1. Returns what the source shows, too; and of a locked source that stays mapped the whole segment it lies in, which is claimed
    /// then as well: Linux unlocks all of it.
    fn claim_move(&self, src: PageRange, dst: PageRange, keep: bool) -> Result<Claims<'_, M>, EditError> {
        let mut wide = src;
        loop {
            let claims = self.claim_ranges([wide, dst]);
            let shown = claims.shown(src)?;
            if !keep || !shown.flags.contains(Flags::LOCKED) {
                return Ok((claims, shown, None));
            }
            let left = self.find(src.start).map(|s| self.over_borders(s, PageRange::LIMIT).range).unwrap_or(src);
            let left = PageRange { start: left.start.min(src.start), end: left.end.max(src.end) };
            if wide.start <= left.start && left.end <= wide.end {
                return Ok((claims, shown, Some(left)));
            }
            // It is larger by now than what is claimed.
            wide = left;
        }
    }
}

/// What [`Space::claim_move`] returns.
type Claims<'a, M> = (Claimed<'a, M>, Part, Option<PageRange>);

/// What stays of `left` where `src` has moved out of it to `dst`, on the side of `src`.
fn beside(left: PageRange, src: PageRange, dst: PageRange) -> PageRange {
    match dst.start > src.start {
        true => PageRange { start: left.start, end: left.end.min(dst.start) },
        false => PageRange { start: left.start.max(dst.end), end: left.end },
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
    /// Steps 2 to 7.
    fn perform(mut self, keep: bool) -> Result<(), EditError> {
        let (src, dst, shown) = (self.src, self.dst, self.shown);
        let pages = src.pages().min(dst.pages());
        let (moving, rest) =
            (PageRange::new(src.start, pages), PageRange::new(Page(src.start.0 + pages), src.pages() - pages));
        let moving = moving.ok_or(EditError::Invalid)?;
        // Step 2.
        self.mark(dst, None)?;
        if let Err(why) = self.mark(src, Some(shown)) {
            return self.unmark().and(Err(why));
        }
        // Step 3.
        self.sweep(dst, Fate::Gone);
        // Step 4.
        self.sweep(src, Fate::Narrow(Prot::empty()));
        // Step 5.
        if !self.make_tables(moving) {
            self.show(src, Some(shown))?;
            return self.unmark().and(Err(EditError::OutOfFrames));
        }
        // Step 6.
        self.move_pages(moving);
        // Step 7. What is behind the end of a smaller destination goes, and tables in which nothing is mapped. Linux unlocks what is left
        // behind.
        if keep {
            rest.into_iter().for_each(|rest| self.sweep(rest, Fate::Emptied));
            self.show(src, Some(Part { flags: shown.flags - Flags::LOCKS, ..shown }))?;
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
    fn mark(&mut self, range: PageRange, back: Option<Part>) -> Result<(), EditError> {
        for (index, lo, hi) in range.by_arena() {
            let part = self.shown.shown_at(range, index, lo, hi);
            let mark = transit(lo, hi, &part);
            let arena = self.space.arena_or_new(index)?;
            if part.flags.contains(Flags::GROWS_DOWN) {
                arena.guard();
            }
            if let Err(short) = self.space.publish(arena, lo, hi, Some(mark), |_| Ok(()), None) {
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
            self.space.publish_reserved(arena, lo, hi, part, &self.reserve)?;
        }
        Ok(())
    }

    fn sweep(&self, range: PageRange, fate: Fate) {
        for (index, lo, hi) in range.by_arena() {
            if let Some(arena) = self.space.arena(index) {
                self.space.sweep_for(Counter::ShootdownMove, arena, lo, hi, fate);
            }
        }
    }

    /// Where a page of the source goes: its arena, and its page there.
    fn place(&self, page: Page) -> (&Arena, u32) {
        let to = Page(self.dst.start.0 + (page.0 - self.src.start.0));
        // Made before the claims were taken.
        (self.space.arena(to.arena()).expect("an arena that the move has made"), to.local())
    }

    /// Step 5. False: no memory; what was made stays, empty.
    fn make_tables(&self, moving: PageRange) -> bool {
        self.each_leaf(moving, |first, entries| {
            // The pages of one table may go to two.
            let last = Page(first.0 + entries.len() as u64 - 1);
            [first, last].into_iter().all(|page| self.make_table(page))
        })
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

    /// Step 6.
    fn move_pages(&self, moving: PageRange) {
        self.each_leaf(moving, |first, entries| {
            let from = self.space.arena(first.arena()).expect("a leaf is in an arena");
            let g = from.generation.fetch_add(1, AcqRel) + 1;
            let pin = self.space.memory().pin();
            for (page, entry) in (first.0..).map(Page).zip(entries) {
                if !entry.load().is_empty() {
                    self.arrive(&pin, page, entry.take(g));
                }
            }
            true
        });
    }

    /// Puts the word of a page where it goes.
    fn arrive(&self, pin: &Pin<'_, M>, page: Page, word: Word) {
        let (to, at) = self.place(page);
        let (entry, e, level) = to.walk(self.space.memory(), pin, at);
        let arrived = level == 0 && entry.arrive(e, word, self.shown.prot).is_ok();
        assert!(arrived, "a claimed entry in transit changed under a move");
    }

    /// Calls `f` for the part of `range` in each leaf table, with its first page, until it returns false; says whether it never did. The
    /// range is claimed, so its tables stay. Serves shootdowns between tables: `f` is called outside of any read section.
    fn each_leaf(&self, range: PageRange, mut f: impl FnMut(Page, &[Entry]) -> bool) -> bool {
        let m = self.space.memory();
        for (i, lo, hi) in range.by_arena() {
            let Some(arena) = self.space.arena(i) else { continue };
            let mut at = lo;
            while at < hi {
                let leaf = arena.leaf_claimed(m, at);
                let next = next_table(at, leaf.err(), hi);
                if let Ok(table) = leaf
                    && !f(Page::of(i, at), &table[index(at, 0)..][..(next - at) as usize])
                {
                    return false;
                }
                at = next;
                m.serve();
            }
        }
        true
    }
}
