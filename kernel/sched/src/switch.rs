//! The context switch, in assembler: callee-saved registers and the stack pointer.

use core::arch::naked_asm;

/// Saves the running context at `*save` and goes on with the one at `load`.
///
/// # Safety
/// `load` was written by this function or made by [`push`], and its stack is used by nobody.
#[unsafe(naked)]
pub unsafe extern "C" fn switch(save: *mut u64, load: u64) {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov [rdi], rsp",
        "mov rsp, rsi",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

/// Writes a first context (r15, r14, r13, r12, rbx, rbp, return address, ...) below `top`; returns its address.
///
/// # Safety
/// The memory below `top` is the new thread's own stack.
pub unsafe fn push<const N: usize>(top: u64, frame: [u64; N]) -> u64 {
    let at = top - (N * 8) as u64;
    // SAFETY: promised by the caller.
    unsafe { (at as *mut [u64; N]).write(frame) };
    at
}

/// Where a kernel thread begins: its function in r12, the argument in r13.
#[unsafe(naked)]
pub extern "C" fn kernel_start() {
    naked_asm!(
        "sub rsp, 8",
        "and rsp, -16",
        "call {finish}",
        "mov rdi, r12",
        "mov rsi, r13",
        "call {main}",
        "ud2",
        finish = sym crate::finish_switch,
        main = sym crate::life::kernel_main,
    )
}

/// Where a user thread begins: with its registers on the stack.
#[unsafe(naked)]
pub extern "C" fn user_start() {
    naked_asm!(
        "sub rsp, 8",
        "call {finish}",
        "add rsp, 8",
        "jmp {leave}",
        finish = sym crate::finish_switch,
        leave = sym crate::machine::leave,
    )
}
