//! Loads, stores and jumps that may fail: what would have been a signal is an answer.

use std::arch::global_asm;
use std::sync::atomic::{AtomicUsize, Ordering};

// The handler makes the thread go on behind a failed first instruction, with the reason in `rdx`.
global_asm!(
    "differ_load:",
    "mov rax, [rdi]",
    "xor edx, edx",
    "ret",
    "differ_store:",
    "mov [rdi], rsi",
    "xor edx, edx",
    "differ_failed:",
    "ret",
    "differ_jump:",
    "call rdi",
    "xor edx, edx",
    "ret",
    "differ_jump_failed:",
    "add rsp, 8",
    "ret",
);

#[repr(C)]
struct Outcome {
    value: u64,
    reason: u64,
}

unsafe extern "C" {
    fn differ_load(at: u64) -> Outcome;
    fn differ_store(at: u64, value: u64) -> Outcome;
    fn differ_jump(at: u64) -> Outcome;
    fn differ_failed();
    fn differ_jump_failed();
}

/// Where `jump` jumps to just now.
static TARGET: AtomicUsize = AtomicUsize::new(0);

/// Code that only returns, eight times.
pub const RETURN: u64 = 0xc3c3_c3c3_c3c3_c3c3;

/// Why memory could not be touched: a signal and its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// SIGSEGV or SIGBUS.
    pub signal: i32,
    /// `si_code`.
    pub code: i32,
    /// `si_addr` named what was touched.
    pub named: bool,
}

/// Installs the handler for this process and its children.
pub fn install() {
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: the action is whole, and the handler only changes the thread's registers.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
    }
}

extern "C" fn handler(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes both to a handler with SA_SIGINFO, for as long as it runs.
    let (info, registers) = unsafe { (&*info, &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs) };
    let at = registers[libc::REG_RIP as usize] as usize;
    let jumped = at == TARGET.load(Ordering::Relaxed);
    let goes_on = if jumped {
        differ_jump_failed as *const () as usize
    } else if at == differ_load as *const () as usize || at == differ_store as *const () as usize {
        differ_failed as *const () as usize
    } else {
        // Not one of ours: it happens again, and kills.
        // SAFETY: the default action needs no handler.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        return;
    };
    // SAFETY: both signals come with an address.
    let named = unsafe { info.si_addr() } as i64 == registers[libc::REG_RDI as usize];
    registers[libc::REG_RDX as usize] = i64::from(signal) | i64::from(info.si_code) << 8 | i64::from(named) << 40;
    registers[libc::REG_RIP as usize] = goes_on as i64;
}

fn answer(outcome: Outcome) -> Result<u64, Refused> {
    match outcome.reason {
        0 => Ok(outcome.value),
        why => Err(Refused { signal: why as u8 as i32, code: (why >> 8) as i32, named: why >> 40 != 0 }),
    }
}

/// Eight bytes.
pub fn load(at: u64) -> Result<u64, Refused> {
    // SAFETY: whatever is there is only read, and no Rust reference is to it; a failure comes back through the handler.
    answer(unsafe { differ_load(at) })
}

/// How many of these bytes can be read, up to the first page that cannot.
pub fn readable(from: u64, bytes: u64) -> u64 {
    const PAGE: u64 = crate::PAGE as u64;
    let end = from.saturating_add(bytes);
    let pages = (from / PAGE * PAGE..end).step_by(crate::PAGE);
    let refused = pages.into_iter().find(|&page| load(page).is_err());
    refused.map_or(bytes, |page| page.saturating_sub(from))
}

/// Eight bytes, inside the window or the heap's end, where nobody else has anything.
pub fn store(at: u64, value: u64) -> Result<(), Refused> {
    // SAFETY: callers stay where nobody else has anything; a failure comes back through the handler.
    answer(unsafe { differ_store(at, value) }).map(|_| ())
}

/// Calls what is there, which has to be [`RETURN`] where it can be read.
pub fn jump(at: u64) -> Result<(), Refused> {
    TARGET.store(at as usize, Ordering::Relaxed);
    // SAFETY: the code there returns at once; where it may not run, the handler takes the return address off the stack.
    let outcome = answer(unsafe { differ_jump(at) });
    TARGET.store(0, Ordering::Relaxed);
    outcome.map(|_| ())
}
