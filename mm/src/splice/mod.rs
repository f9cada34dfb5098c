//! The common edit of a segment list: only one leaf changes.
//!
//! 1. Descend to the leaf that holds all that the edit touches, and the neighbours that could merge with it. Where two leaves
//!    have a part in it, it is the [builder](crate::build)'s.
//! 2. Make the new leaf: what lies below the range, what the edit makes of the range, what lies above, merged where one only
//!    continues the other. It may become two leaves, or none.
//! 3. Copy the ancestors with the one child exchanged. Where a node above would be too full or too empty, it is the builder's,
//!    too. The largest hole below a node is worked out from the one before, unless the very hole that was the largest has
//!    changed.
//!
//! Leaves may become as small as one segment: with the inner nodes' least fill, [`HEIGHT`] levels still hold more than the
//! segments that an arena may have.
//!
//! Nothing is published here and nothing freed that others may see: [`Version`] is what [`crate::edit`] gets.

mod leaf;

use crate::list::{HEIGHT, INNER, MIN, Node};
use crate::machine::Machine;
use crate::memory::Memory;
use crate::segment::Part;
use crate::version::{Version, leaf_gap};
use core::mem::MaybeUninit;
use core::ptr::null_mut;

/// What to do to the range.
pub(crate) enum Act<'a> {
    /// Map this, where nothing is.
    Insert(Part),
    /// Unmap.
    Remove,
    /// Make of each segment's part in the range what the function says, if it says so for all; all of the range is mapped.
    Each(&'a mut dyn FnMut(&Part) -> Option<Part>),
}

/// What came of it.
pub(crate) enum Spliced {
    /// It is not a matter of one leaf.
    Larger,
    /// Something is mapped where something was to be inserted.
    Occupied,
    /// Nothing is mapped where something was to be removed.
    Free,
    /// Part of the range is not mapped.
    Hole,
    /// A segment must stay as it is.
    Refused,
    /// The list is as it is to be.
    Same,
    /// No memory for nodes.
    OutOfNodes,
    /// It is made.
    Made,
}

/// A version that differs in one leaf. Dropped unpublished, it frees what was made.
pub(crate) struct Splice<'a, M: Machine> {
    memory: &'a Memory<M>,
    root: *mut Node,
    /// The leaf being filled from left to right, later the new leaf; null if the old one goes.
    leaf: *mut Node,
    /// The leaf to its left, if one was not enough.
    left: *mut Node,
    /// Segments in `leaf`.
    len: usize,
    /// One of the segments may show an object.
    objects: bool,
    grown: i64,
    /// After a removal: whether a table at one of the range's ends may have nothing mapped in its span any more.
    bare: bool,
    /// The new nodes, chained by their headers.
    made: *mut Node,
    path: Path,
}

/// From a root to a leaf.
struct Path {
    /// Inner nodes, the root first, with the child that the path goes through.
    inner: [MaybeUninit<(*mut Node, usize)>; HEIGHT],
    depth: usize,
    /// Null in an empty list.
    leaf: *mut Node,
}

impl Path {
    /// An inner node of the path, and which child the path goes through.
    fn inner<'n>(&self, i: usize) -> (&'n Node, usize) {
        debug_assert!(i < self.depth);
        // SAFETY: initialised up to the depth with nodes that the caller of `make` keeps valid as long as the version lives.
        unsafe {
            let (node, child) = self.inner[i].assume_init();
            (&*node, child)
        }
    }

    /// Where the segments of the next leaf below end, if the node above the path's leaf names it.
    #[inline]
    fn below(&self) -> Option<u32> {
        let (node, i) = (self.depth > 0).then(|| self.inner(self.depth - 1))?;
        (i > 0).then(|| node.ends()[i - 1])
    }

    /// Where the segments of the next leaf above begin, as [`Path::below`].
    #[inline]
    fn above(&self) -> Option<u32> {
        let (node, i) = (self.depth > 0).then(|| self.inner(self.depth - 1))?;
        node.starts().get(i + 1).copied()
    }

    /// Goes to the only leaf that holds what touches `lo .. hi`. False: there are several.
    ///
    /// # Safety
    ///
    /// As [`Splice::make`].
    #[inline]
    unsafe fn find(&mut self, root: *mut Node, lo: u32, hi: u32) -> bool {
        self.leaf = root;
        // SAFETY: null, or a valid node; nodes below a valid one are valid.
        while let Some(node) = unsafe { self.leaf.as_ref() }.filter(|n| n.level != 0) {
            let (starts, ends) = (node.starts(), node.ends());
            let above = starts.iter().position(|&s| s > lo).unwrap_or(starts.len());
            let i = above.max(1) - 1;
            if i > 0 && ends[i - 1] >= lo || i + 1 < starts.len() && starts[i + 1] <= hi || self.depth == HEIGHT {
                return false;
            }
            self.inner[self.depth].write((self.leaf, i));
            self.depth += 1;
            self.leaf = node.child(i).3;
        }
        true
    }
}

