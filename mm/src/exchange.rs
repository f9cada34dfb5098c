//! The publish that cannot fail: one segment, which is the range's own, becomes another one, or nothing.
//!
//! An edit that replaces or moves publishes its range as in transit first, and what the range shows in the end afterwards, when
//! there is no way back any more. The mark is a segment by itself ([`Flags::UNMERGED`](crate::Flags)), and the claim keeps it. Without memory
//! for the ordinary kind of version it is exchanged here:
//!
//! 1. One new node for each level, from a [`Reserve`] that was taken before the mark. Nothing is merged or split.
//! 2. Where the segment goes, nodes may have less in them than the [builder](crate::build) leaves there; empty ones go. A
//!    list's height grows with the builder only, which looks at it.
//! 3. If another edit's publish is faster, the nodes go back to the reserve, and it is made again.

use crate::list::{HEIGHT, Node};
use crate::machine::Machine;
use crate::memory::Memory;
use crate::segment::Part;
use crate::sizes::RESERVED as NODES;
use crate::slab::NodePlace;
use crate::version::{Version, summary};
use core::ptr::null_mut;

/// Nodes for publishes that must not fail. What is left goes back on drop.
pub(crate) struct Reserve<'a, M: Machine> {
    memory: &'a Memory<M>,
    first: *mut Spare,
}

/// What a node in reserve holds.
struct Spare {
    next: *mut Spare,
    place: NodePlace,
}

impl<'a, M: Machine> Reserve<'a, M> {
    /// Takes enough for one such publish in each of `arenas` arenas, or nothing.
    pub fn take(memory: &'a Memory<M>, arenas: usize) -> Option<Self> {
        let mut r = Reserve { memory, first: null_mut() };
        for _ in 0..arenas * NODES {
            let (at, place) = memory.alloc_node()?;
            r.put(at, place);
        }
        Some(r)
    }

    fn put(&mut self, at: *mut u8, place: NodePlace) {
        let spare = at.cast::<Spare>();
        // SAFETY: a node of the slab is larger and more aligned than this, and it is ours alone.
        unsafe { spare.write(Spare { next: self.first, place }) };
        self.first = spare;
    }

    fn pop(&mut self) -> Option<(*mut u8, NodePlace)> {
        // SAFETY: null, or a node that `put` has written.
        let Spare { next, place } = unsafe { self.first.as_ref() }?;
        let (at, place) = (self.first.cast(), *place);
        self.first = *next;
        Some((at, place))
    }
}

impl<M: Machine> Drop for Reserve<'_, M> {
    fn drop(&mut self) {
        while let Some((_, place)) = self.pop() {
            // SAFETY: taken by `take`, not used.
            unsafe { self.memory.free_node(place) };
        }
    }
}

/// A version that differs in one segment. Dropped unpublished, it gives its nodes back to the reserve.
pub(crate) struct Exchange<'a, 'm, M: Machine> {
    reserve: &'a mut Reserve<'m, M>,
    root: *mut Node,
    grown: i64,
    /// The new nodes, chained by their headers.
    made: *mut Node,
    /// Old nodes from the root to the leaf, and which child or segment the path goes through.
    path: [(*mut Node, usize); HEIGHT],
    depth: usize,
}

impl<'a, 'm, M: Machine> Exchange<'a, 'm, M> {
    /// Makes the version in which the segment that begins at `lo` is `new`, or gone. `None`: there is no such segment, or the
    /// reserve is used up; neither can be while the claim on the segment is held.
    ///
    /// # Safety
    ///
    /// `old` is null or a root that stays valid until this version is gone (the caller's read section).
    pub unsafe fn make(reserve: &'a mut Reserve<'m, M>, old: *mut Node, lo: u32, new: Option<&Part>) -> Option<Self> {
        let mut e = Exchange {
            reserve,
            root: null_mut(),
            grown: -(new.is_none() as i64),
            made: null_mut(),
            path: [(null_mut(), 0); HEIGHT],
            depth: 0,
        };
        let mut at = old;
        loop {
            // SAFETY: null, or a valid node; nodes below a valid one are valid.
            let node = unsafe { at.as_ref() }?;
            let i = match node.level {
                0 => node.parts().iter().position(|p| p.start == lo)?,
                _ => node.starts()[1..].iter().position(|&s| s > lo).unwrap_or(node.len as usize - 1),
            };
            *e.path.get_mut(e.depth)? = (at, i);
            e.depth += 1;
            if node.level == 0 {
                return e.climb(new).then_some(e);
            }
            at = node.child(i).3;
        }
    }

