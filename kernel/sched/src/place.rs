//! Where a thread may run, and where it should.
//!
//! Its affinity counts unless no CPU that runs is in it. Entering a space for the first time costs a CPU a frame, for its own
//! top-level table: when memory is short, a thread goes only where its space has one.

use crate::WAKE;
use crate::above::ABOVE;
use crate::space::Space;
use crate::thread::Thread;
use core::sync::atomic::Ordering;
use quire_base::cpu::{self, CPUS};

/// Whether a thread must leave this CPU.
pub(super) fn misplaced(t: &Thread) -> bool {
    misplaced_on(t, cpu::cpu_id())
}

pub(super) fn misplaced_on(t: &Thread, cpu: usize) -> bool {
    let allowed = t.affinity() & cpu::online();
    allowed != 0 && allowed & 1 << cpu == 0
}

/// The space of a thread that is on no CPU and that the caller owns, or whose queue he has locked.
fn space_of(t: &Thread) -> Option<&dyn Space> {
    // SAFETY: nobody else looks at the thread meanwhile.
    unsafe { &(*t.inner.get()).space }.as_deref()
}

/// Whether a CPU that a thread has not run on should take it: entering a space for the first time costs a frame.
pub(super) fn may_enter(t: &Thread, cpu: usize) -> bool {
    space_of(t).is_none_or(|space| space.has_table(cpu) || (ABOVE.get().is_plentiful)())
}

/// Whether this CPU can switch to a thread now.
pub(super) fn can_run(t: &Thread) -> bool {
    space_of(t).is_none_or(Space::prepare_here)
}

/// The CPU for a thread: its last one if that is idle, else another idle one, else its last one again; but one that can load
/// its space if memory is short.
pub(super) fn choose(t: &Thread) -> usize {
    let online = cpu::online();
    let mut allowed = t.affinity() & online;
    if allowed == 0 {
        allowed = online;
    }
    // ordering: Relaxed; hints.
    let last = t.last.load(Ordering::Relaxed) as usize;
    let idle = WAKE.idle() & allowed;
    if idle & 1 << last != 0 {
        last
    } else if idle != 0 && may_enter(t, idle.trailing_zeros() as usize) {
        idle.trailing_zeros() as usize
    } else if allowed & 1 << last != 0 {
        last
    } else {
        let first = allowed.trailing_zeros() as usize;
        if may_enter(t, first) { first } else { with_table(t, allowed).unwrap_or(first) }
    }
}

/// The first of the CPUs that has a table for a thread's space.
pub(super) fn with_table(t: &Thread, among: u64) -> Option<usize> {
    let space = space_of(t)?;
    (0..CPUS).find(|&cpu| among & 1 << cpu != 0 && space.has_table(cpu))
}
