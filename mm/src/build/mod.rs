//! Editing a segment list: the new version is built beside the old one, along the touched path only.
//!
//! The builder copies the old tree from left to right. Subtrees that the edit does not touch are taken over whole
//! ([`Builder::graft`]); segments that it touches, and their neighbours at the borders, run through a one-segment window that
//! merges what continues. Below the current position, each level has one node under construction:
//!
//! 1. A node under construction that is full is split, its left half is finished.
//! 2. Before a subtree of level `n` is taken over, the nodes under construction at its level and below are finished; where one
//!    has too little in it (below [`MIN`](crate::list::MIN)), the subtree is opened and its parts are taken over instead.
//! 3. So every node but the last of its level has at least `MIN` entries, and all leaves have the same depth.
//!
//! The old nodes that were opened form one run at each level, so their first and last keys are enough to find them again
//! once the new root is published ([`Version::retire_old`]). New nodes are chained, so that a failed edit can free them.

mod nodes;

use crate::list::{HEIGHT, LEAF, Node};
use crate::machine::Machine;
use crate::memory::Memory;
use crate::segment::Part;
use crate::version::Version;
use core::ptr::null_mut;

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

impl<'a, M: Machine> Builder<'a, M> {
    /// A copy of a whole list in new nodes, of what `change` makes of each segment, if anything.
    ///
    /// # Safety
    ///
    /// As [`Builder::edit`].
    pub unsafe fn copy(
        &mut self,
        old: *mut Node,
        change: &dyn Fn(&Part) -> Option<Part>,
    ) -> Result<*mut Node, OutOfNodes> {
        self.packed = true;
        // SAFETY: this function's contract.
        unsafe { crate::list::List::new(old) }.each(0, crate::page::ARENA_PAGES, &mut |p| {
            if let Some(p) = change(p) {
                self.segment(p);
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
