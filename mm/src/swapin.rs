//! Swapped entries seen from the space: the fault's way back, what lies near, and emptying a swap area.
//!
//! A fault that meets a swapped entry stays inside its window ([`crate::fault`]):
//!
//! 1. [`Pager::take`](crate::Pager::take) holds the slot, *then* the entry is read again, then the cached frame's reference is
//!    taken and the slot looked at again. The hold makes the compare-and-swap of step 2 a proof: a word that still names the slot
//!    names this life of it (race 22).
//! 2. `Swapped -> Page` ([`Entry::restore`]): read-only and copy-on-write, whatever the fault wants; the parity stays, so a
//!    narrowing edit or a fork in between makes it fail (race 27).
//! 3. Only now the slot's holds go ([`Pager::installed`](crate::Pager::installed)): the entry's and the look's.
//! 4. A store goes on with step 1 of the fault, as for any copy-on-write page: reuse in place if the frame is alone and not
//!    linked, else a copy. While the slot caches the frame there are two references, so a page that is being written out is
//!    copied, never changed, and two entries that name one slot need no further agreement (race 33).
//!
//! What is not in memory, or not yet answered for, is the kernel's business: [`Fault::SwapIn`]; it reads or waits outside of
//! every window, and the fault begins again (E5).

use crate::arena::{Arena, index};
use crate::entry::{Entry, Word};
use crate::fault::{Fault, Step};
use crate::machine::Machine;
use crate::page::{Access, Page, PageRange, TABLE_BITS};
use crate::pager::{Pager, Take};
use crate::segment::Part;
use crate::slot::Slot;
use crate::space::Space;
use crate::stats::Counter;

/// What came of bringing pages back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Back {
    /// No page is swapped any more.
    Done,
    /// This slot's content is not in memory: read it, or wait for it, then go on.
    Wait(Slot),
    /// An edit or a scan works where the cursor is: give the CPU away, then go on.
    Busy,
}

impl<M: Machine> Space<M> {
    /// Step 5 of a fault on a swapped entry.
    #[cold]
    #[inline(never)]
    pub(crate) fn swap_in(&self, entry: &Entry, e: Word, p: &Part, page: Page, access: Access) -> Step {
        let m = self.memory();
        let (Some(pager), Some(slot)) = (m.machine.pager(), e.slot()) else { return Step::End(Fault::Lost) };
        match pager.take(slot, &mut || entry.load() == e) {
            Take::Page { frame, ahead } => {
                if entry.restore(e, frame, p.prot).is_err() {
                    pager.put_back(slot, frame);
                    return Step::Again;
                }
                pager.installed(slot, frame, access != Access::Write);
                if ahead {
                    pager.hit(page);
                }
                m.stats.add(&m.machine, Counter::FaultSwap, 1);
                match access {
                    Access::Write => Step::Again,
                    _ => Step::End(Fault::Done),
                }
            }
            Take::Changed => Step::Again,
            Take::Wait | Take::Read => Step::End(Fault::SwapIn(slot)),
            Take::Failed => Step::End(Fault::Lost),
        }
    }

