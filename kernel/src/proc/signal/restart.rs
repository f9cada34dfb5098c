//! System calls that a signal interrupts: which start again, and with what is left of their time.

use super::Own;
use crate::proc::thread::user;
use linux_raw_sys::general as l;
use quire_arch::UserRegs;

/// How an interrupted call goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Starts again unless a handler without SA_RESTART ran (Linux's ERESTARTSYS).
    UnlessHandler,
    /// Starts again only if no handler ran (ERESTARTNOHAND and restart blocks).
    NoHandler,
}

/// Per-thread state of the restart.
pub struct State {
    /// The call that ended with EINTR just now.
    pending: Own<Option<Kind>>,
    /// Deadline that its relative time-out became.
    deadline: Own<Option<u64>>,
    /// Deadline for the call that starts again.
    resumed: Own<Option<u64>>,
}

impl State {
    /// Nothing interrupted.
    pub const fn new() -> Self {
        State { pending: Own::new(None), deadline: Own::new(None), resumed: Own::new(None) }
    }
}

/// Called when system call `nr` with the arguments in `regs` returns EINTR: decides whether it may start again.
#[cold]
pub fn note(regs: &UserRegs, nr: u64) {
    let kind = match nr as u32 {
        l::__NR_read
        | l::__NR_readv
        | l::__NR_pread64
        | l::__NR_preadv
        | l::__NR_preadv2
        | l::__NR_write
        | l::__NR_writev
        | l::__NR_pwrite64
        | l::__NR_pwritev
        | l::__NR_pwritev2
        | l::__NR_wait4
        | l::__NR_waitid
        | l::__NR_open
        | l::__NR_creat
        | l::__NR_openat
        | l::__NR_sendto
        | l::__NR_recvfrom
        | l::__NR_sendmsg
        | l::__NR_recvmsg
        | l::__NR_accept
        | l::__NR_accept4
        | l::__NR_connect
        | l::__NR_fcntl
        | l::__NR_ioctl
        | l::__NR_getrandom
        | l::__NR_flock
        | l::__NR_sendfile => Kind::UnlessHandler,
        // With a time-out, which a second start after a handler would begin anew.
        l::__NR_futex if regs.a3() != 0 => Kind::NoHandler,
        l::__NR_futex => Kind::UnlessHandler,
        l::__NR_nanosleep
        | l::__NR_clock_nanosleep
        | l::__NR_poll
        | l::__NR_ppoll
        | l::__NR_select
        | l::__NR_pselect6
        | l::__NR_pause
        | l::__NR_rt_sigsuspend => Kind::NoHandler,
        _ => return,
    };
    let state = &user().signals.restart;
    state.pending.set(Some(kind));
    if !is_relative(regs, nr as u32) {
        // What is there is an earlier call's.
        state.deadline.set(None);
    }
}

/// Whether a call has asked for the deadline of a relative time-out.
fn is_relative(regs: &UserRegs, nr: u32) -> bool {
    match nr {
        l::__NR_nanosleep => true,
        l::__NR_clock_nanosleep => regs.a1() as u32 & l::TIMER_ABSTIME == 0,
        l::__NR_poll => regs.a2() as i32 > 0,
        l::__NR_ppoll => regs.a2() != 0,
        l::__NR_select | l::__NR_pselect6 => regs.a4() != 0,
        l::__NR_futex => regs.a3() != 0 && regs.a1() as u32 & !l::FUTEX_PRIVATE_FLAG == l::FUTEX_WAIT,
        _ => false,
    }
}

/// Turns a relative time-out into a deadline; when the call starts again after an interruption, into the first one's.
pub fn deadline_after(ns: u64) -> u64 {
    deadline_on(quire_sched::timer::now_ns(), ns)
}

/// As [`deadline_after`], by a clock that says `now`.
pub fn deadline_on(now: u64, ns: u64) -> u64 {
    let state = &user().signals.restart;
    let deadline = match state.resumed.set(None) {
        Some(deadline) => deadline,
        None => now.saturating_add(ns),
    };
    state.deadline.set(Some(deadline));
    deadline
}

/// No handler ran: the call starts again if it may.
pub fn without_handler(regs: &mut UserRegs) {
    let state = &user().signals.restart;
    if state.pending.set(None).is_some() {
        state.resumed.set(state.deadline.set(None));
        again(regs);
    }
}

/// A handler with these flags is about to run.
pub fn with_handler(regs: &mut UserRegs, flags: u64) {
    let state = &user().signals.restart;
    state.deadline.set(None);
    state.resumed.set(None);
    if state.pending.set(None) == Some(Kind::UnlessHandler) && flags & u64::from(l::SA_RESTART) != 0 {
        again(regs);
    }
}

/// Steps back onto the two bytes of the SYSCALL instruction.
fn again(regs: &mut UserRegs) {
    regs.rax = regs.orig_rax;
    regs.rip -= 2;
}
