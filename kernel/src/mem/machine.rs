//! The machine under the memory manager: `quire_mm`'s trait over the real hardware, and the one [`Memory`] of the kernel.

use core::arch::asm;
use core::panic::Location;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use quire_arch::{irq, paging};
use quire_base::cpu;
use quire_base::early;
use quire_base::hook::Hook;
use quire_base::layout::phys_to_virt;
use quire_base::lock::may_wait;
use quire_base::wait;
use quire_mm::entry::{self, Entry, Table};
use quire_mm::frames::{Block, Frame, FrameWord, bitmap::BLOCK_BITS};
use quire_mm::machine::{BODY, GROUP};
use quire_mm::{Machine, Memory, PAGE, Page, Pager, What};

/// The hardware.
#[derive(Debug)]
pub struct Kernel {
    words: &'static [FrameWord],
    blocks: &'static [Block],
    slabs: &'static [Block],
}

/// What the machine under the memory manager asks of the kernel above it.
pub struct Above {
    /// A turn of a wait that polls since this time: the caller holds no spin lock.
    pub give_way: fn(u64),
    /// What has pages that are in no frame, if there is such a thing.
    pub pager: fn() -> Option<&'static dyn Pager>,
}

/// Set at boot.
pub static ABOVE: Hook<Above> = Hook::new(&Above { give_way: |_| core::hint::spin_loop(), pager: || None });

static MEMORY: AtomicPtr<Memory<Kernel>> = AtomicPtr::new(core::ptr::null_mut());
/// Whether AVX may be used for filling and copying: the CPU has it, and no state behind it that a 256-bit write would clear.
static WIDE: AtomicBool = AtomicBool::new(false);

/// The bits that an empty entry lacks, for as many entries as a vector register holds.
static KINDS: [u64; 4] = [entry::KINDS; 4];

/// The kernel's memory.
#[inline]
pub fn memory() -> &'static Memory<Kernel> {
    // ordering: Relaxed; written once by the boot CPU before any other CPU or thread runs.
    // SAFETY: `init` has stored a static; nothing reaches this before.
    unsafe { &*MEMORY.load(Ordering::Relaxed) }
}

/// Makes the frame allocator out of all RAM that the early allocator has left. Called once by the boot CPU, with the FPU state
/// configured; the early allocator is closed afterwards.
pub fn init() -> Result<(), &'static str> {
    const SHORT: &str = "no memory for the frame words";
    let frames = early::ram_end().div_ceil(PAGE as u64) as usize;
    let blocks = frames.div_ceil(BLOCK_BITS);
    // SAFETY: zero bytes are words of unused frames and blocks without set bits, which is what both types start as.
    let kernel = unsafe {
        Kernel {
            words: zeroed(blocks * BLOCK_BITS).ok_or(SHORT)?,
            blocks: zeroed(blocks).ok_or(SHORT)?,
            slabs: zeroed(blocks).ok_or(SHORT)?,
        }
    };
    let at = early::alloc(size_of::<Memory<Kernel>>() as u64, align_of::<Memory<Kernel>>() as u64).ok_or(SHORT)?;
    let at = phys_to_virt(at).cast::<Memory<Kernel>>();
    // SAFETY: fresh zeroed memory, large and aligned enough, ours for ever.
    let memory = unsafe { Memory::new_in_zeroed(at, kernel) };
    // ordering: Relaxed; see `memory`.
    MEMORY.store(at, Ordering::Relaxed);
    // ordering: Relaxed; constant from here on.
    WIDE.store(quire_arch::fpu::has_plain_avx(), Ordering::Relaxed);
    early::close();
    early::free_regions(|r| {
        // SAFETY: free RAM by the memory map, handed over once.
        unsafe { memory.add(Frame((r.start / PAGE as u64) as u32), Frame((r.end / PAGE as u64) as u32)) };
    });
    memory.start().then_some(()).ok_or("no memory for the zero page")
}

/// A static slice of zeros, from the early allocator.
///
/// # Safety
///
/// All-zero bytes are a value of `T`.
pub unsafe fn zeroed<T>(n: usize) -> Option<&'static [T]> {
    let at = early::alloc((n * size_of::<T>()) as u64, align_of::<T>().max(64) as u64)?;
    // SAFETY: fresh zeroed memory, ours for ever.
    Some(unsafe { core::slice::from_raw_parts(phys_to_virt(at).cast(), n) })
}

