//! Publishing a segment list: an edit makes a new version beside the old one and puts its root in the place of the old one by
//! compare-and-swap. If another edit was faster, it makes it anew. The nodes that it replaced are retired.
//!
//! *The publish that cannot fail*: an edit that replaces or moves publishes its range as in transit first, and what the range shows in
//! the end afterwards, when there is no way back any more. Where memory has run out by then, the nodes for that come from a
//! [`Reserve`], taken before the mark. There are enough in it: the mark is a segment by itself ([`Flags::UNMERGED`](crate::Flags)), and the
//! claim keeps others from cutting it, so this publish puts one segment, or none, in the place of one. No node becomes fuller by that. Those
//! that change are the root, and at most two on each level below ([`crate::tree::REPLACING`]); small neighbours are not joined.

use crate::arena::Arena;
use crate::error::EditError;
use crate::list::{List, Node, disown, own, place_node, place_of};
use crate::machine::Machine;
use crate::memory::Memory;
use crate::page::TABLE_BITS;
use crate::segment::Part;
use crate::sizes::RESERVED;
use crate::space::Space;
use crate::stats::Counter;
use crate::sync::Ordering::*;
use crate::tree::{Body, Nodes, See, Stop, Version};
use core::cell::Cell;
use core::ptr::null_mut;

impl<M: Machine> Nodes<Part> for Memory<M> {
    #[inline]
    fn take(&self) -> Option<*mut Node> {
        let (at, place) = self.alloc_node()?;
        // SAFETY: just taken.
        Some(unsafe { place_node(at, place) })
    }

    #[inline]
    fn own(&self, leaf: &Node) {
        own(leaf);
    }

    #[inline]
    unsafe fn give(&self, node: *mut Node) {
        // SAFETY: by the trait's contract a node that nobody else has, made by `take` above.
        unsafe { self.release_node(node) };
    }

    #[inline]
    unsafe fn copy(&self, from: *const Body<Part>, to: *mut Body<Part>) {
        // SAFETY: the trait's contract; as many bytes, by the assertion in `list`.
        unsafe { self.machine.copy_body(from.cast(), to.cast()) };
    }
}

/// Nodes for publishes that must not fail. What is left goes back on drop.
pub(crate) struct Reserve<'a, M: Machine> {
    memory: &'a Memory<M>,
    first: Cell<*mut Node>,
}

impl<'a, M: Machine> Reserve<'a, M> {
    /// Takes enough for one such publish in each of `arenas` arenas, or nothing.
    pub fn take(memory: &'a Memory<M>, arenas: usize) -> Result<Self, EditError> {
        let reserve = Reserve { memory, first: Cell::new(null_mut()) };
        for _ in 0..arenas * RESERVED {
            let node = Nodes::take(memory).ok_or(EditError::OutOfFrames)?;
            reserve.put(node);
        }
        Ok(reserve)
    }

    fn put(&self, node: *mut Node) {
        // SAFETY: memory for a node, ours alone; nothing but the link is written.
        unsafe { (&raw mut (*node).next).write(Cell::new(self.first.get())) };
        self.first.set(node);
    }

    fn pop(&self) -> Option<*mut Node> {
        let node = self.first.get();
        if node.is_null() {
            return None;
        }
        // SAFETY: memory with a link, which `put` has written.
        self.first.set(unsafe { (*node).next.get() });
        Some(node)
    }
}

impl<M: Machine> Nodes<Part> for Reserve<'_, M> {
    const JOINS: bool = false;

    fn take(&self) -> Option<*mut Node> {
        self.pop()
    }

    fn own(&self, leaf: &Node) {
        own(leaf);
    }

    unsafe fn give(&self, node: *mut Node) {
        // SAFETY: by the trait's contract a node that nobody else has.
        disown(unsafe { &*node });
        self.put(node);
    }

    unsafe fn copy(&self, from: *const Body<Part>, to: *mut Body<Part>) {
        // SAFETY: the trait's contract.
        unsafe { self.memory.copy(from, to) };
    }
}

impl<M: Machine> Drop for Reserve<'_, M> {
    fn drop(&mut self) {
        while let Some(node) = self.pop() {
            // SAFETY: from `Memory::take`, not in use; its place is still written there.
            unsafe { self.memory.free_node(place_of(node)) };
        }
    }
}

/// What an edit does to a list: `lo .. hi` holds `new` then, or nothing.
pub(crate) struct Change {
    pub lo: u32,
    pub hi: u32,
    pub new: Option<Part>,
}

/// What an edit did to a list.
pub(crate) struct Published {
    /// The list is another one.
    pub changed: bool,
    /// As [`Version::below`] and [`Version::above`].
    pub below: u32,
    pub above: u32,
}

impl Published {
    const UNCHANGED: Published = Published { changed: false, below: 0, above: u32::MAX };

