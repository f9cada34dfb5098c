//! Traps and interrupts: who gets which vector, and what happens on the way back to user mode.

use super::stay;
use super::{above::ABOVE, irq, regs::UserRegs, stack, usercopy};
use core::arch::asm;
use quire_base::cpu;
use quire_base::record;

/// A fault of a program that is not about a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trap {
    /// The CPU's vector (0 division, 6 invalid instruction, 13 general protection, ...).
    pub vector: u8,
    /// The CPU's error code, 0 where there is none.
    pub error: u64,
    /// The address for the signal: the accessed address of a page fault, else the instruction's.
    pub address: u64,
}

/// Vector of page faults.
pub const PAGE_FAULT: u8 = 14;

/// Every trap and interrupt but the three with stacks of their own. Interrupts are off.
pub extern "C" fn trap(regs: &mut UserRegs, vector: u64) {
    usercopy::close();
    let user = regs.is_user();
    if user {
        stay::enter_kernel();
    }
    match vector {
        14 => {
            let address: u64;
            // SAFETY: CR2 holds the address of the fault that is being handled: interrupts were off since.
            unsafe { asm!("mov {}, cr2", out(reg) address, options(nostack, nomem, preserves_flags)) };
            record::event(record::Kind::PageFault, address, regs.orig_rax);
            if user {
                cpu::this().faulted.set(regs.rip);
                (ABOVE.get().user_fault)(regs, address, regs.orig_rax);
            } else if !kernel_fault(regs, address) {
                fatal(regs, vector);
            }
        }
        0..32 => {
            if user {
                let address = regs.rip;
                record::event(record::Kind::UserTrap, vector, address);
                (ABOVE.get().user_trap)(regs, Trap { vector: vector as u8, error: regs.orig_rax, address });
            } else if vector == 13
                && let Some(routine) = usercopy::routine(regs.rip)
            {
                // A non-canonical address in a user copy: EFAULT.
                routine.fix_up(regs);
            } else {
                fatal(regs, vector);
            }
        }
        _ => irq::interrupt(vector as u8, user),
    }
    if user {
        let cpu = cpu::this();
        if cpu.work.get() != 0 {
            if regs.rip == cpu.faulted.get() {
                (ABOVE.get().grace)();
            }
            user_work(regs);
        }
        before_iret(regs);
        stay::leave_kernel();
    }
}

/// A page fault in the kernel: only the user copy routines may have one.
fn kernel_fault(regs: &mut UserRegs, address: u64) -> bool {
    let error = regs.orig_rax;
    let Some(routine) = usercopy::routine(regs.rip).filter(|_| address < 0x8000_0000_0000) else { return false };
    // A routine that must not wait leaves at once; the others repeat the instruction once the page is there.
    if !routine.may_wait() || !(ABOVE.get().copy_fault)(address, error) {
        routine.fix_up(regs);
    }
    true
}

/// Work that was asked for before the return to user mode: another thread, the signal code.
#[cold]
pub extern "C" fn user_work(regs: &mut UserRegs) {
    loop {
        let work = cpu::this().work.replace(0);
        if work == 0 {
            return;
        }
        (ABOVE.get().work)(regs, work);
    }
}

/// Makes registers fit for IRET, which must not fault: an instruction's address outside of the program's half is a fault of the program,
/// as the CPU would raise it there. This is the only place that checks what a program can put there (by a handler's address, a signal
/// frame, a system call at the edge of its half); selectors and flags never come from programs unchecked.
///
/// Each turn ends the program or enters a handler, whose frame takes room on a stack: so the turns end, also when the handler's
/// address is such a one.
pub extern "C" fn before_iret(regs: &mut UserRegs) {
    const CANONICAL: u32 = 16;
    while regs.rip >> 47 != 0 {
        let address = regs.rip;
        let trap = if (address as i64) << CANONICAL >> CANONICAL == address as i64 {
            // A fetch by the program, of what it has no right to.
            Trap { vector: PAGE_FAULT, error: 0x15, address }
        } else {
            Trap { vector: 13, error: 0, address }
        };
        (ABOVE.get().user_trap)(regs, trap);
        user_work(regs);
        super::interrupt_window();
    }
}

/// A non-maskable interrupt, which may come anywhere: another CPU panics and wants silence, or somebody asks where this CPU
/// stands. The handler takes no lock and touches no memory that may be missing: a fault in it would let a second one in, on the
/// same stack.
pub extern "C" fn nmi(regs: &mut UserRegs) {
    (ABOVE.get().nmi)(regs);
}

/// A trap that has no good end.
pub extern "C" fn fatal(regs: &mut UserRegs, vector: u64) -> ! {
    let cr2: u64;
    // SAFETY: reading CR2 has no effect.
    unsafe { asm!("mov {}, cr2", out(reg) cr2, options(nostack, nomem, preserves_flags)) };
    const NAMES: [&str; 20] = [
        "division",
        "debug",
        "NMI",
        "breakpoint",
        "overflow",
        "bound",
        "invalid opcode",
        "no FPU",
        "double fault",
        "9",
        "invalid TSS",
        "segment not present",
        "stack segment",
        "general protection",
        "page fault",
        "15",
        "x87",
        "alignment",
        "machine check",
        "SIMD",
    ];
    let name = NAMES.get(vector as usize).copied().unwrap_or("interrupt");
    let guard = if vector == 8 && stack::is_guard(cr2) { " (kernel stack overflow)" } else { "" };
    (ABOVE.get().fatal)(
        regs,
        format_args!(
            "{name} (vector {vector}) in the kernel{guard}: error {:#x} cr2 {cr2:#x} rip {:#x}",
            regs.orig_rax, regs.rip
        ),
    )
}
