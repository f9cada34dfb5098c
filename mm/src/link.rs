//! Frames that name swap slots: what the swap cache does with frames, and how a link ends.
//!
//! *Cached or linked, never both* (the swap daemon's crate says why): while a slot caches a frame, the frame's word has a note of
//! the slot; when the slot gives the frame up and the page is mapped, the note becomes a link, which holds the slot. A link
//! ends when the page is about to be written ([`Memory::unlink`]), when the frame is freed, and when the area is emptied.

use crate::entry::Word;
use crate::frames::{Frame, Left, Settled};
use crate::machine::Machine;
use crate::memory::Memory;
use crate::slot::Slot;
use crate::sync::Ordering::Relaxed;

impl<M: Machine> Memory<M> {
    /// For the swap cache: a frame with one reference for a page that is read into `slot`'s cache, content arbitrary.
    pub fn alloc_noted(&self, slot: Slot) -> Option<Frame> {
        let f = self.alloc()?;
        self.frame_word(f).start_noted(slot);
        Some(f)
    }

    /// For the swap cache: drops a reference, and frees the frame with the last. If it was linked then, its slot: the link's hold
    /// is the caller's.
    #[must_use = "the slot's hold would be lost"]
    pub fn release_frame(&self, f: Frame) -> Option<Slot> {
        match self.frame_word(f).unref() {
            Left::Others => None,
            Left::Nothing => {
                self.free(f);
                None
            }
            Left::Link => {
                let slot = self.end_link(f);
                self.free(f);
                slot
            }
        }
    }

    /// For the swap cache: drops its reference to a frame whose content `slot` has on the disk. If others have references, and
    /// nothing forbids it, the frame is linked to the slot in the same step.
    pub fn settle(&self, f: Frame, slot: Slot) -> Settled {
        let settled = self.frame_word(f).settle(slot);
        match settled {
            Settled::Linked => _ = self.links.fetch_add(1, Relaxed),
            Settled::Freed(link) => {
                self.links.fetch_sub(link.is_some() as u64, Relaxed);
                self.free(f);
            }
            Settled::Dropped => {}
        }
        settled
    }

    /// Frees a frame whose last reference is gone, with its link. The compare-and-swap that breaks the link decides between this
    /// CPU and one that breaks all links meanwhile.
    #[cold]
    pub(crate) fn free_linked(&self, f: Frame) {
        self.unlink(f);
        self.free(f);
    }

    /// Breaks the frame's link, if it has one: its hold of the slot is the caller's.
    fn end_link(&self, f: Frame) -> Option<Slot> {
        let slot = self.frame_word(f).break_link()?;
        self.links.fetch_sub(1, Relaxed);
        Some(slot)
    }

    /// A page becomes an object's. A link that is there goes: its hold is the caller's.
    #[must_use = "the slot's hold would be lost"]
    pub(crate) fn enter_object(&self, f: Frame) -> Option<Slot> {
        // First this: no link is made from then on.
        self.frame_word(f).enter_object();
        self.end_link(f)
    }

    /// Breaks the frame's link, if it has one: the content is about to differ from the slot's.
    pub(crate) fn unlink(&self, f: Frame) {
        if let Some(slot) = self.end_link(f)
            && let Some(pager) = self.machine.pager()
        {
            pager.release(slot, 1);
        }
    }

    /// A swapped word is gone from its entry: drops its hold.
    #[cold]
    pub(crate) fn release_slot(&self, was: Word) {
        if let (Some(slot), Some(pager)) = (was.slot(), self.machine.pager()) {
            pager.release(slot, 1);
        }
    }

    /// Breaks up to `want` links: all, so that a closed swap area holds no slot for frames; or some, for a full one. Anybody may do
    /// so at any time: an eviction that has seen the link holds the slot itself. Each call goes on where the last one has ended, and
    /// looks at no frame while there are no links. Returns how many it has broken, and how many frames it looked at.
    pub fn break_links(&self, want: u64) -> (u64, u64) {
        let frames = self.machine.frame_words().len() as u64;
        let (mut broken, mut looked) = (0, 0);
        // Relaxed: hints; a link that is made meanwhile may be missed.
        while looked < frames && broken < want && self.links.load(Relaxed) != 0 {
            let f = Frame((self.link_cursor.fetch_add(1, Relaxed) % frames) as u32);
            looked += 1;
            if self.frame_word(f).slot().is_some_and(|(_, linked)| linked) {
                self.unlink(f);
                broken += 1;
            }
        }
        (broken, looked)
    }

    /// Frames that are linked to slots.
    pub fn links(&self) -> u64 {
        self.links.load(Relaxed)
    }

    /// Entries of objects that name a slot.
    pub fn object_slots(&self) -> u64 {
        self.object_slots.load(Relaxed)
    }
}
