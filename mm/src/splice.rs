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
//! Nothing is published here and nothing freed that others may see: [`Version`] is what both kinds of edit give to
//! [`crate::edit`].

use crate::build::MIN;
use crate::list::{HEIGHT, INNER, LEAF, Node};
use crate::machine::Machine;
use crate::memory::Memory;
use crate::segment::Part;
use core::mem::MaybeUninit;
use core::ptr::null_mut;

/// A new version of a list, not published yet.
pub(crate) trait Version {
    /// Its root.
    fn root(&self) -> *mut Node;
    /// How many segments more it has.
    fn grown(&self) -> i64;
    /// Before the root is published: the new leaves take their references to objects.
    fn own(&self);
    /// The publish failed after [`Version::own`]: everything goes back.
    fn undo(&mut self);
    /// After the root was published in the place of `old`: retires what it replaced.
    ///
    /// # Safety
    ///
    /// The caller's compare-and-swap replaced `old`, from which this version was made, inside the same read section.
    unsafe fn retire_old(&mut self, old: *mut Node);
}

/// What to do to the range.
pub(crate) enum Act<'a> {
    /// Map this, where nothing is.
    Insert(Part),
    /// Unmap.
    Remove,
    /// Make of each segment's part in the range what the function says; all of the range is mapped.
    Each(&'a mut dyn FnMut(&Part) -> Part),
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
    /// The list is as it is to be.
    Same,
    /// No memory for nodes.
    OutOfNodes,
    /// It is made.
    Made,
}

