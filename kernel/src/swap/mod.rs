//! Swapping: the glue between the memory manager, the swap daemon's crate and the disk.
//!
//! | file | idea |
//! |---|---|
//! | [`disk`] | the virtio-blk device as `quire_swapd::Disk` |
//! | [`host`] | waking and guessing as `quire_swapd::Wake` |
//! | [`area`] | swapon: the header, the slots |
//! | [`off`] | swapoff: everything comes back |
//! | [`bring`] | a fault that needs a slot's content: read, wait |
//! | [`scan`] | which space gives pages next |
//! | [`daemon`] | the thread that keeps some frames free |
//! | [`relief`] | who needs frames now: direct reclaim |
//! | [`advice`] | madvise's part |
//! | [`report`] | /proc/swaps and counters under Linux's names |
//!
//! One area at a time, on the one disk. Once opened, its slots stay in memory for ever: a swapoff empties and closes it, and
//! another swapon opens it again. So nobody who looks at it needs a lock or a reference.
//!
//! Completions are acted upon in the disk's interrupt handler: what that does ([`quire_swapd::Swap::poll`]) is lock-free, frees
//! frames into this CPU's cache and wakes threads. Kernel code has interrupts off but where it waits, so the handler never meets
//! a half-done operation on its own CPU.

pub mod above;
pub mod advice;
pub mod area;
pub mod bring;
pub mod daemon;
pub mod disk;
pub mod host;
pub mod off;
pub mod relief;
pub mod report;
pub mod scan;
pub mod shortage;

use crate::mem::machine::Kernel;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use disk::Disk;
use host::Waker;
use quire_swapd::Frames;

/// The one swap area.
pub type Area = quire_swapd::Swap<'static, Frames<Kernel, Waker>, Disk>;

static AREA: AtomicPtr<Area> = AtomicPtr::new(core::ptr::null_mut());
/// Pages may go out: between a swapon and a swapoff.
static OPEN: AtomicBool = AtomicBool::new(false);

/// The area, open or closed, if there ever was a swapon.
#[inline]
pub fn area() -> Option<&'static Area> {
    // ordering: Acquire pairs with the Release of swapon, which has built it.
    // SAFETY: only swapon stores here, a leaked box.
    unsafe { AREA.load(Ordering::Acquire).as_ref() }
}

/// Whether pages may go out.
#[inline]
pub fn is_open() -> bool {
    // ordering: Relaxed; a hint, the area's own map decides.
    OPEN.load(Ordering::Relaxed)
}

/// The area if pages may go out.
#[inline]
pub fn open_area() -> Option<&'static Area> {
    if is_open() { area() } else { None }
}

/// The disk's interrupt.
pub fn interrupt() {
    poll();
}

/// Ends what the disk has completed, and wakes who waits for it. True if there was something.
pub fn poll() -> bool {
    let Some(area) = area() else {
        disk::take_private();
        return false;
    };
    let some = area.poll() != 0;
    if some {
        relief::frames_came();
        daemon::completed();
    }
    some
}
