//! The segment list of an arena: an immutable B+ tree, replaced as a whole by publishing a new root.
//!
//! A reader loads the root (Acquire, inside a read section) and walks nodes that never change. An edit builds new nodes for the
//! path that it touches ([`crate::build`]) and publishes the new root by compare-and-swap; the nodes it replaced are retired.
//! A leaf holds one reference to the object of each of its segments. Inner nodes know the largest hole below each child, so a
//! free place is found in the tree's height.
//!
//! Nodes belong to one list of one space: grace periods alone may free them.

use crate::machine::Machine;
use crate::page::ARENA_PAGES;
use crate::segment::Part;
pub(crate) use crate::sizes::HEIGHT;
use crate::slab::{NODE, NodePlace};
use crate::sync::Alive;
use core::cell::Cell;

/// Segments of a leaf.
pub(crate) const LEAF: usize = 15;
/// Children of an inner node.
pub(crate) const INNER: usize = 23;
/// Fewest entries of a node that has a right neighbour.
pub(crate) const MIN: usize = 5;
/// The most segments that a list of that height holds in the worst case, nodes filled as little as they may be. An edit that needs
/// more is refused, whatever the machine's owner allows.
pub(crate) const MOST: u64 = (MIN as u64).pow(HEIGHT as u32 - 1);

/// A node. Immutable once published, apart from the retirer's link.
#[repr(C, align(64))]
pub(crate) struct Node {
    /// The builder's chain, later the retirer's. Readers do not look at it.
    pub next: Cell<*mut Node>,
    pub place: NodePlace,
    /// 0 for a leaf.
    pub level: u16,
    pub len: u16,
    /// Whether a segment of this leaf shows an object.
    pub objects: bool,
    alive: Alive,
    body: Body,
}

union Body {
    leaf: [Part; LEAF],
    inner: Inner,
}

/// The children of an inner node, field by field so that a search touches few cache lines.
#[derive(Clone, Copy)]
pub(crate) struct Inner {
    /// The first page of the child's first segment.
    pub start: [u32; INNER],
    /// The page behind the child's last segment.
    pub end: [u32; INNER],
    /// The largest hole between two segments below the child.
    pub gap: [u32; INNER],
    pub child: [*mut Node; INNER],
}

const _: () = assert!(
    size_of::<Node>() <= NODE
        && size_of::<Inner>() <= crate::machine::BODY
        && size_of::<Body>() >= crate::machine::BODY
);

impl Node {
    /// A node without segments or children.
    pub fn init(at: *mut u8, place: NodePlace, level: u16) -> *mut Node {
        let node = at.cast::<Node>();
        debug_assert!(size_of::<Node>() <= NODE);
        // SAFETY: `at` is a node of the slab, NODE bytes, aligned, the caller's alone. The body stays uninitialised memory behind
        // `len`, which is never read.
        unsafe {
            (&raw mut (*node).next).write(Cell::new(core::ptr::null_mut()));
            (&raw mut (*node).place).write(place);
            (&raw mut (*node).level).write(level);
            (&raw mut (*node).len).write(0);
            (&raw mut (*node).objects).write(false);
            (&raw mut (*node).alive).write(Alive::new());
        }
        node
    }

    /// The segments of a leaf.
    pub fn parts(&self) -> &[Part] {
        debug_assert!(self.level == 0);
        self.alive.check();
        // SAFETY: a node of level 0 has a leaf body, initialised up to `len`.
        unsafe { core::slice::from_raw_parts((&raw const self.body.leaf).cast::<Part>(), self.len as usize) }
    }

    /// The children of an inner node; the arrays are valid up to `len`.
    pub fn inner(&self) -> *const Inner {
        debug_assert!(self.level != 0);
        self.alive.check();
        &raw const self.body.inner
    }

    /// The whole body of a leaf, initialised or not: for copying it as it is.
    ///
    /// # Safety
    ///
    /// `leaf` is a valid leaf.
    pub unsafe fn leaf_body(leaf: *const Node) -> *const u8 {
        // SAFETY: this function's contract; no reference is made, so the pointer is good for the whole body.
        unsafe { (&raw const (*leaf).body).cast() }
    }

    /// For the builder of a node that is not yet published.
    pub fn parts_mut(&mut self) -> *mut Part {
        (&raw mut self.body.leaf).cast()
    }

    /// For the builder of a node that is not yet published.
    pub fn inner_mut(&mut self) -> *mut Inner {
        (&raw mut self.body.inner).cast()
    }

