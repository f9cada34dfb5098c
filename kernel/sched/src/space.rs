//! The address space of a thread, of which the scheduler knows only this: what loads it, and what it needs for that.

use crate::above::ABOVE;

/// An address space: what it is else is opaque.
///
/// It is a trait object, and neither a parameter of [`Thread`](super::Thread), which everybody would have to name, nor a pointer behind hooks,
/// each of which would have to trust it. A switch pays one call by a table; the space finds there that it is loaded already, if it is.
///
/// # Safety
/// One type only implements it: whoever finds a space in a thread takes it for that.
pub unsafe trait Space: Send + Sync {
    /// Loads it on this CPU, which has a table for it. The caller keeps it alive until another one is loaded.
    fn load(&self);
    /// Whether a CPU has a table for it.
    fn has_table(&self, cpu: usize) -> bool;
    /// Makes sure that a CPU has a table for it. False: no memory.
    fn prepare(&self, cpu: usize) -> bool;
    /// Makes sure that this CPU can load it without memory, from here until it next gives the CPU away. False: no memory.
    fn prepare_here(&self) -> bool;
}

/// Loads a space on this CPU, or the kernel's own page table.
#[inline]
pub(super) fn load(space: Option<&dyn Space>) {
    match space {
        Some(space) => space.load(),
        None => (ABOVE.get().load_no_space)(),
    }
}
