//! The timer interrupt: slices end, deadlines pass, and threads are charged for the time they have used.
//!
//! Each CPU arms its timer for the earliest of its running thread's slice and of the deadlines in [`timer`].

use super::thread::{PARKED, RUNNING};
use super::{Cpu, current, enqueue, mine, timer};
use crate::arch::cpu::{self, WORK_SCHEDULE};
use crate::arch::{irq, syscall, time};
use crate::debug::{provoke, stall};
use core::sync::atomic::Ordering;

/// A thread's turn when others wait, in nanoseconds.
pub(super) const SLICE: u64 = 4_000_000;

/// As [`arm`], for whoever knows the CPU and the time.
pub(super) fn arm_at(sched: &Cpu, now: u64, deadline: u64) {
    if deadline < sched.armed.get() {
        sched.armed.set(deadline);
        irq::set_timer(deadline.saturating_sub(now));
    }
}

/// Makes the timer interrupt come at `deadline` or before.
pub(super) fn arm(deadline: u64) {
    let sched = mine();
    if deadline < sched.armed.get() {
        arm_at(sched, timer::now_ns(), deadline);
    }
}

/// The timer interrupt.
pub(crate) fn tick(user: bool) {
    let sched = mine();
    let now = charge(time::tsc());
    sched.armed.set(u64::MAX);
    stall::tick(now);
    if user {
        provoke::tick()
    } else {
        provoke::tick_in_kernel()
    }
    let mut next = timer::expire(now, |t| {
        // ordering: as in `unpark`, but without a token.
        if t.state.compare_exchange(PARKED, RUNNING, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            enqueue(t);
        }
    });
    if !core::ptr::eq(cpu::this().current.get(), sched.idle.get()) {
        // ordering: Relaxed; our own queue.
        if sched.len.load(Ordering::Relaxed) != 0 {
            syscall::request_work(WORK_SCHEDULE);
        }
        next = next.min(now + SLICE);
    }
    if next != u64::MAX {
        arm_at(sched, now, next);
    }
}

/// Adds to the current thread's time what has passed since that was done last, until the counter's value `tsc`; returns the time.
pub(super) fn charge(tsc: u64) -> u64 {
    let (sched, thread, now) = (mine(), current(), time::at_ns(tsc));
    let ran = now.saturating_sub(sched.since.replace(now));
    // ordering: Relaxed; statistics that only the thread's CPU writes.
    thread.run_ns.store(thread.run_ns.load(Ordering::Relaxed) + ran, Ordering::Relaxed);
    let (in_kernel, faults) = (cpu::take_kernel_time(tsc), cpu::this().faults.replace(0));
    thread.kernel_ticks.store(thread.kernel_ticks.load(Ordering::Relaxed) + in_kernel, Ordering::Relaxed);
    thread.faults.store(thread.faults.load(Ordering::Relaxed) + faults, Ordering::Relaxed);
    now
}
