//! Whom to end when memory and swap are gone: the largest process, and all that share its memory, as Linux does.
//!
//! A process weighs what comes back with it: pages in frames and slots, page tables, nodes of segment lists, kernel stacks, what is in
//! its pipes, sockets and files without a name ([`charge`]). Those who share a space weigh together, and the space is walked
//! once, however many they are; the walk answers other CPUs' shootdowns. To the weight comes `oom_score_adj`, in thousandths of
//! memory and swap; who has -1000, or shares a space with one who has, is never chosen.
//!
//! The next one is chosen when the last one's memory has come back, or after [`PATIENCE`]: a process can be gone for its
//! parent while another CPU still frees its pages, and somebody innocent would be the largest then. Who ends anyway is waited for
//! longer, but not for ever ([`STUCK`]): it may be stuck where nobody can kill it.

use super::process::{Ended, Process};
use super::{charge, exit, tree};
use crate::mem::{Space, memory};
use alloc::sync::{Arc, Weak};
use core::ops::Bound;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use linux_raw_sys::general::SIGKILL;
use quire_base::lock::Mutex;
use quire_sched::timer;

/// How long the last victim's memory is waited for, in nanoseconds.
const PATIENCE: u64 = 2_000_000_000;

/// How long processes may be ending in one shortage, in nanoseconds, before another one is chosen.
const STUCK: u64 = 30_000_000_000;

/// After so long without a look the next one is another shortage's, in nanoseconds: a chooser waits for a few seconds between two.
const APART: u64 = 20_000_000_000;

/// The least `oom_score_adj`: never chosen. The most: chosen first.
pub const NEVER: i32 = -1000;
/// See [`NEVER`].
pub const FIRST: i32 = 1000;

/// What a space weighs in the choice under way.
#[derive(Default)]
pub struct Weight {
    /// The choice that this is for: others' numbers say nothing.
    choice: AtomicU64,
    pages: AtomicU64,
    /// Somebody who has it is never chosen.
    spared: AtomicBool,
    /// Somebody who has it is not ending.
    lives: AtomicBool,
}

/// The number of the choice under way.
static CHOICE: AtomicU64 = AtomicU64::new(0);

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
/// still) ending, or `is_over` says that nobody need end any more, so that trying again makes sense. Needs no memory itself, and waits for
/// nobody: what it drops may be the last reference, and no `drop` waits. One caller at a time.
pub fn end_largest(is_over: impl Fn() -> bool) -> bool {
    weigh();
    let mut best: Option<(i64, Arc<Process>)> = None;
    let mut ending = 0;
    each(|p| {
        let Some((pages, lives, spared)) = weight(p) else { return };
        if is_ending(p) {
            // The space of one that ends comes back only if all who have it end.
            ending += if lives || p.stuck.load(Ordering::Relaxed) { 0 } else { pages };
            return;
        }
        let points = points(pages, p.oom_adj.load(Ordering::Relaxed));
        // Of equals the youngest, as on Linux.
        if !spared && best.as_ref().is_none_or(|b| b.0 <= points) {
            best = Some((points, p.clone()));
        }
    });
    // Pages on their way count as a process that ends.
    let ending = ending >= crate::swap::shortage::ENOUGH || memory().clearing() != 0;
    let stuck = are_stuck(ending);
    if ending && !stuck || comes() {
        return true;
    }
    if stuck {
        // Nobody waits for them again.
        each(|p| p.stuck.store(is_ending(p), Ordering::Relaxed));
    }
    // The weighing may have been long, and is nothing if it was broken off.
    if is_over() {
        return true;
    }
    let Some((_, victim)) = best else { return ending };
    end(&victim);
    true
}