    /// Makes this node, under construction, a copy of an inner node of its level.
    #[inline]
    pub fn copy_inner<M: Machine>(&mut self, machine: &M, from: &Node) {
        debug_assert!(self.level == from.level && self.level != 0);
        // SAFETY: both bodies are inner ones, and as large as this; what lies behind `len` is copied, but never read.
        unsafe { machine.copy_body(from.inner().cast(), self.inner_mut().cast()) };
        self.len = from.len;
    }

    /// For the builder: sets child `i < len`.
    #[inline]
    pub fn set_child(&mut self, i: usize, (start, end, gap, child): (u32, u32, u32, *mut Node)) {
        debug_assert!(i < self.len as usize);
        let c = self.inner_mut();
        // SAFETY: inside the arrays; the node is not published.
        unsafe {
            (*c).start[i] = start;
            (*c).end[i] = end;
            (*c).gap[i] = gap;
            (*c).child[i] = child;
        }
    }

    /// For the builder: makes room for a child before child `i`, to be set.
    pub fn insert_child(&mut self, i: usize) {
        let (c, len) = (self.inner_mut(), self.len as usize);
        debug_assert!(len < INNER);
        // SAFETY: the arrays have room for one more; the node is not published.
        unsafe {
            (*c).start.copy_within(i..len, i + 1);
            (*c).end.copy_within(i..len, i + 1);
            (*c).gap.copy_within(i..len, i + 1);
            (*c).child.copy_within(i..len, i + 1);
        }
        self.len += 1;
    }

    /// For the builder: takes child `i` out.
    pub fn remove_child(&mut self, i: usize) {
        let (c, len) = (self.inner_mut(), self.len as usize);
        // SAFETY: inside the arrays; the node is not published.
        unsafe {
            (*c).start.copy_within(i + 1..len, i);
            (*c).end.copy_within(i + 1..len, i);
            (*c).gap.copy_within(i + 1..len, i);
            (*c).child.copy_within(i + 1..len, i);
        }
        self.len -= 1;
    }

    /// `(start, end, gap, child)` of child `i < len`.
    pub fn child(&self, i: usize) -> (u32, u32, u32, *mut Node) {
        debug_assert!(i < self.len as usize);
        let c = self.inner();
        // SAFETY: level > 0 and i < len: initialised.
        unsafe { ((*c).start[i], (*c).end[i], (*c).gap[i], (*c).child[i]) }
    }

    /// The children's ends.
    pub fn ends(&self) -> &[u32] {
        // SAFETY: level > 0 (checked by `inner`), initialised up to `len`.
        unsafe { core::slice::from_raw_parts((&raw const (*self.inner()).end).cast(), self.len as usize) }
    }

    /// The first pages of the children.
    pub fn starts(&self) -> &[u32] {
        // SAFETY: as in `ends`.
        unsafe { core::slice::from_raw_parts((&raw const (*self.inner()).start).cast(), self.len as usize) }
    }

    /// The largest holes below the children.
    pub fn gaps(&self) -> &[u32] {
        // SAFETY: as in `ends`.
        unsafe { core::slice::from_raw_parts((&raw const (*self.inner()).gap).cast(), self.len as usize) }
    }

    /// The largest hole between segments below an inner node.
    pub fn largest_gap(&self) -> u32 {
        let below = self.gaps().iter().fold(0, |a, &b| a.max(b));
        self.starts()[1..].iter().zip(self.ends()).fold(below, |a, (&s, &e)| a.max(s - e))
    }

    /// The first page of its first segment.
    pub fn first(&self) -> u32 {
        if self.level == 0 { self.parts()[0].start } else { self.child(0).0 }
    }

    /// Takes the references that a leaf owns. Once, when it is complete.
    pub fn own(&self) {
        if !self.objects {
            return;
        }
        for p in self.parts() {
            if !p.object.is_null() {
                // SAFETY: the part was copied from a leaf, or made from a reference, that still holds the object.
                unsafe { (*p.object).users.add(p.writes()) };
            }
        }
    }

    /// Drops the references that a leaf owns.
    ///
    /// # Safety
    ///
    /// The node is about to be freed, and nobody else has it.
    #[inline]
    pub unsafe fn disown(&self) {
        if self.level == 0 && self.objects {
            self.drop_references();
        }
        self.alive.end();
    }

    #[cold]
    fn drop_references(&self) {
        for p in self.parts() {
            if !p.object.is_null() {
                // SAFETY: `own` took one reference for this part, and `disown` is called once.
                unsafe { crate::object::drop_reference(p.object, p.writes()) };
            }
        }
    }
}

/// A list as a reader holds it. `'a` is the read section.
#[derive(Clone, Copy)]
pub(crate) struct List<'a> {
    root: *mut Node,
    section: core::marker::PhantomData<&'a ()>,
}

