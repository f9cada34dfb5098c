#![doc = include_str!("../README.md")]
#![no_std]

extern crate alloc;

pub mod above;
pub mod backtrace;
pub mod boot;
mod calibrate;
pub mod control;
pub mod fpu;
pub mod gdt;
pub mod idt;
pub mod irq;
pub mod paging;
pub mod regs;
pub mod smp;
pub mod stack;
pub mod stay;
pub mod syscall;
pub mod trap;
pub mod usercopy;

pub use regs::UserRegs;

/// Lets pending interrupts in: a short window inside a long wait. The caller holds no spin lock.
#[inline]
pub fn interrupt_window() {
    quire_base::lock::may_wait();
    // SAFETY: kernel code runs with interrupts off and they are off again afterwards; handlers take leaf locks only, which
    // nobody holds across a window.
    unsafe { core::arch::asm!("sti", "nop", "cli", options(nostack)) };
}

/// How many CPUs take part; their numbers are below it.
pub fn cpu_count() -> usize {
    quire_base::cpu::online().count_ones() as usize
}

/// Stops this CPU for good.
pub fn halt_forever() -> ! {
    loop {
        // SAFETY: with interrupts off only an NMI continues, and the loop stops again.
        unsafe { core::arch::asm!("cli", "hlt", options(nomem, nostack)) };
    }
}

/// Ends QEMU through `isa-debug-exit`; where there is none, the CPU halts.
pub fn debug_exit(code: u32) -> ! {
    // SAFETY: port 0xf4 belongs to the debug-exit device or to nobody.
    unsafe { x86::io::outl(0xf4, code) };
    halt_forever()
}
