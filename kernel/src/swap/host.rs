//! What the swap cache needs of the scheduler: waking who waits for a slot, and each thread's guess at what it reads next.

use core::sync::atomic::Ordering;
use quire_mm::{Page, Slot};
use quire_sched::{self as sched, WaitQueue};
use quire_swapd::policy::Readahead;

/// Queues that waiters for slots are spread over.
const QUEUES: usize = 64;
static WAITING: [WaitQueue; QUEUES] = [const { WaitQueue::new() }; QUEUES];

/// Where waiters for this slot wait, and for some others.
pub fn queue(slot: Slot) -> &'static WaitQueue {
    // Neighbours, which come with one read, have different queues.
    &WAITING[slot.0 as usize % QUEUES]
}

/// The scheduler's part.
#[derive(Debug)]
pub struct Waker;

impl quire_swapd::Wake for Waker {
    fn wake(&self, slot: Slot) {
        queue(slot).wake_all();
    }
    fn hit(&self, page: Page) {
        // Each thread reads its own way through memory, so each has its own guess.
        let word = &sched::current().readahead;
        // ordering: Relaxed; the thread's own.
        word.store(Readahead(word.load(Ordering::Relaxed)).hit(page.0).0, Ordering::Relaxed);
    }
}
