//! What swapping offers to the memory manager: slots for pages, and their contents back.
//!
//! Arrows point one way: the swap daemon's crate knows this one, so it implements the trait, and the machine hands it over
//! ([`Machine::pager`](crate::Machine::pager)). All calls are short, take no lock, need no memory and may be made inside a window.
//! Nothing here starts an input or output; a fault that needs one returns [`Fault::SwapIn`](crate::Fault::SwapIn).
//!
//! Without a swap area there is no pager, no entry is swapped, and none of this is ever called.

use crate::frames::Frame;
use crate::page::Page;
use crate::slot::Slot;

/// What a fault gets for a slot that its entry names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Take {
    /// The content, with a reference for the entry. The slot is held until [`Pager::installed`] or [`Pager::put_back`].
    Page {
        /// The frame.
        frame: Frame,
        /// It came by readahead and this is its first use.
        ahead: bool,
    },
    /// The entry has changed: begin again.
    Changed,
    /// An eviction is not answered yet, or a read is under way: wait, begin again.
    Wait,
    /// The content is on the disk only: read it, wait, begin again.
    Read,
    /// The content could not be read (SIGBUS). Told once; the next fault tries again.
    Failed,
}

/// What becomes of a page that a scan meets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It stays, its Accessed bit is cleared, and this is its age now (0 to 3).
    Keep(u8),
    /// It goes.
    Evict,
}

/// A swap area, seen by the memory manager.
pub trait Pager: Sync {
    // Eviction.

    /// A slot for the page in `frame`, whose entry is about to name it: one hold for the entry, one for the eviction, and it is
    /// *leaving*. The entry's reference to the frame becomes the slot's. `None`: the area is full or closed.
    fn reserve(&self, cpu: usize, frame: Frame) -> Option<Slot>;
    /// The entry had changed: undoes [`Pager::reserve`]. The frame's reference stays the entry's.
    fn unreserve(&self, slot: Slot);
    /// A further eviction of the page in `frame` to the slot that its frame names. `is_linked` looks at the frame again. False:
    /// the slot is another page's by now, or cannot be used. The frame's reference stays the caller's.
    fn join(&self, slot: Slot, frame: Frame, is_linked: &mut dyn FnMut() -> bool) -> bool;
    /// The entry had changed: undoes [`Pager::join`].
    fn stay(&self, slot: Slot);
    /// All CPUs have dropped their translations of the evicted page.
    fn answered(&self, slot: Slot);
    /// What becomes of a page in a scan of this round (0: gentle).
    fn judge(&self, accessed: bool, age: u8, round: u32) -> Verdict;

    // Entries that come and go.

    /// One more entry is about to name the slot, which one already does. False: it does not any more, or there are too many.
    #[must_use]
    fn hold(&self, slot: Slot) -> bool;
    /// `n` holds (by entries or links) fewer.
    fn release(&self, slot: Slot, n: u64);

    // Swapping in.

    /// The content of a slot. `same` reads the entry that names it again, when the slot is held.
    fn take(&self, slot: Slot, same: &mut dyn FnMut() -> bool) -> Take;
    /// The entry shows the frame now, copy-on-write; its hold and that of [`Pager::take`] go. `link`: nobody is about to write,
    /// so it is worth while to remember that the disk has the content.
    fn installed(&self, slot: Slot, frame: Frame, link: bool);
    /// The entry had changed: the frame's reference and the hold go back.
    fn put_back(&self, slot: Slot, frame: Frame);
    /// A page that was read ahead has been wanted.
    fn hit(&self, page: Page);

    // The audit.

    /// All holds, at rest; calls `cached` for each frame that a slot owns a reference to.
    fn count(&self, cached: &mut dyn FnMut(Frame)) -> u64;
}
