//! Whole pages of kernel memory: from the frames, not from the heap, which keeps what it has.

use super::{free_frame, zeroed_frame};
use core::ops::{Deref, DerefMut};
use quire_base::layout::phys_to_virt;

/// Bytes of a page.
pub const BYTES: usize = 4096;

/// One page, its owner's alone; zeroed at first.
pub struct KernelPage(u64);

impl KernelPage {
    /// A new page; `None` when memory is short.
    pub fn new() -> Option<KernelPage> {
        zeroed_frame().map(KernelPage)
    }
}

impl Deref for KernelPage {
    type Target = [u8; BYTES];
    fn deref(&self) -> &[u8; BYTES] {
        // SAFETY: the frame is ours, and the linear map shows it.
        unsafe { &*(phys_to_virt(self.0) as *const [u8; BYTES]) }
    }
}

impl DerefMut for KernelPage {
    fn deref_mut(&mut self) -> &mut [u8; BYTES] {
        // SAFETY: as above; the frame is ours alone.
        unsafe { &mut *(phys_to_virt(self.0) as *mut [u8; BYTES]) }
    }
}

impl Drop for KernelPage {
    fn drop(&mut self) {
        free_frame(self.0);
    }
}
