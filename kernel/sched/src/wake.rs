//! Who wakes a CPU that has nothing to do: rule 4 of the scheduler.
//!
//! The CPU sets its *idle* bit, fences, looks at the queues, and halts if it finds nothing. Who queues a thread fences, then looks at the
//! bit; who clears it sends the interrupt. One of the two fences comes first: the CPU sees the thread, or the bit is seen.
//!
//! A CPU that *polls* before it halts looks at its queue by itself, so nobody interrupts it. It stops to poll before its bit, its fence and
//! its last look: whoever still sees it poll has fenced before that, and the look finds his thread. The bit alone would not do, for
//! he may have cleared the one that the CPU set in order to halt.
//!
//! The models `wake-halt` and `wake-poll` run this file as it is.

use quire_mm::sync::{AtomicU64, Ordering::*, fence};

/// The idle CPUs, as bits, and the one that polls.
#[derive(Debug)]
pub struct Wake {
    /// CPUs that halt, are about to, or poll.
    idle: AtomicU64,
    /// 0, or the bit of the CPU that polls: one at a time.
    polling: AtomicU64,
}

impl Wake {
    /// All CPUs are busy: both words are zero.
    pub const fn new([idle, polling]: [AtomicU64; 2]) -> Wake {
        Wake { idle, polling }
    }

    /// The CPUs with nothing to do, about.
    #[inline]
    pub fn idle(&self) -> u64 {
        // ordering: Relaxed; a hint.
        self.idle.load(Relaxed)
    }

    /// The CPU has nothing to do: it may be given a thread. Before it halts: [`Wake::about_to_halt`].
    #[inline]
    pub fn rests(&self, cpu: usize) {
        // ordering: Relaxed; a hint until it halts.
        self.idle.fetch_or(1 << cpu, Relaxed);
    }

    /// The CPU has something to do, or looks again before it halts.
    #[inline]
    pub fn works(&self, cpu: usize) {
        // ordering: Relaxed; who clears the bit before us sends an interrupt that is not needed.
        self.idle.fetch_and(!(1 << cpu), Relaxed);
    }

    /// The CPU halts if it finds nothing in the queues *after* this.
    #[inline]
    pub fn about_to_halt(&self, cpu: usize) {
        self.rests(cpu);
        // SeqCst: the Dekker pair of the fence in `must_interrupt`.
        fence(SeqCst);
    }

    /// Begins to poll. False: another CPU does.
    #[inline]
    pub fn start_poll(&self, cpu: usize) -> bool {
        // ordering: Relaxed; it only limits how many poll.
        self.polling.compare_exchange(0, 1 << cpu, Relaxed, Relaxed).is_ok()
    }

    /// Ends to poll, for who has begun. Its queue is to be looked at later, and again after [`Wake::about_to_halt`].
    #[inline]
    pub fn end_poll(&self) {
        // ordering: Relaxed; the fence in `about_to_halt` comes between this and the last look.
        self.polling.store(0, Relaxed);
    }

    /// Whether the CPU, another one, must be interrupted: the caller has put a thread into its queue.
    #[inline]
    pub fn must_interrupt(&self, cpu: usize) -> bool {
        let bit = 1 << cpu;
        // SeqCst: the Dekker pair of the fence in `about_to_halt`.
        fence(SeqCst);
        // ordering: Relaxed, all; the fence is before them.
        self.idle.load(Relaxed) & bit != 0
            && self.idle.fetch_and(!bit, Relaxed) & bit != 0
            && self.polling.load(Relaxed) & bit == 0
    }
}
