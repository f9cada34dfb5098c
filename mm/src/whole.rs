//! All arenas of a space claimed whole: no edit of it is under way, and none begins. For fork, and for pages that leave all mappings.

use crate::arena::Arena;
use crate::claims::Claim;
use crate::machine::Machine;
use crate::page::{ARENA_PAGES, ARENAS};
use crate::space::Space;
use crate::sync::{Mutant, mutant};

/// The claims, released on drop.
#[must_use]
pub(crate) struct Whole<'a, M: Machine> {
    space: &'a Space<M>,
    /// Words, not claims: 256 of those are too much for a kernel stack. A claim's word is not 0.
    words: [u32; ARENAS],
}

impl<M: Machine> Space<M> {
    /// Claims all arenas, in ascending order. The caller holds no claim. Gives the CPU away while it waits.
    ///
    /// An arena that is made meanwhile may be the destination of a move whose source is waited for here. Then its pages would be in no
    /// arena that is claimed, so everything is given back and taken again: arenas are made a few times only. A move makes its
    /// destination's arena before it claims the source, so that after the last claim here either it is known, or
    /// nothing has moved there and nothing will.
    pub(crate) fn claim_all(&self) -> Whole<'_, M> {
        loop {
            let mut all = Whole { space: self, words: [0; ARENAS] };
            for arena in self.each_arena() {
                all.words[arena.index] = arena.claims.acquire(self.memory(), &[(0, ARENA_PAGES)]).keep();
            }
            // Acquire, by the claims: what those have made who held them before.
            if self.each_arena().all(|a| all.words[a.index] != 0) || mutant(Mutant::NewArenaLeftOut) {
                return all;
            }
        }
    }
}

impl<'a, M: Machine> Whole<'a, M> {
    /// The arenas, in ascending order.
    pub fn arenas(&self) -> impl Iterator<Item = &'a Arena> {
        self.space.each_arena().filter(|a| self.words[a.index] != 0)
    }
}

impl<M: Machine> Drop for Whole<'_, M> {
    fn drop(&mut self) {
        for arena in self.arenas() {
            drop(Claim::kept(&arena.claims, self.words[arena.index]));
        }
    }
}
