//! What the kernel spends for a process beside its space: threads with their stacks, open files with what is in them, queues.
//!
//! Looked at when a victim is chosen, and by /proc: nothing is counted where it is spent, so no path pays for it. What belongs to
//! several processes is shared out among them.

use super::process::Process;
use super::thread::of;
use crate::fs::FileTable;
use crate::sched::{Thread, stack};

/// Bytes of a thread: its stack and what stands for it, vector registers included.
const THREAD: u64 = stack::SIZE + 2 * size_of::<Thread>() as u64 + 4096;
/// Bytes of a process without threads, with its action table.
const PROCESS: u64 = size_of::<Process>() as u64 + 4096;
/// Bytes of a timer that a program has made, or of a signal in a queue.
const SMALL: u64 = 128;

/// Bytes that go when the process goes. `first` says of each table of descriptors whether it is new to the caller.
pub fn of_process(process: &Process, mut first: impl FnMut(&FileTable) -> bool) -> u64 {
    let mut bytes = PROCESS;
    bytes += SMALL * (process.pending.lock().len() + process.intervals.lock().len()) as u64;
    for n in 0.. {
        // Nothing is locked while a thread is looked at: what it has may go with the look.
        let thread = process.threads.lock().list.get(n).cloned();
        let Some(thread) = thread else { break };
        bytes += THREAD + SMALL * of(&thread).pending.lock().len() as u64;
    }
    let files = process.files.lock().clone();
    bytes + files.upgrade().filter(|files| first(files)).map_or(0, |files| files.held())
}
