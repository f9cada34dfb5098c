//! What the memory manager needs of a machine: the current CPU, memory, invalidation, one interrupt, a way to wait.

use crate::entry::{Entry, Table};
use crate::frames::{Block, Frame, FrameWord};
use crate::page::Page;
use crate::pager::Pager;
pub use crate::sizes::{CPUS, GROUP};
use core::fmt;
use core::mem::MaybeUninit;
use core::panic::Location;

/// Bytes of a small object that [`Machine::copy_body`] copies.
pub const BODY: usize = 480;

/// What a wait is for, in words.
#[derive(Debug)]
pub struct What {
    /// The thing that is missing: "an older claim".
    pub text: &'static str,
    /// Shows the number that says which one.
    pub show: fn(u64, &mut fmt::Formatter<'_>) -> fmt::Result,
}

impl What {
    /// Something that a page's address tells apart.
    pub const fn page(text: &'static str) -> What {
        What { text, show: |page, f| write!(f, "page {page:#x}") }
    }
    /// Something that CPUs owe, the number being their set.
    pub const fn cpus(text: &'static str) -> What {
        What { text, show: |cpus, f| write!(f, "CPU set {cpus:#x}") }
    }
}

/// The machine under the memory manager. The kernel implements it over the hardware, [`crate::fake`] over an adversary.
///
/// # Implementation safety
///
/// * [`cpu`](Machine::cpu) is below [`CPUS`], and stays the same until the caller waits ([`pause`](Machine::pause)): code of
///   this crate is not preempted, and no two threads that run at the same time have the same number.
/// * [`frame_words`](Machine::frame_words), [`blocks`](Machine::blocks) and [`slabs`](Machine::slabs) always return the same slices, nobody
///   else touches what is in them, and `frame_words` is as long as the frames of all blocks.
/// * [`page`](Machine::page) of a frame that the allocator was given points to [`PAGE`](crate::page::PAGE) bytes, aligned to
///   them, that nobody outside this crate uses unless the frame was handed to him; [`table`](Machine::table) is the same memory
///   seen as a table.
/// * After [`invalidate`](Machine::invalidate) or [`invalidate_all`](Machine::invalidate_all) this CPU uses no translation, and
///   no cached upper entry, that it had read before for the page or for any page.
/// * An interrupt sent by [`interrupt`](Machine::interrupt) makes the target call
///   [`Memory::serve`](crate::Memory::serve) after a finite time, outside of any read section.
pub unsafe trait Machine: Sync + Sized + 'static {
    /// The number of the CPU that runs the caller.
    fn cpu(&self) -> usize;
    /// The metadata words, one a frame.
    fn frame_words(&self) -> &[FrameWord];
    /// The metadata word of a frame.
    #[inline]
    fn frame_word(&self, f: Frame) -> &FrameWord {
        &self.frame_words()[f.0 as usize]
    }
    /// The bitmap of free frames, one block for 2 MiB.
    fn blocks(&self) -> &[Block];
    /// The bitmap of slabs with free nodes, as long as [`blocks`](Machine::blocks).
    fn slabs(&self) -> &[Block];
    /// The memory of a frame.
    fn page(&self, frame: Frame) -> *mut u8;
    /// The memory of a frame that holds a table.
    fn table(&self, frame: Frame) -> &Table;
    /// Fills a frame with zeros.
    fn zero(&self, frame: Frame);
    /// Copies the whole of one frame to another.
    fn copy(&self, from: Frame, to: Frame);
    /// Copies [`BODY`] bytes, initialised or not.
    ///
    /// # Safety
    ///
    /// `from` may be read and `to` written for as many bytes; they do not overlap.
    #[inline]
    unsafe fn copy_body(&self, from: *const u8, to: *mut u8) {
        // SAFETY: this function's contract.
        unsafe { core::ptr::copy_nonoverlapping(from.cast::<[MaybeUninit<u8>; BODY]>(), to.cast(), 1) };
    }
    /// Whether nothing is in any of these neighbouring entries ([`Word::is_empty`]). A word that changes meanwhile is seen as it was
    /// or as it will be.
    #[inline]
    fn are_empty(&self, entries: &[Entry; GROUP]) -> bool {
        crate::entry::are_empty(entries)
    }
    /// Drops this CPU's translation of one page.
    fn invalidate(&self, page: Page);
    /// Drops all translations of user pages on this CPU.
    fn invalidate_all(&self);
    /// Makes another CPU call [`Memory::serve`](crate::Memory::serve) soon.
    fn interrupt(&self, cpu: usize);
    /// A step of a short polling loop (x86 `pause`).
    fn relax(&self);
    /// Told by whoever may wait for another CPU or thread, before it is known whether this time it has to: the machine may check that
    /// it can.
    fn may_wait(&self) {}
    /// Gives the CPU away: the caller waits for another thread that may need this CPU. The CPU may be another one afterwards. `since`
    /// is what [`waiting`](Machine::waiting) returned for this wait.
    fn pause(&self, since: u64);
    /// Told now and then by whoever waits or polls: for what, for which one, and where. `since` is 0 in the first turn of a wait,
    /// and what this returned in the turn before afterwards. For finding out why a machine stands still.
    fn waiting(&self, _what: &'static What, _which: u64, since: u64, _place: &'static Location<'static>) -> u64 {
        since
    }
    /// Puts the kernel's entries into a new top-level table.
    fn fill_top(&self, top: Frame);
    /// Told of every frame that becomes free. The adversary poisons it; the kernel does nothing.
    fn freed(&self, _frame: Frame) {}
    /// The swap area. Once it was there it stays the same, open or closed, as long as any entry or frame names one of its slots.
    fn pager(&self) -> Option<&dyn Pager> {
        None
    }
}
