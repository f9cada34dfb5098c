//! Registers that are not general: what a handler and a new program find, and what comes back.

use std::arch::asm;
use std::mem::zeroed;
use std::sync::atomic::{AtomicU32, Ordering};

use quire_workloads::{check, ok};

const GET_FS: i64 = 0x1003;
const GET_GS: i64 = 0x1004;
const SET_GS: i64 = 0x1001;
const SET_FS: i64 = 0x1002;
/// Flush to zero, denormals are zero, round down: nothing of it is set in a new program.
const UNUSUAL: u32 = 0x1f80 | 0x8000 | 0x0040 | 0x2000;
const USUAL: u32 = 0x1f80;

fn arch(code: i64, value: usize) -> i64 {
    // SAFETY: the codes used here set a base that this program does not use, or write a word at `value`.
    let result = unsafe { libc::syscall(libc::SYS_arch_prctl, code, value) };
    if result < 0 { -i64::from(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)) } else { result }
}

fn base(code: i64) -> u64 {
    let mut base = 0u64;
    check!(arch(code, &raw mut base as usize) == 0, "arch_prctl");
    base
}

fn mxcsr() -> u32 {
    let mut value = 0u32;
    // SAFETY: stores the register into the word.
    unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut value) };
    value & !0x3f
}

fn set_mxcsr(value: u32) {
    // SAFETY: bits that every CPU of this kind has; this program computes with no fractions.
    unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const value) };
}

fn control() -> u16 {
    let mut value = 0u16;
    // SAFETY: stores the register into the word.
    unsafe { asm!("fnstcw [{}]", in(reg) &raw mut value) };
    value
}

static SEEN: AtomicU32 = AtomicU32::new(0);

extern "C" fn handler(_: i32) {
    SEEN.store(mxcsr(), Ordering::Relaxed);
    set_mxcsr(USUAL);
}

/// A handler begins with the usual state, and what was before it comes back.
fn over_a_handler() {
    // SAFETY: the handler stores a word.
    unsafe {
        let mut action: libc::sigaction = zeroed();
        action.sa_sigaction = handler as *const () as usize;
        libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut());
    }
    set_mxcsr(UNUSUAL);
    // SAFETY: sends a signal to this thread.
    unsafe { libc::raise(libc::SIGUSR1) };
    let after = mxcsr();
    set_mxcsr(USUAL);
    check!(SEEN.load(Ordering::Relaxed) == USUAL, "MXCSR in a handler: {:#x}", SEEN.load(Ordering::Relaxed));
    check!(after == UNUSUAL, "MXCSR after a handler: {after:#x}");
}

/// Bases that are not the program's own to use are refused.
fn bases() {
    let wild = [0x7fff_ffff_f000u64, 0x8000_0000_0000, 0x1234_5678_1234_5678, 0xffff_8000_0000_0000, u64::MAX];
    for value in wild {
        check!(arch(SET_GS, value as usize) == -i64::from(libc::EPERM), "GS base {value:#x}");
        check!(arch(SET_FS, value as usize) == -i64::from(libc::EPERM), "FS base {value:#x}");
    }
}

/// A new program begins with nothing of the old one's.
fn over_exec() -> ! {
    check!(arch(SET_GS, 0x1234_5000) == 0 && base(GET_GS) == 0x1234_5000, "GS base");
    let word = 0x0f7fu16;
    // SAFETY: another precision and rounding; this program does not use the unit.
    unsafe { asm!("fldcw [{}]", in(reg) &raw const word) };
    set_mxcsr(UNUSUAL);
    // SAFETY: the strings end with zero, and the list with a null pointer.
    unsafe {
        let arguments = [c"registers".as_ptr(), c"after".as_ptr(), std::ptr::null()];
        libc::execv(c"/proc/self/exe".as_ptr(), arguments.as_ptr());
    }
    quire_workloads::violated(format_args!("no execve"))
}

fn main() {
    if std::env::args().nth(1).is_some() {
        check!(base(GET_GS) == 0, "a GS base survives execve: {:#x}", base(GET_GS));
        check!(base(GET_FS) != 0, "no FS base of its own");
        check!(mxcsr() == USUAL, "MXCSR survives execve: {:#x}", mxcsr());
        check!(control() == 0x37f, "the control word survives execve: {:#x}", control());
        return ok();
    }
    over_a_handler();
    bases();
    over_exec()
}
