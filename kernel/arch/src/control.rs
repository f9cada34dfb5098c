//! What the CPU offers, and its control registers.

use core::arch::asm;
use core::sync::atomic::Ordering;
use quire_base::cpu::{PerCpu, block};
use x86::cpuid::CpuId;
use x86::msr;

/// Makes GS point to block `id`.
///
/// # Safety
/// Called once on each CPU, with a number of its own, before anything asks for it.
pub unsafe fn install(id: usize) {
    let block = block(id);
    block.this.set(block as *const PerCpu as u64);
    block.id.set(id as u32);
    // SAFETY: the MSRs exist on every x86-64 CPU; GS is unused in the kernel but for the block.
    unsafe {
        msr::wrmsr(msr::IA32_GS_BASE, block as *const PerCpu as u64);
        msr::wrmsr(msr::IA32_KERNEL_GSBASE, 0);
        msr::wrmsr(msr::IA32_FS_BASE, 0);
    }
}

/// Whether `stac` and `clac` exist: user memory is out of reach but between them. Written before the other CPUs start.
pub static SMAP: core::sync::atomic::AtomicBool = core::sync::atomic::AtomicBool::new(false);

/// Whether the CPU knows no-execute pages.
pub fn has_nx() -> bool {
    CpuId::new().get_extended_processor_and_feature_identifiers().is_some_and(|f| f.has_execute_disable())
}

/// Whether the CPU knows 1 GiB pages.
pub fn has_gib_pages() -> bool {
    CpuId::new().get_extended_processor_and_feature_identifiers().is_some_and(|f| f.has_1gib_pages())
}

/// Turns on NX; must precede the kernel's own tables.
///
/// # Safety
/// Called during the CPU's start.
pub unsafe fn enable_nx() {
    if has_nx() {
        // SAFETY: the CPU has the bit.
        unsafe { msr::wrmsr(msr::IA32_EFER, msr::rdmsr(msr::IA32_EFER) | (1 << 11)) };
    }
}

/// Turns on the protections that the CPU offers: WP, SMEP, SMAP, UMIP; global pages; SYSCALL.
///
/// # Safety
/// Called once on each CPU, on the kernel's own tables.
pub unsafe fn protect() {
    const CR4_PGE: usize = 1 << 7;
    const CR4_OSFXSR: usize = 1 << 9;
    const CR4_OSXMMEXCPT: usize = 1 << 10;
    const CR4_UMIP: usize = 1 << 11;
    const CR4_SMEP: usize = 1 << 20;
    const CR4_SMAP: usize = 1 << 21;
    let id = CpuId::new();
    // Global pages make the kernel's translations survive a change of the top-level table.
    let mut set = CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT;
    if let Some(f) = id.get_extended_feature_info() {
        if f.has_umip() {
            set |= CR4_UMIP;
        }
        if f.has_smep() {
            set |= CR4_SMEP;
        }
        if f.has_smap() {
            set |= CR4_SMAP;
            // ordering: Relaxed; written by the boot CPU before any program and any other CPU runs, then only with the same value.
            SMAP.store(true, Ordering::Relaxed);
        }
    }
    // SAFETY: every bit was found in CPUID (or belongs to the x86-64 baseline).
    unsafe {
        let mut cr4: usize;
        asm!("mov {}, cr4", out(reg) cr4);
        cr4 |= set;
        asm!("mov cr4, {}", in(reg) cr4);
        msr::wrmsr(msr::IA32_EFER, msr::rdmsr(msr::IA32_EFER) | 1);
        let mut cr0: usize;
        asm!("mov {}, cr0", out(reg) cr0);
        // WP, NE, MP on; EM, TS off.
        cr0 = (cr0 | (1 << 16) | (1 << 5) | (1 << 1)) & !((1 << 2) | (1 << 3));
        asm!("mov cr0, {}", in(reg) cr0);
    }
}
