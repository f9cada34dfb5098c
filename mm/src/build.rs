//! Editing a segment list: the new version is built beside the old one, along the touched path only.
//!
//! The builder copies the old tree from left to right. Subtrees that the edit does not touch are taken over whole
//! ([`Builder::graft`]); segments that it touches, and their neighbours at the borders, run through a one-segment window that
//! merges what continues. Below the current position, each level has one node under construction:
//!
//! 1. A node under construction that is full is split, its left half is finished.
//! 2. Before a subtree of level `n` is taken over, the nodes under construction at its level and below are finished; where one
//!    has too little in it (below [`MIN`]), the subtree is opened and its parts are taken over instead.
//! 3. So every node but the last of its level has at least `MIN` entries, and all leaves have the same depth.
//!
//! The old nodes that were opened form one run at each level, so their first and last keys are enough to find them again
//! once the new root is published ([`Version::retire_old`]). New nodes are chained, so that a failed edit can free them.

use crate::list::{HEIGHT, INNER, LEAF, Node};
use crate::machine::Machine;
use crate::memory::Memory;
use crate::segment::Part;
use crate::splice::{Version, leaf_gap};
use core::ptr::null_mut;

/// Fewest entries of a node that has a right neighbour.
pub(crate) const MIN: usize = 5;

/// Segments of a leaf in a copied list: room for two more, so that the copy's first edits split nothing.
const PACKED: usize = LEAF - 2;

/// No old node was opened: an empty run of keys.
const NONE: (u32, u32) = (u32::MAX, 0);

/// No memory for a node.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OutOfNodes;

/// What an edit does to the segments of its range.
pub(crate) enum Change<'a> {
    /// The range holds this afterwards, or nothing.
    Put(Option<Part>),
    /// Each segment's part in the range becomes what the function makes of it, in place.
    Each(&'a dyn Fn(Part) -> Part),
}

impl Change<'_> {
    /// What it puts into the range, if it puts something.
    pub fn put(&self) -> Option<Part> {
        match self {
            Change::Put(Some(p)) => Some(*p),
            _ => None,
        }
    }
}

/// A list under construction. Dropped unpublished, it frees what it built.
pub(crate) struct Builder<'a, M: Machine> {
    memory: &'a Memory<M>,
    open: [*mut Node; HEIGHT],
    made: *mut Node,
    /// First and last key of the old nodes opened at each level.
    opened: [(u32, u32); HEIGHT],
    /// The segment that may still grow.
    last: Option<Part>,
    /// A root with a single child, which became the root itself.
    spare: *mut Node,
    short: bool,
    /// The new root, when it is finished.
    root: *mut Node,
    /// Leaves are filled from left to right, and no other way: a full one is left as it is, not split.
    packed: bool,
    /// Segments that were built, less those of the leaves that were opened.
    grown: i64,
}

impl<'a, M: Machine> Builder<'a, M> {
    /// Builds the list that `old` becomes when `change` is done to `lo .. hi`, to be published.
    ///
    /// # Safety
    ///
    /// `old` is a root that stays valid until the builder is gone (the caller's read section).
    pub unsafe fn edit(&mut self, old: *mut Node, lo: u32, hi: u32, change: &Change<'_>) -> Result<(), OutOfNodes> {
        let mut put = change.put();
        if !old.is_null() {
            // SAFETY: this function's contract.
            self.walk(unsafe { &*old }, lo, hi, change, &mut put);
        }
        if let Some(p) = put {
            self.segment(p);
        }
        self.root = self.finish();
        if self.short { Err(OutOfNodes) } else { Ok(()) }
    }

    /// A builder that has built nothing yet.
    #[inline]
    pub fn start(memory: &'a Memory<M>) -> Self {
        Builder {
            memory,
            open: [null_mut(); HEIGHT],
            made: null_mut(),
            opened: [NONE; HEIGHT],
            last: None,
            spare: null_mut(),
            short: false,
            root: null_mut(),
            packed: false,
            grown: 0,
        }
    }

