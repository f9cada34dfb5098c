//! Polling before halting.
//!
//! To wake a halted virtual CPU the host switches threads, which costs tens of microseconds, often more than the wait itself: a
//! page of the disk, an answer through a pipe. So a thread that parks where nobody else wants the CPU first looks around for a
//! moment, with interrupts on, if the CPU's waits were short lately; and its space stays loaded meanwhile. How long is learnt as by
//! the guest half of Linux's halt polling (`Documentation/virt/guest-halt-polling.rst`): longer after waits that just outlast it,
//! shorter after long ones, down to nothing. A guest that sleeps, or waits for a slow disk, does not poll.
//!
//! One CPU polls at a time: more would take the host's CPUs from those who have work, the disk's threads included.

use crate::above::ABOVE;
use crate::machine::interrupt_window;
use crate::{WAKE, timer};
use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering};

/// Waits longer than this, in nanoseconds, are never polled for to their end.
const MOST: u64 = 200_000;
/// The first guess.
const LEAST: u64 = 50_000;

/// How often a CPU polled, and how often it found something.
static POLLS: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// Calls `see` with the name and the value of each counter.
pub fn each_counter(mut see: impl FnMut(&str, u64)) {
    for (name, count) in ["halt_polls", "halt_polls_found"].into_iter().zip(&POLLS) {
        see(name, count.load(Ordering::Relaxed));
    }
}

/// What a CPU has learnt of its waits; own use only.
#[derive(Debug)]
pub(crate) struct HaltPoll {
    /// When it had nothing to do any more.
    since: Cell<u64>,
    /// How long it polls now, in nanoseconds.
    limit: Cell<u64>,
}

impl HaltPoll {
    /// Nothing yet.
    pub const fn new() -> HaltPoll {
        HaltPoll { since: Cell::new(0), limit: Cell::new(0) }
    }

    /// The CPU has nothing to do from `now` on.
    pub fn begin(&self, now: u64) {
        self.since.set(now);
    }

    /// The CPU has found something to do.
    pub fn end(&self, now: u64) {
        let waited = now.saturating_sub(self.since.get());
        self.limit.set(match self.limit.get() {
            limit if waited <= limit => limit,
            limit if waited <= MOST => (2 * limit).clamp(LEAST, MOST),
            limit if limit / 2 < LEAST => 0,
            limit => limit / 2,
        });
    }

    /// Lets interrupts come, and looks at the devices, until `found` or the time or `deadline` is over.
    ///
    /// Then the caller looks at its queue, and again after [`Wake::about_to_halt`](crate::wake::Wake::about_to_halt).
    pub fn poll(&self, cpu: usize, deadline: u64, found: impl Fn() -> bool) {
        let until = (self.since.get() + self.limit.get()).min(deadline);
        if timer::now_ns() >= until || !WAKE.start_poll(cpu) {
            return;
        }
        // No `pause`: QEMU's translator leaves the guest for it, and takes the lock that the disk needs to answer.
        while !found() && timer::now_ns() < until {
            interrupt_window();
            (ABOVE.get().look_at_devices)();
        }
        WAKE.end_poll();
        // ordering: Relaxed; statistics.
        POLLS[0].fetch_add(1, Ordering::Relaxed);
        POLLS[1].fetch_add(found() as u64, Ordering::Relaxed);
    }
}
