//! A persistent B+ tree of ranges that do not overlap.
//!
//! A tree is its root. Nodes do not change once they are published, so whoever holds a root sees one version. An edit
//! ([`Version::put`]) copies the nodes between the root and what changes, and shares all others with the version before:
//!
//! 1. *A node is changed* by exchanging some of its entries, a run, for others. It is copied, or becomes two if it would be too full,
//!    or goes if nothing is left. So one entry of its parent becomes none, one or two, and so on up to the root. What lies wholly in
//!    the range goes as a whole, whatever its height: it is only counted, and shown to who asks to see it.
//! 2. *What continues its neighbour is merged with it*: where the neighbour's entry meets the range, the range is lengthened by the
//!    neighbour before anything is copied. This is asked in each node on the way down, so neighbours in other leaves are found, too;
//!    but not above a child that has values on both sides of the range, for these are the neighbours.
//! 3. *No node has a least fill*, but two neighbours below one parent are joined when they have no more than [`Entry::SMALL`] entries
//!    together. This is asked where a node has become smaller; nowhere else can it begin to be true. A join brings the last child
//!    of one and the first child of the other below one parent, where it is asked again. So an edit may need many nodes for joins;
//!    where they come from a small store ([`Nodes::JOINS`]), it makes none, and leaves neighbours behind that are too small.
//! 4. *Height*: by rule 3, two neighbouring leaves hold 6 values at least, and two neighbouring nodes above them 11 children, hence 5
//!    pairs of neighbours. So two neighbours of level `n` hold `6 * 5^n` values, and a root of level `n + 1`, which has two
//!    children at least, as many. Fewer than [`MOST`] values need no more than [`HEIGHT`] levels, but for trees that an edit
//!    without joins has left too thin; an edit that would make those too high is refused.
//! 5. *The nodes that a version replaces* are found again once it is published. They must not be linked before: other edits may replace
//!    them at the same time. The version knows the first and the last one of each level, by their keys; what lies between them was
//!    replaced, too, if the new version does not have it.
//!
//! `node.rs` has the nodes, and how they are read: find, each, hole. `edit.rs` is the edit: down to what changes, and up again. `copy.rs` copies a
//! whole tree, and `publish.rs` is about a version that is complete.
//!
//! The tree knows nothing of pages, objects or machines. Nodes come from [`Nodes`], which may run out of them at any moment; a version
//! that is dropped gives back all that it has made.

mod copy;
mod edit;
mod node;
mod publish;

#[cfg(test)]
mod tests;

pub(crate) use edit::See;
pub(crate) use node::{Body, Node, Tree, Value};

use core::ptr::null_mut;
use node::{Child, Few};

/// Levels of the highest tree.
pub(crate) const HEIGHT: usize = 7;
/// Fewer values than this fit into a tree in any case (rule 4).
pub(crate) const MOST: u64 = 6 * 5u64.pow(HEIGHT as u32 - 1);
/// The most nodes that an edit without joins makes which only replaces one value by another one, or by none: the root, and two at
/// each level below, where neighbours on both sides merge with it.
pub(crate) const REPLACING: usize = 2 * HEIGHT - 1;

/// Where nodes come from.
pub(crate) trait Nodes<V: Value> {
    /// Whether there are enough to join small neighbours (rule 3).
    const JOINS: bool = true;
    /// Memory for a node, of any content.
    fn take(&self) -> Option<*mut Node<V>>;
    /// A leaf is complete, and owns from here on what its values own.
    fn own(&self, leaf: &Node<V>);
    /// Takes a node back, and what it owns.
    ///
    /// # Safety
    ///
    /// It came from [`Nodes::take`], was made a node since, and nobody else has it.
    unsafe fn give(&self, node: *mut Node<V>);
    /// Copies the entries of a node, initialised or not.
    ///
    /// # Safety
    ///
    /// `from` may be read, `to` written, and they do not overlap.
    unsafe fn copy(&self, from: *const Body<V>, to: *mut Body<V>) {
        // SAFETY: this function's contract.
        unsafe { core::ptr::copy_nonoverlapping(from, to, 1) };
    }
}

/// Why an edit was not made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    /// There was a value in the range that should not be there.
    Refused,
    /// No memory for a node.
    OutOfNodes,
    /// The tree would be too high.
    TooHigh,
}