impl<'a> List<'a> {
    /// # Safety
    ///
    /// `root` is null or was loaded with Acquire from the arena inside the read section `'a` (or nobody else edits the arena).
    pub unsafe fn new(root: *mut Node) -> List<'a> {
        List { root, section: core::marker::PhantomData }
    }

    pub fn root(self) -> *mut Node {
        self.root
    }

    fn node(self, at: *mut Node) -> &'a Node {
        // SAFETY: `new`: nodes reachable from the root live as long as the section, and do not change.
        unsafe { &*at }
    }

    /// The segment that contains `page`.
    pub fn find(self, page: u32) -> Option<Part> {
        if self.root.is_null() {
            return None;
        }
        let mut node = self.node(self.root);
        while node.level != 0 {
            let above = node.starts()[1..].iter().position(|&start| start > page);
            node = self.node(node.child(above.unwrap_or(node.len as usize - 1)).3);
        }
        node.parts().iter().find(|p| p.end > page).filter(|p| p.start <= page).copied()
    }

    /// Calls `see` for the segments that touch `lo .. hi`, in order, until it says false. False if it did.
    pub fn each(self, lo: u32, hi: u32, see: &mut dyn FnMut(&Part) -> bool) -> bool {
        self.root.is_null() || self.each_below(self.node(self.root), lo, hi, see)
    }

    fn each_below(self, node: &Node, lo: u32, hi: u32, see: &mut dyn FnMut(&Part) -> bool) -> bool {
        if node.level == 0 {
            let parts = node.parts();
            let first = parts.iter().position(|p| p.end > lo).unwrap_or(parts.len());
            return parts[first..].iter().take_while(|p| p.start < hi).all(see);
        }
        let first = node.ends().iter().position(|&end| end > lo).unwrap_or(node.len as usize);
        for i in first..node.len as usize {
            let (start, _, _, child) = node.child(i);
            if start >= hi {
                break;
            }
            if !self.each_below(self.node(child), lo, hi, see) {
                return false;
            }
        }
        true
    }

    /// The first segment that ends behind `page`: the one that contains it, or the next above.
    pub fn at_or_above(self, page: u32) -> Option<Part> {
        let mut found = None;
        self.each(page, ARENA_PAGES, &mut |p| {
            found = Some(*p);
            false
        });
        found
    }

    /// How many nodes it has. Leaves are not looked at.
    pub fn nodes(self) -> u64 {
        if self.root.is_null() { 0 } else { self.nodes_below(self.node(self.root)) }
    }

    fn nodes_below(self, node: &Node) -> u64 {
        match node.level {
            0 => 1,
            1 => 1 + node.len as u64,
            _ => 1 + (0..node.len as usize).map(|i| self.nodes_below(self.node(node.child(i).3))).sum::<u64>(),
        }
    }

    /// Whether nothing is mapped in `lo .. hi`.
    pub fn is_free(self, lo: u32, hi: u32) -> bool {
        self.each(lo, hi, &mut |_| false)
    }

    /// The lowest hole of `pages` pages at or above `from` and below `limit`.
    #[inline]
    pub fn hole(self, pages: u32, from: u32, limit: u32) -> Option<u32> {
        let at = if self.root.is_null() { from } else { hole_below(self.node(self.root), pages, from).1 };
        (at <= limit && limit - at >= pages).then_some(at)
    }
}

/// From `at` on, a hole before or between the segments below `node`: true and where; or false and where they all end.
#[inline]
fn hole_below(node: &Node, pages: u32, at: u32) -> (bool, u32) {
    if node.level == 0 { hole_in_leaf(node.parts(), pages, at) } else { hole_among(node, pages, at) }
}

#[inline]
fn hole_in_leaf(parts: &[Part], pages: u32, mut at: u32) -> (bool, u32) {
    for p in parts {
        if p.start >= at && p.start - at >= pages {
            return (true, at);
        }
        at = p.end.max(at);
    }
    (false, at)
}

#[inline(never)]
fn hole_among(node: &Node, pages: u32, mut at: u32) -> (bool, u32) {
    for i in 0..node.len as usize {
        let (start, end, gap, child) = node.child(i);
        if start >= at && start - at >= pages {
            return (true, at);
        }
        if end > at {
            if gap >= pages {
                // SAFETY: a child of a node that the caller's read section keeps.
                let (found, place) = hole_below(unsafe { &*child }, pages, at);
                if found {
                    return (true, place);
                }
            }
            at = end.max(at);
        }
    }
    (false, at)
}