// SAFETY: CPU numbers are unique and kernel code is not preempted, so a number stays until the caller waits; the slices are
// static; a frame's memory is its place in the linear map; `invlpg` and a CR3 load drop what they must (user pages are never
// global); the shootdown vector's handler calls `serve`, and handlers run outside of windows only, since kernel code runs with
// interrupts off.
unsafe impl Machine for Kernel {
    #[inline(always)]
    fn cpu(&self) -> usize {
        cpu::cpu_id()
    }
    #[inline(always)]
    fn frame_words(&self) -> &[FrameWord] {
        self.words
    }
    #[inline]
    fn blocks(&self) -> &[Block] {
        self.blocks
    }
    #[inline]
    fn slabs(&self) -> &[Block] {
        self.slabs
    }
    #[inline(always)]
    fn page(&self, frame: Frame) -> *mut u8 {
        phys_to_virt(frame.addr())
    }
    #[inline(always)]
    fn table(&self, frame: Frame) -> &Table {
        // SAFETY: a frame in the linear map is as large and aligned as a table, and every bit pattern is an entry.
        unsafe { &*phys_to_virt(frame.addr()).cast::<Table>() }
    }
    #[inline]
    fn zero(&self, frame: Frame) {
        let to = self.page(frame);
        // ordering: Relaxed; constant after boot.
        // SAFETY: the frame is the caller's alone; the vector register is put back as it was.
        unsafe {
            if WIDE.load(Ordering::Relaxed) {
                asm!(
                    "sub rsp, 32",
                    "vmovdqu [rsp], ymm0",
                    "vpxor xmm0, xmm0, xmm0",
                    ".set at, 0",
                    ".rept 128",
                    "vmovdqa [{to} + at], ymm0",
                    ".set at, at + 32",
                    ".endr",
                    "vmovdqu ymm0, [rsp]",
                    "add rsp, 32",
                    to = in(reg) to,
                );
            } else {
                asm!("rep stosq", inout("rdi") to => _, inout("rcx") PAGE / 8 => _, in("rax") 0, options(nostack, preserves_flags));
            }
        }
    }
    #[inline]
    fn copy(&self, from: Frame, to: Frame) {
        let (from, to) = (self.page(from), self.page(to));
        // ordering: Relaxed; constant after boot.
        // SAFETY: `to` is the caller's alone; programs may write `from` meanwhile, which the instructions do not mind. The vector
        // registers are put back as they were.
        unsafe {
            if WIDE.load(Ordering::Relaxed) {
                asm!(
                    "sub rsp, 64",
                    "vmovdqu [rsp], ymm0",
                    "vmovdqu [rsp + 32], ymm1",
                    ".set at, 0",
                    ".rept 64",
                    "vmovdqa ymm0, [{from} + at]",
                    "vmovdqa ymm1, [{from} + at + 32]",
                    "vmovdqa [{to} + at], ymm0",
                    "vmovdqa [{to} + at + 32], ymm1",
                    ".set at, at + 64",
                    ".endr",
                    "vmovdqu ymm0, [rsp]",
                    "vmovdqu ymm1, [rsp + 32]",
                    "add rsp, 64",
                    from = in(reg) from,
                    to = in(reg) to,
                );
            } else {
                asm!("rep movsq", inout("rdi") to => _, inout("rsi") from => _, inout("rcx") PAGE / 8 => _, options(nostack, preserves_flags));
            }
        }
    }
    #[inline]
    unsafe fn copy_body(&self, from: *const u8, to: *mut u8) {
        // ordering: Relaxed; constant after boot.
        // SAFETY: by the trait's contract both may be accessed. The vector registers are put back as they were.
        unsafe {
            if WIDE.load(Ordering::Relaxed) {
                asm!(
                    "sub rsp, 64",
                    "vmovdqu [rsp], ymm0",
                    "vmovdqu [rsp + 32], ymm1",
                    ".set at, 0",
                    ".rept 7",
                    "vmovdqu ymm0, [{from} + at]",
                    "vmovdqu ymm1, [{from} + at + 32]",
                    "vmovdqu [{to} + at], ymm0",
                    "vmovdqu [{to} + at + 32], ymm1",
                    ".set at, at + 64",
                    ".endr",
                    "vmovdqu ymm0, [{from} + at]",
                    "vmovdqu [{to} + at], ymm0",
                    "vmovdqu ymm0, [rsp]",
                    "vmovdqu ymm1, [rsp + 32]",
                    "add rsp, 64",
                    from = in(reg) from,
                    to = in(reg) to,
                );
            } else {
                asm!("rep movsq", inout("rdi") to => _, inout("rsi") from => _, inout("rcx") BODY / 8 => _, options(nostack, preserves_flags));
            }
        }
    }
    #[inline]
    fn are_empty(&self, entries: &[Entry; GROUP]) -> bool {
        // ordering: Relaxed; constant after boot.
        if !WIDE.load(Ordering::Relaxed) {
            return entry::are_empty(entries);
        }
        let empty: u8;
        // SAFETY: reads the entries only; what other CPUs change meanwhile is read in whole words. The vector register is put back
        // as it was.
        unsafe {
            asm!(
                "sub rsp, 32",
                "vmovdqu [rsp], ymm0",
                "vmovups ymm0, [{at}]",
                ".set at, 32",
                ".rept 15",
                "vorps ymm0, ymm0, [{at} + at]",
                ".set at, at + 32",
                ".endr",
                "vptest ymm0, [{kinds}]",
                "setz {empty}",
                "vmovdqu ymm0, [rsp]",
                "add rsp, 32",
                at = in(reg) entries,
                kinds = in(reg) &KINDS,
                empty = out(reg_byte) empty,
            );
        }
        empty != 0
    }
    #[inline]
    fn invalidate(&self, page: Page) {
        // SAFETY: dropping a translation is always allowed.
        unsafe { asm!("invlpg [{}]", in(reg) page.addr(), options(nostack, preserves_flags)) };
    }
    fn invalidate_all(&self) {
        // SAFETY: loads the table that is loaded.
        unsafe { asm!("mov {t}, cr3", "mov cr3, {t}", t = out(reg) _, options(nostack, preserves_flags)) };
    }
    fn interrupt(&self, cpu: usize) {
        irq::send(cpu, irq::SHOOTDOWN);
    }
    #[inline]
    fn relax(&self) {
        core::hint::spin_loop();
    }
    #[inline(always)]
    #[track_caller]
    fn may_wait(&self) {
        may_wait();
    }
    fn pause(&self, since: u64) {
        (ABOVE.get().give_way)(wait::begun(since));
    }
    fn waiting(&self, what: &'static What, which: u64, since: u64, place: &'static Location<'static>) -> u64 {
        wait::look(what, which, since, place)
    }
    fn pager(&self) -> Option<&dyn Pager> {
        (ABOVE.get().pager)()
    }
    fn fill_top(&self, top: Frame) {
        let (from, to) = (phys_to_virt(paging::kernel_top()).cast::<u64>(), self.page(top).cast::<u64>());
        // SAFETY: both are tables; the kernel's half never changes, and the new table is not in use yet.
        unsafe { core::ptr::copy_nonoverlapping(from.add(256), to.add(256), 256) };
    }
}

