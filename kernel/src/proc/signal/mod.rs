//! Signals: what is pending, what is to be done about it.
//!
//! A sender puts the signal into a [`Pending`] set (of the thread, or of the process), raises the `attention` flag of a
//! thread that does not block it, wakes and kicks that thread. The thread looks on its way back to user mode, in
//! [`deliver::before_user`]. The set is written before the flag and the flag is lowered before the set is read, both
//! SeqCst, so no signal is overlooked.

pub mod calls;
pub mod deliver;
pub mod frame;
mod pending;
pub mod restart;
pub mod send;

pub use deliver::before_user;
pub use pending::{Pending, Place, places};

use super::process::arc;
use super::thread::{self, Own};
use crate::mem::Page;
use crate::proc::sleep::wait_on;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as l;
use quire_arch::UserRegs;
use quire_base::errno::{EAGAIN, ETIMEDOUT, Errno};
use quire_base::lock::Mutex;
use quire_sched::{self as sched, WaitQueue};

macro_rules! numbers {
    ($($name:ident)*) => { $(
        #[doc = concat!("Linux's `", stringify!($name), "`.")]
        pub const $name: u8 = l::$name as u8;
    )* };
}
numbers! {
    SIGHUP SIGILL SIGTRAP SIGBUS SIGFPE SIGKILL SIGSEGV SIGPIPE SIGALRM SIGCHLD SIGCONT SIGSTOP SIGTSTP SIGTTIN SIGTTOU SIGURG
    SIGWINCH SIGSYS SIGXCPU SIGXFSZ SIGVTALRM SIGPROF
}

/// Largest signal number.
pub const MAX: u8 = 64;

/// The bit of a signal in a mask.
pub const fn bit(signal: u8) -> u64 {
    1 << (signal - 1)
}

/// Signals that cannot be blocked.
pub const UNBLOCKABLE: u64 = bit(SIGKILL) | bit(SIGSTOP);
/// Signals that a fault of the thread itself raises; delivered before others.
const SYNCHRONOUS: u64 = bit(SIGSEGV) | bit(SIGBUS) | bit(SIGILL) | bit(SIGTRAP) | bit(SIGFPE) | bit(SIGSYS);
/// Signals whose default is to stop.
pub const STOPPING: u64 = bit(SIGSTOP) | bit(SIGTSTP) | bit(SIGTTIN) | bit(SIGTTOU);
/// Signals whose default is nothing.
const IGNORED_BY_DEFAULT: u64 = bit(SIGCHLD) | bit(SIGURG) | bit(SIGWINCH) | bit(SIGCONT);

/// `si_code` values that the kernel itself uses.
pub mod code {
    /// Sent by kill.
    pub const USER: i32 = 0;
    /// Sent by the kernel.
    pub const KERNEL: i32 = 0x80;
    /// Sent by a timer of the program's own.
    pub const TIMER: i32 = -2;
    /// Sent by tkill or tgkill.
    pub const TKILL: i32 = -6;
    /// SIGSEGV: nothing is mapped there.
    pub const SEGV_MAPERR: i32 = 1;
    /// SIGSEGV: the mapping does not allow it.
    pub const SEGV_ACCERR: i32 = 2;
    /// SIGBUS: alignment.
    pub const BUS_ADRALN: i32 = 1;
    /// SIGBUS: beyond the object's end, or its data is lost.
    pub const BUS_ADRERR: i32 = 2;
}

/// What a signal carries beside number and code.
#[derive(Clone, Copy)]
pub enum Detail {
    /// Nothing.
    None,
    /// The sender.
    Sender {
        /// Its process id.
        pid: u32,
        /// Its user id.
        uid: u32,
    },
    /// The address of a fault.
    Address(u64),
    /// A change of a child.
    Child {
        /// The child.
        pid: u32,
        /// Exit status or signal number.
        status: i32,
        /// Its user time in clock ticks.
        user: u64,
        /// Its system time in clock ticks.
        system: u64,
    },
    /// The program filled the rest in (rt_sigqueueinfo): sender and value.
    Queued {
        /// Its process id.
        pid: u32,
        /// Its user id.
        uid: u32,
        /// `si_value`.
        value: u64,
    },
}

