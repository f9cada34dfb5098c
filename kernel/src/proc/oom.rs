//! Whom to end when memory and swap are gone: the process with the most pages in frames and slots together, and all that share its
//! memory.

use super::exit;
use super::process::{Ended, Process};
use super::tree;
use crate::mem::memory;
use alloc::sync::Arc;
use core::ops::Bound;
use linux_raw_sys::general::SIGKILL;

/// Ends the largest process that is not ending already, by SIGKILL, and names it in the log. True if some process is (now or
/// still) ending, so that waiting for memory makes sense. Needs no memory itself.
pub fn end_largest() -> bool {
    let mut best: Option<((u64, u64), Arc<Process>)> = None;
    let mut ending = false;
    each(|p| {
        let Some(memory) = p.memory.lock().clone() else { return };
        if p.threads.lock().ending.is_some() {
            ending = true;
            return;
        }
        let pages = memory.space.usage();
        // Of equals the youngest, as on Linux.
        if best.as_ref().is_none_or(|b| b.0.0 + b.0.1 <= pages.0 + pages.1) {
            best = Some((pages, p.clone()));
        }
    });
    if ending {
        return true;
    }
    let Some(((resident, swapped), victim)) = best else { return false };
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
