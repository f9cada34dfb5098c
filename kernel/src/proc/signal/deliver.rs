//! Delivery: what a thread does about its signals on its way back to user mode.

use super::{Action, SIGKILL, STOPPING, SigInfo, bit, frame, restart};
use crate::arch::UserRegs;
use crate::mem::user::UserPtr;
use crate::proc::process::{Ended, Process};
use crate::proc::thread::{UserThread, user};
use crate::proc::tree::JobEvent;
use crate::proc::{exit, interval, wait};
use crate::sched;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as l;

/// Called with the thread's registers before it returns to user mode, when its attention flag is up.
/// Does not return when the thread has to end.
pub fn before_user(regs: &mut UserRegs) {
    let thread = sched::current();
    let user = user();
    let mut handled = false;
    let tid_at = user.set_child_tid.swap(0, Ordering::Relaxed);
    if tid_at != 0 {
        // Linux forgets a failure here.
        let _ = UserPtr::<u32>::new(tid_at as usize).write(user.tid());
    }
    loop {
        thread.attention().store(false, Ordering::SeqCst);
        exit::if_told();
        if super::is_killed(user) {
            exit::group(Ended::Killed(SIGKILL));
        }
        if user.process.stopped.load(Ordering::SeqCst) {
            stop_here(user);
            continue;
        }
        let Some(info) = take(user, user.blocked.load(Ordering::Relaxed)) else { break };
        handled |= act(user, regs, info);
    }
    if !handled {
        restart::without_handler(regs);
        if let Some(mask) = user.signals.saved_mask.set(None) {
            super::set_mask(mask);
        }
    }
}

/// Takes the next signal for the thread that is not `blocked`, its own before the process's. Never SIGKILL: it stays pending until
/// the process is told to end, so that each thread that looks finds the one or the other ([`super::is_dying`]).
pub(super) fn take(user: &UserThread, blocked: u64) -> Option<SigInfo> {
    let blocked = blocked | bit(SIGKILL);
    let own = user.pending.lock().pop(blocked);
    let mut info = own.or_else(|| of_process(&user.process, blocked))?;
    interval::taken(&user.process, &mut info);
    Some(info)
}

fn of_process(process: &Process, blocked: u64) -> Option<SigInfo> {
    if process.pending_bits.load(Ordering::SeqCst) & !blocked == 0 {
        return None;
    }
    let mut pending = process.pending.lock();
    let info = pending.pop(blocked);
    process.pending_bits.store(pending.bits(), Ordering::SeqCst);
    info
}

/// Acts on one signal; true when a handler's frame was built.
fn act(user: &UserThread, regs: &mut UserRegs, info: SigInfo) -> bool {
    let signal = info.signal;
    let table = user.process.actions.lock().clone();
    let action = table.get(signal);
    if action.ignores(signal) {
        return false;
    }
    if action.is_default() {
        if bit(signal) & STOPPING == 0 {
            exit::group(Ended::Killed(signal));
        }
        user.process.stopped.store(true, Ordering::SeqCst);
        for thread in user.process.thread_list() {
            super::send::poke(&thread);
        }
        wait::job_event(&user.process, JobEvent::Stopped(signal));
        return false;
    }
    restart::with_handler(regs, action.flags);
    let mask = user.signals.saved_mask.set(None).unwrap_or(user.blocked.load(Ordering::Relaxed));
    if action.flags & u64::from(l::SA_RESETHAND) != 0 {
        table.set(signal, Action { handler: 0, ..action });
    }
    if frame::push(user, regs, &info, &action, mask).is_err() {
        // Linux: no room for the frame is a SIGSEGV that a handler on the same stack could not take either.
        exit::group(Ended::Killed(super::SIGSEGV));
    }
    let mut blocked = user.blocked.load(Ordering::Relaxed) | action.mask;
    if action.flags & u64::from(l::SA_NODEFER) == 0 {
        blocked |= bit(signal);
    }
    super::set_mask(blocked);
    true
}

/// Sleeps while the process is stopped; only SIGCONT and death end it.
fn stop_here(user: &UserThread) {
    let process = &user.process;
    while process.stopped.load(Ordering::SeqCst) && !super::is_dying() {
        // Interrupted or not, the condition is looked at again.
        let _ = process
            .resumed
            .wait(None, true, || (!process.stopped.load(Ordering::SeqCst) || super::is_dying()).then_some(()));
        sched::current().attention().store(false, Ordering::SeqCst);
    }
    if super::is_dying() {
        process.stopped.store(false, Ordering::SeqCst);
    }
}
