//! What a space shows, for whoever only looks: segments and pages, without a claim.
//!
//! What a look finds may be gone when it returns. While a range is [in transit](crate::mv) its list shows a mark there instead of the
//! segment; whoever must know the segment waits until it has arrived.

use crate::error::EditError;
use crate::frames::Frame;
use crate::list::List;
use crate::machine::Machine;
use crate::object::Object;
use crate::page::{ARENA_PAGES, ARENAS, Page, PageRange};
use crate::segment::{Flags, Part, Segment};
use crate::space::Space;
use crate::walk::next_table;
use crate::whole::Claimed;

impl<M: Machine> Space<M> {
    /// The segment that contains a page, or the next one above it.
    pub fn find(&self, page: Page) -> Option<Segment> {
        (page.arena()..ARENAS).find_map(|i| {
            let arena = self.arena(i)?;
            let pin = self.memory.pin();
            let from = if i == page.arena() { page.local() } else { 0 };
            arena.list(&pin).at_or_above(from).map(|p| p.to_segment(i))
        })
    }

    /// As [`Space::find`], but never the mark of a range in transit: it waits until that has arrived. The caller holds no claim and
    /// no lock.
    pub fn find_arrived(&self, page: Page) -> Option<Segment> {
        loop {
            let found = self.find(page)?;
            if !found.flags.contains(Flags::TRANSIT) {
                return Some(found);
            }
            // Granted when the move has ended.
            drop(self.claim_ranges([found.range]));
        }
    }

    /// As [`Space::find_arrived`], with what only continues the segment in the arenas beside, which it waits for, too.
    pub fn find_whole(&self, page: Page) -> Option<Segment> {
        let all = self.find_arrived(page)?;
        Some(over_borders(all, PageRange::LIMIT, |page| self.find_arrived(page)))
    }

    /// A segment with what only continues it in the arenas beside, as it looks now; upwards to one that begins at `limit` or behind
    /// it. It waits for nobody, so whoever holds claims may ask.
    pub fn over_borders(&self, all: Segment, limit: Page) -> Segment {
        over_borders(all, limit, |page| self.find(page))
    }

    /// The one segment that all of `range` is part of, clipped to it, as the edit after the last one left it. `NotMapped`: there is a
    /// hole, or there are several. Waits for edits of the range; the caller holds no claim and no lock.
    pub fn one_segment(&self, range: PageRange) -> Result<Segment, EditError> {
        let claims = self.claim_ranges([range]);
        let shown = claims.shown(range)?;
        let _pin = self.memory().pin();
        let segment = shown.to_segment(range.start.arena());
        drop(claims);
        Ok(Segment { range, ..segment })
    }

    /// Whether a range is free for a mapping, as it looks now (a mapping there decides).
    pub fn is_free(&self, range: PageRange) -> bool {
        range.by_arena().all(|(i, lo, hi)| {
            let pin = self.memory().pin();
            self.arena(i).is_none_or(|a| a.list(&pin).is_free(lo, hi))
        })
    }

    /// Calls `see` for each segment that touches a range, in order. One that goes on in the next arena comes in
    /// two pieces. `see` must not wait: it runs inside a read section.
    pub fn each_segment(&self, range: PageRange, mut see: impl FnMut(&Segment)) {
        for (i, lo, hi) in range.by_arena() {
            let Some(arena) = self.arena(i) else { continue };
            let pin = self.memory.pin();
            arena.list(&pin).each(lo, hi, &mut |p| {
                see(&p.to_segment(i));
                true
            });
        }
    }

    /// The segments that show an object, none of them in transit. Waits for edits; the caller holds no claim and no lock.
    pub fn views(&self, object: &Object) -> u64 {
        let all = self.claim_all();
        let mut n = 0;
        for arena in all.arenas() {
            let pin = self.memory().pin();
            arena.list(&pin).each(0, ARENA_PAGES, &mut |p| {
                n += core::ptr::eq(p.object, object) as u64;
                true
            });
        }
        n
    }

    /// Pages mapped, touched or not.
    pub fn mapped(&self) -> u64 {
        let mut n = 0;
        self.each_segment(PageRange { start: Page(0), end: PageRange::LIMIT }, |s| n += s.range.pages());
        n
    }

    /// The first page of a range that may have content: one of a segment that shows an object, or one whose table is there.
    pub fn first_kept(&self, range: PageRange) -> Option<Page> {
        for (i, lo, hi) in range.by_arena() {
            let Some(arena) = self.arena(i) else { continue };
            let mut page = lo;
            while page < hi {
                let pin = self.memory().pin();
                let Some(p) = arena.list(&pin).at_or_above(page).filter(|p| p.start < hi) else { break };
                page = page.max(p.start);
                match arena.leaf(self.memory(), &pin, page) {
                    Err(missing) if p.object.is_null() => page = next_table(page, Some(missing), p.end.min(hi)),
                    _ => return Some(Page::of(i, page)),
                }
            }
        }
        None
    }

    /// Whether a page is in a frame.
    pub fn is_resident(&self, page: Page) -> bool {
        let Some(arena) = self.arena(page.arena()) else { return false };
        let pin = self.memory.pin();
        arena.walk(self.memory, &pin, page.local()).1.frame().is_some()
    }

    /// Calls `see` for each page of a range that is in a frame.
    pub fn each_page(&self, range: PageRange, see: &mut dyn FnMut(Page, Frame)) {
        self.each_entry(range, &mut |page, entry| {
            if let Some(f) = entry.load().frame() {
                see(page, f);
            }
        });
    }
}

impl<M: Machine> Claimed<'_, M> {
    /// As [`Space::one_segment`], of a range that is claimed; as the segment's part in the first arena.
    pub(crate) fn shown(&self, range: PageRange) -> Result<Part, EditError> {
        let mut first: Option<Part> = None;
        for (index, lo, hi) in range.by_arena() {
            let arena = self.arena(index).ok_or(EditError::NotMapped)?;
            let pin = self.space().memory().pin();
            let part = one_part(arena.list(&pin), lo, hi)?;
            match first {
                None => first = Some(part),
                Some(f) if f.shown_at(range, index, lo, hi).same(&part) => {}
                Some(_) => return Err(EditError::NotMapped),
            }
        }
        first.ok_or(EditError::NotMapped)
    }
}

/// See [`Space::over_borders`]; `find` as [`Space::find`].
fn over_borders(mut all: Segment, limit: Page, find: impl Fn(Page) -> Option<Segment>) -> Segment {
    while all.range.start.local() == 0 && all.range.start.0 != 0 {
        match find(Page(all.range.start.0 - 1)) {
            Some(before) if before.continues_with(&all) => {
                all = Segment { range: PageRange { start: before.range.start, end: all.range.end }, ..before };
            }
            _ => break,
        }
    }
    while all.range.end.local() == 0 && all.range.end < limit {
        match find(all.range.end) {
            Some(next) if all.continues_with(&next) => all.range.end = next.range.end,
            _ => break,
        }
    }
    all
}

/// The one segment that all of `lo .. hi` belongs to, clipped to it. Neighbours that only continue each other count as one.
fn one_part(list: List<'_>, lo: u32, hi: u32) -> Result<Part, EditError> {
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
