//! The thread that keeps some frames free, so that faults seldom have to.

use super::relief;
use super::scan::Scan;
use super::{disk, open_area, poll};
use crate::mem::memory;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use quire_base::wait::Wait;
use quire_mm::What;
use quire_sched::{self as sched, WaitQueue, timer};
use quire_swapd::daemon::{Daemon, Next};
use quire_swapd::policy::Watermarks;
use spin::Once;

/// How long to sleep when nothing can be evicted and nothing is on its way.
const PAUSE: u64 = 20_000_000;
/// How long to wait for a completion before looking at the disk's health.
const LOOK: u64 = 200_000_000;

/// How long an audit waits for the disk.
const SETTLE: u64 = 10_000_000_000;

/// Where it sleeps until frames are few.
static SLEEP: WaitQueue = WaitQueue::new();
/// Where it waits for the disk.
static WAIT: WaitQueue = WaitQueue::new();
/// Somebody has asked for frames since the daemon looked.
static WANTED: AtomicBool = AtomicBool::new(false);
/// Completions, so that one which comes before the wait is not missed.
static COMPLETED: AtomicU64 = AtomicU64::new(0);
static STARTED: Once<bool> = Once::new();
static MARKS: Once<Watermarks> = Once::new();

/// How many free frames are few on this machine.
pub fn marks() -> Watermarks {
    *MARKS.call_once(|| Watermarks::of(memory().total_frames()))
}

/// Starts the thread, once. False: no memory for it.
pub fn start() -> bool {
    *STARTED.call_once(|| sched::spawn_kernel("swapd", run, 0).is_ok())
}

/// Frames are few: the daemon shall work.
pub fn wake() {
    // ordering: Relaxed; a flag that is up already needs no second wake-up, and the swap is one word.
    if !WANTED.load(Ordering::Relaxed) && !WANTED.swap(true, Ordering::AcqRel) {
        SLEEP.wake_all();
    }
}

/// The disk has completed something.
pub fn completed() {
    // ordering: Relaxed; the queue's fences order it before the waiter's look.
    COMPLETED.fetch_add(1, Ordering::Relaxed);
    WAIT.wake_all();
}

fn run(_: usize) {
    let mut daemon = Daemon::new(marks());
    loop {
        let (seen, begun) = (COMPLETED.load(Ordering::Relaxed), timer::now_ns());
        let next = match open_area() {
            Some(area) => daemon.step(area, &Scan),
            None => Next::Sleep,
        };
        match next {
            Next::Again => {
                quire_arch::interrupt_window();
                sched::yield_now();
                continue;
            }
            // ordering: AcqRel pairs with `wake`.
            Next::Sleep => {
                let wanted = || WANTED.swap(false, Ordering::AcqRel).then_some(());
                let _ = SLEEP.wait(None, false, wanted);
            }
            Next::Wait => {
                let news = || (COMPLETED.load(Ordering::Relaxed) != seen).then_some(());
                if WAIT.wait(Some(timer::now_ns() + LOOK), false, news).is_err() {
                    // An interrupt may have been lost with the CPU that had it.
                    poll();
                    disk::is_dead();
                }
            }
            Next::Exhausted => {
                relief::frames_came();
                let news = || (COMPLETED.load(Ordering::Relaxed) != seen).then_some(());
                // A tour of many tables may take longer than the pause: most of the time is the programs'.
                let now = timer::now_ns();
                let _ = WAIT.wait(Some(now + PAUSE.max(4 * (now - begun))), false, news);
                if memory().free_frames() >= marks().low {
                    continue;
                }
            }
        }
    }
}

/// Waits until no scan, read or write is under way and nothing waits to be written, for an audit: no program runs. No scan begins
/// before [`unsettle`].
pub fn settle() {
    super::scan::quiet(true);
    let Some(area) = super::area() else { return };
    let until = timer::now_ns() + SETTLE;
    static UNDER_WAY: What = What { text: "the disk, before an audit", show: |n, f| write!(f, "{n} pages under way") };
    let mut wait = Wait::new(&UNDER_WAY);
    loop {
        let busy = area.census().busy;
        if (busy == 0 && !area.has_pending()) || timer::now_ns() >= until || disk::is_dead() {
            return;
        }
        poll();
        area.write_out();
        wait.pause(busy);
    }
}

/// Ends [`settle`].
pub fn unsettle() {
    super::scan::quiet(false);
}