/// Answers the other CPUs' shootdowns. For handlers and for everything that polls.
#[inline]
pub fn serve_shootdown() {
    memory().serve();
}

/// A zeroed frame for the kernel itself, by physical address. Before the frame allocator runs, from the early one.
pub fn zeroed_frame() -> Option<u64> {
    // ordering: Relaxed; see `memory`.
    if MEMORY.load(Ordering::Relaxed).is_null() {
        return early::alloc(PAGE as u64, PAGE as u64);
    }
    let f = memory().alloc_kernel()?;
    memory().machine.zero(f);
    Some(f.addr())
}

/// Gives a frame of [`frame`] or [`zeroed_frame`] back.
pub fn free_frame(phys: u64) {
    memory().free(Frame((phys / PAGE as u64) as u32));
}

/// Neighbouring frames for the kernel's heap, by physical address. Before the frame allocator runs, from the early one.
pub fn frames_for_heap(count: usize) -> Option<u64> {
    // ordering: Relaxed; see `memory`.
    if MEMORY.load(Ordering::Relaxed).is_null() {
        return early::alloc((count * PAGE) as u64, PAGE as u64);
    }
    memory().alloc_run(count).map(|f| f.addr())
}

/// A step of what idle CPUs do for memory: grace periods, and zeroing ahead. False: nothing is left to do.
pub fn idle() -> bool {
    let m = memory();
    if m.has_retired() {
        m.collect();
    }
    m.zero_ahead()
}