/// More segments than this are copied faster with the whole of their leaf.
const MANY: usize = 5;

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
        Splice { memory, root: none, leaf: none, left: none, len: 0, objects: false, grown: 0, made: none, path }
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

    /// Step 2.
    #[inline]
    fn fill(&mut self, lo: u32, hi: u32, act: &mut Act<'_>) -> Result<(), Stop> {
        // SAFETY: null, or a leaf that the caller of `make` keeps valid.
        let parts = match unsafe { self.path.leaf.as_ref() } {
            Some(leaf) => {
                self.objects = leaf.objects;
                leaf.parts()
            }
            None => &[],
        };
        // The segments in the range are `i .. j`.
        let i = parts.iter().position(|p| p.end > lo).unwrap_or(parts.len());
        let j = parts[i..].iter().position(|p| p.start >= hi).map_or(parts.len(), |n| i + n);
        self.grown = -(parts.len() as i64);
        match act {
            Act::Insert(_) if i != j => return Err(Stop(Spliced::Occupied)),
            Act::Remove if i == j => return Err(Stop(Spliced::Free)),
            Act::Remove if j - i == parts.len() && parts[i].start >= lo && parts[j - 1].end <= hi => return Ok(()),
            Act::Each(f) if j - i == 1 && parts[i].start == lo && parts[i].end == hi => {
                let new = f(&parts[i]);
                if new.prot == parts[i].prot && new.flags == parts[i].flags {
                    return Err(Stop(Spliced::Same));
                }
                let joins = i > 0 && parts[i - 1].joins(&new) || j < parts.len() && new.joins(&parts[j]);
                if !joins {
                    return self.exchange(i, &new, parts.len());
                }
            }
            _ => {}
        }
        self.leaf = self.node(0)?;
        if i > MANY {
            // SAFETY: both bodies are leaves', and as large as this; what lies behind `len` is copied, but never read.
            unsafe { self.memory.machine.copy_body(Node::leaf_body(self.path.leaf), self.at(0).cast()) };
            self.len = i;
        } else {
            self.copy(&parts[..i])?;
        }
        match act {
            Act::Insert(p) => {
                self.objects |= !p.object.is_null();
                self.push(p)?;
            }
            Act::Remove => {
                self.push_below(&parts[i], lo)?;
                self.push_above(&parts[j - 1], hi)?;
            }
            Act::Each(f) => {
                let (mut at, mut same) = (lo, true);
                for p in &parts[i..j] {
                    if p.start > at {
                        return Err(Stop(Spliced::Hole));
                    }
                    self.push_below(p, lo)?;
                    let new = f(p);
                    same &= new.prot == p.prot && new.flags == p.flags;
                    self.push(&new.clip(lo, hi))?;
                    at = p.end;
                }
                if at < hi {
                    return Err(Stop(Spliced::Hole));
                }
                if same {
                    return Err(Stop(Spliced::Same));
                }
                self.push_above(&parts[j - 1], hi)?;
            }
        }
        if let Some((next, rest)) = parts[j..].split_first() {
            self.push(next)?;
            self.copy(rest)?;
        }
        self.end_leaf(self.leaf, self.len);
        Ok(())
    }

    /// Makes a leaf that differs from the old one, of `len` segments, in the rights and flags of segment `i` only.
    #[inline]
    fn exchange(&mut self, i: usize, new: &Part, len: usize) -> Result<(), Stop> {
        self.leaf = self.node(0)?;
        // SAFETY: both bodies are leaves', and as large as this; what lies behind `len` is copied, but never read.
        unsafe {
            self.memory.machine.copy_body(Node::leaf_body(self.path.leaf), self.at(0).cast());
            (*self.at(i)).prot = new.prot;
            (*self.at(i)).flags = new.flags;
        }
        self.end_leaf(self.leaf, len);
        Ok(())
    }

    /// A leaf under construction is complete.
    #[inline]
    fn end_leaf(&mut self, leaf: *mut Node, len: usize) {
        debug_assert!(len != 0 && len <= LEAF);
        self.grown += len as i64;
        // SAFETY: the node is ours, filled up to `len`.
        unsafe {
            (*leaf).len = len as u16;
            (*leaf).objects = self.objects;
        }
    }

    /// The place of segment `i` in the leaf under construction.
    #[inline]
    fn at(&self, i: usize) -> *mut Part {
        debug_assert!(i < LEAF);
        // SAFETY: the leaf is ours; `i` is inside its body.
        unsafe { (*self.leaf).parts_mut().add(i) }
    }

    /// Adds segments as they are.
    #[inline]
    fn copy(&mut self, parts: &[Part]) -> Result<(), Stop> {
        if self.len + parts.len() > LEAF {
            return parts.iter().try_for_each(|p| self.push(p));
        }
        if !parts.is_empty() {
            // SAFETY: they fit; an old leaf is not a new one.
            unsafe { core::ptr::copy_nonoverlapping(parts.as_ptr(), self.at(self.len), parts.len()) };
            self.len += parts.len();
        }
        Ok(())
    }

    /// Adds a segment, or lengthens the last one that it continues.
    #[inline]
    fn push(&mut self, p: &Part) -> Result<(), Stop> {
        if self.len != 0 {
            // SAFETY: initialised below `len`.
            let last = unsafe { &mut *self.at(self.len - 1) };
            if last.end == p.start && last.joins(p) {
                last.end = p.end;
                return Ok(());
            }
            if self.len == LEAF {
                self.split()?;
            }
        }
        // SAFETY: inside the body.
        unsafe { self.at(self.len).write(*p) };
        self.len += 1;
        Ok(())
    }

    /// Adds what `p` has below `lo`.
    #[inline]
    fn push_below(&mut self, p: &Part, lo: u32) -> Result<(), Stop> {
        if p.start < lo { self.push(&Part { end: lo, ..*p }) } else { Ok(()) }
    }

    /// Adds what `p` has above `hi`.
    #[inline]
    fn push_above(&mut self, p: &Part, hi: u32) -> Result<(), Stop> {
        if p.end > hi { self.push(&p.clip(hi, p.end)) } else { Ok(()) }
    }

    /// The leaf is full: its upper half goes to a second one.
    #[cold]
    fn split(&mut self) -> Result<(), Stop> {
        const KEPT: usize = LEAF / 2;
        if !self.left.is_null() {
            return Err(Stop(Spliced::Larger));
        }
        self.left = self.leaf;
        self.leaf = self.node(0)?;
        // SAFETY: both leaves are ours; the ranges lie inside their bodies.
        unsafe {
            core::ptr::copy_nonoverlapping((*self.left).parts_mut().add(KEPT), self.at(0), LEAF - KEPT);
        }
        self.len = LEAF - KEPT;
        self.end_leaf(self.left, KEPT);
        Ok(())
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

/// The largest hole between neighbours of a leaf.
pub(crate) fn leaf_gap(parts: &[Part]) -> u32 {
    parts[1..].iter().zip(parts).fold(0, |a, (next, p)| a.max(next.start - p.end))
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
