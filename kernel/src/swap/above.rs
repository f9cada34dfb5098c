//! What swapping asks of the kernel above it: it is told once, at boot.

use crate::mem::{ObjectRef, Space};
use alloc::sync::Arc;
use core::sync::atomic::AtomicU64;
use quire_base::errno::Errno;
use quire_base::hook::Hook;

/// Somebody whose pages may go out.
pub trait Owner: Send + Sync {
    /// His space.
    fn space(&self) -> &Arc<Space>;
    /// Where the next scan of it begins.
    fn scan_cursor(&self) -> &AtomicU64;
}

/// What a visitor of files says of each: its number and its object.
pub type See<'a> = &'a mut dyn FnMut(u64, &ObjectRef) -> Result<(), Errno>;

/// An owner's number, and the owner unless it is ending.
pub type Next = (u64, Option<Arc<dyn Owner>>);

/// The answers.
pub struct Above {
    /// Whether the current thread is about to be killed: it must not wait for what its end may give.
    pub is_dying: fn() -> bool,
    /// The same, but for one that is on its way out already.
    pub gives_up: fn() -> bool,
    /// Ends the largest process, unless the question is answered by yes before. False: there is nobody left to end.
    pub end_largest: fn(&dyn Fn() -> bool) -> bool,
    /// The owner that was made next after the one with this number; `None` in its place if it is ending.
    pub next_owner: fn(u64) -> Option<Next>,
    /// Visits the object of each file that is no image, from the one behind this number on.
    pub each_written: fn(u64, See<'_>) -> Result<(), Errno>,
}

/// Until somebody is above, there are no programs.
pub static ABOVE: Hook<Above> = Hook::new(&Above {
    is_dying: || false,
    gives_up: || false,
    end_largest: |_| false,
    next_owner: |_| None,
    each_written: |_, _| Ok(()),
});

/// See [`Above::is_dying`].
pub fn is_dying() -> bool {
    (ABOVE.get().is_dying)()
}

/// See [`Above::gives_up`].
pub fn gives_up() -> bool {
    (ABOVE.get().gives_up)()
}

/// See [`Above::next_owner`].
pub fn next_owner(after: u64) -> Option<Next> {
    (ABOVE.get().next_owner)(after)
}

/// See [`Above::each_written`].
pub fn each_written(after: u64, see: See<'_>) -> Result<(), Errno> {
    (ABOVE.get().each_written)(after, see)
}
