//! The kernel's own page tables: made once at boot, with no page both writable and executable.
//!
//! All tables come from the early allocator, except those of stacks, heap and device registers, which grow on demand below the top
//! level. The five top-level entries never change, so every space copies them.

use super::control;
use super::{above, boot};
use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};
use quire_base::early;
use quire_base::layout::{HEAP_BASE, KERNEL_BASE, MMIO_BASE, PHYS_BASE, STACK_BASE, phys_to_virt};
use quire_base::lock::Mutex;

const PRESENT: u64 = 1;
const WRITE: u64 = 2;
const UNCACHED: u64 = 0x18;
const LARGE: u64 = 0x80;
const GLOBAL: u64 = 0x100;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

static TOP: AtomicU64 = AtomicU64::new(0);
static NX: AtomicU64 = AtomicU64::new(0);
/// Serialises changes of the stack and device regions. A leaf lock.
static CHANGE: Mutex<u64> = Mutex::new(MMIO_BASE);

/// Physical address of the kernel's top-level table. Entries 256..512 are for every space to copy.
pub fn kernel_top() -> u64 {
    // ordering: Relaxed; written once before any other CPU or thread runs.
    TOP.load(Ordering::Relaxed)
}

fn nx() -> u64 {
    // ordering: Relaxed; as above.
    NX.load(Ordering::Relaxed)
}

type Alloc = fn() -> Option<u64>;

fn early_table() -> Option<u64> {
    early::alloc(4096, 4096)
}

/// The entry for `virt` at `level` (0 = 4 KiB, 1 = 2 MiB, 2 = 1 GiB), with the tables above it.
///
/// # Safety
/// The caller is alone in changing the region, and writes only what keeps other users of the tables right.
unsafe fn entry(virt: u64, level: u32, alloc: Alloc) -> Option<*mut u64> {
    let mut table = kernel_top();
    let mut at = 3;
    loop {
        let index = (virt >> (12 + 9 * at)) & 511;
        // SAFETY: `table` is a page table in the linear map, and the index is below 512.
        let e = unsafe { phys_to_virt(table).cast::<u64>().add(index as usize) };
        if at == level {
            return Some(e);
        }
        // SAFETY: the entry is in a live table.
        let mut value = unsafe { e.read_volatile() };
        if value & PRESENT == 0 {
            value = alloc()? | PRESENT | WRITE;
            // SAFETY: an absent entry becomes a zeroed table: nothing that was mapped changes.
            unsafe { e.write_volatile(value) };
        }
        table = value & ADDRESS;
        at -= 1;
    }
}

/// Builds the tables and loads them.
///
/// # Safety
/// Called once, on the boot tables, after the early allocator was set up.
pub unsafe fn init() -> Option<()> {
    // ordering: Relaxed; nobody else runs yet.
    NX.store(if control::has_nx() { 1 << 63 } else { 0 }, Ordering::Relaxed);
    TOP.store(early_table()?, Ordering::Relaxed);
    let gib = control::has_gib_pages();
    // RAM, and the ACPI tables and ROMs below 4 GiB around it, in the largest pages that fit; devices' registers are seen through
    // their own region, so that what is beyond RAM here is never touched.
    let end = early::ram_end().next_multiple_of(2 << 20);
    let mut at = 0;
    while at < end {
        let (level, size) =
            if gib && at % (1 << 30) == 0 && at + (1 << 30) <= end { (2, 1 << 30) } else { (1, 2 << 20) };
        // SAFETY: nobody uses the tables yet.
        unsafe { *entry(PHYS_BASE + at, level, early_table)? = at | PRESENT | WRITE | LARGE | GLOBAL | nx() };
        at += size;
    }
    let [start, text, text_end, rodata_end, image_end] = boot::image();
    let mut at = start;
    while at < image_end {
        let flags = match at {
            // The entry code: its data is read through the linear map.
            a if a < text => 0,
            a if a < text_end => PRESENT | GLOBAL,
            a if a < rodata_end => PRESENT | GLOBAL | nx(),
            _ => PRESENT | WRITE | GLOBAL | nx(),
        };
        // SAFETY: as above.
        unsafe { *entry(at, 0, early_table)? = if flags == 0 { 0 } else { (at - KERNEL_BASE) | flags } };
        at += 4096;
    }
    for region in [STACK_BASE, HEAP_BASE, MMIO_BASE] {
        // SAFETY: as above; this makes the region's top-level entry.
        unsafe { entry(region, 2, early_table)? };
    }
    // SAFETY: the tables map the running code, its stack (data) and everything that was reached so far through the linear map.
    unsafe { load() };
    Some(())
}