    /// Slots that pages of `range` name, for readahead: fills `out` from its beginning and says how many. In segments that show an
    /// object, also the slots of the object's pages. Only the first page's arena is looked at.
    pub fn swapped_near(&self, range: PageRange, out: &mut [Slot]) -> usize {
        let m = self.memory();
        let Some((arena, lo, hi)) = range.by_arena().next() else { return 0 };
        let Some(arena) = self.arena(arena) else { return 0 };
        let pin = m.pin();
        let mut n = 0;
        arena.list(&pin).each(lo, hi, &mut |p| {
            let part = p.clip(lo, hi);
            // SAFETY: the segment's leaf holds a reference, and the read section keeps the leaf.
            let object = unsafe { part.object.as_ref() };
            for page in part.start..part.end {
                let slot = arena.walk(m, &pin, page).1.slot();
                let of_object = || m.object_slot(object?, part.offset + (page - part.start) as u64);
                if let Some(slot) = slot.or_else(of_object)
                    && let Some(place) = out.get_mut(n)
                {
                    *place = slot;
                    n += 1;
                }
            }
            n < out.len()
        });
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

    /// Calls `see` for each leaf entry of a range whose table is there, and answers shootdowns after each table.
    pub(crate) fn each_entry(&self, range: PageRange, see: &mut dyn FnMut(Page, &Entry)) {
        for (i, lo, hi) in range.by_arena() {
            let Some(arena) = self.arena(i) else { continue };
            let mut page = lo;
            while page < hi {
                // One read section a table: a long walk must not hold grace periods up.
                let pin = self.memory().pin();
                let leaf = arena.leaf(self.memory(), &pin, page);
                let next = next_table(page, leaf.err(), hi);
                if let Ok(table) = leaf {
                    (page..next).zip(&table[index(page, 0)..]).for_each(|(page, e)| see(Page::of(i, page), e));
                }
                drop(pin);
                self.memory().serve();
                page = next;
            }
        }
    }

    /// Empties the swap area of this space's pages, from `cursor` on: all that are in memory come back, until one is met that is
    /// not. `lost` counts pages that cannot be read; they stay where they are. The caller is no CPU of the space: pages come back
    /// hidden ([`Entry::conceal`]), the next fault reveals them. Pages of objects that segments show come back to their objects.
    pub fn bring_back(&self, cursor: &mut Page, lost: &mut u64) -> Back {
        let m = self.memory();
        let Some(pager) = m.machine.pager() else { return Back::Done };
        while *cursor < PageRange::LIMIT {
            let next = Page::of(cursor.arena() + 1, 0);
            if let Some(arena) = self.arena(cursor.arena()) {
                // As a scan: edits that begin meanwhile skip nothing, and none is under way.
                let Some(_bit) = arena.try_reclaim(m) else { return Back::Busy };
                match self.bring_arena_back(arena, pager, cursor, lost) {
                    Back::Done => {}
                    wait => return wait,
                }
            }
            *cursor = next;
        }
        Back::Done
    }

    fn bring_arena_back(&self, arena: &Arena, pager: &dyn Pager, cursor: &mut Page, lost: &mut u64) -> Back {
        let m = self.memory();
        let mut page = cursor.local();
        loop {
            let pin = m.pin();
            let Some(p) = arena.list(&pin).at_or_above(page) else { return Back::Done };
            page = page.max(p.start);
            *cursor = Page::of(arena.index, page);
            let leaf = arena.leaf(m, &pin, page);
            // SAFETY: the segment's leaf holds a reference, and the read section keeps the leaf.
            let object = unsafe { p.object.as_ref() };
            let next = next_table(page, leaf.err().filter(|_| object.is_none()), p.end);
            for page in page..if leaf.is_err() && object.is_none() { page } else { next } {
                let entry = leaf.map_or(Back::Done, |t| self.bring_entry_back(&t[index(page, 0)], pager, lost));
                let both = match (entry, object) {
                    (Back::Done, Some(o)) => m.bring_object_back(o, p.offset + (page - p.start) as u64, lost),
                    (first, _) => first,
                };
                if both != Back::Done {
                    *cursor = Page::of(arena.index, page);
                    return both;
                }
            }
            page = next;
            drop(pin);
            m.serve();
        }
    }

    fn bring_entry_back(&self, entry: &Entry, pager: &dyn Pager, lost: &mut u64) -> Back {
        loop {
            let e = entry.load();
            let Some(slot) = e.slot() else { return Back::Done };
            match pager.take(slot, &mut || entry.load() == e) {
                Take::Page { frame, .. } => match entry.conceal(e, frame) {
                    Ok(()) => {
                        pager.installed(slot, frame, false);
                        return Back::Done;
                    }
                    Err(_) => pager.put_back(slot, frame),
                },
                Take::Changed => {}
                Take::Wait | Take::Read => return Back::Wait(slot),
                Take::Failed => {
                    *lost += 1;
                    return Back::Done;
                }
            }
        }
    }
}

/// The first page behind the table that `page` is in, which is missing above level `missing`; at most `end`.
pub(crate) fn next_table(page: u32, missing: Option<u32>, end: u32) -> u32 {
    let span = 1u64 << (TABLE_BITS * missing.unwrap_or(1));
    ((page as u64 / span + 1) * span).min(end as u64) as u32
}