    fn walk(&mut self, node: &Node, lo: u32, hi: u32, change: &Change<'_>, put: &mut Option<Part>) {
        self.mark(node);
        if node.level == 0 {
            let parts = node.parts();
            // What does not even touch the range is copied as it is, where nothing waits and it fits.
            let first = parts.iter().position(|p| p.end >= lo).unwrap_or(parts.len());
            let behind = parts[first..].iter().position(|p| p.start > hi).map_or(parts.len(), |n| first + n);
            self.parts(&parts[..first], node.objects);
            for p in &parts[first..behind] {
                if p.start >= hi
                    && let Some(new) = put.take()
                {
                    self.segment(new);
                }
                if p.end <= lo || p.start >= hi {
                    self.segment(*p);
                    continue;
                }
                if p.start < lo {
                    self.segment(p.clip(p.start, lo));
                }
                match change {
                    Change::Each(f) => self.segment(f(p.clip(lo, hi))),
                    Change::Put(_) => {
                        if let Some(new) = put.take() {
                            self.segment(new);
                        }
                    }
                }
                if p.end > hi {
                    self.segment(p.clip(hi, p.end));
                }
            }
            if behind < parts.len()
                && let Some(new) = put.take()
            {
                self.segment(new);
            }
            self.parts(&parts[behind..], node.objects);
            return;
        }
        // Neighbours that touch the range take part, so that they can merge with what becomes of it.
        let len = node.len as usize;
        // What comes behind the last segment of all goes into its leaf. A leaf of its own would make the nodes on its left, which
        // may have little in them as long as they are the last of their levels (rule 3), ones with a right neighbour.
        let first = node.ends().iter().position(|&end| end >= lo).unwrap_or(len - 1);
        let behind = node.starts()[first..].iter().position(|&start| start > hi).map_or(len, |n| first + n);
        self.take_over(node, 0, first);
        for i in first..behind {
            // SAFETY: children of a valid node are valid.
            self.walk(unsafe { &*node.child(i).3 }, lo, hi, change, put);
        }
        if behind < len
            && let Some(new) = put.take()
        {
            self.segment(new);
        }
        self.take_over(node, behind, len);
    }

    /// Takes children `i .. j` of an old node over: at once, when nothing below is under construction; or one by one.
    fn take_over(&mut self, node: &Node, mut i: usize, j: usize) {
        while i < j && !self.run(node, i, j) {
            // SAFETY: children of a valid node are valid.
            self.graft(unsafe { &*node.child(i).3 });
            i += 1;
        }
    }

    /// Adds segments of which the first continues nothing. `objects`: one of them may show an object.
    fn parts(&mut self, parts: &[Part], objects: bool) {
        let Some((last, rest)) = parts.split_last() else { return };
        if let Some(p) = self.last.take() {
            self.push_part(p);
        }
        if !rest.is_empty() {
            match self.node(0) {
                Some(n) if n.len as usize + rest.len() <= LEAF => {
                    // SAFETY: they fit; an old leaf is not a new one.
                    unsafe {
                        let to = n.parts_mut().add(n.len as usize);
                        core::ptr::copy_nonoverlapping(rest.as_ptr(), to, rest.len());
                    }
                    n.len += rest.len() as u16;
                    n.objects |= objects;
                    self.grown += rest.len() as i64;
                }
                _ => rest.iter().for_each(|p| self.push_part(*p)),
            }
        }
        self.last = Some(*last);
    }

    fn mark(&mut self, node: &Node) {
        let key = node.first();
        if node.level == 0 {
            self.grown -= node.len as i64;
        }
        let o = &mut self.opened[node.level as usize];
        *o = (o.0.min(key), key);
    }

    /// Adds a segment; it is kept back until it is clear that nothing continues it.
    fn segment(&mut self, p: Part) {
        match &mut self.last {
            Some(last) if last.joins(&p) => last.end = p.end,
            last => {
                if let Some(done) = last.replace(p) {
                    self.push_part(done);
                }
            }
        }
    }

    fn node(&mut self, level: usize) -> Option<&'static mut Node> {
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