    /// After `lo .. hi` was unmapped: whether a table at one of its ends may have nothing mapped in its span any more.
    #[inline]
    pub fn may_leave_bare(&self, lo: u32, hi: u32) -> bool {
        let same = |a: u32, b: u32| (a ^ b) >> TABLE_BITS == 0;
        let left = self.below != 0 && same(self.below - 1, lo);
        let right = self.above != u32::MAX && same(self.above, hi - 1);
        if same(lo, hi - 1) { !left && !right } else { !left || !right }
    }
}

impl<M: Machine> Space<M> {
    /// Publishes the list in which `lo .. hi` holds `new`, or nothing. `see` is shown what is there, and may refuse it (`Exists`); `check`
    /// looks at the list that is going to be replaced. Both are asked again when another edit was faster.
    #[inline]
    pub(crate) fn publish(
        &self,
        arena: &Arena,
        lo: u32,
        hi: u32,
        new: Option<Part>,
        check: impl Fn(List<'_>) -> Result<(), EditError>,
        see: See<'_, Part>,
    ) -> Result<Published, EditError> {
        let change = |list: List<'_>| check(list).map(|()| Some(Change { lo, hi, new }));
        self.publish_with(arena, self.memory(), true, change, see)
    }

    /// Publishes what `change` says of the list that is going to be replaced, whatever is there. Asked again when another edit was faster.
    #[inline]
    pub(crate) fn publish_change(
        &self,
        arena: &Arena,
        change: impl FnMut(List<'_>) -> Result<Option<Change>, EditError>,
    ) -> Result<Published, EditError> {
        self.publish_with(arena, self.memory(), true, change, None)
    }

    /// As [`Space::publish`], whatever is there, for the second publish of an edit over the mark of its first: with the reserve it does
    /// not fail for want of memory. An edit that has begun is not refused for its number of segments either.
    #[inline(never)]
    pub(crate) fn publish_reserved(
        &self,
        arena: &Arena,
        lo: u32,
        hi: u32,
        new: Option<Part>,
        reserve: &Reserve<'_, M>,
    ) -> Result<(), EditError> {
        let change = |_: List<'_>| Ok(Some(Change { lo, hi, new }));
        self.publish_with(arena, self.memory(), false, change, None)
            .or_else(|_| self.publish_with(arena, reserve, false, change, None))
            .map(|_| ())
    }

    #[inline]
    fn publish_with<N: Nodes<Part>>(
        &self,
        arena: &Arena,
        nodes: &N,
        limited: bool,
        mut change: impl FnMut(List<'_>) -> Result<Option<Change>, EditError>,
        mut see: See<'_, Part>,
    ) -> Result<Published, EditError> {
        let m = self.memory();
        loop {
            let pin = m.pin();
            let list = arena.list(&pin);
            let old = list.root();
            let Some(Change { lo, hi, new }) = change(list)? else { return Ok(Published::UNCHANGED) };
            let mut version = Version::new(nodes, lo, hi, new);
            // SAFETY: the read section keeps the old nodes until the version is gone.
            unsafe { version.put(old, &mut see) }.map_err(|why| match why {
                Stop::Refused => EditError::Exists,
                Stop::OutOfNodes => EditError::OutOfFrames,
                Stop::TooHigh => EditError::TooMany,
            })?;
            let root = version.root();
            let done = Published { changed: root != old, below: version.below, above: version.above };
            if root == old {
                return Ok(done);
            }
            let grown = version.grown;
            if grown > 0 && limited && self.has_too_many(arena, grown as u64) {
                return Err(EditError::TooMany);
            }
            // Release publishes the nodes; Acquire because retiring follows.
            if arena.list.compare_exchange(old, root, AcqRel, Acquire).is_ok() {
                // SAFETY: `old` was replaced by this very compare-and-swap, and what it replaced is linked from nowhere else.
                unsafe {
                    let replaced = version.published(old);
                    if !replaced.first.is_null() {
                        m.retire_nodes(replaced.first, replaced.last);
                    }
                }
                if grown != 0 {
                    arena.segments.fetch_add(grown as u64, Relaxed);
                }
                return Ok(done);
            }
            drop(version);
            drop(pin);
            m.stats.add(&m.machine, Counter::RetryRoot, 1);
            m.serve();
        }
    }

    /// A copy of a list for a child, of what `change` makes of each segment, if anything; and how many segments it has.
    pub(crate) fn copy_list(
        &self,
        list: List<'_>,
        change: &dyn Fn(&Part) -> Option<Part>,
    ) -> Result<(*mut Node, u64), EditError> {
        let mut version = Version::new(self.memory(), 0, u32::MAX, None);
        version.copy(list, change).map_err(|_| EditError::OutOfFrames)?;
        let made = (version.root(), version.grown as u64);
        // SAFETY: the caller publishes it; it replaces nothing.
        unsafe { version.published(null_mut()) };
        Ok(made)
    }
}
