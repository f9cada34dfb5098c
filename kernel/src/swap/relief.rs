//! Frames for who needs them now: wake the daemon below the low watermark, reclaim oneself below the minimum.
//!
//! Called outside of every window, claim and lock: by a fault before it begins, and by whoever found no frame.

use super::above::is_dying;
use super::daemon::{self, marks};
use super::scan::Scan;
use super::{disk, is_open, open_area};
use crate::mem::memory;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use quire_base::cpu::{self, CPUS};
use quire_base::wait::Wait;
use quire_mm::{Evicted, What};
use quire_sched::{WaitQueue, timer};
use quire_swapd::daemon::shrink;
use quire_swapd::policy::{LAST_ROUND, Pressure};

/// Faults of a CPU between two looks at how much is free.
const STRIDE: u32 = 8;
/// Pages that one turn of direct reclaim evicts: a full request.
const TURN: u64 = 32;
/// Pages that direct reclaim takes for one caller, who then tries whether there is something left for him.
const MOST: u64 = 64 * TURN;
/// How long to wait for a write before looking again.
const PATIENCE: u64 = 50_000_000;
/// A tour that finds nothing is followed by eight times its length in which faults make none, and its length is taken to be this at
/// least.
const REST: u64 = 5_000_000;

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

/// Counts what a scan did.
pub fn scanned(done: &Evicted) {
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
            // Where nothing can be evicted, the last frames are used without a tour for each of them.
            if timer::now_ns() >= REST_UNTIL.load(Ordering::Relaxed) {
                let _ = reclaim_until(marks().min);
            }
        }
    }
}

/// Until when faults need not try to reclaim: a tour has found nothing.
static REST_UNTIL: AtomicU64 = AtomicU64::new(0);
/// Only one thread at a time makes the last tour, in which everything goes; and how many of them have found nothing.
static TOURING: AtomicBool = AtomicBool::new(false);
static BARREN: AtomicU64 = AtomicU64::new(0);

/// What direct reclaim came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Relief {
    /// There are enough frames, or the thread is being killed and needs none.
    Enough,
    /// Pages went, and others took their frames: try again.
    Some,
    /// Nothing can be evicted, or no area is open.
    Nothing,
}

/// Makes frames free by eviction until there are `enough`, in bounded time.
///
/// What counts as progress is what this thread's own scans have taken, and the end of a write. Others' scans do not: two that each took
/// the other's for progress went on for ever. In the last round a scan leaves nothing out (`quire_mm`'s `scan`, rule 5), so a
/// last tour without a page means that there is none.
pub fn reclaim_until(enough: u64) -> Relief {
    let Some(area) = open_area() else { return Relief::Nothing };
    STALLS.fetch_add(1, Ordering::Relaxed);
    let begun = timer::now_ns();
    // A gentle tour finds nothing where one has just found nothing at all.
    let mut round = if begun < REST_UNTIL.load(Ordering::Relaxed) { LAST_ROUND } else { 0 };
    let mut taken = 0;
    let has_enough = || memory().free_frames() >= enough || is_dying();
    while taken < MOST {
        let seen = CAME.load(Ordering::Relaxed);
        let gone = if round < LAST_ROUND { shrink(area, &Scan, TURN, round) } else { last_tour(area, enough) };
        taken += gone;
        if has_enough() {
            return Relief::Enough;
        }
        if area.stats.writing.load(Ordering::Relaxed) != 0 {
            let came = || (CAME.load(Ordering::Relaxed) != seen).then_some(());
            match WAITING.wait(Some(timer::now_ns() + PATIENCE), false, came) {
                Ok(()) => taken += 1,
                Err(_) => {
                    super::poll();
                    if disk::is_dead() {
                        return Relief::Nothing;
                    }
                }
            }
        } else if gone == 0 && round == LAST_ROUND {
            let now = timer::now_ns();
            REST_UNTIL.store(now + (now - begun).max(REST) * 8, Ordering::Relaxed);
            return Relief::Nothing;
        } else if gone == 0 {
            round += 1;
        }
        if has_enough() {
            return Relief::Enough;
        }
    }
    Relief::Some
}

/// A scan of the last round, or somebody else's that has ended meanwhile: whoever finds nothing, finds it for all who wait.
fn last_tour(area: &super::Area, enough: u64) -> u64 {
    static TOUR: What = What { text: "another thread's tour", show: |n, f| write!(f, "{n} free") };
    // ordering: Acquire and Release on the mark: what one tour has found is seen by the next thread.
    let before = BARREN.load(Ordering::Relaxed);
    let mut wait = Wait::new(&TOUR);
    while TOURING.swap(true, Ordering::Acquire) {
        wait.pause(memory().free_frames());
        if memory().free_frames() >= enough || BARREN.load(Ordering::Relaxed) != before || is_dying() {
            return 0;
        }
    }
    let gone = shrink(area, &Scan, TURN, LAST_ROUND);
    if gone == 0 {
        BARREN.fetch_add(1, Ordering::Relaxed);
    }
    TOURING.store(false, Ordering::Release);
    gone
}
