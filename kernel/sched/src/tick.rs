//! The timer interrupt: slices end, deadlines pass, and threads are charged for the time they have used.
//!
//! Each CPU arms its timer for the earliest of its running thread's slice and of the deadlines in [`timer`].

use crate::above::ABOVE;
use crate::place::misplaced;
use crate::thread::{NORMAL, PARKED, RUNNING, Thread};
use crate::{Cpu, current, enqueue, machine, mine, queue, timer};
use core::sync::atomic::Ordering;
use quire_base::cpu::{self, WORK_CLOCK, WORK_SCHEDULE};
use quire_base::time;

/// The turn of a thread of nice 0 when others wait, in nanoseconds.
pub const SLICE: u64 = 4_000_000;
/// What a thread gets beyond its slice to do what it has waited for, in nanoseconds.
const GRACE: u64 = 200_000;

/// A thread's turn: longer below nice 0. Above it turns are rarer instead (`queue`).
pub(super) fn slice_of(t: &Thread) -> u64 {
    SLICE * u64::from(t.weight().max(NORMAL)) / u64::from(NORMAL)
}

/// As [`arm`], for whoever knows the CPU and the time.
pub(super) fn arm_at(sched: &Cpu, now: u64, deadline: u64) {
    if deadline < sched.armed.get() {
        sched.armed.set(deadline);
        machine::set_timer(deadline.saturating_sub(now));
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
pub fn tick(user: bool) {
    let sched = mine();
    let now = charge(machine::tsc());
    sched.armed.set(u64::MAX);
    (ABOVE.get().tick)(now, user);
    let mut woken = false;
    let mut next = timer::expire(now, |t| {
        // ordering: as in `unpark`, but without a token.
        if t.state.compare_exchange(PARKED, RUNNING, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            enqueue(t);
            woken = true;
        }
    });
    if !core::ptr::eq(cpu::this().current.get(), sched.idle.get().cast()) {
        if (ABOVE.get().is_watched)(current()) {
            cpu::request_work(WORK_CLOCK);
        }
        let slice = &sched.slice;
        // Who has waited for this moment runs now. Other timer interrupts, as of a rest within a wait, are nobody's turn.
        if woken || now >= slice.get() {
            // ordering: Relaxed; our own queue.
            if sched.len.load(Ordering::Relaxed) != 0 {
                cpu::request_work(WORK_SCHEDULE);
            }
            slice.set(now + slice_of(current()));
        }
        next = next.min(slice.get());
    }
    if next != u64::MAX {
        arm_at(sched, now, next);
    }
}

/// The current thread, which is to be scheduled away, has not repeated the instruction of its last page fault yet: it may first, once
/// in a slice. Where faults take as long as slices, as they may where the host has fewer CPUs than the guest, a thread beside one
/// that forks in a loop would else lose the page before each of its turns.
pub fn grace() {
    let (cpu, sched) = (cpu::this(), mine());
    let work = cpu.work.get();
    if work & WORK_SCHEDULE == 0 || misplaced(current()) || sched.graced.replace(true) {
        return;
    }
    cpu.work.set(work & !WORK_SCHEDULE);
    let now = timer::now_ns();
    sched.slice.set(now + GRACE);
    arm_at(sched, now, now + GRACE);
}

/// Adds to the current thread's time what has passed since that was done last, until the counter's value `tsc`; returns the time.
pub(super) fn charge(tsc: u64) -> u64 {
    let (sched, thread, now) = (mine(), current(), time::at_ns(tsc));
    let ran = now.saturating_sub(sched.since.replace(now));
    // ordering: Relaxed; statistics that only the thread's CPU writes.
    thread.run_ns.store(thread.run_ns.load(Ordering::Relaxed) + ran, Ordering::Relaxed);
    let (in_kernel, faults) = (cpu::take_kernel_time(tsc), cpu::this().faults.replace(0));
    // ordering: Release, behind the time that it is part of: see `Thread::usage`.
    thread.kernel_ticks.store(thread.kernel_ticks.load(Ordering::Relaxed) + in_kernel, Ordering::Release);
    thread.faults.store(thread.faults.load(Ordering::Relaxed) + faults, Ordering::Relaxed);
    if thread.is_nice() || sched.nice.load(Ordering::Relaxed) != 0 {
        queue::count(sched, thread, ran);
    }
    now
}