/// One signal.
#[derive(Clone, Copy)]
pub struct SigInfo {
    /// Its number.
    pub signal: u8,
    /// `si_errno`.
    pub errno: i32,
    /// `si_code`.
    pub code: i32,
    /// The rest.
    pub detail: Detail,
}

impl SigInfo {
    /// A signal that the kernel sends.
    pub fn kernel(signal: u8) -> Self {
        SigInfo { signal, errno: 0, code: code::KERNEL, detail: Detail::Sender { pid: 0, uid: 0 } }
    }
    /// A signal that the current process sends.
    pub fn from_current(signal: u8, code: i32) -> Self {
        SigInfo { signal, errno: 0, code, detail: Detail::Sender { pid: thread::current().pid, uid: 0 } }
    }
    /// Linux's `siginfo_t`.
    pub fn encode(&self) -> [u8; 128] {
        let mut out = [0u8; 128];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &i32::from(self.signal).to_ne_bytes());
        put(4, &self.errno.to_ne_bytes());
        put(8, &self.code.to_ne_bytes());
        match self.detail {
            Detail::None => {}
            Detail::Sender { pid, uid } => {
                put(16, &pid.to_ne_bytes());
                put(20, &uid.to_ne_bytes());
            }
            Detail::Address(address) => put(16, &address.to_ne_bytes()),
            Detail::Child { pid, status, user, system } => {
                put(16, &pid.to_ne_bytes());
                put(24, &status.to_ne_bytes());
                put(32, &user.to_ne_bytes());
                put(40, &system.to_ne_bytes());
            }
            Detail::Queued { pid, uid, value } => {
                put(16, &pid.to_ne_bytes());
                put(20, &uid.to_ne_bytes());
                put(24, &value.to_ne_bytes());
            }
        }
        out
    }
    /// Linux's `signalfd_siginfo`.
    pub fn record(&self) -> [u8; 128] {
        let mut out = [0u8; 128];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &u32::from(self.signal).to_ne_bytes());
        put(4, &self.errno.to_ne_bytes());
        put(8, &self.code.to_ne_bytes());
        match self.detail {
            Detail::None => {}
            Detail::Sender { pid, uid } => {
                put(12, &pid.to_ne_bytes());
                put(16, &uid.to_ne_bytes());
            }
            Detail::Address(address) => put(72, &address.to_ne_bytes()),
            Detail::Child { pid, status, user, system } => {
                put(12, &pid.to_ne_bytes());
                put(40, &status.to_ne_bytes());
                put(56, &user.to_ne_bytes());
                put(64, &system.to_ne_bytes());
            }
            Detail::Queued { pid, uid, value } => {
                // Of a timer: its number and overruns.
                let (first, second) = if self.code == code::TIMER { (24, 32) } else { (12, 16) };
                put(first, &pid.to_ne_bytes());
                put(second, &uid.to_ne_bytes());
                put(44, &(value as u32).to_ne_bytes());
                put(48, &value.to_ne_bytes());
            }
        }
        out
    }
}

/// One entry of the action table, as rt_sigaction passes it.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Action {
    /// 0 default, 1 ignore, else the handler's address.
    pub handler: u64,
    /// SA_ flags.
    pub flags: u64,
    /// Where the handler returns to.
    pub restorer: u64,
    /// Signals blocked while the handler runs.
    pub mask: u64,
}
crate::mem::user::plain!(Action);

impl Action {
    /// Whether SIG_DFL.
    pub fn is_default(&self) -> bool {
        self.handler == 0
    }
    /// Whether SIG_IGN.
    pub fn is_ignore(&self) -> bool {
        self.handler == 1
    }
    /// Whether a signal with this action does nothing at all.
    pub fn ignores(&self, signal: u8) -> bool {
        bit(signal) & UNBLOCKABLE == 0
            && (self.is_ignore() || (self.is_default() && bit(signal) & IGNORED_BY_DEFAULT != 0))
    }
}

/// The action table of a process, or of several (CLONE_SIGHAND).
pub struct Actions(pub Mutex<[Action; MAX as usize]>);

