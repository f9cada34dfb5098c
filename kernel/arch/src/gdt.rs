//! Segments and the task state segment of each CPU.

use core::arch::asm;
use core::cell::UnsafeCell;
use quire_base::cpu::{self, CPUS};

/// Kernel code selector.
pub const KERNEL_CODE: u16 = 0x08;
/// Kernel data selector.
pub const KERNEL_DATA: u16 = 0x10;
/// User data selector; SYSRET wants it just below the code.
pub const USER_DATA: u16 = 0x18 | 3;
/// User code selector.
pub const USER_CODE: u16 = 0x20 | 3;
const TSS: u16 = 0x28;

/// Stack number of double faults.
pub const IST_DOUBLE: u8 = 1;
/// Stack number of NMIs.
pub const IST_NMI: u8 = 2;
/// Stack number of machine checks.
pub const IST_MACHINE: u8 = 3;

#[repr(C, packed(4))]
struct Tss {
    reserved0: u32,
    rsp: [u64; 3],
    reserved1: u64,
    ist: [u64; 7],
    reserved2: u64,
    reserved3: u16,
    iomap: u16,
}

#[repr(C, align(128))]
struct Tables {
    gdt: [u64; 7],
    tss: Tss,
}

struct Slot(UnsafeCell<Tables>);
// SAFETY: each CPU touches its own slot only.
unsafe impl Sync for Slot {}

static TABLES: [Slot; CPUS] = [const {
    Slot(UnsafeCell::new(Tables {
        gdt: [0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff, 0x00cf_f300_0000_ffff, 0x00af_fb00_0000_ffff, 0, 0],
        tss: Tss {
            reserved0: 0,
            rsp: [0; 3],
            reserved1: 0,
            ist: [0; 7],
            reserved2: 0,
            reserved3: 0,
            // Behind the limit: no port is open to programs.
            iomap: size_of::<Tss>() as u16,
        },
    }))
}; CPUS];

/// Loads this CPU's segments. `ist` are the tops of the stacks for double faults, NMIs and machine checks.
///
/// # Safety
/// Called once on each CPU, after [`install`](super::control::install); the stacks are mapped and nobody else's.
pub unsafe fn load(ist: [u64; 3]) {
    let tables = TABLES[cpu::cpu_id()].0.get();
    // SAFETY: the slot is this CPU's own, and nothing refers to it yet.
    let tables = unsafe { &mut *tables };
    let base = &raw const tables.tss as u64;
    tables.tss.ist = [ist[0], ist[1], ist[2], 0, 0, 0, 0];
    tables.gdt[5] = (size_of::<Tss>() as u64 - 1) | (base & 0xff_ffff) << 16 | 0x89 << 40 | (base >> 24 & 0xff) << 56;
    tables.gdt[6] = base >> 32;
    cpu::this().tss.set(base);
    let gdtr: (u16, [u16; 4]) = (size_of::<[u64; 7]>() as u16 - 1, {
        let a = tables.gdt.as_ptr() as u64;
        [a as u16, (a >> 16) as u16, (a >> 32) as u16, (a >> 48) as u16]
    });
    #[repr(C)]
    struct Gdtr(u16, [u16; 4]);
    let gdtr = Gdtr(gdtr.0, gdtr.1);
    // There is no local table, and that has to be said: after a reset the register names one of 64 KiB at address 0, which is the
    // program's memory.
    // SAFETY: the table is static and holds the selectors that are loaded. FS and GS keep their bases: they are not reloaded.
    unsafe {
        asm!(
            "lgdt [{gdtr}]",
            "push {code}",
            "lea {tmp}, [rip + 2f]",
            "push {tmp}",
            "retfq",
            "2:",
            "mov ss, {data:e}",
            "mov ds, {zero:e}",
            "mov es, {zero:e}",
            "lldt {zero:x}",
            "ltr {tss:x}",
            gdtr = in(reg) &raw const gdtr,
            code = in(reg) KERNEL_CODE as u64,
            data = in(reg) KERNEL_DATA as u64,
            zero = in(reg) 0u64,
            tss = in(reg) TSS as u64,
            tmp = out(reg) _,
        );
    }
}

/// Sets the stack that traps from user mode start on.
#[inline]
pub fn set_kernel_stack(top: u64) {
    let cpu = cpu::this();
    cpu.kernel_rsp.set(top);
    // SAFETY: the address was set by `load` on this CPU; `rsp[0]` lies 4 bytes into the TSS and need not be aligned.
    unsafe { ((cpu.tss.get() + 4) as *mut u64).write_unaligned(top) };
}
