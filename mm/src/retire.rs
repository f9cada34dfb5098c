//! What is retired, and what becomes of it after its grace period ([`crate::rcu`]): nodes of segment lists drop their references to
//! objects, tables are frames again. And what a CPU gives back when others are short of memory.

use crate::frames::{Frame, Role};
use crate::list::{Node, disown, place_of};
use crate::machine::Machine;
use crate::memory::Memory;
use crate::rcu::Bag;

impl<M: Machine> Memory<M> {
    /// Retires a chain of nodes (by their headers), already unlinked.
    ///
    /// # Safety
    ///
    /// Each node came from [`Memory::alloc_node`], is linked from nowhere, and is retired once.
    pub(crate) unsafe fn retire_nodes(&self, first: *mut Node, last: *mut Node) {
        self.retire(|bag| {
            // SAFETY: the header's link is the retirer's; readers do not use it.
            unsafe { (*last).next.set(bag.nodes) };
            bag.nodes = first;
        });
    }

    /// Retires a table's frame. It is detached, and every CPU that could walk it in hardware has answered.
    pub(crate) fn retire_table(&self, table: Frame) {
        self.retire(|bag| {
            self.frame_word(table).set(Role::Table, bag.tables);
            bag.tables = table.0;
        });
    }

    fn retire(&self, put: impl FnOnce(&mut Bag)) {
        let (old, many) = self.rcu.retire(&self.machine, put);
        if !old.is_empty() {
            self.free_bag(old);
        }
        if many {
            self.collect();
        }
    }

    /// Frees what this CPU has retired and what no reader can hold any more, advancing the epoch if it can.
    pub fn collect(&self) {
        self.rcu.collect(&self.machine, &self.stats, |bag| self.free_bag(bag));
    }

    /// Whether this CPU waits for a grace period: an idle CPU calls [`Memory::collect`] until it does not.
    pub fn has_retired(&self) -> bool {
        self.rcu.has_retired(&self.machine)
    }

    /// Gives this CPU's caches back, and what it retired as far as grace periods have passed.
    pub fn drain_here(&self) {
        self.collect();
        self.drain_nodes();
        self.drain_cache();
    }

    fn free_bag(&self, bag: Bag) {
        let mut node = bag.nodes;
        while !node.is_null() {
            // SAFETY: retired nodes are valid until freed here, after their grace period; the link is read before the free.
            unsafe {
                let next = (*node).next.get();
                self.release_node(node);
                node = next;
            }
        }
        let mut table = bag.tables;
        while table != 0 {
            let f = Frame(table);
            table = self.frame_word(f).upper();
            self.free(f);
        }
    }

    /// Frees a node that nobody can reach: drops what it owns, then gives its memory back.
    ///
    /// # Safety
    ///
    /// No reader is left, and the node is released once.
    #[inline]
    pub(crate) unsafe fn release_node(&self, node: *mut Node) {
        // SAFETY: by this function's contract the caller is the only one who has the node.
        unsafe {
            disown(&*node);
            core::ptr::drop_in_place(node);
            self.free_node(place_of(node));
        }
    }
}