impl Actions {
    /// All default.
    pub fn new() -> Self {
        Actions(Mutex::new([Action::default(); MAX as usize]))
    }
    /// The action of one signal.
    pub fn get(&self, signal: u8) -> Action {
        self.0.lock()[signal as usize - 1]
    }
    /// Sets one action.
    pub fn set(&self, signal: u8, action: Action) {
        self.0.lock()[signal as usize - 1] = action;
    }
}

/// The alternate stack.
#[derive(Clone, Copy, Default)]
pub struct AltStack {
    /// Lowest address.
    pub base: u64,
    /// Size; 0 when there is none.
    pub size: u64,
    /// SS_AUTODISARM or nothing.
    pub flags: u32,
}

/// What signal handling keeps for each thread.
pub struct ThreadSignals {
    /// Alternate stack.
    pub alt: Own<AltStack>,
    /// A signal that the thread's own fault has raised: the next thing that is delivered.
    pub forced: Own<Option<SigInfo>>,
    /// Mask to restore when the call that replaced it (ppoll, sigsuspend) has been interrupted.
    pub saved_mask: Own<Option<u64>>,
    /// How the interrupted system call goes on.
    pub restart: restart::State,
}

impl ThreadSignals {
    /// A new thread's.
    pub const fn new() -> Self {
        ThreadSignals {
            alt: Own::new(AltStack { base: 0, size: 0, flags: 0 }),
            forced: Own::new(None),
            saved_mask: Own::new(None),
            restart: restart::State::new(),
        }
    }
}

/// Whether the current thread has to leave its wait: it must die or stop, or a signal that it does not block is pending. The attention
/// flag is lowered before all of that is looked at, and raised again if something was found.
pub fn must_interrupt() -> bool {
    let thread = sched::current();
    let Some(user) = thread::part(thread) else { return false };
    thread.attention().store(false, Ordering::SeqCst);
    let process = &user.process;
    let yes = process.must_stop.load(Ordering::SeqCst)
        || process.stopped.load(Ordering::SeqCst)
        || user.signals.forced.get().is_some()
        || deliverable(user) != 0;
    if yes {
        raise_attention();
    }
    yes
}

/// Whether the current thread is about to be killed: waits that signals do not end look at this. If so, it will not get back to
/// user mode with what it has done by halves: the kill may be pending before this thread has been told of it.
pub fn is_dying() -> bool {
    let Some(user) = thread::part(sched::current()) else { return false };
    let yes = user.process.must_stop.load(Ordering::SeqCst) || is_killed(user);
    if yes {
        raise_attention();
    }
    yes
}

/// As [`is_dying`], for waits that end by themselves: who is on its way out already, and still has words in its memory to write, waits for
/// those pages as before.
pub fn gives_up() -> bool {
    let exits = thread::part(sched::current()).is_some_and(|user| user.exiting.load(Ordering::Relaxed));
    !exits && is_dying()
}

/// Whether SIGKILL is pending for the thread or its process.
fn is_killed(user: &super::UserThread) -> bool {
    (user.pending.lock().bits() | user.process.pending_bits.load(Ordering::SeqCst)) & bit(SIGKILL) != 0
}

/// Pending signals that the thread does not block.
pub fn deliverable(user: &super::UserThread) -> u64 {
    let pending = user.pending.lock().bits() | user.process.pending_bits.load(Ordering::SeqCst);
    pending & !user.blocked.load(Ordering::Relaxed)
}

/// Takes a signal of `set` that is pending for the current thread, blocked or not.
pub fn take_pending(set: u64) -> Option<SigInfo> {
    deliver::take(thread::user(), !set).map(|(info, _)| info)
}

/// Waits for a signal of `set` and takes it: EAGAIN when the deadline comes first, EINTR for another signal.
///
/// The mask stays as it is: a signal that is blocked is kept for the waiter even if it is ignored. Senders wake who waits.
pub fn wait_for(set: u64, deadline: Option<u64>) -> Result<SigInfo, Errno> {
    let user = thread::user();
    // ordering: SeqCst; before the first look into the sets, see `send::takes`.
    user.awaited.store(set, Ordering::SeqCst);
    let got = wait_on(&WaitQueue::new(), deadline, || take_pending(set));
    user.awaited.store(0, Ordering::SeqCst);
    let got = got.or_else(|why| take_pending(set).ok_or(if why == ETIMEDOUT { EAGAIN } else { why }));
    // This thread was told of signals that it does not take now.
    send::pass_on(&user.process);
    got
}

