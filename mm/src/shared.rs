//! Shared objects and the swap area: a page leaves through the object's own entry, and comes back through it.
//!
//! *Out.* A scan only unmaps an object's pages, one mapping after the other ([`crate::evict`]). When the last answer for a mapping
//! is in, it asks the object to give the page up ([`Memory::give_up`]):
//!
//! 1. `Page -> Swapped` in the object's entry; the slot is *leaving*, so whoever meets it waits.
//! 2. SeqCst fence, then the frame's count: if anybody but the object has a reference, the page is mapped or about to be, and the
//!    page is put back. It pairs with the fence of whoever maps: that one takes a reference, fences, and reads the entry again (race 52).
//! 3. Answered: nobody has a translation, since each mapping dropped its reference after its own answers.
//!
//! *In.* The frame becomes the object's, and the slot's only entry goes, so the slot is free at once, or when a write that is under
//! way has ended. An object's mappings write without asking, so its frames are never linked to a slot: the frame becomes the
//! object's *before* it is linked out, and the link that a write's end may have made just before is broken
//! (`enter_object`).

use crate::entry::{Entry, Word};
use crate::frames::Frame;
use crate::machine::Machine;
use crate::memory::Memory;
use crate::object::{Object, PageError};
use crate::page::Prot;
use crate::pager::{Pager, Take};
use crate::slot::Slot;
use crate::sync::{Ordering::*, fence};

impl<M: Machine> Memory<M> {
    /// Lets a page of an object go out, if nobody has a reference but the object. False: it stays (`Err`: the area is full).
    pub(crate) fn give_up(&self, pager: &dyn Pager, object: &Object, index: u64) -> Result<bool, ()> {
        let Ok(Some(entry)) = self.object_entry(object, index, false) else { return Ok(false) };
        let e = entry.load();
        let Some(f) = e.frame() else { return Ok(false) };
        if self.frame_word(f).count() != 1 {
            return Ok(false);
        }
        let Some(slot) = pager.reserve(self.machine.cpu(), f) else { return Err(()) };
        // Counted before anybody can take it back.
        self.object_slots.fetch_add(1, Relaxed);
        object.swapped.fetch_add(1, Relaxed);
        let back = || {
            self.object_slots.fetch_sub(1, Relaxed);
            object.swapped.fetch_sub(1, Relaxed);
        };
        let Ok(swapped) = entry.evict_shared(e, slot) else {
            back();
            pager.unreserve(slot);
            return Ok(false);
        };
        fence(SeqCst);
        if self.frame_word(f).count() != 1 {
            match entry.put_back(swapped, e) {
                Ok(()) => {
                    back();
                    pager.unreserve(slot);
                }
                // The object was cut here: that has counted, and dropped the entry's hold. The frame goes with ours.
                Err(_) => {
                    object.resident.fetch_sub(1, Relaxed);
                    self.frame_word(f).leave_object();
                    pager.answered(slot);
                }
            }
            return Ok(false);
        }
        object.resident.fetch_sub(1, Relaxed);
        self.frame_word(f).leave_object();
        self.frame_word(f).note(slot);
        pager.answered(slot);
        Ok(true)
    }

    /// `Swapped -> Page` in an object's entry: the frame, with a reference for the caller. `None`: look at the entry again.
    #[cold]
    pub(crate) fn object_swap_in(
        &self,
        object: &Object,
        entry: &Entry,
        e: Word,
        slot: Slot,
    ) -> Result<Option<Frame>, PageError> {
        let pager = self.machine.pager().ok_or(PageError::Lost)?;
        match pager.take(slot, &mut || entry.load() == e) {
            Take::Page { frame, .. } => {
                // First the frame becomes the object's, so that no link is made. If this race is lost it stays so: whoever won has put it there.
                if let Some(old) = self.enter_object(frame) {
                    pager.release(old, 1);
                }
                // The caller's; the object gets the one that came with the frame.
                let held = self.try_ref(frame);
                debug_assert!(held, "a frame with a reference refused another one");
                if entry.put_back(e, Word::page(frame, Prot::READ)).is_err() {
                    self.release(frame);
                    pager.put_back(slot, frame);
                    return Ok(None);
                }
                object.resident.fetch_add(1, Relaxed);
                self.object_slots.fetch_sub(1, Relaxed);
                object.swapped.fetch_sub(1, Relaxed);
                pager.installed(slot, frame, false);
                Ok(Some(frame))
            }
            Take::Changed => Ok(None),
            Take::Wait | Take::Read => Err(PageError::SwapIn(slot)),
            Take::Failed => Err(PageError::Lost),
        }
    }

    /// The slot of an object's page, if it has one.
    pub(crate) fn object_slot(&self, object: &Object, index: u64) -> Option<Slot> {
        self.object_entry(object, index, false).ok().flatten()?.load().slot()
    }

    /// A word that was taken out of an object's entry drops its slot, if it names one.
    pub(crate) fn leave_slot(&self, was: Word) {
        if was.is_swapped() {
            self.object_slots.fetch_sub(1, Relaxed);
            self.release_slot(was);
        }
    }

    /// Evicts up to `want` pages of an object that nobody maps, from page `*cursor` on, at most once around: for objects that are
    /// only read and written as files. Returns how many went.
    pub fn evict_object(&self, object: &Object, want: u64, cursor: &mut u64) -> u64 {
        let Some(pager) = self.machine.pager() else { return 0 };
        let (start, mut wrapped, mut gone) = (*cursor, false, 0);
        while gone < want {
            match self.next_object_page(object, *cursor) {
                Some(index) if wrapped && index >= start => break,
                Some(index) => {
                    match self.give_up(pager, object, index) {
                        Ok(went) => gone += went as u64,
                        Err(()) => break,
                    }
                    *cursor = index + 1;
                }
                None if wrapped => break,
                None => (*cursor, wrapped) = (0, true),
            }
        }
        gone
    }
}
