//! The block of each CPU. In the kernel it is found through GS; in tests on the host each thread is a CPU.

#[cfg(target_os = "none")]
mod gs;
#[cfg(not(target_os = "none"))]
mod host;

#[cfg(target_os = "none")]
pub use gs::*;
#[cfg(not(target_os = "none"))]
pub use host::*;

use core::cell::Cell;
use core::ptr::null;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

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
    /// 32: the current thread; only the scheduler knows what that is.
    pub current: Cell<*const ()>,
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

impl PerCpu {
    /// A CPU that has not begun.
    const fn new() -> PerCpu {
        PerCpu {
            this: Cell::new(0),
            kernel_rsp: Cell::new(0),
            user_rsp: Cell::new(0),
            work: Cell::new(0),
            id: Cell::new(0),
            current: Cell::new(null()),
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
    }
}

/// Asks for work, a sum of the `WORK_` bits, before this CPU returns to a program.
#[inline]
pub fn request_work(bits: u32) {
    let cpu = this();
    cpu.work.set(cpu.work.get() | bits);
}

/// Ticks in the kernel since the last call, until `now`: for the current thread, or the one that is about to leave.
#[inline]
pub fn take_kernel_time(now: u64) -> u64 {
    let cpu = this();
    let stay = now.wrapping_sub(cpu.entered.replace(now));
    cpu.in_kernel.replace(0) + stay
}

static BLOCKS: [PerCpu; CPUS] = [const { PerCpu::new() }; CPUS];

static ONLINE: AtomicU64 = AtomicU64::new(0);

/// The CPUs that take part, as bits.
#[inline]
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
#[inline]
pub fn block(cpu: usize) -> &'static PerCpu {
    &BLOCKS[cpu]
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    #[test]
    fn each_thread_of_a_test_is_a_cpu() {
        let here = cpu_id();
        lock_taken();
        let there = std::thread::spawn(|| (cpu_id(), holds_a_lock())).join();
        assert_eq!(there.map(|(id, holds)| (id != here, holds)).ok(), Some((true, false)));
        assert!(holds_a_lock() && cpu_id() == here);
        lock_given_back();
        assert!(!holds_a_lock());
    }
}
