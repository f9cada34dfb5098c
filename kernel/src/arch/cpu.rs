//! The block of each CPU, found through GS, and the CPU's control registers.

use crate::sched::Thread;
use core::arch::asm;
use core::cell::Cell;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use x86::cpuid::CpuId;
use x86::msr;

/// The most CPUs there can be.
pub const CPUS: usize = 64;

/// What belongs to one CPU. The entry code knows the fields with numbers by their offsets.
#[repr(C, align(128))]
pub struct PerCpu {
    /// 0: the block's own address.
    pub this: Cell<u64>,
    /// 8: the top of the current thread's kernel stack.
    pub kernel_rsp: Cell<u64>,
    /// 16: the program's stack pointer for a few instructions of the entry code.
    pub user_rsp: Cell<u64>,
    /// 24: what must be done before the return to user mode: a sum of the `WORK_` bits.
    /// Only this CPU writes it (others send an interrupt), so plain accesses suffice.
    pub work: Cell<u32>,
    /// 28: the CPU's number.
    pub id: Cell<u32>,
    /// 32: the current thread.
    pub current: Cell<*const Thread>,
    /// 40: the time stamp counter when the kernel was entered from user mode, or when the current thread's time was taken last.
    pub entered: Cell<u64>,
    /// 48: ticks that the current thread has spent in the kernel since its time was taken last, without its current stay.
    pub in_kernel: Cell<u64>,
    /// Page faults of the current thread's program since its time was taken last.
    pub faults: Cell<u64>,
    /// The instruction of the last page fault of a program: until another one is there, it has not got on.
    pub faulted: Cell<u64>,
    /// Spin locks that this CPU holds. While it is not 0, nothing waits and no user memory is touched.
    pub held: Cell<u32>,
    /// FS base that the CPU has loaded.
    pub fs_base: Cell<u64>,
    /// GS base of programs that the CPU has loaded (behind SWAPGS).
    pub gs_base: Cell<u64>,
    /// The thread whose FPU state the registers hold, as its address.
    pub fpu_owner: Cell<usize>,
    /// Identity at the local APIC.
    pub apic_id: AtomicU32,
    /// Address of the task state segment, for the stack that traps from user mode start on.
    pub tss: Cell<u64>,
    /// Interrupts and traps taken, for statistics.
    pub traps: AtomicU64,
}

// SAFETY: the cells are touched by their own CPU only (and by the boot CPU before the other runs); `this`, `id` and `tss` do
// not change after that. The rest is atomic.
unsafe impl Sync for PerCpu {}

/// Bit of [`PerCpu::work`]: choose a thread anew.
pub const WORK_SCHEDULE: u32 = 1;
/// Bit of [`PerCpu::work`]: the current thread's attention flag is up.
pub const WORK_ATTENTION: u32 = 2;
/// Bit of [`PerCpu::work`]: timers of the current thread's processor time may be due.
pub const WORK_CLOCK: u32 = 4;

static BLOCKS: [PerCpu; CPUS] = [const {
    PerCpu {
        this: Cell::new(0),
        kernel_rsp: Cell::new(0),
        user_rsp: Cell::new(0),
        work: Cell::new(0),
        id: Cell::new(0),
        current: Cell::new(core::ptr::null()),
        entered: Cell::new(0),
        in_kernel: Cell::new(0),
        faults: Cell::new(0),
        faulted: Cell::new(0),
        held: Cell::new(0),
        fs_base: Cell::new(0),
        gs_base: Cell::new(0),
        fpu_owner: Cell::new(0),
        apic_id: AtomicU32::new(0),
        tss: Cell::new(0),
        traps: AtomicU64::new(0),
    }
}; CPUS];

static ONLINE: AtomicU64 = AtomicU64::new(0);

/// The CPUs that take part, as bits.
pub fn online() -> u64 {
    // ordering: Acquire pairs with the Release of `set_online`: who sees the bit sees the CPU's block.
    ONLINE.load(Ordering::Acquire)
}

/// Says that this CPU takes part.
pub fn set_online() {
    // ordering: Release publishes the CPU's block (APIC identity, TSS).
    ONLINE.fetch_or(1 << cpu_id(), Ordering::Release);
}

/// The block of any CPU.
pub fn block(cpu: usize) -> &'static PerCpu {
    &BLOCKS[cpu]
}

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

/// Ticks in the kernel since the last call, until `now`: for the current thread, or the one that is about to leave.
pub fn take_kernel_time(now: u64) -> u64 {
    let cpu = this();
    let stay = now.wrapping_sub(cpu.entered.replace(now));
    cpu.in_kernel.replace(0) + stay
}

/// Makes GS point to block `id`.
///
/// # Safety
/// Called once on each CPU, with a number of its own, before anything asks for it.
pub unsafe fn install(id: usize) {
    let block = &BLOCKS[id];
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
