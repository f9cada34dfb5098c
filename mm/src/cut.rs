//! Pages that leave their object for good: a file becomes shorter, or gets a hole.
//!
//! 1. The object's length changes, and its entries give the pages up ([`Memory::set_object_len`], [`Memory::punch_object`]).
//! 2. Every space that shows the object loses them ([`Space::cut`]), under claims on all of its arenas, so that no move carries a
//!    page from an arena that is to be swept to one that has been. Each entry goes as a discard would take it, with a generation of its
//!    own and a shootdown. A shorter file takes private copies, too; a hole leaves them.
//!
//! *Why nobody keeps a page*: a fault reads its entry first and the object second. If it got a page from the object before step 1, its
//! read of the entry precedes the sweep's write, so its compare-and-swap comes before the sweep, which then finds the page, or
//! fails. Where the sweep leaves absent entries as they are, no other CPU is in the arena; one that joins later sees the object
//! without the page (the fences of joining and of the sweep).
//!
//! *A fault that was late* may have read the old length and make a page behind the end. No entry comes to show it, for the same reason.
//! It is cut off when the object grows again, before the new length is told.
//!
//! *Which spaces*: all that there are when step 1 is over, in the order of their making; the caller sees to it, and to that a copy
//! is known before it is filled. A copy that is not ready when its turn has come has nothing to lose: its parent, which is older,
//! was swept before the claims were taken under which it is being filled.

use crate::entry::Entry;
use crate::machine::Machine;
use crate::memory::Memory;
use crate::object::{Object, PageError};
use crate::object_pages::HeldPage;
use crate::page::{ARENA_PAGES, ENTRIES, PAGE, TABLE_BITS};
use crate::segment::{Flags, Part};
use crate::space::Space;
use crate::stats::Counter;
use crate::sweep::Fate;
use crate::sync::Ordering::*;
use core::ops::Range;

/// Pages that have left an object, and that its mappings must lose.
#[must_use = "mappings still show the pages"]
#[derive(Clone, Debug)]
pub struct Cut<'o> {
    object: &'o Object,
    pages: Range<u64>,
    copies: bool,
}

impl Cut<'_> {
    /// Whether there is nothing to lose.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }
}

impl<M: Machine> Memory<M> {
    /// Changes an object's length, for one caller at a time. What is cut off goes; the mappings are the caller's to cut.
    ///
    /// # Errors
    ///
    /// Nothing was changed: longer than the object can be ([`PageError::Beyond`]), or the page in which it is to end has to be in memory
    /// first.
    pub fn set_object_len<'o>(&self, object: &'o Object, len: u64) -> Result<Cut<'o>, PageError> {
        let (old, pages) = (object.pages(), len.div_ceil(PAGE as u64));
        if pages > 1 << (TABLE_BITS * object.height) {
            return Err(PageError::Beyond);
        }
        if len >= object.len() {
            // What late faults have left there.
            self.take_out(object, old..pages);
            object.len.store(len, Release);
            return Ok(Cut { object, pages: 0..0, copies: false });
        }
        let tail = self.hold_part(object, len)?;
        object.len.store(len, Release);
        if let Some(page) = tail {
            page.zero((len % PAGE as u64) as usize..PAGE);
        }
        self.take_out(object, pages..old);
        Ok(Cut { object, pages: pages..u64::MAX, copies: true })
    }

    /// Makes the bytes `from .. to` of an object zeros, and gives their pages up; the mappings are the caller's to cut. For one caller
    /// at a time.
    ///
    /// # Errors
    ///
    /// Nothing was changed: the pages in which the hole begins and ends have to be in memory first.
    pub fn punch_object<'o>(&self, object: &'o Object, from: u64, to: u64) -> Result<Cut<'o>, PageError> {
        let size = PAGE as u64;
        let to = to.min(object.pages() * size);
        let from = from.min(to);
        let pages = from.div_ceil(size)..to / size;
        let (first, last) = (self.hold_part(object, from)?, self.hold_part(object, to)?);
        let (begin, end) = ((from % size) as usize, (to % size) as usize);
        match from / size == to / size {
            // Within one page: `last` holds it even where the hole begins with its first byte.
            true => last.into_iter().for_each(|page| page.zero(begin..end)),
            false => {
                first.into_iter().for_each(|page| page.zero(begin..PAGE));
                last.into_iter().for_each(|page| page.zero(0..end));
            }
        }
        self.take_out(object, pages.clone());
        Ok(Cut { object, pages, copies: false })
    }

    /// The page that holds byte `at`, unless `at` is its first byte, or there is no page: the others stay as they are.
    fn hold_part(&self, object: &Object, at: u64) -> Result<Option<HeldPage<'_, M>>, PageError> {
        let index = at / PAGE as u64;
        match self.object_entry(object, index, false)? {
            Some(e) if !at.is_multiple_of(PAGE as u64) && !e.load().is_empty() => {
                self.hold_page(object, index).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Takes pages out of an object; its tables stay.
    fn take_out(&self, object: &Object, pages: Range<u64>) {
        if !pages.is_empty() {
            self.take_below(object, &object.root, object.height, 0, &pages);
        }
    }

    /// As [`Memory::take_out`], below an entry that is for the page `base` and some behind it, one of which is to go.
    fn take_below(&self, object: &Object, entry: &Entry, level: u32, base: u64, pages: &Range<u64>) {
        let e = entry.load();
        if e.is_empty() {
            return;
        }
        if level == 0 {
            let was = entry.take(0);
            object.gone(was);
            if let Some(f) = was.frame() {
                object.resident.fetch_sub(1, Relaxed);
                self.frame_word(f).leave_object();
                self.release(f);
            }
            self.leave_slot(was);
        } else if let Some(table) = e.frame() {
            let span = 1u64 << (TABLE_BITS * (level - 1));
            let first = pages.start.saturating_sub(base) / span;
            let last = (pages.end - 1 - base) / span;
            for i in first..=last.min(ENTRIES as u64 - 1) {
                let entry = &self.machine.table(table)[i as usize];
                self.take_below(object, entry, level - 1, base + i * span, pages);
            }
            // Others wait for answers; the caller is in no read section.
            self.serve();
        }
    }
}

impl<M: Machine> Space<M> {
    /// Step 2. The caller need not be active here. It holds a reference to the space, and is in no read section.
    pub fn cut(&self, cut: &Cut<'_>) {
        // Acquire: a copy that is ready was filled.
        if cut.is_empty() || self.ready.load(Acquire) == 0 {
            return;
        }
        let m = self.memory();
        let whole = self.claim_all();
        for arena in whole.arenas() {
            let mut at = 0;
            let shows = |from: u32| {
                let pin = m.pin();
                let mut found: Option<Part> = None;
                arena.list(&pin).each(from, ARENA_PAGES, &mut |p| {
                    found = core::ptr::eq(p.object, cut.object).then_some(*p);
                    found.is_none()
                });
                found
            };
            while let Some(p) = shows(at) {
                at = p.end;
                let local = |page: u64| page.clamp(p.offset, p.offset + (p.end - p.start) as u64) - p.offset;
                let (lo, hi) = (p.start + local(cut.pages.start) as u32, p.start + local(cut.pages.end) as u32);
                if lo < hi {
                    let all = cut.copies || p.flags.contains(Flags::SHARED);
                    let fate = if all { Fate::Emptied } else { Fate::Withdrawn };
                    self.sweep_for(Counter::ShootdownCut, arena, lo, hi, fate);
                }
            }
        }
    }
}
