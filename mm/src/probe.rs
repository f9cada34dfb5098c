//! What the model checker's tests see of the inside: the parts of the memory manager one by one. Only under `--cfg loom`.

use crate::claims::{Claim, Claims};
use crate::machine::Machine;
use crate::memory::Memory;

impl<M: Machine> Memory<M> {
    /// Fills the calling CPU's caches, so that a model's threads do not meet in the bitmap: `frames` free frames, `nodes` nodes.
    pub fn stock(&self, frames: usize, nodes: usize) {
        let taken: std::vec::Vec<_> = (0..nodes).map(|_| self.alloc_node().expect("nodes for a model").1).collect();
        // SAFETY: just taken, never used.
        taken.into_iter().for_each(|n| unsafe { self.free_node(n) });
        let taken: std::vec::Vec<_> = (0..frames).map(|_| self.alloc().expect("frames for a model")).collect();
        taken.into_iter().for_each(|f| self.free(f));
    }
}

/// Range claims alone.
#[derive(Debug)]
pub struct ClaimsProbe(Claims);

/// A claim, dropped at its end.
#[derive(Debug)]
pub struct ClaimProbe<'a>(#[expect(dead_code, reason = "held for its drop")] Claim<'a>);

impl ClaimsProbe {
    /// No claims.
    #[expect(clippy::new_without_default, reason = "a test's view")]
    pub fn new() -> Self {
        ClaimsProbe(Claims::new())
    }

    /// Claims ranges of pages.
    pub fn acquire<M: Machine>(&self, memory: &Memory<M>, ranges: &[(u32, u32)]) -> ClaimProbe<'_> {
        ClaimProbe(self.0.acquire(memory, ranges))
    }
}
