//! Stays in the kernel: how long the current thread is there, and how many page faults it has. The entry code of SYSCALL writes the same
//! words.

use core::arch::asm;
use core::mem::offset_of;
use quire_base::cpu::PerCpu;

/// The kernel is entered from user mode by a trap: its time begins. The entry code of SYSCALL does the same.
#[inline(always)]
pub fn enter_kernel() {
    // SAFETY: the counter is readable, and GS points to this CPU's block.
    unsafe {
        asm!("rdtsc", "shl rdx, 32", "or rax, rdx", "mov gs:[{at}], rax",
            at = const offset_of!(PerCpu, entered), out("rax") _, out("rdx") _, options(nostack));
    }
}

/// The kernel is left for user mode. The exit code of SYSCALL does the same.
#[inline(always)]
pub fn leave_kernel() {
    // SAFETY: as in `enter_kernel`.
    unsafe {
        asm!("rdtsc", "shl rdx, 32", "or rax, rdx", "sub rax, gs:[{from}]", "add gs:[{sum}], rax",
            from = const offset_of!(PerCpu, entered), sum = const offset_of!(PerCpu, in_kernel),
            out("rax") _, out("rdx") _, options(nostack));
    }
}

/// Counts a page fault of the current thread's program.
#[inline(always)]
pub fn count_fault() {
    // SAFETY: GS points to this CPU's block.
    unsafe { asm!("inc qword ptr gs:[{at}]", at = const offset_of!(PerCpu, faults), options(nostack)) };
}
