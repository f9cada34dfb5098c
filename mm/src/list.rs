//! The segment list of an arena: a [tree](crate::tree) of segments, replaced as a whole by publishing a new root
//! ([`crate::publish`]).
//!
//! A reader loads the root (Acquire, inside a read section) and walks nodes that never change. A leaf holds one reference to the
//! object of each of its segments: it takes them before it is published, and drops them when it is freed. Nodes belong to one list
//! of one space, so they need no count: one that was replaced is freed after a grace period.

use crate::machine::BODY;
use crate::segment::Part;
use crate::slab::{NODE, NodePlace};
use crate::tree::{self, Body, Tree, Value};

/// A node of a segment list.
pub(crate) type Node = tree::Node<Part>;
/// A list as a reader holds it. `'a` is the read section.
pub(crate) type List<'a> = Tree<'a, Part>;

/// The most segments that a list can have whatever its shape: an edit that needs more is refused, whatever the machine's owner allows.
pub(crate) const MOST: u64 = tree::MOST;

/// A node in its memory.
#[repr(C, align(64))]
struct Placed {
    node: Node,
    place: NodePlace,
}

const _: () = assert!(size_of::<Placed>() <= NODE && size_of::<Body<Part>>() == BODY);

impl Value for Part {
    fn start(&self) -> u32 {
        self.start
    }
    fn end(&self) -> u32 {
        self.end
    }
    fn from(&self, start: u32) -> Part {
        self.clip(start, self.end)
    }
    fn until(&self, end: u32) -> Part {
        Part { end, ..*self }
    }
    fn joins(&self, next: &Part) -> bool {
        Part::joins(self, next)
    }
    fn owns(&self) -> bool {
        !self.object.is_null()
    }
}

/// Memory of the slab for a node, which is not made yet.
///
/// # Safety
///
/// `at` is the node at `place`, the caller's alone.
#[inline]
pub(crate) unsafe fn place_node(at: *mut u8, place: NodePlace) -> *mut Node {
    let at = at.cast::<Placed>();
    // SAFETY: this function's contract; a node of the slab is large and aligned enough.
    unsafe { (&raw mut (*at).place).write(place) };
    at.cast()
}

/// Where a node's memory is.
///
/// # Safety
///
/// `node` came from [`place_node`], and is the caller's alone.
#[inline]
pub(crate) unsafe fn place_of(node: *mut Node) -> NodePlace {
    // SAFETY: this function's contract; the place stays written whatever becomes of the node.
    unsafe { (*node.cast::<Placed>()).place }
}

/// Takes the references of a leaf that is complete, whether it will be published or not.
pub(crate) fn own(leaf: &Node) {
    for p in leaf.values().iter().filter(|p| !p.object.is_null()) {
        // SAFETY: copied from a leaf, or made from a reference, that still holds the object.
        unsafe { (*p.object).users.add(p.writes()) };
    }
}

/// Drops the references of a node that is about to be freed.
#[inline]
pub(crate) fn disown(node: &Node) {
    if node.owns {
        drop_references(node);
    }
    node.end();
}

#[cold]
fn drop_references(leaf: &Node) {
    for p in leaf.values().iter().filter(|p| !p.object.is_null()) {
        // SAFETY: `own` took one reference for this part.
        unsafe { crate::object::drop_reference(p.object, p.writes()) };
    }
}
