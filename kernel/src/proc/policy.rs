//! The policy of scheduling that a thread has.

use super::thread::{UserThread, of};
use core::sync::atomic::Ordering;
use quire_sched::Thread;
use quire_unix::policy::Policy;

/// A thread's.
pub fn get(thread: &UserThread) -> Policy {
    Policy::from_word(thread.policy.load(Ordering::Relaxed))
}

/// Gives it to a thread. As on Linux, timers of a real-time one have no slack, and its own are back behind it.
pub fn set(thread: &UserThread, policy: Policy) {
    thread.policy.store(policy.word(), Ordering::Relaxed);
    let slack = &mut thread.settings.lock().slack;
    match (policy.is_realtime(), slack[0]) {
        (true, _) => slack[0] = 0,
        (false, 0) => slack[0] = slack[1],
        _ => {}
    }
}

/// Gives a new thread what the one that makes it leaves it.
pub fn inherit(parent: &Thread, child: &Thread) {
    let (policy, nice) = get(of(parent)).of_child(parent.nice());
    set(of(child), policy);
    child.set_nice(nice);
}
