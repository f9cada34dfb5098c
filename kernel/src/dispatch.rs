//! Who answers what the lower rooms ask: the one place where the machine, the scheduler, memory and swapping meet those above them.

use crate::debug::{provoke, stall};
use crate::fs::regular::each_written;
use crate::mem::machine;
use crate::proc::{clock, fault, memory, oom, signal};
use crate::swap::above::Owner;
use crate::swap::shortage;
use crate::{debug, host, mem, swap, sys};
use alloc::sync::Arc;
use quire_arch::UserRegs;
use quire_arch::above::{ABOVE, Above};
use quire_arch::stack::Stack;
use quire_arch::{irq, syscall};
use quire_base::cpu::{self, WORK_ATTENTION, WORK_CLOCK, WORK_SCHEDULE};
use quire_mm::Pager;
use quire_sched as sched;

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

static FOR_SCHED: sched::above::Above = sched::above::Above {
    begin: stall::begin,
    tick: |now, user| {
        stall::tick(now);
        if user { provoke::tick() } else { provoke::tick_in_kernel() }
    },
    is_watched: clock::is_watched,
    look_at_devices: || {
        if swap::disk::is_flying() {
            swap::poll();
        }
    },
    stack: || shortage::insist(Stack::new),
    load_no_space: mem::space::load_none,
    is_plentiful: || mem::memory().free_frames() >= 256,
    heap_has: mem::heap_has,
    idle: mem::idle,
};

static FOR_MEMORY: machine::Above =
    machine::Above { give_way: sched::give_way, pager: || swap::area().map(|area| area as &dyn Pager) };

static FOR_SWAPPING: swap::above::Above = swap::above::Above {
    is_dying: signal::is_dying,
    gives_up: signal::gives_up,
    end_largest: |is_over| oom::end_largest(is_over),
    next_owner: |after| memory::next(after).map(|(id, memory)| (id, memory.map(|memory| memory as Arc<dyn Owner>))),
    each_written: |after, see| each_written(after, see),
};

/// Puts the rooms above those that call up.
pub fn init() {
    ABOVE.set(&ANSWERS);
    sched::above::ABOVE.set(&FOR_SCHED);
    machine::ABOVE.set(&FOR_MEMORY);
    swap::above::ABOVE.set(&FOR_SWAPPING);
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
