//! The nodes under construction: one for each level, filled from left to right.
//!
//! A node that is full is split and its left half finished (rule 1); before a subtree is taken over whole, what is under construction
//! at its level and below is finished, or the subtree is opened (rule 2). A finished node is handed to the level above.

use super::Builder;
use crate::list::{HEIGHT, INNER, LEAF, MIN, Node};
use crate::machine::Machine;
use crate::segment::Part;
use crate::version::summary;
use core::ptr::null_mut;

/// Segments of a leaf in a copied list: room for two more, so that the copy's first edits split nothing.
const PACKED: usize = LEAF - 2;

impl<M: Machine> Builder<'_, M> {
    pub(super) fn node(&mut self, level: usize) -> Option<&'static mut Node> {
        if level == HEIGHT {
            self.short = true;
            return None;
        }
        if self.open[level].is_null() {
            let Some((at, place)) = self.memory.alloc_node() else {
                self.short = true;
                return None;
            };
            let node = Node::init(at, place, level as u16);
            // SAFETY: just made, ours alone until published.
            unsafe { (*node).next.set(self.made) };
            self.made = node;
            self.open[level] = node;
        }
        // SAFETY: nodes under construction are ours alone; the reference is used before the next call.
        Some(unsafe { &mut *self.open[level] })
    }

    pub(super) fn push_part(&mut self, p: Part) {
        self.grown += 1;
        let Some(mut n) = self.node(0) else { return };
        if self.packed && n.len as usize == PACKED {
            self.open[0] = null_mut();
            self.seal(n);
            let Some(next) = self.node(0) else { return };
            n = next;
        } else if n.len as usize == LEAF {
            let left = n;
            self.open[0] = null_mut();
            let Some(right) = self.node(0) else { return };
            let keep = LEAF / 2;
            // SAFETY: both are ours; the ranges lie inside the bodies.
            unsafe {
                let from = left.parts_mut().add(keep);
                core::ptr::copy_nonoverlapping(from, right.parts_mut(), LEAF - keep);
            }
            right.len = (LEAF - keep) as u16;
            right.objects = left.objects;
            left.len = keep as u16;
            self.seal(left);
            n = right;
        }
        // SAFETY: len < LEAF.
        unsafe { n.parts_mut().add(n.len as usize).write(p) };
        n.len += 1;
        n.objects |= !p.object.is_null();
    }

    fn push_child(&mut self, level: usize, (start, end, gap, child): (u32, u32, u32, *mut Node)) {
        let Some(mut n) = self.node(level) else { return };
        if n.len as usize == INNER {
            let left = n;
            self.open[level] = null_mut();
            let Some(right) = self.node(level) else { return };
            let keep = INNER / 2;
            copy_children(left, keep, INNER, right);
            left.len = keep as u16;
            self.seal(left);
            n = right;
        }
        let (i, c) = (n.len as usize, n.inner_mut());
        // SAFETY: i < INNER, and the node is ours.
        unsafe {
            (*c).start[i] = start;
            (*c).end[i] = end;
            (*c).gap[i] = gap;
            (*c).child[i] = child;
        }
        n.len += 1;
    }

    /// Copies children `i .. j` of an old node, if nothing below their level is under construction and they fit.
    pub(super) fn run(&mut self, old: &Node, i: usize, j: usize) -> bool {
        let level = old.level as usize;
        if self.last.is_some() || self.open[..level].iter().any(|o| !o.is_null()) {
            return false;
        }
        match self.node(level) {
            Some(n) if n.len as usize + j - i <= INNER => {
                copy_children(old, i, j, n);
                true
            }
            _ => false,
        }
    }

    /// Takes a subtree over (rule 2).
    pub(super) fn graft(&mut self, old: &Node) {
        if let Some(p) = self.last.take() {
            self.push_part(p);
        }
        for level in 0..=old.level as usize {
            let n = self.open[level];
            if n.is_null() {
                continue;
            }
            // SAFETY: a node under construction is ours.
            if (unsafe { (*n).len } as usize) < MIN {
                self.mark(old);
                if old.level == 0 {
                    old.parts().iter().for_each(|p| self.segment(*p));
                } else {
                    for i in 0..old.len as usize {
                        // SAFETY: children of a valid node are valid.
                        self.graft(unsafe { &*old.child(i).3 });
                    }
                }
                return;
            }
            self.open[level] = null_mut();
            // SAFETY: as above.
            self.seal(unsafe { &mut *n });
        }
        self.push_child(old.level as usize + 1, summary(old));
    }

    /// Finishes a node and hands it to the level above.
    fn seal(&mut self, n: &mut Node) {
        self.push_child(n.level as usize + 1, summary(n));
    }

    pub(super) fn finish(&mut self) -> *mut Node {
        if let Some(p) = self.last.take() {
            self.push_part(p);
        }
        for level in 0..HEIGHT {
            let n = self.open[level];
            if n.is_null() {
                continue;
            }
            self.open[level] = null_mut();
            if self.open[level + 1..].iter().all(|o| o.is_null()) {
                // SAFETY: ours, with at least one entry.
                if unsafe { (*n).level > 0 && (*n).len == 1 } {
                    self.spare = n;
                    // SAFETY: as above.
                    return unsafe { (*n).child(0).3 };
                }
                return n;
            }
            // SAFETY: as above.
            self.seal(unsafe { &mut *n });
        }
        null_mut()
    }
}

/// Appends children `i .. j` of `from` to `to`, where they fit.
fn copy_children(from: &Node, i: usize, j: usize, to: &mut Node) {
    let (f, k, n) = (from.inner(), to.len as usize, j - i);
    let t = to.inner_mut();
    // SAFETY: both arrays hold the ranges, and the nodes are different.
    unsafe {
        use core::ptr::copy_nonoverlapping as copy;
        copy((&raw const (*f).start).cast::<u32>().add(i), (&raw mut (*t).start).cast::<u32>().add(k), n);
        copy((&raw const (*f).end).cast::<u32>().add(i), (&raw mut (*t).end).cast::<u32>().add(k), n);
        copy((&raw const (*f).gap).cast::<u32>().add(i), (&raw mut (*t).gap).cast::<u32>().add(k), n);
        copy((&raw const (*f).child).cast::<*mut Node>().add(i), (&raw mut (*t).child).cast::<*mut Node>().add(k), n);
    }
    to.len += n as u16;
}
