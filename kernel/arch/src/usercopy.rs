//! The only instructions of the kernel that touch user memory.
//!
//! Each of them has an entry in the exception table: `(from, to, fix-up, kind)`. A page fault between `from` and `to` is
//! resolved like one of the program (`Above::copy_fault`) and the instruction repeated; when that cannot be, or for
//! routines that must not wait at once, execution goes on at `fix-up`. `stac` and `clac` surround each routine when the CPU has
//! SMAP, and a trap closes user memory first ([`close`]).

use super::control::SMAP;
use super::regs::UserRegs;
use core::arch::asm;
use core::sync::atomic::{AtomicUsize, Ordering};
use quire_base::lock::may_wait;

#[repr(C)]
struct Entry {
    from: u64,
    to: u64,
    fix_up: u64,
    /// 1: the page may be waited for.
    waits: u64,
}

unsafe extern "C" {
    static __ex_table_start: Entry;
    static __ex_table_end: Entry;
}

/// The entry that was found last: programs keep making the same calls.
static LAST: AtomicUsize = AtomicUsize::new(0);

/// What the exception table says of an instruction.
#[derive(Clone, Copy)]
pub struct Routine(&'static Entry);

/// The user copy routine at `rip`, if there is one.
pub fn routine(rip: u64) -> Option<Routine> {
    let start = &raw const __ex_table_start;
    let len = (&raw const __ex_table_end as usize - start as usize) / size_of::<Entry>();
    // SAFETY: the linker script puts the entries, and nothing else, between the two symbols.
    let table = unsafe { core::slice::from_raw_parts(start, len) };
    let covers = |e: &Entry| e.from <= rip && rip < e.to;
    // ordering: Relaxed; a hint, the entry is looked at.
    if let Some(entry) = table.get(LAST.load(Ordering::Relaxed)).filter(|e| covers(e)) {
        return Some(Routine(entry));
    }
    let found = table.iter().position(covers)?;
    LAST.store(found, Ordering::Relaxed);
    Some(Routine(&table[found]))
}

impl Routine {
    /// Whether it may wait for its page.
    pub fn may_wait(self) -> bool {
        self.0.waits == 1
    }

    /// Continues it at its fix-up.
    pub fn fix_up(self, regs: &mut UserRegs) {
        regs.rip = self.0.fix_up;
    }
}

/// Puts user memory out of reach; the first thing in a trap. The CPU leaves AC as it finds it: set by a program, or by a copy
/// whose page fault may switch to another thread. The return restores it.
#[inline(always)]
pub fn close() {
    drop(Open);
}

/// User memory is within reach while it lives.
struct Open;
impl Open {
    #[inline(always)]
    fn new() -> Open {
        // ordering: Relaxed; constant after boot.
        if SMAP.load(Ordering::Relaxed) {
            // SAFETY: the CPU has SMAP.
            unsafe { asm!("stac", options(nostack)) };
        }
        Open
    }
}
impl Drop for Open {
    #[inline(always)]
    fn drop(&mut self) {
        // ordering: Relaxed; constant after boot.
        if SMAP.load(Ordering::Relaxed) {
            // SAFETY: the CPU has SMAP.
            unsafe { asm!("clac", options(nostack)) };
        }
    }
}

/// Repeats a string instruction over `len` bytes at `to`, words first; `left` is how many there were when a fault could not be resolved. After
/// a fault in the word loop the bytes are tried singly, so that the number left is exact.
macro_rules! words_first {
    ($instruction:literal, $len:ident => $left:ident, $to:ident, $($source:tt)*) => {
        asm!(
            "mov {tail}, rcx",
            "and {tail}, 7",
            "shr rcx, 3",
            concat!("2: rep ", $instruction, "q"),
            "3: mov rcx, {tail}",
            concat!("4: rep ", $instruction, "b"),
            "5:",
            ".pushsection .text.fixup, \"ax\"",
            "6: lea rcx, [{tail} + rcx * 8]",
            "jmp 4b",
            ".popsection",
            ".pushsection __ex_table, \"a\"",
            ".quad 2b, 3b, 6b, 1",
            ".quad 4b, 5b, 5b, 1",
            ".popsection",
            tail = out(reg) _,
            inout("rcx") $len => $left,
            inout("rdi") $to => _,
            $($source)*,
            options(nostack),
        )
    };
}

/// Copies `len` bytes, words first; returns how many bytes were left when a fault could not be resolved.
///
/// # Safety
/// One side is kernel memory of `len` bytes that is valid for the access; the other lies in the user half.
#[inline]
unsafe fn copy(to: *mut u8, from: *const u8, len: usize) -> usize {
    let left: usize;
    may_wait();
    let _open = Open::new();
    // SAFETY: as promised by the caller; user addresses may fault, which the table covers.
    unsafe {
        words_first!("movs", len => left, to, inout("rsi") from => _);
    }
    left
}

/// Copies from a program; returns the number of bytes that could not be copied.
///
/// # Safety
/// `to` is valid for writes of `len` bytes, and `from..from + len` lies in the user half.
#[inline]
pub unsafe fn copy_from_user(to: *mut u8, from: usize, len: usize) -> usize {
    // SAFETY: the caller's promises are those of `copy`.
    unsafe { copy(to, from as *const u8, len) }
}

/// Copies to a program; returns the number of bytes that could not be copied.
///
/// # Safety
/// `from` is valid for reads of `len` bytes, and `to..to + len` lies in the user half.
#[inline]
pub unsafe fn copy_to_user(to: usize, from: *const u8, len: usize) -> usize {
    // SAFETY: the caller's promises are those of `copy`.
    unsafe { copy(to as *mut u8, from, len) }
}

/// Fills a program's memory with zeros; returns the number of bytes that could not be written.
///
/// # Safety
/// `to..to + len` lies in the user half.
pub unsafe fn zero_user(to: usize, len: usize) -> usize {
    let left: usize;
    may_wait();
    let _open = Open::new();
    // SAFETY: only user memory is written; faults are covered by the table.
    unsafe {
        words_first!("stos", len => left, to, in("rax") 0u64);
    }
    left
}

/// Loads a word of a program without waiting; `None` when it is not there.
#[inline]
pub fn load_u32_nofault(address: usize) -> Option<u32> {
    let (mut value, mut failed) = (0u32, 0u32);
    let _open = Open::new();
    // SAFETY: the caller's address lies in the user half or faults; faults are covered by the table.
    unsafe {
        asm!(
            "2: mov {value:e}, [{address}]",
            "3:",
            ".pushsection .text.fixup, \"ax\"",
            "4: mov {failed:e}, 1",
            "jmp 3b",
            ".popsection",
            ".pushsection __ex_table, \"a\"",
            ".quad 2b, 3b, 4b, 0",
            ".popsection",
            value = inout(reg) value,
            failed = inout(reg) failed,
            address = in(reg) address,
            options(nostack),
        );
    }
    (failed == 0).then_some(value)
}

/// Compares and swaps a word of a program without waiting; `None` when it is not there or not writable, else what was found.
#[inline]
pub fn cmpxchg_u32_nofault(address: usize, old: u32, new: u32) -> Option<u32> {
    let (mut found, mut failed) = (old, 0u32);
    let _open = Open::new();
    // SAFETY: the caller's address lies in the user half or faults; faults are covered by the table. The instruction is a full
    // barrier, as the futex protocol wants.
    unsafe {
        asm!(
            "2: lock cmpxchg [{address}], {new:e}",
            "3:",
            ".pushsection .text.fixup, \"ax\"",
            "4: mov {failed:e}, 1",
            "jmp 3b",
            ".popsection",
            ".pushsection __ex_table, \"a\"",
            ".quad 2b, 3b, 4b, 0",
            ".popsection",
            inout("eax") found,
            new = in(reg) new,
            failed = inout(reg) failed,
            address = in(reg) address,
            options(nostack),
        );
    }
    (failed == 0).then_some(found)
}