/// What a version has of a level of the old one.
#[derive(Clone, Copy)]
struct Level<V: Value> {
    /// Keys of the first and the last node replaced (rule 5).
    first: u32,
    last: u32,
    /// One of these: the only one, if `first == last`. So it is on the way down, as long as the range lies inside of one child.
    node: *mut Node<V>,
    /// Its largest hole.
    gap: u32,
    /// Which of its children is the next on the way down.
    child: usize,
}

impl<V: Value> Level<V> {
    /// Nothing replaced.
    const UNTOUCHED: Self = Level { first: u32::MAX, last: 0, node: null_mut(), gap: 0, child: 0 };
}

/// A new version of a tree, not published yet: `put` once, or `copy` once. Dropped, it gives everything back.
pub(crate) struct Version<'a, V: Value, N: Nodes<V>> {
    nodes: &'a N,
    root: *mut Node<V>,
    /// How many values more it has.
    pub grown: i64,
    /// The page behind the nearest value below the range, if there is one; else 0.
    pub below: u32,
    /// The first page of the nearest value above the range, if there is one; else `u32::MAX`.
    pub above: u32,
    /// The range, with the neighbours that merge with what comes into it, and that with them.
    lo: u32,
    hi: u32,
    new: Option<V>,
    /// The range as it was given: only what is in this is seen.
    range: (u32, u32),
    /// The new value has yet to be put into a leaf: the next one that is changed gets it.
    insert: bool,
    /// From the root down.
    levels: Few<Level<V>, HEIGHT>,
    /// The nodes that were made, chained by their headers.
    made: *mut Node<V>,
}

impl<'a, V: Value, N: Nodes<V>> Version<'a, V, N> {
    /// Nothing made yet. In `lo .. hi` there is to be `new`, which is exactly as long, or nothing.
    #[inline(always)]
    pub fn new(nodes: &'a N, lo: u32, hi: u32, new: Option<V>) -> Self {
        debug_assert!(lo < hi && new.is_none_or(|v| v.start() == lo && v.end() == hi));
        Version {
            nodes,
            root: null_mut(),
            grown: 0,
            below: 0,
            above: u32::MAX,
            lo,
            hi,
            new,
            range: (lo, hi),
            insert: new.is_some(),
            levels: Few::new(),
            made: null_mut(),
        }
    }

    /// Its root.
    pub fn root(&self) -> *mut Node<V> {
        self.root
    }

    /// A new node with the entries of an old one, as far as they fit into `len`.
    #[inline]
    fn copy_of(&mut self, old: &Node<V>, len: usize) -> Result<&'a mut Node<V>, Stop> {
        let node = self.take(old.level as usize)?;
        // SAFETY: the new node is ours alone, and as large as the old one.
        unsafe { self.nodes.copy(old.body(), node.body_mut()) };
        node.set_len(len);
        Ok(node)
    }

    /// The version has something else in the place of this node of the old one.
    #[inline]
    fn replace(&mut self, child: &Child<V>) {
        let depth = self.levels.len() - 1 - child.node().level as usize;
        let level = &mut self.levels[depth];
        (level.first, level.last, level.node) = (level.first.min(child.start), level.last.max(child.start), child.at);
    }

    /// As [`Version::replace`], of a node that may be new itself: then it is not in the version after all, and goes back.
    fn replace_any(&mut self, child: &Child<V>) {
        let mut link: *mut *mut Node<V> = &raw mut self.made;
        // SAFETY: the chain of the nodes that we have made; its links are ours, and nobody else has them.
        unsafe {
            while !(*link).is_null() && *link != child.at {
                link = (**link).next.as_ptr();
            }
            if (*link).is_null() {
                return self.replace(child);
            }
            *link = (*child.at).next.get();
            self.nodes.give(child.at);
        }
    }

    /// A new node, empty.
    #[inline]
    fn take(&mut self, level: usize) -> Result<&'a mut Node<V>, Stop> {
        let at = self.nodes.take().ok_or(Stop::OutOfNodes)?;
        let next = core::mem::replace(&mut self.made, at);
        // SAFETY: memory for a node, ours alone until published.
        Ok(unsafe { Node::init(at, level, next) })
    }

    /// A new node has all its entries, and may be a leaf that owns something.
    #[inline]
    fn own(&self, node: &mut Node<V>, owns: bool) {
        node.owns = owns;
        if owns {
            self.nodes.own(node);
        }
    }
}
