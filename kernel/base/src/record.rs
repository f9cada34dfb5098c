//! The flight recorder: the last events of each CPU, for the report of a panic. Written without locks, by its CPU only.

use crate::{cpu, time};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// What happened. The two words of an event mean what the variant says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
#[allow(dead_code, reason = "the report names all kinds; some are recorded during bug hunts only")]
pub enum Kind {
    /// Nothing yet.
    None,
    /// From thread, to thread.
    Switch,
    /// Thread, CPU.
    Queue,
    /// Vector, address.
    UserTrap,
    /// Address, error code.
    PageFault,
    /// System call, first argument.
    Syscall,
    /// First page, pages.
    Edit,
    /// Target CPUs, pages.
    Shootdown,
    /// Thread, signal.
    Signal,
    /// Process, status.
    Exit,
    /// Anything, for a bug hunt.
    Mark,
}

const NAMES: [&str; 11] =
    ["-", "switch", "queue", "user trap", "page fault", "syscall", "edit", "shootdown", "signal", "exit", "mark"];

const LENGTH: usize = 64;

struct Ring {
    next: AtomicUsize,
    events: [[AtomicU64; 4]; LENGTH],
}

static RINGS: [Ring; cpu::CPUS] =
    [const { Ring { next: AtomicUsize::new(0), events: [const { [const { AtomicU64::new(0) }; 4] }; LENGTH] } };
        cpu::CPUS];

/// Notes an event.
#[inline]
pub fn event(kind: Kind, a: u64, b: u64) {
    let ring = &RINGS[cpu::cpu_id()];
    // ordering: all Relaxed; a panic on another CPU may read a torn event, which is better than a slow recorder.
    let i = ring.next.load(Ordering::Relaxed);
    ring.next.store(i + 1, Ordering::Relaxed);
    let e = &ring.events[i % LENGTH];
    for (word, value) in e.iter().zip([time::tsc(), kind as u64, a, b]) {
        word.store(value, Ordering::Relaxed);
    }
}

/// Prints the last `count` events of each CPU, oldest first.
pub fn print(out: &mut dyn core::fmt::Write, count: usize) {
    let now = time::tsc();
    for (cpu, ring) in RINGS.iter().enumerate() {
        if cpu::online() & 1 << cpu == 0 {
            continue;
        }
        // ordering: Relaxed; see `event`.
        let end = ring.next.load(Ordering::Relaxed);
        let _ = writeln!(out, "CPU {cpu}, last events:");
        for i in end.saturating_sub(count.min(LENGTH))..end {
            let [tsc, kind, a, b] = [0, 1, 2, 3].map(|w| ring.events[i % LENGTH][w].load(Ordering::Relaxed));
            let name = NAMES.get(kind as usize).copied().unwrap_or("?");
            let _ = writeln!(out, "  -{:>12} {name} {a:#x} {b:#x}", now.wrapping_sub(tsc));
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::string::String;
    use std::vec::Vec;

    /// The only test that records, and that says which CPUs take part.
    #[test]
    fn the_last_events_are_told_oldest_first() {
        cpu::set_online();
        (0..LENGTH as u64 + 5).for_each(|n| event(Kind::Signal, n, 1));
        event(Kind::Exit, 0xabc, 2);
        let told = |count| {
            let mut out = String::new();
            print(&mut out, count);
            let lines = out.lines().filter(|line| line.starts_with("  -"));
            let words = lines.map(|line| line.split_whitespace().collect::<Vec<_>>());
            words.map(|words| words[words.len() - 3..].join(" ")).collect::<Vec<_>>()
        };
        assert_eq!(told(2), ["signal 0x44 0x1", "exit 0xabc 0x2"]);
        // No more than the ring holds.
        let all = told(1000);
        assert_eq!((all.len(), all[0].as_str()), (LENGTH, "signal 0x6 0x1"));
    }
}
