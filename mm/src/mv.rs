//! The move (mremap): pages go from one range to another, with a transit mark where they arrive.
//!
//! 1. Claim both ranges (one claim in one arena; else the lower arena first).
//! 2. Publish the destination as in transit, sweep it, flush it: what it held is freed. Make the tables that it will need.
//! 3. Publish the source as gone. Sweep it a piece at a time: the piece's words are gathered, its CPUs answer, and only then its
//!    pages appear at the destination (race 6): nobody can write through an old translation to a page that has moved.
//! 4. Publish the final segment. Threads that touch the destination meanwhile wait; those that touch the source are refused, and
//!    told so when the claim is gone.
//!
//! Short of memory until the source is published as gone, the destination stays unmapped and the source untouched, as on Linux.
//! What follows needs no memory that was not taken before.

use crate::arena::Arena;
use crate::build::Change;
use crate::claims::Claim;
use crate::edit::{EditError, transit};
use crate::entry::Word;
use crate::exchange::Reserve;
use crate::machine::Machine;
use crate::page::{Page, PageRange, TABLE_BITS};
use crate::segment::{Flags, Part};
use crate::shootdown::Pages;
use crate::space::Space;
use crate::stats::Counter;
use crate::sweep::Fate;
use crate::sync::{Mutant, Ordering::*, fence, mutant};

/// Pages that move between two shootdowns.
const PIECE: usize = 64;

/// Where a mapping may go when its size changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Remap {
    /// It stays where it is.
    InPlace,
    /// It may move: here if this is free and not page 0, else anywhere.
    MayMove(Page),
    /// It moves here, replacing what is here.
    Fixed(Page),
}

