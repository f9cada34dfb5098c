//! What stands still: the watchdog.
//!
//! | what | noticed by | how |
//! |---|---|---|
//! | a CPU takes no interrupts | the other CPUs' timer interrupts | each leaves the time in a word of its own ([`tick`]) |
//! | threads are queued, and their CPU never takes one | the same | it has not switched since |
//! | a wait or a spin that does not end | the one who waits | it [looks](wait::look) at the clock now and then |
//!
//! After the limit (20 s; option `stall-limit`, 0 means never) one report is written into the log, and everything goes on: the
//! host may have stopped a CPU for so long. The first report shows every CPU and every thread, later ones only who stands still.
//!
//! Nothing of this is on a path that does not wait, but for the word that each timer interrupt writes.

use super::dump;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use quire_arch::interrupt_window;
use quire_base::{cpu, wait};
use quire_sched as sched;

/// What a wait asks of the scheduler and of the watchdog.
pub static WAITS: wait::Above =
    wait::Above { note: || sched::try_current().map(|thread| &thread.note), tell, give_way };

fn give_way() {
    interrupt_window();
    sched::yield_now();
}

/// The most reports of one boot: who waits for something that never comes is seldom alone.
const REPORTS: u32 = 12;

/// When each CPU took its last timer interrupt; 0: it does not take part. A CPU that is not stuck takes one each [`beat`](wait::beat).
static BEATS: [AtomicU64; cpu::CPUS] = [const { AtomicU64::new(0) }; cpu::CPUS];
/// The beat after which a CPU has been reported.
static TOLD: [AtomicU64; cpu::CPUS] = [const { AtomicU64::new(0) }; cpu::CPUS];
/// How often a CPU with a queue had switched, and when that was seen first.
static SWITCHED: [AtomicU64; cpu::CPUS] = [const { AtomicU64::new(0) }; cpu::CPUS];
static QUEUED: [AtomicU64; cpu::CPUS] = [const { AtomicU64::new(0) }; cpu::CPUS];
static NEXT_CHECK: AtomicU64 = AtomicU64::new(0);
static COUNT: AtomicU32 = AtomicU32::new(0);

/// This CPU begins to take part, at `now`.
pub fn begin(now: u64) {
    // ordering: Relaxed, as everywhere here: times that are compared with seconds of slack.
    BEATS[cpu::cpu_id()].store(now, Ordering::Relaxed);
}

/// The timer interrupt of a CPU, at `now`: it lives, and looks after the others.
pub fn tick(now: u64) {
    let me = cpu::cpu_id();
    let last = BEATS[me].swap(now, Ordering::Relaxed);
    let limit = wait::limit();
    if limit == 0 {
        return;
    }
    if last != 0 && now.saturating_sub(last) > limit / 2 {
        // This CPU was silent itself: perhaps all were, because the host had stopped the machine.
        wait::judge_from(now);
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
    let silent = wait::lasted(beat, now);
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
    if wait::lasted(QUEUED[cpu].load(Ordering::Relaxed), now) > limit {
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
