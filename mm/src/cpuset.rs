//! A set of CPUs in one word.

use crate::sync::{AtomicU64, Ordering::*};

/// CPUs that have something in common, for example an address space.
#[derive(Debug)]
pub struct CpuSet(AtomicU64);

impl CpuSet {
    /// No CPU.
    pub fn new() -> CpuSet {
        CpuSet(AtomicU64::new(0))
    }

    /// Adds a CPU. Relaxed: the caller fences before it relies on being seen (joining, activation).
    pub fn add(&self, cpu: usize) {
        self.0.fetch_or(1 << cpu, Relaxed);
    }

    /// Removes a CPU. Release: what it did as a member comes before.
    pub fn remove(&self, cpu: usize) {
        self.0.fetch_and(!(1 << cpu), Release);
    }

    /// The members. The caller fences first where the set must not be older than its own writes.
    #[inline]
    pub fn bits(&self) -> u64 {
        self.0.load(Acquire)
    }
}

impl Default for CpuSet {
    fn default() -> Self {
        Self::new()
    }
}
