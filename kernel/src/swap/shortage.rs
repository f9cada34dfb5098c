//! Out of memory: what is free but hidden and unused stacks come first, then pages go to the swap area, then a victim is chosen.
//!
//! Whoever finds no frame comes here, holding nothing, and gets one of three answers in bounded time: there are frames, try again; the
//! caller is being killed itself; or there is nobody left to end. Whoever can be told ENOMEM and wants many frames at once
//! ([`room_for`]) gets them by reclaim or not at all: nobody is ended for him.

use super::above::{ABOVE, is_dying};
use super::relief::{self, Relief};
use crate::mem::memory;
use crate::mem::page::KernelPage;
use core::sync::atomic::{AtomicBool, Ordering};
use quire_base::cpu;
use quire_base::wait::Wait;
use quire_mm::What;
use quire_sched as sched;
use quire_sched::timer;

/// Free frames below which waiting makes no sense: a fault may need four.
pub const ENOUGH: u64 = 16;
/// The most frames for which somebody is ended.
pub const FEW: u64 = 1024;
/// How often a short operation is tried again before it fails; each round gives the CPU away.
pub const ROUNDS: usize = 64;
/// How long a victim's frames are waited for before the next choice, in nanoseconds.
const PATIENCE: u64 = 2_000_000_000;

/// Only one thread chooses a victim at a time.
static CHOOSING: AtomicBool = AtomicBool::new(false);

/// Makes some frames free. False: there is nobody left to end.
pub fn wait_for_frames() -> bool {
    wait_for(ENOUGH)
}

/// As [`wait_for_frames`], for as many as `want`, at most [`FEW`].
///
/// Every CPU gives its caches and retired lists back first; then pages are evicted; then the largest process is ended, and the
/// caller waits for its end.
pub fn wait_for(want: u64) -> bool {
    quire_base::lock::may_wait();
    match without_victim(want) {
        Relief::Nothing => {}
        Relief::Enough | Relief::Some => return true,
    }
    let is_over = || memory().free_frames() >= want || is_dying();
    static CHOICE: What = What { text: "another thread's choice of a victim", show: |n, f| write!(f, "{n} free") };
    let mut wait = Wait::new(&CHOICE);
    // ordering: Acquire and Release: the choice of one thread comes before that of the next.
    if CHOOSING.swap(true, Ordering::Acquire) {
        while CHOOSING.load(Ordering::Relaxed) && !is_over() {
            wait.pause(memory().free_frames());
        }
        return true;
    }
    // What was free was looked at before this thread's turn came: the last victim's frames may be here.
    let chosen = is_over() || (ABOVE.get().end_largest)(&is_over);
    static VICTIM: What = What { text: "the victim's frames", show: |n, f| write!(f, "{n} free") };
    let (mut wait, until) = (Wait::new(&VICTIM), timer::now_ns() + PATIENCE);
    while chosen && !is_over() && timer::now_ns() < until {
        wait.pause(memory().free_frames());
        memory().drain_here();
    }
    CHOOSING.store(false, Ordering::Release);
    chosen
}

/// What `get` gives, which needs a few frames: tried again as long as some can be made free. `None`: the caller is being killed, or
/// there is nobody left to end.
pub fn insist<T>(mut get: impl FnMut() -> Option<T>) -> Option<T> {
    quire_base::lock::may_wait();
    for _ in 0..ROUNDS {
        let got = get();
        if got.is_some() || is_dying() || !wait_for_frames() {
            return got;
        }
    }
    None
}

/// A page of the kernel's, for who can wait until memory comes back, with nothing locked that others need to end.
pub fn page() -> Option<KernelPage> {
    insist(KernelPage::new)
}

/// Makes `want` frames free for somebody who can be refused. Where they are few, a victim is chosen as for anybody.
pub fn room_for(want: u64) -> bool {
    if want >= memory().total_frames() {
        return false;
    }
    let mut turns = 2 + want / FEW;
    loop {
        let relief = if want <= FEW {
            if wait_for(want) { Relief::Some } else { Relief::Nothing }
        } else {
            without_victim(want)
        };
        if memory().free_frames() >= want {
            return true;
        }
        turns -= 1;
        if relief == Relief::Nothing || turns == 0 || is_dying() {
            return false;
        }
    }
}

/// A quota is used up: waits until what others have given back counts no more, once for each page that is `asked` for. False: it
/// has been, so there is no room.
pub fn settle_quota(asked: &mut bool) -> bool {
    if core::mem::replace(asked, true) {
        return false;
    }
    memory().await_retired(cpu::online());
    true
}

/// What can be had without ending anybody.
fn without_victim(want: u64) -> Relief {
    memory().drain_all(cpu::online());
    if memory().free_frames() >= want {
        return Relief::Enough;
    }
    if sched::give_stacks_back() {
        // The reaper frees them while this thread, or its caller's next try, is out of the way.
        quire_arch::interrupt_window();
        sched::yield_now();
    }
    match relief::reclaim_until(want) {
        Relief::Nothing => {}
        had => return had,
    }
    // What was evicted or freed meanwhile may sit in caches again.
    memory().drain_all(cpu::online());
    if memory().free_frames() >= want { Relief::Enough } else { Relief::Nothing }
}
