//! What stands still: the watchdog.
//!
//! | what | noticed by | how |
//! |---|---|---|
//! | a CPU takes no interrupts | the other CPUs' timer interrupts | each leaves the time in a word of its own ([`tick`]) |
//! | threads are queued, and their CPU never takes one | the same | it has not switched since |
//! | a wait or a spin that does not end | the one who waits | it [looks](look) at the clock now and then |
//!
//! After the limit (20 s; option `stall-limit`, 0 means never) one report is written into the log, and everything goes on: the
//! host may have stopped a CPU for so long. The first report shows every CPU and every thread, later ones only who stands still.
//!
//! Nothing of this is on a path that does not wait, but for the word that each timer interrupt writes.

use super::dump;
use crate::arch::{cpu, interrupt_window};
use crate::sched::{self, timer};
use core::panic::Location;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use quire_mm::What;

/// Nanoseconds after which something stands still; 0: nothing ever does.
static LIMIT: AtomicU64 = AtomicU64::new(20_000_000_000);
/// The most reports of one boot: who waits for something that never comes is seldom alone.
const REPORTS: u32 = 12;

/// When each CPU took its last timer interrupt; 0: it does not take part. A CPU that is not stuck takes one each [`beat`].
static BEATS: [AtomicU64; cpu::CPUS] = [const { AtomicU64::new(0) }; cpu::CPUS];
/// The beat after which a CPU has been reported.
static TOLD: [AtomicU64; cpu::CPUS] = [const { AtomicU64::new(0) }; cpu::CPUS];
/// How often a CPU with a queue had switched, and when that was seen first.
static SWITCHED: [AtomicU64; cpu::CPUS] = [const { AtomicU64::new(0) }; cpu::CPUS];
static QUEUED: [AtomicU64; cpu::CPUS] = [const { AtomicU64::new(0) }; cpu::CPUS];
/// Silence before this moment says nothing: the whole machine was stopped.
static JUDGE_FROM: AtomicU64 = AtomicU64::new(0);
static NEXT_CHECK: AtomicU64 = AtomicU64::new(0);
static COUNT: AtomicU32 = AtomicU32::new(0);

/// Sets the limit, in seconds; 0 turns the watchdog off.
pub fn set_limit(seconds: u64) {
    // ordering: Relaxed, as everywhere here: times that are compared with seconds of slack.
    LIMIT.store(seconds.saturating_mul(1_000_000_000), Ordering::Relaxed);
}

fn limit() -> u64 {
    LIMIT.load(Ordering::Relaxed)
}

/// How often a CPU takes a timer interrupt at least, in nanoseconds, if the watchdog is on.
pub fn beat() -> Option<u64> {
    Some(limit() / 8).filter(|&beat| beat != 0)
}

/// This CPU begins to take part, at `now`.
pub fn begin(now: u64) {
    BEATS[cpu::cpu_id()].store(now, Ordering::Relaxed);
}

/// The timer interrupt of a CPU, at `now`: it lives, and looks after the others.
pub fn tick(now: u64) {
    let me = cpu::cpu_id();
    let last = BEATS[me].swap(now, Ordering::Relaxed);
    let limit = limit();
    if limit == 0 {
        return;
    }
    if last != 0 && now.saturating_sub(last) > limit / 2 {
        // This CPU was silent itself: perhaps all were, because the host had stopped the machine.
        JUDGE_FROM.fetch_max(now, Ordering::Relaxed);
        return;
    }
    let due = NEXT_CHECK.load(Ordering::Relaxed);
    let next = now + limit / 8;
    if now >= due && NEXT_CHECK.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
        let online = cpu::online() & !(1 << me);
        (0..cpu::CPUS).filter(|&c| online & 1 << c != 0).for_each(|c| check(c, now, limit));
    }
}

/// Looks at another CPU.
fn check(cpu: usize, now: u64, limit: u64) {
    let beat = BEATS[cpu].load(Ordering::Relaxed);
    if beat == 0 {
        return;
    }
    let silent = now.saturating_sub(beat.max(JUDGE_FROM.load(Ordering::Relaxed)));
    if silent > limit {
        if TOLD[cpu].swap(beat, Ordering::Relaxed) != beat {
            let seconds = silent / 1_000_000_000;
            tell(1 << cpu, format_args!("CPU {cpu} takes no interrupts since {seconds} s"));
        }
        return;
    }
    let (switched, queued) = sched::progress(cpu);
    if queued == 0 || SWITCHED[cpu].swap(switched, Ordering::Relaxed) != switched {
        QUEUED[cpu].store(now, Ordering::Relaxed);
        return;
    }
    let since = QUEUED[cpu].load(Ordering::Relaxed).max(JUDGE_FROM.load(Ordering::Relaxed));
    if now.saturating_sub(since) > limit {
        QUEUED[cpu].store(now, Ordering::Relaxed);
        let seconds = limit / 1_000_000_000;
        tell(1 << cpu, format_args!("CPU {cpu} takes none of its {queued} runnable threads since {seconds} s"));
    }
}