/// The leaf is not for this kind of edit, or there is no memory.
struct Stop(Spliced);

impl<'a, M: Machine> Splice<'a, M> {
    /// Nothing made yet.
    #[inline]
    pub fn new(memory: &'a Memory<M>) -> Self {
        let path = Path { inner: [const { MaybeUninit::uninit() }; HEIGHT], depth: 0, leaf: null_mut() };
        let none = null_mut();
        Splice {
            memory,
            root: none,
            leaf: none,
            left: none,
            len: 0,
            objects: false,
            grown: 0,
            bare: false,
            made: none,
            path,
        }
    }

    /// Makes the version in which `act` is done to `lo .. hi` of the list `old`. Once.
    ///
    /// # Safety
    ///
    /// `old` is null or a root that stays valid until this version is gone (the caller's read section).
    #[inline]
    pub unsafe fn make(&mut self, old: *mut Node, lo: u32, hi: u32, act: &mut Act<'_>) -> Spliced {
        // SAFETY: this function's contract.
        if !unsafe { self.path.find(old, lo, hi) } {
            return Spliced::Larger;
        }
        match self.fill(lo, hi, act).and_then(|()| self.climb()) {
            Ok(()) => Spliced::Made,
            Err(Stop(why)) => why,
        }
    }

    /// Whether a table at one of the range's ends may have nothing mapped in its span any more. Of the neighbours that other leaves
    /// hold, only those are known that the node above names.
    #[inline]
    pub fn is_bare(&self) -> bool {
        self.bare
    }

    /// A new node of `level`, not linked from anywhere.
    #[inline]
    fn node(&mut self, level: u16) -> Result<*mut Node, Stop> {
        let (at, place) = self.memory.alloc_node().ok_or(Stop(Spliced::OutOfNodes))?;
        let node = Node::init(at, place, level);
        // SAFETY: just made, ours alone until published.
        unsafe { (*node).next.set(self.made) };
        self.made = node;
        Ok(node)
    }

    /// Step 3.
    #[inline]
    fn climb(&mut self) -> Result<(), Stop> {
        // The new nodes in the place of the old one, and which child that is.
        let mut new = self.leaf;
        for d in (0..self.path.depth).rev() {
            let (from, i) = self.path.inner(d);
            let lowest = d + 1 == self.path.depth;
            let count = if lowest { !self.left.is_null() as usize + !self.leaf.is_null() as usize } else { 1 };
            let len = from.len as usize + count - 1;
            if count != 1 && (len > INNER || len < if d == 0 { 2 } else { MIN }) {
                return Err(Stop(Spliced::Larger));
            }
            let node = self.node(from.level)?;
            // SAFETY: just made, ours alone.
            let to = unsafe { &mut *node };
            to.copy_inner(&self.memory.machine, from);
            match count {
                0 => to.remove_child(i),
                1 => {}
                _ => {
                    to.insert_child(i);
                    // SAFETY: the left leaf, complete.
                    to.set_child(i, leaf_summary(unsafe { &*self.left }));
                }
            }
            if lowest && count != 0 {
                // SAFETY: the new leaf, complete.
                to.set_child(i + count - 1, leaf_summary(unsafe { &*new }));
            } else if count != 0 {
                // SAFETY: the node made last, complete; the old one is the same level's.
                let (below, was) = unsafe { (&*new, self.path.inner(d + 1)) };
                let largest = from.child(i).2;
                to.set_child(i, summary(was.0, below, was.1, largest));
            }
            new = node;
        }
        if self.path.depth == 0 && !self.left.is_null() {
            return Err(Stop(Spliced::Larger));
        }
        self.root = new;
        Ok(())
    }
}

