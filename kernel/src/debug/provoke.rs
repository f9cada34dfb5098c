//! Makes something stand still on purpose, for the tests of the watchdog: option `stall=KIND:SECONDS`.
//!
//! | kind | what happens for so long |
//! |---|---|
//! | `cpu` | the last CPU takes no interrupts |
//! | `program` | the same, in the middle of a program, whose memory other CPUs edit meanwhile |
//! | `lock` | the same, holding a spin lock, which another CPU wants |
//! | `wait` | a thread polls for something, and gives the CPU away as it should |
//! | `handler` | for ever: a thread lets interrupts in while it holds a spin lock that the timer's handler takes (race 10) |
//! | `turn` | a thread lets interrupts in, but no other thread of its CPU has a turn |

use crate::proc::thread::part;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use quire_arch::interrupt_window;
use quire_base::cpu;
use quire_base::lock::Mutex;
use quire_base::wait::Wait;
use quire_mm::What;
use quire_sched::{self as sched, timer};

static TEST: Mutex<()> = Mutex::new(());

fn nothing(_: usize) {}

/// Named in the report.
#[inline(never)]
fn spin(ns: usize) {
    let end = timer::now_ns() + ns as u64;
    while timer::now_ns() < end {
        core::hint::spin_loop();
    }
}

#[inline(never)]
fn hold(ns: usize) {
    let _guard = TEST.lock();
    spin(ns);
}

fn want(_: usize) {
    sched::park(Some(timer::now_ns() + 100_000_000));
    drop(TEST.lock());
}

fn wait(ns: usize) {
    static TIME: What = What { text: "a time to come", show: |_, f| f.write_str("a test") };
    let end = timer::now_ns() + ns as u64;
    let mut wait = Wait::new(&TIME);
    while timer::now_ns() < end {
        wait.pause(0);
    }
}

fn turn(ns: usize) {
    let end = timer::now_ns() + ns as u64;
    // The other thread's place is behind this one, on the same CPU.
    let _ = sched::spawn_kernel_on("behind", nothing, 0, 1 << cpu::cpu_id());
    while timer::now_ns() < end {
        interrupt_window();
    }
}

/// The timer's handler shall take the lock that [`careless`] holds.
static IN_HANDLER: AtomicBool = AtomicBool::new(false);

/// Breaks the rule that no lock is held where interrupts are let in.
fn careless(_: usize) {
    let _guard = TEST.lock();
    IN_HANDLER.store(true, Ordering::Relaxed);
    loop {
        // Not `interrupt_window`, which knows the rule.
        // SAFETY: what it breaks is what is tested; interrupts are off again afterwards.
        unsafe { core::arch::asm!("sti", "nop", "cli", options(nostack)) };
    }
}

/// Breaks the rule that nothing waits under a lock, without waiting.
fn impatient(_: usize) {
    let guard = TEST.lock();
    sched::yield_now();
    drop(guard);
}

#[inline(never)]
fn handler() {
    drop(TEST.lock());
}

/// A timer interrupt, of the kernel.
pub fn tick_in_kernel() {
    // ordering: Relaxed; the thread that stores it is the one that this interrupts, or on another CPU, where it does not count.
    if IN_HANDLER.load(Ordering::Relaxed) && 1 << cpu::cpu_id() == last() {
        handler();
    }
}

/// How long the last CPU shall stay in a timer interrupt, once.
static IN_PROGRAM: AtomicU64 = AtomicU64::new(0);

/// A timer interrupt, of a program. Its first thread is left alone: it may not have made the others yet, who are to wait for it.
pub fn tick() {
    // ordering: Relaxed; a test's option, written before any program runs.
    if IN_PROGRAM.load(Ordering::Relaxed) != 0 && 1 << cpu::cpu_id() == last() && !is_first() {
        spin(IN_PROGRAM.swap(0, Ordering::Relaxed) as usize);
    }
}

fn is_first() -> bool {
    sched::try_current().is_none_or(|t| part(t).is_none_or(|user| user.process.pid == t.tid))
}

/// The last CPU, as a bit.
fn last() -> u64 {
    1 << (63 - cpu::online().leading_zeros())
}

/// Begins what an option asks for. False: it is none of the kinds, or there was no memory.
pub fn start(option: &[u8]) -> bool {
    let text = core::str::from_utf8(option).unwrap_or("");
    let Some((kind, seconds)) = text.split_once(':') else { return false };
    let Ok(ns) = seconds.parse::<usize>().map(|s| s.saturating_mul(1_000_000_000)) else { return false };
    let last = last();
    let begin = |name, f: fn(usize), cpus: u64| sched::spawn_kernel_on(name, f, ns, cpus).is_ok();
    match kind {
        "cpu" => begin("stall", spin, last),
        "program" => {
            IN_PROGRAM.store(ns as u64, Ordering::Relaxed);
            true
        }
        "lock" => begin("stall", hold, last) && begin("wants", want, !last),
        "wait" => begin("stall", wait, last),
        "handler" => begin("stall", careless, last),
        "held" => begin("stall", impatient, last),
        "turn" => begin("stall", turn, last),
        _ => false,
    }
}
