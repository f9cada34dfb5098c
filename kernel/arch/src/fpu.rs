//! The x87, SSE and AVX registers of each user thread, kept with XSAVE (FXSAVE where the CPU has no XSAVE).
//!
//! The kernel is compiled without them, so they change hands only when threads do.

use alloc::alloc::{Layout, alloc_zeroed, dealloc};
use core::arch::asm;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use x86::cpuid::CpuId;

/// State components in use: XCR0. 0 means FXSAVE.
static COMPONENTS: AtomicU64 = AtomicU64::new(0);
static SIZE: AtomicUsize = AtomicUsize::new(512);

/// Turns the register sets on: x87, SSE, AVX, and AVX-512 where all its parts are there.
///
/// # Safety
/// Called once on each CPU before any user code runs on it.
pub unsafe fn init() {
    let id = CpuId::new();
    let xsave = id.get_feature_info().is_some_and(|f| f.has_xsave());
    if xsave {
        let state = x86::cpuid::cpuid!(0xd, 0);
        let offered = state.eax as u64 | (state.edx as u64) << 32;
        let mut components = 3 | (offered & 4);
        if offered & 0xe4 == 0xe4 {
            components |= 0xe0;
        }
        // SAFETY: XSAVE exists; the components were offered, and they keep the architecture's rule (AVX-512 needs AVX).
        unsafe {
            let mut cr4: usize;
            asm!("mov {}, cr4", out(reg) cr4);
            asm!("mov cr4, {}", in(reg) cr4 | 1 << 18);
            asm!("xsetbv", in("ecx") 0, in("eax") components as u32, in("edx") 0);
        }
        // ordering: Relaxed; the boot CPU writes them before the others start, which write the same values.
        COMPONENTS.store(components, Ordering::Relaxed);
        // With XCR0 set, EBX tells the size for what is on.
        SIZE.store(x86::cpuid::cpuid!(0xd, 0).ebx as usize, Ordering::Relaxed);
    }
    // SAFETY: resets the x87 unit; no state is lost on a CPU that has run no program.
    unsafe { asm!("fninit") };
}

/// Whether AVX is on and AVX-512 is not: then a 256-bit instruction changes nothing that saving 256 bits does not keep.
pub fn has_plain_avx() -> bool {
    // ordering: Relaxed; constant after boot.
    COMPONENTS.load(Ordering::Relaxed) & 0xe4 == 4
}

/// The registers of one thread while it does not run.
pub struct State(NonNull<u8>);

// SAFETY: a plain block of memory with one owner; the scheduler hands it over with the thread.
unsafe impl Send for State {}
// SAFETY: shared references give no access.
unsafe impl Sync for State {}

fn layout() -> Layout {
    // ordering: Relaxed; constant after boot.
    // SAFETY: 64 is a power of two, and the size is that of the CPU's register file.
    unsafe { Layout::from_size_align_unchecked(SIZE.load(Ordering::Relaxed), 64) }
}

impl State {
    /// The state of a fresh program; `None` when memory is short.
    pub fn new() -> Option<State> {
        // SAFETY: the layout is not empty.
        let p = NonNull::new(unsafe { alloc_zeroed(layout()) })?;
        // A zeroed header means "initial state" to XRSTOR; FXRSTOR reads the control words, and both read MXCSR.
        // SAFETY: the fields lie in the legacy part, 512 bytes.
        unsafe {
            p.cast::<u16>().write(0x37f);
            p.add(24).cast::<u32>().write(0x1f80);
        }
        Some(State(p))
    }

    /// Saves the CPU's registers: all of them. XSAVEOPT would skip what has not changed since the last XRSTOR *from this address*, and
    /// that may have been another thread's, whose block this was before.
    #[inline]
    pub fn save(&mut self) {
        // ordering: Relaxed; constant after boot.
        let c = COMPONENTS.load(Ordering::Relaxed);
        let p = self.0.as_ptr();
        // SAFETY: the block has the size and alignment that the instruction wants; the instruction was chosen by CPUID.
        unsafe {
            if c == 0 {
                asm!("fxsave64 [{}]", in(reg) p, options(nostack));
            } else {
                asm!("xsave64 [{}]", in(reg) p, in("eax") c as u32, in("edx") 0, options(nostack));
            }
        }
    }

    /// Loads the CPU's registers.
    #[inline]
    pub fn restore(&self) {
        // ordering: Relaxed; constant after boot.
        let c = COMPONENTS.load(Ordering::Relaxed);
        let p = self.0.as_ptr();
        // SAFETY: the block was made by `new` and since then written by `save` only, so the instruction finds it valid.
        unsafe {
            if c == 0 {
                asm!("fxrstor64 [{}]", in(reg) p, options(nostack));
            } else {
                asm!("xrstor64 [{}]", in(reg) p, in("eax") c as u32, in("edx") 0, options(nostack));
            }
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // SAFETY: made by `alloc_zeroed` with the same layout.
        unsafe { dealloc(self.0.as_ptr(), layout()) };
    }
}
