//! Whom to end when memory and swap are gone: the process with the most pages in frames and slots together, and all that share its
//! memory. The next one is chosen when the last one's memory has come back, or after [`PATIENCE`]: a process can be gone for its
//! parent while another CPU still frees its pages, and somebody innocent would be the largest then. Who ends anyway is waited for
//! longer, but not for ever ([`STUCK`]): it may be stuck where nobody can kill it.

use super::exit;
use super::process::{Ended, Process};
use super::tree;
use crate::debug::lock::Mutex;
use crate::mem::{Space, memory};
use crate::sched::timer;
use alloc::sync::{Arc, Weak};
use core::ops::Bound;
use core::sync::atomic::{AtomicU64, Ordering};
use linux_raw_sys::general::SIGKILL;

/// How long the last victim's memory is waited for, in nanoseconds.
const PATIENCE: u64 = 2_000_000_000;

/// How long processes may be ending in one shortage, in nanoseconds, before another one is chosen.
const STUCK: u64 = 30_000_000_000;

/// After so long without a look the next one is another shortage's, in nanoseconds: a chooser waits for a few seconds between two.
const APART: u64 = 20_000_000_000;

/// When somebody looked last, and since when some process had been ending each time; 0: none was.
static LOOKED: AtomicU64 = AtomicU64::new(0);
static ENDING: AtomicU64 = AtomicU64::new(0);

/// Whether those who are ending have had their time. One thread chooses at a time, so plain loads and stores do.
fn are_stuck(ending: bool) -> bool {
    // ordering: Relaxed; who chooses next comes after this one (`shortage`).
    let now = timer::now_ns().max(1);
    let before = LOOKED.swap(now, Ordering::Relaxed);
    let since = match ENDING.load(Ordering::Relaxed) {
        since if since != 0 && now.saturating_sub(before) < APART => since,
        _ => now,
    };
    let stuck = ending && now.saturating_sub(since) > STUCK;
    ENDING.store(if ending && !stuck { since } else { 0 }, Ordering::Relaxed);
    stuck
}

/// The last victim's memory, and when it was chosen.
static LAST: Mutex<Option<(Weak<Space>, u64)>> = Mutex::new(None);

/// Whether the last victim's pages are still to come.
fn comes() -> bool {
    let last = LAST.lock();
    let Some((space, at)) = &*last else { return false };
    (space.strong_count() != 0 || memory().clearing() != 0) && timer::now_ns().saturating_sub(*at) < PATIENCE
}

/// Ends the largest process that is not ending already, by SIGKILL, and names it in the log. True if some process is (now or
/// still) ending, so that waiting for memory makes sense. Needs no memory itself.
pub fn end_largest() -> bool {
    let mut best: Option<((u64, u64), Arc<Process>)> = None;
    let mut ending = false;
    each(|p| {
        let Some(memory) = p.memory.lock().clone() else { return };
        if p.threads.lock().ending.is_some() {
            ending |= !p.stuck.load(Ordering::Relaxed);
            return;
        }
        let pages = memory.space.usage();
        // Of equals the youngest, as on Linux.
        if best.as_ref().is_none_or(|b| b.0.0 + b.0.1 <= pages.0 + pages.1) {
            best = Some((pages, p.clone()));
        }
    });
    // Pages on their way count as a process that ends.
    let ending = ending || memory().clearing() != 0;
    let stuck = are_stuck(ending);
    if ending && !stuck || comes() {
        return true;
    }
    if stuck {
        // Nobody waits for them again.
        each(|p| p.stuck.store(p.threads.lock().ending.is_some(), Ordering::Relaxed));
    }
    let Some(((resident, swapped), victim)) = best else { return ending };
    log::warn!(
        "out of memory: process {} ({}, {} KiB resident, {} KiB swapped) is killed",
        victim.pid,
        crate::fs::Printable(&victim.exe.lock()),
        resident * 4,
        swapped * 4
    );
    let [pages, tables, slabs, kernel] = memory().kinds().map(|n| n * 4);
    log::warn!("memory: {pages} KiB pages, {tables} KiB tables, {slabs} KiB slabs, {kernel} KiB kernel");
    let shared = victim.memory.lock().clone();
    let last = shared.as_ref().map(|memory| (Arc::downgrade(&memory.space), timer::now_ns()));
    let before = core::mem::replace(&mut *LAST.lock(), last);
    // Dropped without the lock: it may be the last of its kind.
    drop(before);
    each(|p| {
        let same = match (&*p.memory.lock(), &shared) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        };
        if same || p.pid == victim.pid {
            exit::end_process(p, Ended::Killed(SIGKILL as u8));
        }
    });
    true
}

/// Visits every process, zombies too, one after the other by number, without a lock held while `see` runs.
fn each(mut see: impl FnMut(&Arc<Process>)) {
    let mut after = Bound::Unbounded;
    loop {
        let next = tree::lock().processes.range((after, Bound::Unbounded)).next().map(|(&pid, p)| (pid, p.clone()));
        let Some((pid, process)) = next else { return };
        after = Bound::Excluded(pid);
        see(&process);
    }
}
