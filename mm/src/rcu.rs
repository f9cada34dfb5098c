//! Grace periods for what software reads without a lock: segment-tree nodes and tables.
//!
//! Epochs in the manner of Fraser's *Practical lock-freedom* (2004, section 5.2.3): a reader *pins* its CPU by writing the
//! global epoch into the CPU's word; a CPU in user mode or idle, or anywhere outside mm, is not pinned and delays nobody.
//! What was unlinked and retired in one epoch may be freed two epochs later; the epoch advances only when every pinned CPU has
//! pinned the current one. Read sections are short: nobody waits inside one. (Epochs are even numbers, so that the lowest bit of a CPU's
//! word can say *pinned*: the next epoch is `+ 2`, two epochs later `+ 4`.)
//!
//! | write | then | read by the other side | why |
//! |---|---|---|---|
//! | pin: word = epoch; SeqCst fence | loads of links | unlink; SeqCst fence; load of epoch and words | either the reader misses the link, or the retirer tags with an epoch not older than the reader's |
//! | unpin: word = 0, Release | | advance: words, Acquire | a reader's last look comes before the free |
//! | pin again: word = epoch, Release | | advance: words, Acquire | the same, where the zero is not seen |
//!
//! The hardware's walker is not stopped by any of this, only by the answers to a shootdown.

use crate::frames::slab::NodePlace;
use crate::frames::{Frame, Role};
use crate::list::Node;
use crate::machine::{CPUS, Machine, What};
use crate::memory::Memory;
use crate::percpu::PerCpu;
use crate::stats::Counter;
use crate::sync::{AtomicU64, Ordering::*, fence, many_retired};
use core::marker::PhantomData;
use crossbeam_utils::CachePadded;

/// Epochs and who is pinned in which.
#[derive(Debug)]
pub struct Rcu {
    /// Even numbers: a word of zero means "not pinned", an odd one "pinned in this epoch".
    epoch: CachePadded<AtomicU64>,
    pinned: [CachePadded<AtomicU64>; CPUS],
    bags: PerCpu<Bags>,
}

/// What a CPU has retired, by epoch.
#[derive(Debug)]
struct Bags {
    bags: [Bag; 3],
    retired: u32,
    depth: u32,
}

/// Things retired in one epoch: nodes chained by their headers, tables by their frames' words.
#[derive(Debug, Clone, Copy)]
struct Bag {
    epoch: u64,
    nodes: *mut Node,
    tables: u32,
    len: u32,
}

// SAFETY: the nodes in a bag are reachable by its CPU alone, apart from readers that the grace period waits for.
unsafe impl Send for Bag {}

const EMPTY: Bag = Bag { epoch: 0, nodes: core::ptr::null_mut(), tables: 0, len: 0 };

impl Rcu {
    /// Nobody pinned, nothing retired.
    pub fn new() -> Rcu {
        Rcu {
            epoch: CachePadded::new(AtomicU64::new(FIRST)),
            pinned: core::array::from_fn(|_| CachePadded::new(AtomicU64::new(0))),
            bags: PerCpu::new(|| Bags { bags: [EMPTY; 3], retired: 0, depth: 0 }),
        }
    }
}

/// The first epoch: zero is no epoch.
const FIRST: u64 = 2;

impl Rcu {
    /// Makes one out of zeroed memory.
    pub(crate) fn start(&self) {
        self.epoch.store(FIRST, Relaxed);
    }
}

impl Default for Rcu {
    fn default() -> Self {
        Self::new()
    }
}

/// A read section of the calling CPU; while it lives, nothing that it can reach is freed. It must not pause.
#[must_use]
#[derive(Debug)]
pub struct Pin<'a, M: Machine> {
    memory: &'a Memory<M>,
    /// Bound to its CPU.
    here: PhantomData<*mut ()>,
}

impl<M: Machine> Drop for Pin<'_, M> {
    #[inline]
    fn drop(&mut self) {
        let rcu = &self.memory.rcu;
        let last = rcu.bags.with(&self.memory.machine, |b| {
            b.depth -= 1;
            b.depth == 0
        });
        if last {
            // Release: pairs with the Acquire of `advance`.
            rcu.pinned[self.memory.machine.cpu()].store(0, Release);
        }
    }
}

