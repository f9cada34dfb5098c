//! What the model checker's tests see of the inside: the parts of the memory manager one by one. Only under `--cfg loom`.

use crate::claims::{Claim, Claims};
use crate::frames::Frame;
use crate::machine::Machine;
use crate::memory::Memory;
use crate::page::{PAGE, Page};
use crate::shootdown::Pages;
use crate::slab::{NODE, NodePlace};
use crate::space::Space;
use crate::stats::Counter;

impl<M: Machine> Memory<M> {
    /// Fills the calling CPU's caches, so that a model's threads do not meet in the bitmap: `frames` free frames, `nodes` nodes.
    pub fn stock(&self, frames: usize, nodes: usize) {
        let taken: std::vec::Vec<_> = (0..nodes).map(|_| self.alloc_node().expect("nodes for a model").1).collect();
        // SAFETY: just taken, never used.
        taken.into_iter().for_each(|n| unsafe { self.free_node(n) });
        let taken: std::vec::Vec<_> = (0..frames).map(|_| self.alloc().expect("frames for a model")).collect();
        taken.into_iter().for_each(|f| self.free(f));
    }

    /// Makes the CPUs in `targets` drop the translations of `pages`.
    pub fn shoot_down(&self, targets: u64, pages: &[Page]) {
        let mut list = Pages::none();
        pages.iter().for_each(|&p| list.push(p));
        self.shoot(Counter::ShootdownUnmap, targets, &list);
    }

    /// Takes a node, and says which one it is.
    pub fn take_node(&self) -> Option<(*mut u8, NodePlace)> {
        self.alloc_node()
    }

    /// Gives a node back.
    ///
    /// # Safety
    ///
    /// As for `free_node`: from [`Memory::take_node`], once.
    pub unsafe fn give_node(&self, place: NodePlace) {
        // SAFETY: this function's contract.
        unsafe { self.free_node(place) };
    }

    /// Slabs whose nodes are all free, found through the bitmap by whoever needs a node next.
    pub fn idle_slabs(&self) -> u64 {
        let full = |i: usize| self.frame_word(Frame(i as u32)).upper().count_ones() as usize == PAGE / NODE;
        (0..self.machine.frame_words().len())
            .filter(|&i| self.slabs.knows(&self.machine, Frame(i as u32)) && full(i))
            .count() as u64
    }

    /// A frame with one reference.
    pub fn new_counted(&self) -> Option<Frame> {
        self.new_page()
    }

    /// Takes a reference to a frame that may be gone.
    pub fn try_reference(&self, f: Frame) -> bool {
        self.try_ref(f)
    }

    /// Drops a reference, and frees the frame with the last one.
    pub fn drop_reference(&self, f: Frame) {
        self.release(f);
    }
}

impl<M: Machine> Space<M> {
    /// Lets so many reads take blank pages.
    pub fn allow_blank(&self, pages: u64) {
        self.blank.set(pages);
    }

    /// Whether `cpu` is active here.
    pub fn is_active(&self, cpu: usize) -> bool {
        self.active.bits() >> cpu & 1 != 0
    }
}

/// Range claims alone.
#[derive(Debug)]
pub struct ClaimsProbe(Claims);

/// A claim, dropped at its end.
#[derive(Debug)]
pub struct ClaimProbe<'a> {
    #[expect(dead_code, reason = "held for its drop")]
    claim: Claim<'a>,
}

impl ClaimsProbe {
    /// No claims.
    #[expect(clippy::new_without_default, reason = "a test's view")]
    pub fn new() -> Self {
        ClaimsProbe(Claims::new())
    }

    /// Claims ranges of pages.
    pub fn acquire<M: Machine>(&self, memory: &Memory<M>, ranges: &[(u32, u32)]) -> ClaimProbe<'_> {
        ClaimProbe { claim: self.0.acquire(memory, ranges) }
    }

    /// Claims everything, as a scan does that edits have kept out for long.
    pub fn all<M: Machine>(&self, memory: &Memory<M>) -> ClaimProbe<'_> {
        ClaimProbe { claim: self.0.all(memory) }
    }

    /// Waits for the claims over a range that are held now.
    pub fn wait_for<M: Machine>(&self, memory: &Memory<M>, lo: u32, hi: u32) {
        self.0.wait_for(memory, lo, hi);
    }

    /// Claims one range, as edits do.
    pub fn acquire_one<M: Machine>(&self, memory: &Memory<M>, lo: u32, hi: u32) -> ClaimProbe<'_> {
        ClaimProbe { claim: self.0.acquire_one(memory, lo, hi) }
    }
}
