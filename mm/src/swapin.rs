//! Swapped entries that are wanted: the fault's way back, and what lies near for readahead.
//!
//! A fault that meets a swapped entry stays inside its window ([`crate::fault`]):
//!
//! 1. [`Pager::take`](crate::Pager::take) holds the slot, *then* the entry is read again, then the cached frame's reference is
//!    taken and the slot looked at again. The hold makes the compare-and-swap of step 2 a proof: a word that still names the slot
//!    names this life of it (race 22).
//! 2. `Swapped -> Page` ([`Entry::restore`]): read-only and copy-on-write, whatever the fault wants; the parity stays, so a
//!    narrowing edit or a fork in between makes it fail (race 27).
//! 3. Only now the slot's holds go ([`Pager::installed`](crate::Pager::installed)): the entry's and the look's.
//! 4. A store goes on with step 1 of the fault, as for any copy-on-write page: reuse in place if the frame has one reference
//!    and no link, else a copy. While the slot caches the frame there are two references, so a page that is being written out is
//!    copied, never changed, and two entries that name one slot need no further agreement (race 33).
//!
//! What is not in memory, or not yet answered for, is the kernel's business: [`PageError::SwapIn`]; it reads or waits outside of
//! every window, and the fault begins again (E5).

use crate::entry::{Entry, Word};
use crate::machine::Machine;
use crate::object::PageError;
use crate::page::{Access, Page, PageRange, Prot};
use crate::pager::Take;
use crate::slot::Slot;
use crate::space::Space;
use crate::stats::Counter;

impl<M: Machine> Space<M> {
    /// Step 5 of a fault on a swapped entry, which asks for the rights of `prot`. False: the entry has changed, look again.
    #[cold]
    #[inline(never)]
    pub(crate) fn swap_in(
        &self,
        entry: &Entry,
        e: Word,
        prot: Prot,
        page: Page,
        access: Access,
    ) -> Result<bool, PageError> {
        let m = self.memory();
        let (Some(pager), Some(slot)) = (m.machine.pager(), e.slot()) else { return Err(PageError::Lost) };
        match pager.take(slot, &mut || entry.load() == e) {
            Take::Page { frame, ahead } => {
                if entry.restore(e, frame, prot).is_err() {
                    pager.put_back(slot, frame);
                    return Ok(false);
                }
                pager.installed(slot, frame, access != Access::Write);
                if ahead {
                    pager.hit(page);
                }
                m.stats.add(&m.machine, Counter::FaultSwap, 1);
                Ok(true)
            }
            Take::Changed => Ok(false),
            Take::Wait | Take::Read => Err(PageError::SwapIn(slot)),
            Take::Failed => Err(PageError::Lost),
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
}
