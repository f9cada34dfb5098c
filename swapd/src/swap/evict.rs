//! Eviction: a page gets a slot, or one reference more to the slot that has it already; the slot is *leaving* until all CPUs have
//! answered. Whatever is begun here ends with [`Swap::answered`], or is undone if the entry had changed.

use super::{Host, Swap};
use crate::io::Disk;
use crate::slot::Slot;
use quire_mm::Frame;

impl<H: Host, D: Disk> Swap<'_, H, D> {
    /// A slot for the page in `frame`, whose entry is about to name it. The entry's reference to the frame becomes the slot's.
    /// `None`: the area is full or closed.
    pub fn reserve(&self, cpu: usize, frame: Frame) -> Option<Slot> {
        let slot = self.map.take(cpu)?;
        if let Err(seen) = self.slot(slot).claim(frame) {
            panic!("{slot:?} was given out although it is {seen:?}");
        }
        Some(slot)
    }

    /// The entry had changed: the slot is not needed, the frame stays where it is.
    pub fn unreserve(&self, slot: Slot) {
        match self.slot(slot).unclaim() {
            // A shared object's page was put back: whoever met the slot waits.
            Ok(owed) => {
                self.pay(slot, owed);
                self.host.wake(slot);
            }
            Err(seen) => panic!("{slot:?} was not reserved: {seen:?}"),
        }
    }

    /// A further eviction of the page in `frame` to the slot that its note or link names, without a write. `is_linked` looks at
    /// the frame's metadata again. False: the slot is another page's by now, or cannot be used; the page needs a slot of its own.
    /// Ends with [`Swap::answered`], or with [`Swap::stay`] if the entry had changed. The frame's reference stays the entry's.
    pub fn join(&self, slot: Slot, frame: Frame, is_linked: impl FnOnce() -> bool) -> bool {
        if self.map.is_closed() {
            return false;
        }
        let Ok(seen) = self.slot(slot).leave() else { return false };
        if seen.frame() == Some(frame) || is_linked() {
            return true;
        }
        self.stay(slot);
        false
    }

    /// Undoes [`Swap::join`].
    pub fn stay(&self, slot: Slot) {
        let owed = self.slot(slot).stay();
        self.pay(slot, owed);
        self.host.wake(slot);
    }

    /// All CPUs have answered the eviction to `slot`.
    pub fn answered(&self, slot: Slot) {
        let owed = self.slot(slot).answered();
        self.pay(slot, owed);
        self.host.wake(slot);
    }
}
