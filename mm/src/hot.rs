//! Hot pages: what the parent stored to lately, and is about to store to again, as the stacks of its threads. Shared by a fork, each costs the
//! parent a copy for which all its CPUs must answer. So the fork makes these copies itself, for the child, where nobody has a translation
//! yet; and the parent, its pages' only owner again, stores in place and asks nobody.
//!
//! Hot are the pages that were writable when the fork came to them, if they are few: an earlier fork has left all others read-only. Are
//! they many, then most of them tell nothing of what the parent will do, and none is copied.

use crate::entry::Entry;
use crate::machine::Machine;
use crate::memory::Memory;
use crate::page::Access;
use crate::sizes::HOT;
use crate::stats::Counter;
use crate::sync::copies_hot;

/// The child's entries of hot pages.
pub(crate) struct Hot<'c> {
    list: [Option<&'c Entry>; HOT],
    count: usize,
}

impl<'c> Hot<'c> {
    pub fn new() -> Hot<'c> {
        Hot { list: [None; HOT], count: 0 }
    }

    /// Looks for them among neighbouring entries that are about to be shared, and remembers the child's. A look before the share, so that a
    /// fork that is alone pays nothing for it.
    pub fn gather(&mut self, parents: &[Entry], children: &'c [Entry]) {
        if !copies_hot() {
            return;
        }
        for (parent, child) in parents.iter().zip(children) {
            let word = parent.load();
            if !(word.is_private() && word.allows(Access::Write)) {
                continue;
            }
            let Some(place) = self.list.get_mut(self.count) else {
                self.count = HOT + 1;
                return;
            };
            *place = Some(child);
            self.count += 1;
        }
    }

    /// Gives the child copies of its own. Nobody runs in the child, and nobody can store to the pages any more: each has two owners, and the
    /// translations that had been writable are gone. Without memory for it, the pages stay shared.
    pub fn copy<M: Machine>(&self, m: &Memory<M>) {
        let few = if self.count <= HOT { &self.list[..self.count] } else { &[] };
        for entry in few.iter().flatten() {
            let word = entry.load();
            let Some(shared) = word.frame() else { continue };
            let Some(copy) = m.copy_of(shared) else { return };
            entry.init(word.in_frame(copy));
            m.release(shared);
            m.stats.add(&m.machine, Counter::ForkCopy, 1);
        }
    }
}
