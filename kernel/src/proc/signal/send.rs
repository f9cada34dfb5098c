//! Sending: into a set, then a thread is told.

use super::{Actions, SIGCONT, SIGKILL, STOPPING, SigInfo, UNBLOCKABLE, bit};
use crate::fs::signalfd;
use crate::proc::process::Process;
use crate::proc::thread::{self, UserThread};
use crate::proc::tree::{self, JobEvent};
use crate::proc::wait;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as l;
use quire_base::errno::{EAGAIN, Errno};
use quire_base::lock::MutexGuard;
use quire_sched::{self as sched, ThreadRef};

/// Makes a thread look at its signals soon, wherever it is.
pub fn poke(thread: &ThreadRef) {
    thread.attention().store(true, Ordering::SeqCst);
    thread.unpark();
    thread.kick();
}

/// Whether a thread can do something about one of these signals: it does not block it, or it waits for it.
fn takes(thread: &ThreadRef, signals: u64) -> bool {
    let user = thread::of(thread);
    // ordering: SeqCst; the signal is in its set before this, and who begins to wait looks into the set after it has said so.
    let closed = user.blocked.load(Ordering::SeqCst) & !user.awaited.load(Ordering::SeqCst) & !UNBLOCKABLE;
    signals & !closed != 0
}

/// Tells another thread of what is pending for the process: the current one, which was told, does not take it.
pub fn pass_on(process: &Process) {
    let pending = process.pending_bits.load(Ordering::SeqCst);
    if pending != 0 && !process.must_stop.load(Ordering::Relaxed) {
        let me = sched::current().tid;
        let fits = |t: &&ThreadRef| t.tid != me && takes(t, pending) && !thread::of(t).exiting.load(Ordering::SeqCst);
        process.thread_list().iter().filter(fits).for_each(poke);
    }
}

fn actions(process: &Process) -> Arc<Actions> {
    process.actions.lock().clone()
}

/// Stop and continue signals cancel each other when they are sent, whatever the actions are. Of SIGCONT the lock comes back: nobody stops
/// the process before [`go_on`].
fn cancel(process: &Process, signal: u8) -> Option<MutexGuard<'_, u64>> {
    let mask = match signal {
        SIGCONT | SIGKILL => STOPPING,
        s if bit(s) & STOPPING != 0 => bit(SIGCONT),
        _ => return None,
    };
    let threads = process.thread_list();
    let mut continued = process.continued.lock();
    {
        let mut pending = process.pending.lock();
        pending.remove(mask);
        process.pending_bits.store(pending.bits(), Ordering::SeqCst);
    }
    for thread in &threads {
        thread::of(thread).pending.lock().remove(mask);
    }
    if matches!(signal, SIGCONT | SIGKILL) {
        *continued += 1;
    }
    // Whoever takes a SIGKILL ends the process, and resumes it.
    (signal == SIGCONT).then_some(continued)
}

/// Resumes a process if there is a lock from [`cancel`]. The signal is there by now: else the program would run on first.
fn go_on(process: &Arc<Process>, continued: Option<MutexGuard<'_, u64>>) {
    let Some(continued) = continued.filter(|_| process.set_stopped(false)) else { return };
    let parent = wait::set_job_event(process, JobEvent::Continued);
    drop(continued);
    process.resumed.wake_all();
    wait::tell_of(process, parent, JobEvent::Continued);
}

/// Sends to a process: any of its threads may handle it.
pub fn to_process(process: &Arc<Process>, info: SigInfo) -> Result<(), Errno> {
    let threads = process.thread_list();
    let continued = cancel(process, info.signal);
    let blocks = |t: &ThreadRef| thread::of(t).blocked.load(Ordering::SeqCst) & bit(info.signal) & !UNBLOCKABLE != 0;
    let ignored = actions(process).get(info.signal).ignores(info.signal);
    let wanted = !ignored || threads.first().is_some_and(blocks);
    let added = wanted && {
        let mut pending = process.pending.lock();
        let added = pending.push(info, process.limit(l::RLIMIT_SIGPENDING));
        process.pending_bits.store(pending.bits(), Ordering::SeqCst);
        added
    };
    go_on(process, continued);
    if !added {
        return if wanted { Err(EAGAIN) } else { Ok(()) };
    }
    signalfd::sent();
    // The first in the list is the leader while it lives, whom Linux prefers too. ordering: SeqCst; who exits says so before it looks
    // what is pending, to pass it on.
    let free = |t: &&ThreadRef| takes(t, bit(info.signal)) && !thread::of(t).exiting.load(Ordering::SeqCst);
    let target = threads.iter().find(free);
    if let Some(target) = target {
        poke(target);
    }
    Ok(())
}

/// Sends to one thread.
pub fn to_thread(target: &ThreadRef, info: SigInfo) -> Result<(), Errno> {
    let user = thread::of(target);
    let continued = cancel(&user.process, info.signal);
    let blocked = user.blocked.load(Ordering::SeqCst) & bit(info.signal) & !UNBLOCKABLE != 0;
    let wanted = blocked || !actions(&user.process).get(info.signal).ignores(info.signal);
    let added = wanted && user.pending.lock().push(info, user.process.limit(l::RLIMIT_SIGPENDING));
    go_on(&user.process, continued);
    if !added {
        return if wanted { Err(EAGAIN) } else { Ok(()) };
    }
    signalfd::sent();
    if takes(target, bit(info.signal)) {
        poke(target);
    }
    Ok(())
}

/// A signal that the current thread's own fault raises: it is handled or kills, whatever other threads do to its action meanwhile,
/// for the thread cannot go on. So it is not put into a set, from which it could be taken again.
pub fn force(user: &UserThread, info: SigInfo) {
    user.signals.forced.set(Some(info));
    crate::proc::signal::raise_attention();
}

/// Sends to every living process of a group; false when there is none.
pub fn to_group(pgid: u32, info: SigInfo) -> bool {
    let members = tree::living(|_, links| links.pgid == pgid);
    for process in &members {
        // What kill sends is never refused; it reports only whether anyone was reached.
        let _ = to_process(process, info);
    }
    !members.is_empty()
}
