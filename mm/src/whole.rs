//! Claims in several arenas: ranges that may lie in more than one, for moves and mappings; or all arenas, whole, for fork and for pages
//! that leave all mappings: no edit of the space is under way then, and none begins.

use crate::arena::Arena;
use crate::claims::Claim;
use crate::machine::Machine;
use crate::page::{ARENA_PAGES, ARENAS, PageRange};
use crate::space::Space;

/// The claims, released on drop.
#[must_use]
pub(crate) struct Claimed<'a, M: Machine> {
    space: &'a Space<M>,
    /// Which seats of each arena, as [`Claim::keep`] says; 0: none is claimed. Not the claims themselves: 256 of them are too much for a
    /// kernel stack.
    kept: [u32; ARENAS],
}

impl<M: Machine> Space<M> {
    /// Claims all arenas, in ascending order. The caller holds no claim. Gives the CPU away while it waits.
    ///
    /// An arena that is made meanwhile may be the destination of a move whose source is waited for here. Then its pages would be in no
    /// arena that is claimed, so everything is given back and taken again: arenas are made a few times only. A move makes its
    /// destination's arena before it claims the source, so that after the last claim here either it is known, or
    /// nothing has moved there and nothing will.
    pub(crate) fn claim_all(&self) -> Claimed<'_, M> {
        loop {
            let mut all = Claimed { space: self, kept: [0; ARENAS] };
            for arena in self.each_arena() {
                all.kept[arena.index] = arena.claims.acquire(self.memory(), &[(0, ARENA_PAGES)]).keep();
            }
            // Acquire, by the claims: the arenas that earlier holders have made are seen.
            if all.is_complete() {
                return all;
            }
        }
    }

    /// Claims ranges, at most two, arena by arena, in ascending order; all at once where several lie in one arena. The caller holds no
    /// claim. Gives the CPU away while it waits. As with [`Space::claim_all`], arenas that are made meanwhile are claimed, too; those that are
    /// made later are not, so an edit takes its arenas from the claims ([`Claimed::arena`]).
    pub(crate) fn claim_ranges<const N: usize>(&self, ranges: [PageRange; N]) -> Claimed<'_, M> {
        loop {
            let all = self.claim_known(ranges);
            let claimed = |(index, _, _): (usize, u32, u32)| all.kept[index] != 0 || self.arena(index).is_none();
            if ranges.into_iter().flat_map(PageRange::by_arena).all(claimed) {
                return all;
            }
        }
    }

    fn claim_known<const N: usize>(&self, ranges: [PageRange; N]) -> Claimed<'_, M> {
        let mut all = Claimed { space: self, kept: [0; ARENAS] };
        let mut rest = ranges.map(|range| range.by_arena().peekable());
        while let Some(index) = rest.iter_mut().filter_map(|r| r.peek().map(|&(index, ..)| index)).min() {
            let (mut here, mut n) = ([(0, 0); N], 0);
            for (_, lo, hi) in rest.iter_mut().filter_map(|r| r.next_if(|&(i, ..)| i == index)) {
                here[n] = (lo, hi);
                n += 1;
            }
            if let Some(arena) = self.arena(index) {
                all.kept[index] = arena.claims.acquire(self.memory(), &here[..n]).keep();
            }
        }
        all
    }
}

impl<'a, M: Machine> Claimed<'a, M> {
    /// The space.
    pub fn space(&self) -> &'a Space<M> {
        self.space
    }

    /// The arena, if it is claimed. One that is not was made after the claims were taken, when nothing was mapped there: to the edit, it
    /// is a hole.
    pub fn arena(&self, index: usize) -> Option<&'a Arena> {
        self.space.arena(index).filter(|_| self.kept[index] != 0)
    }

    /// Whether each arena of the space is claimed.
    pub fn is_complete(&self) -> bool {
        self.space.each_arena().all(|a| self.kept[a.index] != 0)
    }

    /// The arenas, in ascending order.
    pub fn arenas(&self) -> impl Iterator<Item = &'a Arena> {
        self.space.each_arena().filter(|a| self.kept[a.index] != 0)
    }
}

impl<M: Machine> Drop for Claimed<'_, M> {
    fn drop(&mut self) {
        for arena in self.arenas() {
            drop(Claim::kept(&arena.claims, self.kept[arena.index]));
        }
    }
}