    /// Copies the path from the leaf upwards. False: no node.
    fn climb(&mut self, new: Option<&Part>) -> bool {
        // What stands for the child below: null if it went.
        let mut below: *mut Node = null_mut();
        for d in (0..self.depth).rev() {
            let (from, i) = self.path[d];
            // SAFETY: a node of the path, valid by `make`'s contract.
            let from = unsafe { &*from };
            let gone = if from.level == 0 { new.is_none() } else { below.is_null() };
            if gone && from.len == 1 {
                below = null_mut();
                continue;
            }
            let Some(node) = self.node(from.level) else { return false };
            // SAFETY: just made, ours alone.
            let to = unsafe { &mut *node };
            if from.level == 0 {
                let parts = from.parts();
                to.objects = from.objects | new.is_some_and(|p| !p.object.is_null());
                for (k, p) in parts[..i].iter().chain(new).chain(&parts[i + 1..]).enumerate() {
                    // SAFETY: as many as in the old leaf at most.
                    unsafe { to.parts_mut().add(k).write(*p) };
                }
                to.len = from.len - gone as u16;
            } else {
                to.copy_inner(&self.reserve.memory.machine, from);
                match gone {
                    true => to.remove_child(i),
                    // SAFETY: the node made last, complete.
                    false => to.set_child(i, summary(unsafe { &*below })),
                }
            }
            below = node;
        }
        self.root = below;
        true
    }

    fn node(&mut self, level: u16) -> Option<*mut Node> {
        let (at, place) = self.reserve.pop()?;
        let node = Node::init(at, place, level);
        // SAFETY: just made, ours alone until published.
        unsafe { (*node).next.set(self.made) };
        self.made = node;
        Some(node)
    }

    /// Takes the new nodes back; `owned`: leaves have their references to objects.
    fn give_back(&mut self, owned: bool) {
        while !self.made.is_null() {
            let n = self.made;
            // SAFETY: the chain of nodes that we made, which nobody else has seen; the place is read before the node goes.
            unsafe {
                self.made = (*n).next.get();
                if !owned {
                    (*n).len = 0;
                }
                (*n).disown();
                let place = (*n).place;
                core::ptr::drop_in_place(n);
                self.reserve.put(n.cast(), place);
            }
        }
    }
}

impl<M: Machine> Version for Exchange<'_, '_, M> {
    fn root(&self) -> *mut Node {
        self.root
    }

    fn grown(&self) -> i64 {
        self.grown
    }

    fn own(&self) {
        // The leaf was made first: it is the last of the chain.
        let mut n = self.made;
        // SAFETY: nodes that we made are valid.
        while let Some(node) = unsafe { n.as_ref() } {
            if node.level == 0 {
                node.own();
            }
            n = node.next.get();
        }
    }

    fn undo(&mut self) {
        self.give_back(true);
    }

    unsafe fn retire_old(&mut self, _old: *mut Node) {
        // What was made is linked now.
        self.made = null_mut();
        let mut first = null_mut();
        for &(node, _) in self.path[..self.depth].iter().rev() {
            // SAFETY: replaced by the caller's compare-and-swap; the links are the retirer's.
            unsafe { (*node).next.set(first) };
            first = node;
        }
        let (leaf, _) = self.path[self.depth - 1];
        // SAFETY: as above: the nodes of the path, each linked from nowhere any more, the root first, the leaf last.
        unsafe { self.reserve.memory.retire_nodes(first, leaf) };
    }
}

impl<M: Machine> Drop for Exchange<'_, '_, M> {
    fn drop(&mut self) {
        self.give_back(false);
    }
}