/// Ends a process and all that share its memory.
fn end(victim: &Arc<Process>) {
    let shared = victim.memory.lock().clone();
    let usage = shared.as_ref().map(|memory| memory.space.usage()).unwrap_or_default();
    let kernel = charge::of_process(victim);
    log::warn!(
        "out of memory: process {} ({}, {} KiB resident, {} KiB swapped, {} KiB tables, {} KiB kernel) is killed",
        victim.pid,
        crate::fs::Printable(&victim.exe.lock().path),
        usage.resident * 4,
        usage.swapped * 4,
        (usage.tables + usage.nodes) * 4,
        kernel / 1024
    );
    let [pages, tables, slabs, kernel] = memory().roles().map(|n| n * 4);
    log::warn!("memory: {pages} KiB pages, {tables} KiB tables, {slabs} KiB slabs, {kernel} KiB kernel");
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
}

fn is_ending(process: &Process) -> bool {
    process.threads.lock().ending.is_some()
}

/// Begins a choice: gives each space its weight.
fn weigh() {
    // ordering: Relaxed, here and in `weight`; one thread chooses at a time, see `are_stuck`.
    let choice = CHOICE.fetch_add(1, Ordering::Relaxed) + 1;
    each(|p| {
        let memory = p.memory.lock().clone();
        let Some(memory) = memory else { return };
        let weight = &memory.weight;
        if weight.choice.swap(choice, Ordering::Relaxed) != choice {
            weight.pages.store(memory.space.usage().sum(), Ordering::Relaxed);
            weight.spared.store(false, Ordering::Relaxed);
            weight.lives.store(false, Ordering::Relaxed);
        }
        let kernel = charge::of_process(p);
        weight.pages.fetch_add(kernel.div_ceil(4096), Ordering::Relaxed);
        weight.lives.fetch_or(!is_ending(p), Ordering::Relaxed);
        weight.spared.fetch_or(p.oom_adj.load(Ordering::Relaxed) == NEVER, Ordering::Relaxed);
    });
}

/// What the space of a process weighs, whether somebody who has it lives, and whether it is spared. `None`: it has none, or has come
/// since the weighing.
fn weight(process: &Process) -> Option<(u64, bool, bool)> {
    let memory = process.memory.lock().clone()?;
    let weight = &memory.weight;
    (weight.choice.load(Ordering::Relaxed) == CHOICE.load(Ordering::Relaxed)).then(|| {
        let flag = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        (weight.pages.load(Ordering::Relaxed), flag(&weight.lives), flag(&weight.spared))
    })
}

/// All that can be had: frames and slots.
fn total() -> i64 {
    (memory().total_frames() + crate::swap::area::usable()).max(1000) as i64
}

/// What decides: pages, and the adjustment in thousandths of all there are.
fn points(pages: u64, adj: i32) -> i64 {
    pages as i64 + i64::from(adj) * (total() / 1000)
}

/// /proc/PID/oom_score, as Linux computes it.
pub fn score(process: &Process) -> i64 {
    let adj = process.oom_adj.load(Ordering::Relaxed);
    let memory = process.memory.lock().clone();
    let (Some(memory), true) = (memory, adj != NEVER) else { return 0 };
    let pages = memory.space.usage().sum() + charge::of_process(process).div_ceil(4096);
    (1000 + points(pages, adj) * 1000 / total()) * 2 / 3
}

/// Writes /proc/PID/oom_score_adj: for the process and, since they die together, for all that share its memory.
pub fn adjust(process: &Arc<Process>, adj: i32) {
    process.oom_adj.store(adj, Ordering::Relaxed);
    let shared = process.memory.lock().clone();
    // As on Linux, not for the parent of a vfork.
    let Some(shared) = shared.filter(|_| !process.is_in_vfork()) else { return };
    each(|p| {
        let other = p.memory.lock().clone();
        if other.is_some_and(|other| Arc::ptr_eq(&other, &shared)) {
            p.oom_adj.store(adj, Ordering::Relaxed);
        }
    });
}

/// Visits every process, zombies too, one after the other by number, without a lock held while `see` runs.
fn each(mut see: impl FnMut(&Arc<Process>)) {
    let mut after = Bound::Unbounded;
    loop {
        let next = tree::lock().processes.range((after, Bound::Unbounded)).next().map(|(&pid, p)| (pid, p.clone()));
        let Some((pid, process)) = next else { return };
        after = Bound::Excluded(pid);
        see(&process);
        quire_arch::interrupt_window();
    }
}
