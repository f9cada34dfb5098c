//! Sizes that are small under the model checker, whose search grows with them.

/// Slots of a cluster: as many pages as one request to the disk has.
pub const CLUSTER: usize = if cfg!(loom) { 2 } else { 32 };
/// Words from one CPU's hand to the next: two CPUs share no cache line.
pub(crate) const APART: usize = if cfg!(loom) { 1 } else { 16 };
