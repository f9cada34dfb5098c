//! Emptying a swap area: all pages that it has come back, those of spaces and those of objects.

use crate::arena::Arena;
use crate::entry::Entry;
use crate::machine::Machine;
use crate::memory::Memory;
use crate::object::{Object, PageError};
use crate::page::{Page, PageRange};
use crate::pager::{Pager, Take};
use crate::slot::Slot;
use crate::space::Space;
use crate::walk::{index, next_table};

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

impl<M: Machine> Memory<M> {
    /// Brings one page of an object back from the swap area, if it is there.
    pub fn bring_object_back(&self, object: &Object, index: u64, lost: &mut u64) -> Back {
        if self.object_slot(object, index).is_none() {
            return Back::Done;
        }
        match self.object_page(object, index) {
            Ok(f) => self.release(f),
            Err(PageError::SwapIn(slot)) => return Back::Wait(slot),
            Err(PageError::Lost) => *lost += 1,
            // Cut off, or its tables are not there: nothing is swapped.
            Err(PageError::Beyond | PageError::Full | PageError::OutOfFrames) => {}
        }
        Back::Done
    }
}

impl<M: Machine> Space<M> {
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
