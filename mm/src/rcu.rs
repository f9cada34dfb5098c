//! Grace periods for what software reads without a lock: nodes of segment lists, and tables.
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
//! | the same | loads of a flag | flag; SeqCst fence; words ([`Rcu::pinned`]) | either the reader sees the flag, or it is seen inside its section |
//! | unpin: word = 0, Release | | advance, [`Rcu::pinned`]: words, Acquire | a reader's last look comes before the free |
//! | pin again: word = epoch, Release | | advance: words, Acquire | the same, where the zero is not seen |
//!
//! The hardware's walker is not stopped by any of this, only by the answers to a shootdown.

use crate::bits::those;
use crate::list::Node;
use crate::machine::{CPUS, Machine};
use crate::percpu::PerCpu;
use crate::stats::{Counter, Stats};
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

/// Bags of a CPU: things of three epochs may wait; of four the right one is found without a division.
const BAGS: usize = 4;

/// What a CPU has retired, by epoch.
#[derive(Debug)]
struct Bags {
    bags: [Bag; BAGS],
    retired: u32,
    depth: u32,
}

/// Things retired in one epoch: nodes chained by their headers, tables by their frames' words.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bag {
    epoch: u64,
    pub nodes: *mut Node,
    pub tables: u32,
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
            bags: PerCpu::new(|| Bags { bags: [EMPTY; BAGS], retired: 0, depth: 0 }),
        }
    }
}

/// The first epoch: zero is no epoch.
const FIRST: u64 = 2;

impl Default for Rcu {
    fn default() -> Self {
        Self::new()
    }
}

/// A read section of the calling CPU; while it lives, nothing that it can reach is freed. It must not pause.
#[must_use]
#[derive(Debug)]
pub struct Pin<'a, M: Machine> {
    rcu: &'a Rcu,
    machine: &'a M,
    /// Bound to its CPU.
    here: PhantomData<*mut ()>,
}

impl<M: Machine> Drop for Pin<'_, M> {
    #[inline]
    fn drop(&mut self) {
        let last = self.rcu.bags.with(self.machine, |b| {
            b.depth -= 1;
            b.depth == 0
        });
        if last {
            // Release: pairs with the Acquire of `advance`.
            self.rcu.pinned[self.machine.cpu()].store(0, Release);
        }
    }
}

impl Rcu {
    /// Makes one out of zeroed memory.
    pub(crate) fn start(&self) {
        self.epoch.store(FIRST, Relaxed);
    }

    /// Begins a read section. Sections nest.
    #[inline(always)]
    pub fn pin<'a, M: Machine>(&'a self, machine: &'a M) -> Pin<'a, M> {
        let first = self.bags.with(machine, |b| {
            b.depth += 1;
            b.depth == 1
        });
        if first {
            let word = &self.pinned[machine.cpu()];
            // An old epoch only delays, so its load is Relaxed. The fence below makes the pin visible before any link is read. Release:
            // whoever reads this word has not read the zero before it, but must see the end of the section before all the same.
            // No model finds it missing: loom's fences order more than the language's.
            word.store(self.epoch.load(Relaxed) | 1, Release);
            fence(SeqCst);
        }
        Pin { rcu: self, machine, here: PhantomData }
    }

    /// Whether the calling CPU is inside a read section: it must not wait then.
    pub fn is_pinned<M: Machine>(&self, machine: &M) -> bool {
        self.bags.with(machine, |b| b.depth != 0)
    }

    /// Which of `cpus` are inside a read section. Acquire: what was done in the sections that have ended is seen.
    pub(crate) fn pinned(&self, cpus: u64) -> u64 {
        those(cpus, |cpu| self.pinned[cpu].load(Acquire) != 0)
    }

    /// Tries to begin the next epoch; true if it has changed, by whomever.
    fn advance<M: Machine>(&self, machine: &M, stats: &Stats) -> bool {
        let now = self.epoch.load(Relaxed);
        // Pairs with the fence of `pin`.
        fence(SeqCst);
        for word in &self.pinned {
            let w = word.load(Acquire);
            if w != 0 && w != now | 1 {
                return false;
            }
        }
        let ok = self.epoch.compare_exchange(now, now + 2, AcqRel, Relaxed).is_ok();
        if ok {
            stats.add(machine, Counter::Epoch, 1);
        }
        true
    }

    /// Puts something into the bag of this epoch. Returns what that bag held from an epoch four or more before, to be freed, and whether so
    /// much is retired that the caller should look what else may be freed.
    #[inline(always)]
    pub(crate) fn retire<M: Machine>(&self, machine: &M, put: impl FnOnce(&mut Bag)) -> (Bag, bool) {
        // The unlinking came before this fence, the epoch is read after it: see the table above.
        fence(SeqCst);
        let epoch = self.epoch.load(Acquire);
        self.bags.with(machine, |b| {
            let bag = &mut b.bags[(epoch / 2) as usize % BAGS];
            let old = if bag.epoch == epoch { EMPTY } else { core::mem::replace(bag, Bag { epoch, ..EMPTY }) };
            put(bag);
            bag.len += 1;
            b.retired = b.retired + 1 - old.len;
            (old, b.retired >= many_retired())
        })
    }

    /// Advances the epoch if it can, and calls `free` with each bag of this CPU that no reader can hold anything of any more.
    #[inline]
    pub(crate) fn collect<M: Machine>(&self, machine: &M, stats: &Stats, mut free: impl FnMut(Bag)) {
        for _ in 0..2 {
            if !self.advance(machine, stats) {
                break;
            }
        }
        let epoch = self.epoch.load(Acquire);
        for i in 0..BAGS {
            free(self.bags.with(machine, |b| {
                if b.bags[i].len != 0 && b.bags[i].epoch + 4 <= epoch {
                    b.retired -= b.bags[i].len;
                    core::mem::replace(&mut b.bags[i], EMPTY)
                } else {
                    EMPTY
                }
            }));
        }
    }

    /// The epoch in which all is free that was retired before now, by whichever CPU, once that CPU has looked.
    pub(crate) fn grace_ends(&self) -> u64 {
        // Acquire: whatever was retired before is tagged with no later epoch.
        self.epoch.load(Acquire) + 4
    }

    /// Whether that epoch has come.
    pub(crate) fn has_come(&self, epoch: u64) -> bool {
        self.epoch.load(Acquire) >= epoch
    }

    /// Whether this CPU waits for a grace period: an idle CPU calls [`collect`](crate::Memory::collect) until it does not.
    pub fn has_retired<M: Machine>(&self, machine: &M) -> bool {
        self.bags.with(machine, |b| b.retired != 0)
    }
}

impl Bag {
    /// Whether nothing is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }
}
