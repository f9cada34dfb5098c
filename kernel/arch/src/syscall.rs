//! SYSCALL: entry, dispatch, and the way back to user mode.

use super::above::ABOVE;
use super::gdt;
use super::regs::{UserRegs, push_below_rdi};
use core::arch::naked_asm;
use quire_base::cpu::PerCpu;
use quire_base::hook::Hook;
use x86::msr;

/// Programs' flags that the entry clears: TF, IF, DF, IOPL, NT, AC, so that the kernel starts in a known state.
const FLAG_MASK: u64 = 0x4_7700;

/// Sets this CPU's SYSCALL registers.
///
/// # Safety
/// Called once on each CPU after the segments were loaded.
pub unsafe fn init() {
    // SAFETY: the CPU is x86-64; the selectors are those of the GDT: SYSRET adds 8 and 16 to the upper half.
    unsafe {
        msr::wrmsr(msr::IA32_STAR, (gdt::KERNEL_CODE as u64) << 32 | ((gdt::USER_DATA as u64 - 8) << 48));
        msr::wrmsr(msr::IA32_LSTAR, entry as *const () as u64);
        msr::wrmsr(msr::IA32_FMASK, FLAG_MASK);
    }
}

/// The entry of SYSCALL: saves all registers as [`UserRegs`], calls [`dispatch`], returns by SYSRET.
///
/// SYSRET faults *in kernel mode with the program's stack* on a non-canonical address, restores flags from r11 and the
/// address from rcx; whenever the registers to be restored do not fit that, IRET is used.
#[unsafe(naked)]
extern "C" fn entry() {
    naked_asm!(
        "swapgs",
        "mov gs:[16], rsp",
        "mov rsp, gs:[8]",
        "push {ss}",
        "push qword ptr gs:[16]",
        "push r11",
        "push {cs}",
        "push rcx",
        "push rax",
        "push rdi",
        push_below_rdi!(),
        "xor ebp, ebp",
        // The time in the kernel begins.
        "rdtsc",
        "shl rdx, 32",
        "or rax, rdx",
        "mov gs:[40], rax",
        "mov rdi, rsp",
        "sub rsp, 8",
        "call {dispatch}",
        "add rsp, 8",
        "jmp {leave}",
        ss = const gdt::USER_DATA,
        cs = const gdt::USER_CODE,
        dispatch = sym dispatch,
        leave = sym leave,
    )
}

/// Returns to user mode with the [`UserRegs`] that the stack pointer points to.
#[unsafe(naked)]
pub extern "C" fn leave() {
    naked_asm!(
        "cmp dword ptr gs:[24], 0",
        "jne 3f",
        "2:",
        "rdtsc",
        "shl rdx, 32",
        "or rax, rdx",
        "sub rax, gs:[40]",
        "add gs:[48], rax",
        "mov rcx, [rsp + 16 * 8]",
        "mov r11, [rsp + 18 * 8]",
        // The fast way restores rcx and r11 with rip and rflags: right if they were so (SYSCALL left them so).
        "cmp rcx, [rsp + 11 * 8]",
        "jne 4f",
        "cmp r11, [rsp + 6 * 8]",
        "jne 4f",
        "mov r8, rcx",
        "shr r8, 47",
        "jnz 4f",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "add rsp, 8",
        "pop r10",
        "pop r9",
        "pop r8",
        "pop rax",
        "add rsp, 8",
        "pop rdx",
        "pop rsi",
        "pop rdi",
        "mov rsp, [rsp + 4 * 8]",
        "swapgs",
        "sysretq",
        "3:",
        "mov rdi, rsp",
        "sub rsp, 8",
        "call {work}",
        "add rsp, 8",
        "jmp 2b",
        "4:",
        "mov rdi, rsp",
        "sub rsp, 8",
        "call {sane}",
        "add rsp, 8",
        "jmp trap_return",
        work = sym super::trap::user_work,
        sane = sym super::trap::before_iret,
    )
}

/// A system call as the entry code calls it: it gives the value for `rax`.
pub type Handler = fn(&mut UserRegs) -> isize;

/// Entries of the table; numbers above are unknown.
pub const COUNT: usize = 512;

/// The handler of every number; set at boot.
pub static TABLE: Hook<[Handler; COUNT]> = Hook::new(&[unknown; COUNT]);

#[cold]
#[inline(never)]
fn unknown(regs: &mut UserRegs) -> isize {
    (ABOVE.get().unknown_call)(regs)
}

/// Calls the handler of the program's system call.
extern "C" fn dispatch(regs: &mut UserRegs) {
    let number = regs.orig_rax as usize;
    let result = match TABLE.get().get(number) {
        Some(handler) => handler(regs),
        None => unknown(regs),
    };
    regs.rax = result as u64;
}

const _: () = {
    assert!(core::mem::offset_of!(PerCpu, kernel_rsp) == 8);
    assert!(core::mem::offset_of!(PerCpu, user_rsp) == 16);
    assert!(core::mem::offset_of!(PerCpu, work) == 24);
    assert!(core::mem::offset_of!(PerCpu, id) == 28);
    assert!(core::mem::offset_of!(PerCpu, entered) == 40);
    assert!(core::mem::offset_of!(PerCpu, in_kernel) == 48);
    assert!(core::mem::offset_of!(UserRegs, rcx) == 11 * 8);
    assert!(core::mem::offset_of!(UserRegs, r11) == 6 * 8);
    assert!(core::mem::offset_of!(UserRegs, rip) == 16 * 8);
    assert!(core::mem::offset_of!(UserRegs, rflags) == 18 * 8);
};