/// Replaces the current thread's mask; signals that it uncovers are delivered on the way back to user mode.
pub fn set_mask(mask: u64) {
    let user = thread::user();
    let before = user.blocked.swap(mask & !UNBLOCKABLE, Ordering::SeqCst);
    if deliverable(user) != 0 {
        raise_attention();
    }
    if mask & !before & user.process.pending_bits.load(Ordering::SeqCst) != 0 {
        send::pass_on(&user.process);
    }
}

/// Makes the current thread look at its signals before it returns to user mode.
pub fn raise_attention() {
    let thread = sched::current();
    thread.attention().store(true, Ordering::SeqCst);
    thread.kick();
}

pub use quire_arch::trap::Trap;

/// Turns a trap of user code into the signal that Linux raises for it.
pub fn fault(regs: &mut UserRegs, trap: Trap) {
    let user = thread::user();
    let (signal, code, address) = match trap.vector {
        0 => (SIGFPE, 1, regs.rip),      // FPE_INTDIV
        1 => (SIGTRAP, 2, regs.rip),     // TRAP_TRACE
        3 => (SIGTRAP, code::KERNEL, 0), // int3
        4 => (SIGSEGV, code::KERNEL, 0), // into
        5 => (SIGSEGV, code::KERNEL, 0), // bound
        6 => (SIGILL, 2, regs.rip),      // ILL_ILLOPN
        16 | 19 => (SIGFPE, fpu_code(trap.vector), regs.rip),
        11 => (SIGBUS, code::KERNEL, 0),
        12 => (SIGBUS, code::KERNEL, 0),
        17 => (SIGBUS, code::BUS_ADRALN, trap.address),
        14 => page_fault(user, trap),
        _ => (SIGSEGV, code::KERNEL, 0),
    };
    let detail = if code == code::KERNEL { Detail::None } else { Detail::Address(address) };
    frame::note_trap(user, trap);
    send::force(user, SigInfo { signal, errno: 0, code, detail });
}

/// There is no content for a page that the program may use.
pub fn no_content(trap: Trap) {
    let user = thread::user();
    frame::note_trap(user, trap);
    let detail = Detail::Address(trap.address);
    send::force(user, SigInfo { signal: SIGBUS, errno: 0, code: code::BUS_ADRERR, detail });
}

/// Which signal an unresolved page fault is: the segment under the address decides.
fn page_fault(user: &super::UserThread, trap: Trap) -> (u8, i32, u64) {
    let page = Page::containing(trap.address);
    let code = match user.memory().space.find(page) {
        Some(segment) if segment.range.start <= page && page < segment.range.end => code::SEGV_ACCERR,
        _ => code::SEGV_MAPERR,
    };
    // A non-canonical or kernel address has no segment at all.
    (SIGSEGV, code, trap.address)
}

/// The `si_code` of a floating-point trap, from the unit's status.
fn fpu_code(vector: u8) -> i32 {
    let raised = super::fpu::raised(vector);
    match raised {
        r if r & 0x01 != 0 => 7, // FPE_FLTINV
        r if r & 0x04 != 0 => 3, // FPE_FLTDIV
        r if r & 0x08 != 0 => 4, // FPE_FLTOVF
        r if r & 0x12 != 0 => 5, // FPE_FLTUND
        r if r & 0x20 != 0 => 6, // FPE_FLTRES
        _ => 0,
    }
}

/// A process's action table for a new program: handlers become default, ignored signals stay ignored.
pub fn actions_for_exec(old: &Actions) -> Result<Arc<Actions>, Errno> {
    let new = arc(Actions::new())?;
    {
        let old = old.0.lock();
        let mut table = new.0.lock();
        for (new, old) in table.iter_mut().zip(old.iter()) {
            if old.is_ignore() {
                new.handler = 1;
            }
        }
    }
    Ok(new)
}
