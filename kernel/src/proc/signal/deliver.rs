//! Delivery: what a thread does about its signals on its way back to user mode.

use super::{Action, Actions, SIGKILL, SIGSEGV, STOPPING, SigInfo, bit, frame, restart};
use crate::mem::user::UserPtr;
use crate::proc::process::{Ended, Process};
use crate::proc::sleep::wait_killable;
use crate::proc::thread::{UserThread, user};
use crate::proc::tree::JobEvent;
use crate::proc::{exit, interval, tree, wait};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as l;
use quire_arch::UserRegs;
use quire_sched as sched;

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
        handled |= if let Some(info) = user.signals.forced.set(None) {
            act_on_forced(user, regs, info)
        } else if let Some((info, continued)) = take(user, user.blocked.load(Ordering::Relaxed)) {
            act(user, regs, info, continued)
        } else {
            break;
        };
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
///
/// With the signal comes how often the process had been continued: a stop signal that was taken before a later SIGCONT, and would have
/// been cancelled by it, stops nothing.
pub(super) fn take(user: &UserThread, blocked: u64) -> Option<(SigInfo, u64)> {
    let blocked = blocked | bit(SIGKILL);
    // Held over both: what `send::cancel` removes is taken either before all of that, with the old number, or not at all.
    let continued = user.process.continued.lock();
    let own = user.pending.lock().pop(blocked);
    let mut info = own.or_else(|| of_process(&user.process, blocked))?;
    let number = *continued;
    drop(continued);
    interval::taken(&user.process, &mut info);
    Some((info, number))
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

/// Acts on a signal that the thread's fault has raised. Blocked or ignored it kills, as on Linux: the fault would only come again.
fn act_on_forced(user: &UserThread, regs: &mut UserRegs, info: SigInfo) -> bool {
    let action = actions(user).get(info.signal);
    let blocked = user.blocked.load(Ordering::Relaxed) & bit(info.signal) != 0;
    if blocked || action.is_ignore() || action.is_default() {
        exit::group(Ended::Killed(info.signal));
    }
    handle(user, regs, info, action)
}

/// Acts on one signal; true when a handler's frame was built.
fn act(user: &UserThread, regs: &mut UserRegs, info: SigInfo, continued: u64) -> bool {
    let signal = info.signal;
    let action = actions(user).get(signal);
    if action.ignores(signal) {
        return false;
    }
    if !action.is_default() {
        return handle(user, regs, info, action);
    }
    if bit(signal) & STOPPING == 0 {
        exit::group(Ended::Killed(signal));
    }
    stop(user, signal, continued);
    false
}

fn actions(user: &UserThread) -> Arc<Actions> {
    user.process.actions.lock().clone()
}

/// Stops the process, unless it has been continued since the signal was taken, or nobody could continue it. Decided under the tree's
/// lock: a parent that ends just then finds it stopped, or it finds the parent gone.
fn stop(user: &UserThread, signal: u8, continued: u64) {
    let process = &user.process;
    let parent = {
        let now = process.continued.lock();
        if *now != continued {
            return;
        }
        if !tree::lock().stop(process, signal) {
            return;
        }
        wait::set_job_event(process, JobEvent::Stopped(signal))
    };
    for thread in process.thread_list() {
        super::send::poke(&thread);
    }
    wait::tell_of(process, parent, JobEvent::Stopped(signal));
}

/// Builds the handler's frame. Where there is no room for it, a SIGSEGV is what comes next, and where there is none for that, the end.
fn handle(user: &UserThread, regs: &mut UserRegs, info: SigInfo, action: Action) -> bool {
    let signal = info.signal;
    restart::with_handler(regs, action.flags);
    let mask = user.signals.saved_mask.set(None).unwrap_or(user.blocked.load(Ordering::Relaxed));
    if action.flags & u64::from(l::SA_RESETHAND) != 0 {
        actions(user).set(signal, Action { handler: 0, ..action });
    }
    if frame::push(user, regs, &info, &action, mask).is_err() {
        if signal == SIGSEGV {
            exit::group(Ended::Killed(SIGSEGV));
        }
        super::set_mask(mask);
        super::send::force(user, SigInfo::kernel(SIGSEGV));
        return true;
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
    let resumed = || (!process.stopped.load(Ordering::SeqCst)).then_some(());
    if wait_killable(&process.resumed, resumed).is_none() {
        process.set_stopped(false);
    }
}
