//! What the kernel spends for a process beside its space: threads with their stacks, open files with what is in them, queues.
//!
//! Looked at when a victim is chosen, and by /proc: nothing is counted where it is spent, so no path pays for it. What belongs to
//! several processes, descriptors or threads is shared out among them, and what takes long to look at is not looked at again for each
//! of them ([`Found`]). Whoever is being killed looks no further.

use super::process::Process;
use super::signal;
use super::thread::of;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use quire_arch::stack;
use quire_sched::{Thread, timer};

/// Bytes of a thread: its stack and what stands for it, vector registers included.
const THREAD: u64 = stack::SIZE + 2 * size_of::<Thread>() as u64 + 4096;
/// Bytes of a process without threads, with its action table.
const PROCESS: u64 = size_of::<Process>() as u64 + 4096;
/// Bytes of a timer that a program has made, or of a signal in a queue.
const SMALL: u64 = 128;

/// What a look has found is good for so many times as long as the look took.
const KEPT: u64 = 8;

/// A look at things between which others may be let in: answers interrupts now and then. False: the caller is being killed, and is
/// to end the look. Nothing is locked.
#[must_use]
pub fn go_on(n: usize) -> bool {
    if !n.is_multiple_of(16) {
        return true;
    }
    quire_arch::interrupt_window();
    !signal::is_dying()
}

/// What somebody has found who looked at something large. It is kept for a while, in proportion to what the look took: however many ask,
/// and however large it is, most of the time goes elsewhere.
pub struct Found {
    value: AtomicU64,
    /// Until when it is good.
    until: AtomicU64,
}

impl Found {
    /// Nothing yet.
    pub const fn new() -> Self {
        Found { value: AtomicU64::new(0), until: AtomicU64::new(0) }
    }

    /// What was found lately, or is now. `None` from `look`: it was broken off, and what was found before is all there is.
    pub fn get(&self, look: impl FnOnce() -> Option<u64>) -> u64 {
        // ordering: Relaxed, throughout; an estimate, and two who look at once find about the same.
        let began = timer::now_ns();
        if began >= self.until.load(Ordering::Relaxed)
            && let Some(value) = look()
        {
            let now = timer::now_ns();
            self.value.store(value, Ordering::Relaxed);
            self.until.store(now + KEPT * (now - began), Ordering::Relaxed);
        }
        self.value.load(Ordering::Relaxed)
    }
}

/// Bytes that go when the process goes.
pub fn of_process(process: &Process) -> u64 {
    let mut bytes = PROCESS;
    bytes += SMALL * (process.pending.lock().len() + process.intervals.lock().len()) as u64;
    for n in 0.. {
        // Nothing is locked while a thread is looked at: what it has may go with the look.
        let thread = process.threads.lock().list.get(n).cloned();
        let Some(thread) = thread.filter(|_| go_on(n)) else { break };
        let user = of(&thread);
        bytes += THREAD + SMALL * user.pending.lock().len() as u64;
        // Threads may have tables of their own, and share them with other processes.
        bytes += user.shown_files().map_or(0, |files| files.held() / shares(&files));
    }
    bytes
}

/// How many have it, but for the caller.
pub fn shares<T: ?Sized>(of: &Arc<T>) -> u64 {
    Arc::strong_count(of).saturating_sub(1).max(1) as u64
}
