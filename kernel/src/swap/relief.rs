//! Frames for who needs them now: wake the daemon below the low watermark, reclaim oneself below the minimum.
//!
//! Called outside of every window, claim and lock: by a fault before it begins, and by whoever found no frame.

use super::daemon::{self, marks};
use super::scan::Scan;
use super::{disk, is_open, open_area};
use crate::arch::cpu::{self, CPUS};
use crate::debug::stall::Wait;
use crate::mem::memory;
use crate::proc::signal;
use crate::sched::{WaitQueue, timer};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use quire_mm::{Evicted, What};
use quire_swapd::daemon::shrink;
use quire_swapd::policy::{LAST_ROUND, Pressure};

/// Faults of a CPU between two looks at how much is free.
const STRIDE: u32 = 8;
/// Pages that one turn of direct reclaim evicts: a full request.
const TURN: u64 = 32;
/// How long to wait for a write before looking again.
const PATIENCE: u64 = 50_000_000;

static FAULTS: [AtomicU32; CPUS] = [const { AtomicU32::new(0) }; CPUS];
/// Who waits for frames.
static WAITING: WaitQueue = WaitQueue::new();
/// Waits for a completion that may free frames: told apart by number.
static CAME: AtomicU64 = AtomicU64::new(0);

/// Direct reclaims.
pub static STALLS: AtomicU64 = AtomicU64::new(0);
/// Pages that scans have looked at, and that they have taken.
pub static SCANNED: AtomicU64 = AtomicU64::new(0);
/// See `SCANNED`.
pub static STOLEN: AtomicU64 = AtomicU64::new(0);

/// A write has ended, or the daemon has given up: who waits for frames looks again.
pub fn frames_came() {
    // ordering: Relaxed; the queue's fences order it before the waiters' look.
    CAME.fetch_add(1, Ordering::Relaxed);
    WAITING.wake_all();
}

/// Arenas that a scan left to another scan or to an edit.
static SKIPPED: AtomicU64 = AtomicU64::new(0);

/// Counts what a scan did.
pub fn scanned(done: &Evicted) {
    SKIPPED.fetch_add(done.skipped, Ordering::Relaxed);
    SCANNED.fetch_add(done.looked, Ordering::Relaxed);
    STOLEN.fetch_add(done.pages, Ordering::Relaxed);
}

/// Before a fault: looks now and then how many frames are free, and helps if they are too few.
#[inline]
pub fn before_fault() {
    if is_open() {
        look_sometimes();
    }
}

fn look_sometimes() {
    let turn = &FAULTS[cpu::cpu_id()];
    // ordering: Relaxed; this CPU's own, and no count that matters.
    let n = turn.load(Ordering::Relaxed).wrapping_add(1);
    turn.store(n, Ordering::Relaxed);
    if !n.is_multiple_of(STRIDE) {
        return;
    }
    match marks().pressure(memory().free_frames()) {
        Pressure::None => {}
        Pressure::Daemon => daemon::wake(),
        Pressure::Direct => {
            daemon::wake();
            reclaim_until(marks().min);
        }
    }
}

/// Makes frames free by eviction until there are `enough`. False: nothing can be evicted, or no area is open.
pub fn reclaim_until(enough: u64) -> bool {
    let Some(area) = open_area() else { return false };
    STALLS.fetch_add(1, Ordering::Relaxed);
    static FRAMES: What = What { text: "frames from another's scan", show: |n, f| write!(f, "{n} free") };
    let mut wait = Wait::new(&FRAMES);
    let mut round = 0;
    loop {
        let seen = CAME.load(Ordering::Relaxed);
        // ordering: Relaxed; hints.
        let elsewhere = SKIPPED.load(Ordering::Relaxed) + STOLEN.load(Ordering::Relaxed);
        let gone = shrink(area, &Scan, TURN, round);
        if memory().free_frames() >= enough || signal::is_dying() {
            return true;
        }
        let writing = area.stats.writing.load(Ordering::Relaxed) != 0;
        if gone == 0 && !writing {
            if SKIPPED.load(Ordering::Relaxed) + STOLEN.load(Ordering::Relaxed) != elsewhere {
                // Somebody else scans or edits: what he takes is free soon, what he holds may be scanned then.
                wait.pause(memory().free_frames());
            } else if round == LAST_ROUND {
                return memory().free_frames() >= enough;
            } else {
                round += 1;
            }
            continue;
        }
        if writing {
            let came = || (CAME.load(Ordering::Relaxed) != seen).then_some(());
            if WAITING.wait(Some(timer::now_ns() + PATIENCE), false, came).is_err() {
                super::poll();
                if disk::is_dead() {
                    return false;
                }
            }
        }
        if memory().free_frames() >= enough {
            return true;
        }
    }
}
