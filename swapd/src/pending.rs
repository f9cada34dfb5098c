//! Which slots wait to be written: a bit a slot, in clusters as [`alloc`](crate::alloc) has them, and a bit for each cluster above.
//!
//! Neighbours come out together, whoever put them in, so a request is as long as it can be without any sorting. A bit may be
//! stale (the page was taken back, the slot freed): whoever takes it asks the slot's word.
//!
//! Ordering: *set the slot's bit, then the cluster's* meets *take the cluster's bit, then the slots'*; both ends are
//! read-modify-writes. A taker that comes between leaves a cluster's bit behind, never a slot's bit without one.

use crate::alloc::CLUSTER;
use crate::slot::Slot;
use core::sync::atomic::AtomicU64 as Hint;
use quire_mm::sync::{AtomicU64, Ordering::*};

/// Clusters under one word of the upper level.
const GROUP: usize = 64;

/// How many words of each level an area of `slots` slots needs.
pub const fn words(slots: usize) -> (usize, usize) {
    let clusters = slots.div_ceil(CLUSTER);
    (clusters, clusters.div_ceil(GROUP))
}

/// The slots that wait.
#[derive(Debug)]
pub struct Pending<'a> {
    clusters: &'a [AtomicU64],
    groups: &'a [AtomicU64],
    next: Hint,
}

impl<'a> Pending<'a> {
    /// Nothing waits. The words are zeroed, as many as [`words`] says.
    pub fn new(clusters: &'a [AtomicU64], groups: &'a [AtomicU64]) -> Pending<'a> {
        Pending { clusters, groups, next: Hint::new(0) }
    }

    /// The slot waits to be written.
    pub fn add(&self, slot: Slot) {
        let cluster = slot.0 as usize / CLUSTER;
        self.clusters[cluster].fetch_or(1 << (slot.0 as usize % CLUSTER), AcqRel);
        self.groups[cluster / GROUP].fetch_or(1 << (cluster % GROUP), AcqRel);
    }

    /// All waiting slots of one cluster: its first slot, and the mask of those that wait. They do not wait any longer.
    pub fn take(&self) -> Option<(Slot, u64)> {
        let n = self.groups.len();
        let start = self.next.load(Relaxed) as usize;
        for k in 0..n {
            let g = (start + k) % n;
            let word = &self.groups[g];
            let mut seen = word.load(Acquire);
            while seen != 0 {
                let bit = seen & seen.wrapping_neg();
                let old = word.fetch_and(!bit, AcqRel);
                if old & bit != 0 {
                    let cluster = g * GROUP + bit.trailing_zeros() as usize;
                    let mask = self.clusters[cluster].swap(0, AcqRel);
                    if mask != 0 {
                        self.next.store(g as u64, Relaxed);
                        return Some((Slot((cluster * CLUSTER) as u32), mask));
                    }
                }
                seen = old & !bit;
            }
        }
        None
    }

    /// Whether nothing waits, as it looks now.
    pub fn is_empty(&self) -> bool {
        self.groups.iter().all(|g| g.load(Acquire) == 0)
    }
}