impl<M: Machine> Memory<M> {
    /// Begins a read section. Sections nest.
    #[inline]
    pub fn pin(&self) -> Pin<'_, M> {
        let first = self.rcu.bags.with(&self.machine, |b| {
            b.depth += 1;
            b.depth == 1
        });
        if first {
            let word = &self.rcu.pinned[self.machine.cpu()];
            // An old epoch only delays, so its load is Relaxed. The fence below makes the pin visible before any link is read. Release:
            // whoever reads this word has not read the zero before it, but must see the end of the section before all the same.
            // No model finds it missing: loom's fences order more than the language's.
            word.store(self.rcu.epoch.load(Relaxed) | 1, Release);
            fence(SeqCst);
        }
        Pin { memory: self, here: PhantomData }
    }

    /// Whether the calling CPU is inside a read section: it must not wait then.
    pub fn is_pinned(&self) -> bool {
        self.rcu.bags.with(&self.machine, |b| b.depth != 0)
    }

    /// Tries to begin the next epoch; true if it has changed, by whomever.
    fn advance(&self) -> bool {
        let now = self.rcu.epoch.load(Relaxed);
        // Pairs with the fence of `pin`.
        fence(SeqCst);
        for word in &self.rcu.pinned {
            let w = word.load(Acquire);
            if w != 0 && w != now | 1 {
                return false;
            }
        }
        let ok = self.rcu.epoch.compare_exchange(now, now + 2, AcqRel, Relaxed).is_ok();
        if ok {
            self.stats.add(&self.machine, Counter::Epoch, 1);
        }
        true
    }

    /// Puts something into the bag of this epoch. Frees what that bag held three epochs ago.
    fn retire(&self, put: impl FnOnce(&mut Bag)) {
        // The unlinking came before this fence, the epoch is read after it: see the table above.
        fence(SeqCst);
        let epoch = self.rcu.epoch.load(Acquire);
        let (old, many) = self.rcu.bags.with(&self.machine, |b| {
            let bag = &mut b.bags[(epoch / 2 % 3) as usize];
            let old = if bag.epoch == epoch { EMPTY } else { core::mem::replace(bag, Bag { epoch, ..EMPTY }) };
            put(bag);
            bag.len += 1;
            b.retired = b.retired + 1 - old.len;
            (old, b.retired >= many_retired())
        });
        if old.len != 0 {
            self.free_bag(old);
        }
        if many {
            self.collect();
        }
    }

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

    /// Frees what this CPU has retired and what no reader can hold any more, advancing the epoch if it can.
    pub fn collect(&self) {
        for _ in 0..2 {
            if !self.advance() {
                break;
            }
        }
        let epoch = self.rcu.epoch.load(Acquire);
        for i in 0..3 {
            let old = self.rcu.bags.with(&self.machine, |b| {
                if b.bags[i].len != 0 && b.bags[i].epoch + 4 <= epoch {
                    b.retired -= b.bags[i].len;
                    core::mem::replace(&mut b.bags[i], EMPTY)
                } else {
                    EMPTY
                }
            });
            self.free_bag(old);
        }
    }

    /// Waits until all is freed that was retired before, on whichever of the CPUs `targets`. The caller is in no read section.
    pub fn await_retired(&self, targets: u64) {
        static EPOCH: What = What { text: "the epoch", show: |n, f| write!(f, "{n}") };
        // Acquire: whatever was retired before is tagged with no later epoch.
        let until = self.rcu.epoch.load(Acquire) + 4;
        let mut since = 0;
        loop {
            // Each CPU tries to advance the epoch; the turn that finds it far enough comes before a last one, which frees.
            let enough = self.rcu.epoch.load(Acquire) >= until;
            self.drain_all(targets);
            if enough {
                return;
            }
            since = self.pause(&EPOCH, until, since);
        }
    }

    /// Whether this CPU waits for a grace period: an idle CPU calls [`Memory::collect`] until it does not.
    pub fn has_retired(&self) -> bool {
        self.rcu.bags.with(&self.machine, |b| b.retired != 0)
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
            let place: NodePlace = (*node).place;
            (*node).disown();
            core::ptr::drop_in_place(node);
            self.free_node(place);
        }
    }
}
