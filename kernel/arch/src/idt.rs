//! The interrupt table and the entry stubs: every vector ends in [`super::trap::trap`] with its registers saved,
//! but for the three that have stacks of their own.

use super::gdt;
use super::regs::{pop_all, push_below_rdi};
use core::arch::{asm, global_asm};
use core::cell::UnsafeCell;

// A stub pushes what the CPU did not (an error code of 0) and its vector; 16 bytes each, so that the table can compute their
// addresses. `trap_common` turns the vector's slot into the saved rdi.
global_asm!(
    ".text",
    ".align 16",
    ".global trap_stubs",
    "trap_stubs:",
    ".set vector, 0",
    ".rept 256",
    ".align 16",
    ".if (vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30)",
    ".else",
    "push 0",
    ".endif",
    "push vector",
    "jmp trap_common",
    ".set vector, vector + 1",
    ".endr",
    ".align 16",
    "trap_common:",
    // Vectors with a stack of their own (2, 8, 18) may come before `swapgs` of the entry code or after that of the exit code.
    "cmp byte ptr [rsp], 2",
    "je trap_paranoid",
    "cmp byte ptr [rsp], 8",
    "je trap_paranoid",
    "cmp byte ptr [rsp], 18",
    "je trap_paranoid",
    "test byte ptr [rsp + 24], 3",
    "jz 2f",
    "swapgs",
    "2:",
    "xchg rdi, [rsp]",
    push_below_rdi!(),
    "cld",
    "mov rsi, rdi",
    "mov rdi, rsp",
    "sub rsp, 8",
    "call {trap}",
    "add rsp, 8",
    ".global trap_return",
    "trap_return:",
    pop_all!(),
    "add rsp, 8",
    "test byte ptr [rsp + 8], 3",
    "jz 3f",
    "swapgs",
    "3:",
    "iretq",
    "trap_paranoid:",
    "xchg rdi, [rsp]",
    push_below_rdi!(),
    "cld",
    "mov rsi, rdi",
    // Whether GS is the program's now: kept in a register that calls preserve, for the way back.
    "xor ebx, ebx",
    "mov ecx, 0xc0000101",
    "rdmsr",
    "test edx, edx",
    "js 4f",
    "swapgs",
    "mov ebx, 1",
    "4:",
    "mov rdi, rsp",
    "sub rsp, 8",
    "cmp esi, 2",
    "jne 5f",
    "call {nmi}",
    "add rsp, 8",
    "test ebx, ebx",
    "jz 6f",
    "swapgs",
    "6:",
    pop_all!(),
    "add rsp, 8",
    "iretq",
    "5:",
    "call {fatal}",
    "ud2",
    trap = sym super::trap::trap,
    nmi = sym super::trap::nmi,
    fatal = sym super::trap::fatal,
);

unsafe extern "C" {
    static trap_stubs: u8;
}

struct Table(UnsafeCell<[[u64; 2]; 256]>);
// SAFETY: written once by the boot CPU before the others start, then only read by the hardware.
unsafe impl Sync for Table {}
static TABLE: Table = Table(UnsafeCell::new([[0; 2]; 256]));

/// Fills the table; the boot CPU does it once.
///
/// # Safety
/// No other CPU runs yet.
pub unsafe fn init() {
    // SAFETY: nobody else refers to the table.
    let table = unsafe { &mut *TABLE.0.get() };
    for (vector, gate) in table.iter_mut().enumerate() {
        let stub = &raw const trap_stubs as u64 + vector as u64 * 16;
        let ist = match vector {
            2 => gdt::IST_NMI,
            8 => gdt::IST_DOUBLE,
            18 => gdt::IST_MACHINE,
            _ => 0,
        } as u64;
        // Programs may use int3 and into; everything else is a general protection fault for them.
        let dpl = if matches!(vector, 3 | 4) { 3 } else { 0 };
        let kind = 0x8e | dpl << 5;
        gate[0] =
            (stub & 0xffff) | (gdt::KERNEL_CODE as u64) << 16 | ist << 32 | kind << 40 | (stub >> 16 & 0xffff) << 48;
        gate[1] = stub >> 32;
    }
}

/// Loads the table on this CPU.
///
/// # Safety
/// After [`init`], with this CPU's segments loaded.
pub unsafe fn load() {
    #[repr(C, packed)]
    struct Idtr(u16, u64);
    let idtr = Idtr(256 * 16 - 1, TABLE.0.get() as u64);
    // SAFETY: the table is static and complete.
    unsafe { asm!("lidt [{}]", in(reg) &raw const idtr, options(nostack, readonly)) };
}