/// `(start, end, gap, node)` of a leaf, for the level above.
#[inline]
fn leaf_summary(leaf: &Node) -> (u32, u32, u32, *mut Node) {
    let parts = leaf.parts();
    (parts[0].start, parts[parts.len() - 1].end, leaf_gap(parts), leaf as *const Node as *mut Node)
}

/// `(start, end, gap, node)` of `to`, which was made from `from` by changing child `i`; `largest` is the largest hole of `from`.
#[inline(never)]
fn summary(from: &Node, to: &Node, i: usize, largest: u32) -> (u32, u32, u32, *mut Node) {
    let (starts, ends) = (to.starts(), to.ends());
    let gap = if from.len != to.len {
        to.largest_gap()
    } else {
        // What changed: the child's own holes, and those between it and its neighbours.
        let changed = |n: &Node| {
            let (start, end, gap, _) = n.child(i);
            let left = if i == 0 { 0 } else { start - ends[i - 1] };
            let right = starts.get(i + 1).map_or(0, |s| s - end);
            gap.max(left).max(right)
        };
        let now = changed(to);
        if now >= largest {
            now
        } else if changed(from) < largest {
            largest
        } else {
            to.largest_gap()
        }
    };
    (starts[0], ends[ends.len() - 1], gap, to as *const Node as *mut Node)
}

impl<M: Machine> Version for Splice<'_, M> {
    #[inline]
    fn root(&self) -> *mut Node {
        self.root
    }

    #[inline]
    fn grown(&self) -> i64 {
        self.grown
    }

    #[inline]
    fn own(&self) {
        if self.objects {
            for leaf in [self.left, self.leaf] {
                // SAFETY: null, or a new leaf.
                if let Some(leaf) = unsafe { leaf.as_ref() } {
                    leaf.own();
                }
            }
        }
    }

    #[cold]
    fn undo(&mut self) {
        self.each_made(|memory, n| {
            // SAFETY: nobody else has seen the node.
            unsafe { memory.release_node(n) };
        });
    }

    #[inline]
    unsafe fn retire_old(&mut self, _old: *mut Node) {
        // What was made is linked now.
        self.made = null_mut();
        let leaf = self.path.leaf;
        if leaf.is_null() {
            return;
        }
        // SAFETY: replaced by the caller's compare-and-swap; the links are the retirer's.
        unsafe {
            let mut first = leaf;
            for d in (0..self.path.depth).rev() {
                let (node, _) = self.path.inner[d].assume_init();
                (*node).next.set(first);
                first = node;
            }
            self.memory.retire_nodes(first, leaf);
        }
    }
}

impl<M: Machine> Splice<'_, M> {
    /// Takes the new nodes one by one.
    fn each_made(&mut self, mut f: impl FnMut(&Memory<M>, *mut Node)) {
        while !self.made.is_null() {
            let n = self.made;
            // SAFETY: the chain of nodes that we made; the link is read before `f` may free the node.
            self.made = unsafe { (*n).next.get() };
            f(self.memory, n);
        }
    }
}

impl<M: Machine> Drop for Splice<'_, M> {
    #[inline]
    fn drop(&mut self) {
        if self.made.is_null() {
            return;
        }
        self.each_made(|memory, n| {
            // SAFETY: never owned, never seen: without parts there is nothing to disown, only the memory goes back.
            unsafe {
                (*n).len = 0;
                memory.release_node(n);
            }
        });
    }
}
