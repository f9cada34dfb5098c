//! Waits that can be seen: each step of a wait leaves a [note](Note) of what is waited for, and says so when it takes too long.
//!
//! What the scheduler and the watchdog do for a wait is [set](ABOVE) by them: this room is below both.

use crate::hook::Hook;
use crate::{cpu, time};
use core::fmt::Arguments;
use core::panic::Location;
use core::sync::atomic::{AtomicU64, Ordering};
use quire_mm::What;

/// What a wait needs of those above.
pub struct Above {
    /// The running thread's note, if there are threads.
    pub note: fn() -> Option<&'static Note>,
    /// Reports what stands still, and where the CPUs of a mask are.
    pub tell: fn(u64, Arguments<'_>),
    /// Lets interrupts and other threads of this CPU have their turn.
    pub give_way: fn(),
}

/// Set at boot by the scheduler's owner.
pub static ABOVE: Hook<Above> = Hook::new(&Above { note: || None, tell: |_, _| {}, give_way: core::hint::spin_loop });

/// Nanoseconds after which something stands still; 0: nothing ever does.
static LIMIT: AtomicU64 = AtomicU64::new(20_000_000_000);
/// Silence before this moment says nothing: the whole machine was stopped.
static JUDGE_FROM: AtomicU64 = AtomicU64::new(0);

/// Sets the limit, in seconds; 0 turns it off.
pub fn set_limit(seconds: u64) {
    // ordering: Relaxed, as everywhere here: times that are compared with seconds of slack.
    LIMIT.store(seconds.saturating_mul(1_000_000_000), Ordering::Relaxed);
}

/// Nanoseconds after which something stands still, or 0.
pub fn limit() -> u64 {
    LIMIT.load(Ordering::Relaxed)
}

/// How often a CPU takes a timer interrupt at least, in nanoseconds, so that it is known to live; `None`: that is of no interest.
pub fn beat() -> Option<u64> {
    Some(limit() / 8).filter(|&beat| beat != 0)
}

/// The machine was stopped until `now`: what was silent before is not to blame.
pub fn judge_from(now: u64) {
    JUDGE_FROM.fetch_max(now, Ordering::Relaxed);
}

/// How long something that began at `since` has lasted, as far as it is to blame for it.
pub fn lasted(since: u64, now: u64) -> u64 {
    now.saturating_sub(since.max(JUDGE_FROM.load(Ordering::Relaxed)))
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
    let now = time::now_ns();
    let since = if since == 0 { now.max(1) } else { since };
    let begun = begun(since);
    if let Some(note) = (ABOVE.get().note)() {
        note.set(what, which, begun, now, place);
    }
    let limit = limit();
    if limit == 0 || since & REPORTED != 0 {
        return since;
    }
    let waited = lasted(begun, now);
    if waited <= limit {
        return since;
    }
    let me = cpu::cpu_id();
    let seconds = waited / 1_000_000_000;
    let tell = ABOVE.get().tell;
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
        (ABOVE.get().give_way)();
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

impl Default for Note {
    fn default() -> Note {
        Note::new()
    }
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
        if time == 0 || seen.load(Ordering::Relaxed) != time || time::now_ns().saturating_sub(time) > FRESH {
            return None;
        }
        // SAFETY: both were written by `set`, from references that live for ever, and the time shows that they are whole.
        let (what, place) = unsafe { (&*(what as *const What), &*(place as *const Location<'static>)) };
        Some(Waits { what, which, since, seen: time, place })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use core::sync::atomic::AtomicUsize;
    use std::string::ToString;

    static WHAT: What = What { text: "a test", show: |_, f| f.write_str("it") };

    #[test]
    fn a_note_tells_the_last_step() {
        let note = Note::new();
        assert!(note.get().is_none());
        let place = Location::caller();
        note.set(&WHAT, 7, 40, time::now_ns().max(50), place);
        let waits = note.get().expect("it was just set");
        assert_eq!((waits.what.text, waits.which, waits.since, waits.place), ("a test", 7, 40, place));
    }

    /// The only test that touches the limit, the hook, and the moment from which on is judged.
    #[test]
    fn a_wait_is_reported_once_and_not_for_the_machine_s_stop() {
        static TOLD: AtomicUsize = AtomicUsize::new(0);
        static NOTE: Note = Note::new();
        ABOVE.set(&Above {
            note: || Some(&NOTE),
            tell: |cpus, what| {
                assert!(cpus.is_power_of_two() && what.to_string().contains("waits for a test since 3 s"));
                TOLD.fetch_add(1, Ordering::Relaxed);
            },
            give_way: || {},
        });
        crate::time::tests::begin_test();
        set_limit(2);
        let now = time::now_ns();
        let long_ago = now.wrapping_sub(3_500_000_000).max(1);
        let told = || TOLD.load(Ordering::Relaxed);

        let since = look(&WHAT, 1, 0, Location::caller());
        assert!(begun(since) >= now && told() == 0, "a wait that begins");
        assert_eq!(NOTE.get().map(|waits| waits.which), Some(1));

        let reported = look(&WHAT, 2, long_ago, Location::caller());
        assert_eq!((begun(reported), told()), (long_ago, 1), "one that lasts too long");
        assert_eq!(look(&WHAT, 2, reported, Location::caller()), reported);
        assert_eq!(told(), 1, "one that was reported");

        judge_from(now - 1_000_000_000);
        assert_eq!(look(&WHAT, 3, long_ago, Location::caller()), long_ago);
        assert_eq!(told(), 1, "the machine was stopped");
        assert_eq!(lasted(long_ago, now), 1_000_000_000);
    }
}
