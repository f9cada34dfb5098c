//! The block of this CPU on the host: each thread is a CPU of its own. Numbers are given out in turn, so of 64 threads in a row no two
//! have the same. A thread may also act as several CPUs in turn.

extern crate std;

use super::{BLOCKS, CPUS, ONLINE, PerCpu};
use core::cell::Cell;
use core::sync::atomic::{AtomicU32, Ordering};
use std::boxed::Box;

static NEXT: AtomicU32 = AtomicU32::new(0);

std::thread_local! {
    static BLOCK: Cell<&'static PerCpu> = {
        let block = Box::leak(Box::new(PerCpu::new()));
        // ordering: Relaxed; a number by itself.
        block.id.set(NEXT.fetch_add(1, Ordering::Relaxed) % CPUS as u32);
        Cell::new(block)
    };
}

/// This thread goes on as the CPU with this number, as which no other thread acts.
pub fn act_as(cpu: usize) {
    BLOCKS[cpu].id.set(cpu as u32);
    BLOCK.set(&BLOCKS[cpu]);
}

/// These CPUs take part from now on, and no others.
pub fn set_online_cpus(cpus: u64) {
    // ordering: Release, as in `set_online`.
    ONLINE.store(cpus, Ordering::Release);
}

/// The block of this CPU. Not inlined: what was found before a switch of stacks may be another CPU's behind it.
#[inline(never)]
pub fn this() -> &'static PerCpu {
    BLOCK.get()
}

/// The number of this CPU.
pub fn cpu_id() -> usize {
    this().id.get() as usize
}

/// This CPU has taken a spin lock.
pub fn lock_taken() {
    this().held.set(this().held.get() + 1);
}

/// This CPU gives a spin lock back.
pub fn lock_given_back() {
    this().held.set(this().held.get() - 1);
}

/// Whether this CPU holds a spin lock.
pub fn holds_a_lock() -> bool {
    this().held.get() != 0
}
