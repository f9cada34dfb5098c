//! Who answers what the machine asks: the one place where `arch` meets the rooms above it.

use crate::proc::{clock, fault, signal};
use crate::{debug, host, mem, sched, swap, sys};
use quire_arch::UserRegs;
use quire_arch::above::{ABOVE, Above};
use quire_arch::{irq, syscall};
use quire_base::cpu::{self, WORK_ATTENTION, WORK_CLOCK, WORK_SCHEDULE};

static ANSWERS: Above = Above {
    user_fault: fault::user,
    copy_fault: fault::kernel,
    user_trap: signal::fault,
    grace: sched::grace,
    work,
    unknown_call: sys::unknown,
    interrupt,
    serve_shootdown: mem::serve_shootdown,
    nmi: debug::dump::answer,
    fatal: debug::trap_panic,
    zeroed_frame: mem::zeroed_frame,
    free_frame: mem::free_frame,
    adopt_cpu: sched::adopt_idle,
    idle: sched::idle,
};

/// Puts the rooms above the machine.
pub fn init() {
    ABOVE.set(&ANSWERS);
    syscall::TABLE.set(&sys::TABLE);
}

/// Before the return to a program: another thread, the signal code.
fn work(regs: &mut UserRegs, work: u32) {
    if work & WORK_CLOCK != 0 {
        clock::check();
    }
    if work & WORK_SCHEDULE != 0 {
        sched::preempt();
    }
    if work & WORK_ATTENTION != 0 || sched::current().wants_attention() {
        signal::before_user(regs);
    }
}

fn interrupt(vector: u8, user: bool) {
    match vector {
        irq::TIMER => sched::tick(user),
        irq::RESCHEDULE => sched::poked(),
        irq::CONSOLE => host::interrupt(),
        irq::DISK => swap::interrupt(),
        _ => log::warn!("interrupt {vector:#x} on CPU {}", cpu::cpu_id()),
    }
}
