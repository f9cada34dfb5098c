//! Out of memory: what is free but hidden and unused stacks come first, then pages go to the swap area, then the largest process dies.

use super::memory;
use crate::arch::cpu;
use crate::debug::stall::Wait;
use crate::proc;
use crate::sched;
use crate::swap::relief;
use core::sync::atomic::{AtomicBool, Ordering};
use quire_mm::What;

/// Free frames below which waiting makes no sense: a fault may need four.
const ENOUGH: u64 = 16;
/// Turns that a victim gets before the next one is chosen.
const PATIENCE: u32 = 20_000;

/// Only one thread chooses a victim at a time.
static CHOOSING: AtomicBool = AtomicBool::new(false);

/// Called by who found no frame, holding nothing: makes some free. False: there is nobody left to end.
///
/// Every CPU gives its caches and retired lists back first; then pages are evicted; then the largest process is ended, and the
/// caller waits for its end.
pub fn wait_for_frames() -> bool {
    crate::debug::lock::may_wait();
    memory().drain_all(cpu::online());
    if memory().free_frames() >= ENOUGH {
        return true;
    }
    if sched::give_stacks_back() {
        // The reaper frees them while this thread, or its caller's next try, is out of the way.
        crate::arch::interrupt_window();
        sched::yield_now();
    }
    if relief::reclaim_until(ENOUGH) {
        return true;
    }
    // What was evicted or freed meanwhile may sit in caches again.
    memory().drain_all(cpu::online());
    if memory().free_frames() >= ENOUGH {
        return true;
    }
    // ordering: Acquire and Release: the choice of one thread comes before that of the next.
    if CHOOSING.swap(true, Ordering::Acquire) {
        crate::arch::interrupt_window();
        sched::yield_now();
        return true;
    }
    let chosen = proc::oom::end_largest();
    static VICTIM: What = What { text: "the victim's frames", show: |n, f| write!(f, "{n} free") };
    let mut wait = Wait::new(&VICTIM);
    let mut turns = 0;
    while chosen && memory().free_frames() < ENOUGH && turns < PATIENCE && !proc::signal::is_dying() {
        wait.pause(memory().free_frames());
        memory().drain_here();
        turns += 1;
    }
    CHOOSING.store(false, Ordering::Release);
    chosen
}