/// Writes a report, unless there were enough.
fn tell(cpus: u64, what: core::fmt::Arguments<'_>) {
    static FIRST: AtomicBool = AtomicBool::new(true);
    if COUNT.load(Ordering::Relaxed) >= REPORTS || !dump::begin() {
        return;
    }
    COUNT.fetch_add(1, Ordering::Relaxed);
    let first = FIRST.swap(false, Ordering::Relaxed);
    dump::report(what, if first { cpu::online() } else { cpus }, first);
    dump::end();
}

/// In what [`look`] returns: the wait has been reported.
const REPORTED: u64 = 1 << 63;

/// When a wait began for which [`look`] has returned this.
pub fn begun(since: u64) -> u64 {
    since & !REPORTED
}

/// A step of a wait for `what`, number `which`, at `place`, since `since` (0 at first, then what the last call
/// returned). Leaves a note for others to read, and reports the wait when it has passed the limit.
pub fn look(what: &'static What, which: u64, since: u64, place: &'static Location<'static>) -> u64 {
    let now = timer::now_ns();
    let since = if since == 0 { now.max(1) } else { since };
    let begun = begun(since);
    if let Some(thread) = sched::try_current() {
        thread.note.set(what, which, begun, now, place);
    }
    let limit = limit();
    if limit == 0 || since & REPORTED != 0 {
        return since;
    }
    let waited = now.saturating_sub(begun.max(JUDGE_FROM.load(Ordering::Relaxed)));
    if waited <= limit {
        return since;
    }
    let me = cpu::cpu_id();
    let seconds = waited / 1_000_000_000;
    tell(1 << me, format_args!("on CPU {me} a thread waits for {} since {seconds} s, at {place}", what.text));
    since | REPORTED
}

/// A wait that polls.
pub struct Wait {
    what: &'static What,
    since: u64,
    place: &'static Location<'static>,
}

impl Wait {
    /// A wait of the caller's.
    #[track_caller]
    pub const fn new(what: &'static What) -> Wait {
        Wait::at(what, Location::caller())
    }

    /// A wait at `place`.
    pub const fn at(what: &'static What, place: &'static Location<'static>) -> Wait {
        Wait { what, since: 0, place }
    }

    /// A step that keeps the CPU. `which` says for which one, see [`What`].
    pub fn look(&mut self, which: u64) {
        self.since = look(self.what, which, self.since, self.place);
    }

    /// A step that gives the CPU away. The caller holds no spin lock.
    pub fn pause(&mut self, which: u64) {
        self.look(which);
        interrupt_window();
        sched::yield_now();
    }
}

/// What a thread waits for, or has waited for last.
pub struct Note([AtomicU64; 5]);

/// A [`Note`] as it was read.
#[derive(Clone, Copy)]
pub struct Waits {
    /// For what.
    pub what: &'static What,
    /// Which one.
    pub which: u64,
    /// Since when.
    pub since: u64,
    /// When it looked last.
    pub seen: u64,
    /// Where it waits.
    pub place: &'static Location<'static>,
}

impl Note {
    /// No wait.
    pub const fn new() -> Note {
        Note([const { AtomicU64::new(0) }; 5])
    }

    fn set(&self, what: &'static What, which: u64, since: u64, now: u64, place: &'static Location<'static>) {
        let [seen, words @ ..] = &self.0;
        // ordering: the time is 0 while the words change: Release on both sides, against the Acquire of `get`.
        seen.swap(0, Ordering::AcqRel);
        let values = [what as *const What as u64, which, since, place as *const Location<'_> as u64];
        words.iter().zip(values).for_each(|(word, value)| word.store(value, Ordering::Release));
        seen.store(now.max(1), Ordering::Release);
    }

    /// The wait that the thread was in a moment ago, if there is one.
    pub fn get(&self) -> Option<Waits> {
        /// A waiter looks more often than this, unless it is not run.
        const FRESH: u64 = 5_000_000_000;
        let [seen, words @ ..] = &self.0;
        // ordering: Acquire; see `set`.
        let time = seen.load(Ordering::Acquire);
        let [what, which, since, place] = [0, 1, 2, 3].map(|i| words[i].load(Ordering::Acquire));
        if time == 0 || seen.load(Ordering::Relaxed) != time || timer::now_ns().saturating_sub(time) > FRESH {
            return None;
        }
        // SAFETY: both were written by `set`, from references that live for ever, and the time shows that they are whole.
        let (what, place) = unsafe { (&*(what as *const What), &*(place as *const Location<'static>)) };
        Some(Waits { what, which, since, seen: time, place })
    }
}
