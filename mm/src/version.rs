//! What the two ways of editing a segment list share: [`crate::splice`], where one leaf changes, and [`crate::build`], for all
//! other edits. Both make a new version beside the old one, which [`crate::edit`] publishes.
//!
//! A version goes one of three ways: it is dropped as it is (nobody has seen it), or [`Version::own`] and then published, after which
//! [`Version::retire_old`] gives up what it replaced, or [`Version::own`] and then [`Version::undo`], when another edit was first.

use crate::list::Node;
use crate::segment::Part;

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

/// The largest hole between neighbours of a leaf.
pub(crate) fn leaf_gap(parts: &[Part]) -> u32 {
    parts[1..].iter().zip(parts).fold(0, |a, (next, p)| a.max(next.start - p.end))
}

/// `(start, end, gap, node)` of a finished node, for the level above.
pub(crate) fn summary(n: &Node) -> (u32, u32, u32, *mut Node) {
    let len = n.len as usize;
    let at = n as *const Node as *mut Node;
    if n.level == 0 {
        let parts = n.parts();
        return (parts[0].start, parts[len - 1].end, leaf_gap(parts), at);
    }
    (n.starts()[0], n.ends()[len - 1], n.largest_gap(), at)
}
