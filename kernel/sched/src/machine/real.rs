//! The x86-64 machine.

use quire_arch::{gdt, irq};
use quire_base::time;
use x86::msr;

pub use quire_arch::backtrace::Trace;
pub use quire_arch::fpu::State as Registers;
pub use quire_arch::interrupt_window;
pub use quire_arch::regs::{SIZE as REGS, UserRegs};
pub use quire_arch::stack::{self, Stack};
pub use quire_arch::syscall::leave;

/// The time stamp counter.
#[inline]
pub fn tsc() -> u64 {
    time::tsc()
}

/// Halts this CPU until an interrupt, and takes it. The caller holds no spin lock.
#[inline]
pub fn halt() {
    // SAFETY: `sti` takes effect after the next instruction, so no interrupt is lost between the two; handlers take leaf locks only,
    // which the caller does not hold.
    unsafe { core::arch::asm!("sti", "hlt", "cli", options(nostack)) };
}

/// Makes another CPU look at its queue and its thread's flags.
#[inline]
pub fn poke(cpu: usize) {
    irq::send(cpu, irq::RESCHEDULE);
}

/// Makes this CPU's timer interrupt come in so many nanoseconds.
#[inline]
pub fn set_timer(ns: u64) {
    irq::set_timer(ns);
}

/// Sets the stack on which this CPU enters the kernel from a program.
#[inline]
pub fn set_kernel_stack(top: u64) {
    gdt::set_kernel_stack(top);
}

/// Loads a program's base of FS.
#[inline]
pub fn load_fs(base: u64) {
    // SAFETY: an address of the user half; the kernel itself does not use FS.
    unsafe { msr::wrmsr(msr::IA32_FS_BASE, canonical(base)) };
}

/// Loads a program's base of GS, which waits in this register while the kernel runs.
#[inline]
pub fn load_gs(base: u64) {
    // SAFETY: as above; the kernel's own base is in the other register.
    unsafe { msr::wrmsr(msr::IA32_KERNEL_GSBASE, canonical(base)) };
}

/// The address, or 0 where the CPU would refuse it.
fn canonical(base: u64) -> u64 {
    if base >> 47 == 0 { base } else { 0 }
}
