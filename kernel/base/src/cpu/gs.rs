//! The block of this CPU in the kernel: GS points to it.

use super::{CPUS, PerCpu};
use core::arch::asm;
use core::mem::offset_of;

/// The block of this CPU.
#[inline(always)]
pub fn this() -> &'static PerCpu {
    let this: *const PerCpu;
    // SAFETY: GS points to this CPU's block from `install` on, and its first word is its address. Not `pure`: a thread may
    // be on another CPU after a switch.
    unsafe { asm!("mov {}, gs:[0]", out(reg) this, options(nostack, preserves_flags, readonly)) };
    // SAFETY: the blocks are static.
    unsafe { &*this }
}

/// The number of this CPU.
#[inline(always)]
pub fn cpu_id() -> usize {
    let id: usize;
    // SAFETY: as in `this`; a move to the lower half of a register clears the upper one. `install` has taken the number's block out
    // of `CPUS`.
    unsafe {
        asm!("mov {:e}, gs:[28]", out(reg) id, options(nostack, preserves_flags, readonly));
        core::hint::assert_unchecked(id < CPUS);
    }
    id
}

/// This CPU has taken a spin lock.
#[inline(always)]
pub fn lock_taken() {
    // SAFETY: GS points to this CPU's block.
    unsafe { asm!("inc dword ptr gs:[{at}]", at = const offset_of!(PerCpu, held), options(nostack)) };
}

/// This CPU gives a spin lock back.
#[inline(always)]
pub fn lock_given_back() {
    // SAFETY: as above.
    unsafe { asm!("dec dword ptr gs:[{at}]", at = const offset_of!(PerCpu, held), options(nostack)) };
}

/// Whether this CPU holds a spin lock.
#[inline(always)]
pub fn holds_a_lock() -> bool {
    let held: u32;
    // SAFETY: as above.
    unsafe {
        asm!("mov {held:e}, gs:[{at}]", at = const offset_of!(PerCpu, held), held = out(reg) held,
            options(nostack, preserves_flags, readonly));
    }
    held != 0
}
