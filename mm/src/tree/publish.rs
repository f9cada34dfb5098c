//! A version and the nodes that it replaces, from the moment that it is made.

use super::node::{Child, Node, Value};
use super::{Nodes, Version};
use core::ptr::null_mut;

impl<V: Value, N: Nodes<V>> Version<'_, V, N> {
    /// After its root was published in the place of `old`: the chain of nodes that it replaced, to be given back when no reader has
    /// them.
    ///
    /// # Safety
    ///
    /// The version was made from `old`, and is published.
    #[inline]
    pub unsafe fn published(&mut self, old: *mut Node<V>) -> Chain<V> {
        self.made = null_mut();
        let mut chain = Chain { first: null_mut(), last: null_mut() };
        for (depth, level) in self.levels.iter().enumerate() {
            if level.first == level.last {
                chain.add(level.node);
            } else if level.first < level.last {
                // SAFETY: the root of the version before, which has nodes.
                self.gather(&Child::root(unsafe { &*old }), depth, &mut chain);
            }
        }
        chain
    }

    /// Chains the nodes `depth` levels below `at` that were replaced.
    #[cold]
    fn gather(&self, at: &Child<V>, depth: usize, chain: &mut Chain<V>) {
        let level = &self.levels[self.levels.len() - 1 - at.node().level as usize + depth];
        if depth > 0 {
            let below = at.node().entries::<Child<V>>().iter();
            below
                .skip_while(|c| c.end <= level.first)
                .take_while(|c| c.start <= level.last)
                .for_each(|c| self.gather(c, depth - 1, chain));
        } else if at.start == level.first || at.start == level.last || !self.has(at) {
            chain.add(at.at);
        }
    }

    /// Whether a node of the version before is one of this version, too.
    fn has(&self, child: &Child<V>) -> bool {
        // SAFETY: null, or this version's.
        let mut at = unsafe { self.root.as_ref() };
        while let Some(node) = at.filter(|node| node.level > child.node().level) {
            at = node.entries::<Child<V>>().iter().take_while(|c| c.start <= child.start).last().map(Child::node);
        }
        at.is_some_and(|node| core::ptr::eq(node, child.at))
    }

    /// Gives back the nodes that were made.
    #[cold]
    fn undo(&mut self) {
        while !self.made.is_null() {
            // SAFETY: a node that we have made and nobody else has seen; the link is read before the node goes.
            unsafe {
                let next = (*self.made).next.get();
                self.nodes.give(core::mem::replace(&mut self.made, next));
            }
        }
    }
}

/// Nodes that a version has replaced, chained by their headers. Null if there are none.
pub(crate) struct Chain<V: Value> {
    pub first: *mut Node<V>,
    pub last: *mut Node<V>,
}

impl<V: Value> Chain<V> {
    #[inline]
    fn add(&mut self, at: *mut Node<V>) {
        if self.first.is_null() {
            self.last = at;
        }
        // SAFETY: a node that the version has replaced; the link is the retirer's.
        unsafe { (*at).next.set(self.first) };
        self.first = at;
    }
}

impl<V: Value, N: Nodes<V>> Drop for Version<'_, V, N> {
    #[inline]
    fn drop(&mut self) {
        if !self.made.is_null() {
            self.undo();
        }
    }
}
