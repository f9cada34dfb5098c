//! References to the frames of pages: whoever drops the last one frees the frame.

use crate::frames::{Frame, Left};
use crate::machine::Machine;
use crate::memory::Memory;
use crate::stats::Counter;

impl<M: Machine> Memory<M> {
    /// A zeroed page with one reference.
    pub(crate) fn new_page(&self) -> Option<Frame> {
        let f = self.alloc_zeroed()?;
        self.frame_word(f).start();
        Some(f)
    }

    /// A page with one reference and the content of another one. Where others may store to that meanwhile (an object's page), what
    /// they are storing just now may be there or not.
    pub(crate) fn copy_of(&self, f: Frame) -> Option<Frame> {
        let copy = self.alloc()?;
        self.machine.copy(f, copy);
        self.frame_word(copy).start();
        Some(copy)
    }

    /// A reference to a page's frame, unless it has none left or too many.
    #[must_use]
    #[inline]
    pub fn try_ref(&self, f: Frame) -> bool {
        self.frame_word(f).try_ref(|| self.stats.add(&self.machine, Counter::RetryReference, 1))
    }

    /// Drops a reference to a page's frame and frees it with the last one. The zero page is not counted.
    #[inline]
    pub(crate) fn release(&self, f: Frame) {
        if f != self.zero_page() {
            self.free_left(f, self.frame_word(f).unref());
        }
    }

    /// Frees a frame of which a reference was dropped, and this is left.
    #[inline(always)]
    pub(crate) fn free_left(&self, f: Frame, left: Left) {
        match left {
            Left::Others => {}
            Left::Nothing => self.free(f),
            Left::Link => self.free_linked(f),
        }
    }
}