/// Loads the kernel's table on this CPU.
///
/// # Safety
/// The tables are complete.
pub unsafe fn load() {
    // SAFETY: promised by the caller.
    unsafe { asm!("mov cr3, {}", in(reg) kernel_top(), options(nostack, preserves_flags)) };
}

/// Loads another top-level table, whose upper half is a copy of the kernel's.
///
/// # Safety
/// `top` is the physical address of such a table, and it stays one while it is loaded.
#[inline]
pub unsafe fn load_top(top: u64) {
    // SAFETY: promised by the caller.
    unsafe { asm!("mov cr3, {}", in(reg) top, options(nostack, preserves_flags)) };
}

/// Makes device registers visible, uncached; `None` when memory is short.
pub fn map_mmio(phys: u64, bytes: u64) -> Option<*mut u8> {
    let mut next = CHANGE.lock();
    let (first, last) = (phys & !4095, (phys + bytes).next_multiple_of(4096));
    let virt = *next;
    *next += last - first;
    let mut at = first;
    while at < last {
        // SAFETY: the lock makes us alone in the region, and the page was absent: no translation of it exists.
        unsafe { *entry(virt + at - first, 0, above::zeroed_frame)? = at | PRESENT | WRITE | UNCACHED | GLOBAL | nx() };
        at += 4096;
    }
    Some((virt + phys - first) as *mut u8)
}

/// Maps 4 KiB or 2 MiB of the heap.
///
/// # Safety
/// `virt` is a fresh address of the heap's region; the frames are the heap's.
pub unsafe fn map_heap(virt: u64, phys: u64, block: bool) -> Option<()> {
    let _change = CHANGE.lock();
    let large = if block { LARGE } else { 0 };
    // SAFETY: the lock makes us alone in the tables; the entry was absent.
    unsafe { *entry(virt, block as u32, above::zeroed_frame)? = phys | PRESENT | WRITE | GLOBAL | large | nx() };
    Some(())
}

/// Maps one page of a kernel stack.
///
/// # Safety
/// `virt` is an unmapped page of the stack region that no CPU has a translation of; `frame` is the caller's.
pub unsafe fn map_stack_page(virt: u64, frame: u64) -> Option<()> {
    let _change = CHANGE.lock();
    // SAFETY: the lock makes us alone in the region; the page was absent.
    unsafe { *entry(virt, 0, above::zeroed_frame)? = frame | PRESENT | WRITE | GLOBAL | nx() };
    Some(())
}

/// Unmaps one page of a kernel stack and returns its frame. Other CPUs may still have its translation.
///
/// # Safety
/// Nobody uses the page any more.
pub unsafe fn unmap_stack_page(virt: u64) -> Option<u64> {
    let _change = CHANGE.lock();
    // SAFETY: the lock makes us alone in the region; nobody uses the page.
    let old = unsafe { entry(virt, 0, || None)?.replace(0) };
    // SAFETY: drops this CPU's own translation.
    unsafe { x86::tlb::flush(virt as usize) };
    (old & PRESENT != 0).then_some(old & ADDRESS)
}

/// Drops all translations of this CPU, global ones too.
pub fn flush_all() {
    // SAFETY: changing CR4.PGE flushes everything; it is put back.
    unsafe {
        let cr4: u64;
        asm!("mov {}, cr4", out(reg) cr4);
        asm!("mov cr4, {}", in(reg) cr4 ^ 0x80);
        asm!("mov cr4, {}", in(reg) cr4);
    }
}