    fn push_part(&mut self, p: Part) {
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
    fn run(&mut self, old: &Node, i: usize, j: usize) -> bool {
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
    fn graft(&mut self, old: &Node) {
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

    fn finish(&mut self) -> *mut Node {
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

    fn each_made(&self, mut f: impl FnMut(*mut Node)) {
        let mut n = self.made;
        while !n.is_null() {
            // SAFETY: the chain of nodes that we made; the link is read before `f` may free the node.
            let next = unsafe { (*n).next.get() };
            f(n);
            n = next;
        }
    }

    /// Chains the opened nodes from `at` (opened) downwards.
    fn gather(&self, at: *mut Node, first: &mut *mut Node, last: &mut *mut Node) {
        // SAFETY: an old node, valid inside the caller's read section.
        let node = unsafe { &*at };
        if node.level != 0 {
            let (lo, hi) = self.opened[node.level as usize - 1];
            let starts = node.starts();
            let mut i = starts.iter().position(|&s| s >= lo).unwrap_or(starts.len());
            while i < starts.len() && starts[i] <= hi {
                self.gather(node.child(i).3, first, last);
                i += 1;
            }
        }
        node.next.set(*first);
        *first = at;
        if last.is_null() {
            *last = at;
        }
    }
}

impl<M: Machine> Version for Builder<'_, M> {
    fn root(&self) -> *mut Node {
        self.root
    }

    fn grown(&self) -> i64 {
        self.grown
    }

    fn own(&self) {
        self.each_made(|n| {
            // SAFETY: nodes that we made are valid.
            let n = unsafe { &*n };
            if n.level == 0 {
                n.own();
            }
        });
    }

    fn undo(&mut self) {
        self.each_made(|n| {
            // SAFETY: nobody else has seen the node.
            unsafe { self.memory.release_node(n) };
        });
        self.made = null_mut();
    }

    unsafe fn retire_old(&mut self, old: *mut Node) {
        // What was made is linked now, apart from the spare root, which nobody has seen.
        self.made = null_mut();
        if !self.spare.is_null() {
            // SAFETY: made by us, linked nowhere.
            unsafe { self.memory.release_node(self.spare) };
        }
        let mut first = null_mut();
        let mut last = null_mut();
        if !old.is_null() {
            // An edit opens the root at least.
            self.gather(old, &mut first, &mut last);
        }
        if !first.is_null() {
            // SAFETY: unlinked by the caller's compare-and-swap, chained here once.
            unsafe { self.memory.retire_nodes(first, last) };
        }
    }
}

impl<M: Machine> Builder<'_, M> {
    /// Frees what was made: never owned, never seen, so only the memory goes back.
    fn free_made(&mut self) {
        self.each_made(|n| {
            // SAFETY: as in `undo`; without parts there is nothing to disown.
            unsafe {
                (*n).len = 0;
                self.memory.release_node(n);
            }
        });
    }
}

impl<M: Machine> Drop for Builder<'_, M> {
    #[inline]
    fn drop(&mut self) {
        if !self.made.is_null() {
            self.free_made();
        }
    }
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

impl<'a, M: Machine> Builder<'a, M> {
    /// A copy of a whole list in new nodes, without the segments that `keep` refuses.
    ///
    /// # Safety
    ///
    /// As [`Builder::edit`].
    pub unsafe fn copy(&mut self, old: *mut Node, keep: &dyn Fn(&Part) -> bool) -> Result<*mut Node, OutOfNodes> {
        self.packed = true;
        // SAFETY: this function's contract.
        unsafe { crate::list::List::new(old) }.each(0, crate::page::ARENA_PAGES, &mut |p| {
            if keep(p) {
                self.segment(*p);
            }
            !self.short
        });
        let root = self.finish();
        if self.short { Err(OutOfNodes) } else { Ok(root) }
    }

    /// The root was published where there was none: nothing is replaced.
    pub fn publish(&mut self) {
        // SAFETY: a null root is no old list.
        unsafe { self.retire_old(null_mut()) };
    }
}
