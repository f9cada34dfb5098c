//! Which slots are free: a bitmap in clusters of 32 neighbours, and one cluster at hand for each CPU.
//!
//! * A cluster is one word, a bit for each free slot. A CPU takes *all* free slots of a cluster by one swap with zero and hands
//!   them out one by one in ascending order, so that pages evicted one after the other lie side by side on the disk and go out
//!   as one request.
//! * What a CPU has at hand is one word too: `cluster << 32 | mask`. A slot is taken from it by compare-and-swap, so a CPU that
//!   finds no cluster may take from another one's hand: the area is full only when nobody has a slot.
//! * A freed slot goes back to its cluster, never to a hand.
//!
//! A word says all there is about the slots in it, so a word that returns is no ABA: whoever swaps it takes exactly those slots.
//!
//! Ordering: giving back releases (AcqRel on the cluster) what the last user did, taking acquires it.

use crate::sizes::APART;
pub use crate::sizes::CLUSTER;
use crate::slot::Slot;
use core::sync::atomic::AtomicU64 as Hint;
use quire_mm::CPUS;
use quire_mm::sync::{AtomicU64, Ordering::*};

const MASK: u64 = (1 << CLUSTER) - 1;
/// Words for all hands. They are not part of the [`Map`] itself, which is made on a stack, and kernel stacks are small.
pub const HANDS: usize = CPUS * APART;
/// How far to look for a wholly free cluster before a partly free one will do.
const LOOK: usize = 256;

/// How many cluster words an area of `slots` slots needs (the header's page included).
pub const fn clusters(slots: usize) -> usize {
    slots.div_ceil(CLUSTER)
}

/// The free slots of an area.
#[derive(Debug)]
pub struct Map<'a> {
    clusters: &'a [AtomicU64],
    /// One word in [`APART`] for each CPU.
    hands: &'a [AtomicU64],
    /// Where each CPU looks next: written once a cluster.
    next: [Hint; CPUS],
    closed: AtomicU64,
    /// How many slots are free, about.
    free: Hint,
}

impl<'a> Map<'a> {
    /// A map without free slots over zeroed words: one a cluster, and [`HANDS`] for the CPUs.
    pub fn new(clusters: &'a [AtomicU64], hands: &'a [AtomicU64]) -> Map<'a> {
        Map {
            clusters,
            hands,
            next: core::array::from_fn(|_| Hint::new(0)),
            closed: AtomicU64::new(0),
            free: Hint::new(0),
        }
    }

    /// No more slots are given out (swapoff), or again.
    pub fn close(&self, closed: bool) {
        self.closed.store(closed as u64, Release);
    }

    /// Whether slots are given out.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Acquire) != 0
    }

    /// A free slot, the caller's from now on. `None`: all are taken, or the area is closed.
    pub fn take(&self, cpu: usize) -> Option<Slot> {
        if self.is_closed() {
            return None;
        }
        loop {
            if let Some(slot) = self.pop(cpu) {
                return Some(slot);
            }
            if !self.refill(cpu) {
                break;
            }
        }
        (0..CPUS).find_map(|other| self.pop(other))
    }

    fn pop(&self, cpu: usize) -> Option<Slot> {
        let hand = &self.hands[cpu * APART];
        let mut now = hand.load(Acquire);
        loop {
            if now & MASK == 0 {
                return None;
            }
            match hand.compare_exchange(now, now & (now - 1), AcqRel, Acquire) {
                Ok(_) => {
                    self.free.fetch_sub(1, Relaxed);
                    return Some(Slot(((now >> 32) as usize * CLUSTER) as u32 + now.trailing_zeros()));
                }
                Err(v) => now = v,
            }
        }
    }

    /// Takes a cluster in hand. False: there is none.
    fn refill(&self, cpu: usize) -> bool {
        while let Some(i) = self.search(self.next[cpu].load(Relaxed) as usize) {
            let mask = self.clusters[i].swap(0, AcqRel);
            if mask == 0 {
                continue;
            }
            self.next[cpu].store(i as u64 + 1, Relaxed);
            let hand = &self.hands[cpu * APART];
            let empty = hand.load(Acquire);
            if empty & MASK != 0 || hand.compare_exchange(empty, (i as u64) << 32 | mask, AcqRel, Acquire).is_err() {
                // Another thread of this CPU number was faster (host tests): the slots go back.
                self.clusters[i].fetch_or(mask, AcqRel);
            }
            return true;
        }
        false
    }

    /// A cluster with free slots: a wholly free one near `from`, else the fullest one near it, else any.
    fn search(&self, from: usize) -> Option<usize> {
        let n = self.clusters.len();
        let mut best = (0, None);
        for k in 0..n {
            if k == LOOK && best.1.is_some() {
                break;
            }
            let i = (from + k) % n;
            let free = self.clusters[i].load(Relaxed).count_ones();
            if free as usize == CLUSTER {
                return Some(i);
            }
            if free > best.0 {
                best = (free, Some(i));
            }
        }
        best.1
    }

    /// Gives a slot back.
    pub fn give(&self, slot: Slot) {
        let bit = 1u64 << (slot.0 as usize % CLUSTER);
        let old = self.clusters[slot.0 as usize / CLUSTER].fetch_or(bit, AcqRel);
        assert!(old & bit == 0, "{slot:?} was freed twice");
        self.free.fetch_add(1, Relaxed);
    }

    /// How many slots are free, as it looks: one load. Never below zero at rest.
    pub fn free_hint(&self) -> u64 {
        (self.free.load(Relaxed) as i64).max(0) as u64
    }

    /// How many slots are free. Exact when nobody takes or gives.
    pub fn free(&self) -> u64 {
        let hands = self.hands.iter().step_by(APART).map(|h| (h.load(Acquire) & MASK).count_ones() as u64);
        self.clusters.iter().map(|c| c.load(Acquire).count_ones() as u64).chain(hands).sum()
    }
}