impl<M: Machine> Space<M> {
    /// Changes size and place of the mapping in `old` to `pages` pages. Returns where it is now. `keep`: the old range stays
    /// mapped, empty (MREMAP_DONTUNMAP).
    ///
    /// All of `old` must be one segment (`NotMapped` else). On `OutOfFrames` a fixed destination may be unmapped already.
    pub fn remap(&self, old: PageRange, pages: u64, to: Remap, keep: bool) -> Result<Page, EditError> {
        let part = self.one_segment(old)?;
        if let Remap::Fixed(dst) = to {
            let dst = PageRange::new(dst, pages).ok_or(EditError::Invalid)?;
            if dst.overlaps(&old) {
                return Err(EditError::Invalid);
            }
            return self.move_to(old, dst, keep, true);
        }
        if !keep {
            if pages <= old.pages() {
                if let Some(rest) = PageRange::new(Page(old.start.0 + pages), old.pages() - pages) {
                    self.unmap(rest)?;
                }
                return Ok(old.start);
            }
            if let Some(more) = PageRange::new(old.end, pages - old.pages())
                && more.start.arena() == old.start.arena()
                && more.start.arena() == Page(more.end.0 - 1).arena()
            {
                match self.extend(old, more, &part) {
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

    /// The segment that `range` is part of.
    fn one_segment(&self, range: PageRange) -> Result<Part, EditError> {
        if range.start.arena() != Page(range.end.0 - 1).arena() {
            return Err(EditError::NotMapped);
        }
        let arena = self.arena(range.start.arena()).ok_or(EditError::NotMapped)?;
        let pin = self.memory().pin();
        let (lo, hi) = (range.start.local(), range.start.local() + range.pages() as u32);
        whole(arena.list(&pin), lo, hi)
    }

    fn extend(&self, old: PageRange, more: PageRange, like: &Part) -> Result<(), EditError> {
        let m = self.memory();
        let arena = self.arena(old.start.arena()).ok_or(EditError::NotMapped)?;
        let (lo, mid) = (old.start.local(), old.start.local() + old.pages() as u32);
        let hi = mid + more.pages() as u32;
        let _claim = arena.claims.acquire(m, &[(lo, hi)]);
        let new = Part {
            start: mid,
            end: hi,
            offset: like.offset + if like.object.is_null() { 0 } else { old.pages() },
            ..*like
        };
        self.publish(arena, mid, hi, &Change::Put(Some(new)), None, |list| {
            let now = whole(list, lo, mid)?;
            if !list.is_free(mid, hi) {
                return Err(EditError::Exists);
            }
            // The object and the rights are those that were looked at before the claim, or the caller starts again.
            // An object's page, too: another view of it may have come here.
            let same = now.prot == like.prot && now.object == like.object && now.flags == like.flags;
            if !same || now.offset != like.offset {
                return Err(EditError::NotMapped);
            }
            Ok(())
        })
    }

    fn move_to(&self, src: PageRange, dst: PageRange, keep: bool, replace: bool) -> Result<Page, EditError> {
        let m = self.memory();
        if dst.start.arena() != Page(dst.end.0 - 1).arena() {
            return Err(EditError::NoSpace);
        }
        m.stats.add(&m.machine, Counter::Move, 1);
        let mut reserve = Reserve::take(m, 1).ok_or(EditError::OutOfFrames)?;
        let from = self.arena(src.start.arena()).ok_or(EditError::NotMapped)?;
        let to = self.arena_or_new(dst.start.arena())?;
        let (slo, shi) = (src.start.local(), src.start.local() + src.pages() as u32);
        let (dlo, dhi) = (dst.start.local(), dst.start.local() + dst.pages() as u32);
        let claims: [Option<Claim<'_>>; 2] = match from.index.cmp(&to.index) {
            core::cmp::Ordering::Equal => [Some(from.claims.acquire(m, &[(slo, shi), (dlo, dhi)])), None],
            core::cmp::Ordering::Less => {
                let first = from.claims.acquire(m, &[(slo, shi)]);
                [Some(first), Some(to.claims.acquire(m, &[(dlo, dhi)]))]
            }
            core::cmp::Ordering::Greater => {
                let first = to.claims.acquire(m, &[(dlo, dhi)]);
                [Some(first), Some(from.claims.acquire(m, &[(slo, shi)]))]
            }
        };
        // A reclaimer must not hold a word that may come back here (race 57).
        self.wait_for_scans([from, to].into_iter());
        let part = {
            let pin = m.pin();
            if !replace && !to.list(&pin).is_free(dlo, dhi) {
                return Err(EditError::Exists);
            }
            whole(from.list(&pin), slo, shi)?
        };
        // Step 2. The claims keep the segment, and with it the object that `part` names.
        let mark =
            if mutant(Mutant::NoTransit) { Part { start: dlo, end: dhi, ..part } } else { transit(dlo, dhi, &part) };
        if part.flags.contains(Flags::GROWS_DOWN) {
            to.guard();
        }
        self.publish(to, dlo, dhi, &Change::Put(Some(mark)), None, |_| Ok(()))?;
        self.sweep(to, dlo, dhi, Fate::Gone, false);
        let moving = (shi - slo).min(dhi - dlo);
        let arriving = Part { start: dlo, end: dhi, ..part };
        if !self.make_tables(from, slo, to, dlo, moving) {
            self.unmark(to, dlo, dhi, reserve, claims)?;
            return Err(EditError::OutOfFrames);
        }
        // Step 3. The destination's leaf does not count for the object yet, and the source's is about to go.
        let held = part.hold();
        if !keep && let Err(short) = self.publish(from, slo, shi, &Change::Put(None), None, |_| Ok(())) {
            self.unmark(to, dlo, dhi, reserve, claims)?;
            return Err(short);
        }
        self.move_pages(from, slo, to, dlo, moving);
        // A shrinking move drops the rest; and absent entries of the source get the generation too. Tables in which nothing is
        // mapped go.
        let rest = if !keep && crate::bare::holds_a_span(slo, shi) { slo } else { slo + moving };
        if rest < shi {
            self.sweep(from, rest, shi, if keep { Fate::Emptied } else { Fate::Gone }, false);
        }
        // Step 4.
        self.publish(to, dlo, dhi, &Change::Put(Some(arriving)), Some(&mut reserve), |_| Ok(()))?;
        drop(held);
        if !keep {
            drop(claims);
            self.left_bare(from, slo, shi);
        }
        Ok(dst.start)
    }

    /// A move that fails: nothing is mapped at its destination, and the tables that were made there go.
    #[cold]
    fn unmark(
        &self,
        to: &Arena,
        dlo: u32,
        dhi: u32,
        mut reserve: Reserve<'_, M>,
        claims: [Option<Claim<'_>>; 2],
    ) -> Result<(), EditError> {
        self.publish(to, dlo, dhi, &Change::Put(None), Some(&mut reserve), |_| Ok(()))?;
        self.sweep(to, dlo, dhi, Fate::Gone, false);
        drop(claims);
        self.left_bare(to, dlo, dhi);
        Ok(())
    }

    /// Makes the tables at the destination for all source tables there are. False: no memory; what was made is there, empty.
    fn make_tables(&self, from: &Arena, slo: u32, to: &Arena, dlo: u32, pages: u32) -> bool {
        let m = self.memory();
        let mut i = 0;
        while i < pages {
            let pin = m.pin();
            let (_, _, level) = from.walk(m, &pin, slo + i);
            if level != 0 {
                let span = 1u32 << (TABLE_BITS * level);
                i += span - (slo + i) % span;
                continue;
            }
            loop {
                let (entry, e, level) = to.walk(m, &pin, dlo + i);
                if level == 0 {
                    break;
                }
                let Some(t) = m.new_table() else { return false };
                if entry.install_table(e, t).is_err() {
                    m.free(t);
                    m.stats.add(&m.machine, Counter::RetryTable, 1);
                }
            }
            // As far as both leaf tables reach.
            let span = 1u32 << TABLE_BITS;
            i += (span - (slo + i) % span).min(span - (dlo + i) % span);
        }
        true
    }

    fn move_pages(&self, from: &Arena, slo: u32, to: &Arena, dlo: u32, moving: u32) {
        let m = self.memory();
        let g = from.generation.fetch_add(1, AcqRel) + 1;
        let mut i = 0;
        while i < moving {
            let mut words = [Word::empty(0); PIECE];
            let mut pages = Pages::none();
            let n = (moving - i).min(PIECE as u32);
            {
                let pin = m.pin();
                let mut k = 0;
                while k < n {
                    let (entry, e, level) = from.walk(m, &pin, slo + i + k);
                    if level == 0 {
                        let was = entry.take(g);
                        if was.is_swapped() {
                            // Its answers are in: no scan is under way.
                            words[k as usize] = was;
                        } else if was.frame().is_some() {
                            pages.push(Page::of(from.index, slo + i + k));
                            words[k as usize] = was;
                        }
                    } else if entry.empty(e, g).is_err() {
                        m.stats.add(&m.machine, Counter::RetrySweep, 1);
                        continue;
                    }
                    k += 1;
                }
            }
            if !mutant(Mutant::MoveNoFlush) {
                self.answered(from, &pages);
            }
            let pin = m.pin();
            for (k, word) in words[..n as usize].iter().enumerate().filter(|(_, w)| !w.is_empty()) {
                let (entry, e, level) = to.walk(m, &pin, dlo + i + k as u32);
                let arrived = level == 0 && entry.arrive(e, *word).is_ok();
                assert!(arrived, "a claimed entry in transit changed under a move");
            }
            drop(pin);
            if mutant(Mutant::MoveNoFlush) {
                self.answered(from, &pages);
            }
            i += n;
        }
    }

    fn answered(&self, arena: &Arena, pages: &Pages) {
        if !pages.is_empty() {
            fence(SeqCst);
            let others = self.others(arena);
            if others != 0 {
                self.memory().shoot(others, pages);
            }
            pages.invalidate_here(&self.memory().machine);
        }
    }

    /// Whether a range is free for a mapping, as it looks now (a mapping there decides).
    pub fn is_free(&self, range: PageRange) -> bool {
        range.by_arena().all(|(i, lo, hi)| {
            let pin = self.memory().pin();
            self.arena(i).is_none_or(|a| a.list(&pin).is_free(lo, hi))
        })
    }
}

/// The one segment that all of `lo .. hi` belongs to, clipped to it. Neighbours that only continue each other count as one.
fn whole(list: crate::list::List<'_>, lo: u32, hi: u32) -> Result<Part, EditError> {
    let mut all: Option<Part> = None;
    let one = list.each(lo, hi, &mut |p| match &mut all {
        None if p.start <= lo => {
            all = Some(p.clip(lo, hi));
            true
        }
        Some(a) if a.joins(&p.clip(p.start, hi)) => {
            a.end = p.end.min(hi);
            true
        }
        _ => false,
    });
    match all {
        Some(p) if one && p.end >= hi && !p.flags.contains(Flags::TRANSIT) => Ok(p),
        _ => Err(EditError::NotMapped),
    }
}
