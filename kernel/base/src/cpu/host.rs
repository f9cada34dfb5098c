//! The block of this CPU on the host: each thread is a CPU of its own. Numbers are given out in turn, so of 64 threads in a row no two
//! have the same.

extern crate std;

use super::{CPUS, PerCpu};
use core::sync::atomic::{AtomicU32, Ordering};
use std::boxed::Box;

static NEXT: AtomicU32 = AtomicU32::new(0);

std::thread_local! {
    static BLOCK: &'static PerCpu = {
        let block = Box::leak(Box::new(PerCpu::new()));
        // ordering: Relaxed; a number by itself.
        block.id.set(NEXT.fetch_add(1, Ordering::Relaxed) % CPUS as u32);
        block
    };
}

/// The block of this CPU.
pub fn this() -> &'static PerCpu {
    BLOCK.with(|block| *block)
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
