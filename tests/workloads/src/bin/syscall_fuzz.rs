//! Random system calls with random arguments from threads and processes. Whatever they do to themselves, the machine goes on.
//!
//! Each round is a *victim*: a process in a directory of its own, with limits, descriptors of every kind, and memory that may be read,
//! written, not touched, or is not there. Its threads, and those of a child of it, make calls: mostly those that Quire has, with
//! arguments that mostly fit; and any others, with any. A timer interrupts what waits. A victim may kill itself and its own; it has
//! to be gone when it has been killed. Afterwards there are as many processes as before, and memory is free again.
//!
//! Seeds are numbered, so a round can be run again: `syscall_fuzz ROUNDS FIRST`. On any system but Quire this program does nothing: such
//! calls might do harm there.

#[path = "../fuzz/mod.rs"]
mod fuzz;

use std::time::{Duration, Instant};

use quire_workloads::process::{Child, fork, no_core_files};
use quire_workloads::{Budget, check, counters, ok};

/// A victim is killed after this time.
const LIFE: Duration = Duration::from_millis(1500);
/// And has to be gone after this one.
const DEATH: Duration = Duration::from_secs(60);
/// Rounds after which nothing more is put aside for later, and KiB that may be missing at the end nevertheless.
const SETTLED: u64 = 20;
const SLACK: u64 = 8 << 10;

fn main() {
    let budget = Budget::from_arguments(10);
    let first = std::env::args().nth(2).and_then(|text| text.parse().ok()).unwrap_or(1u64);
    if !is_quire() {
        eprintln!("syscall_fuzz: not on this system");
        ok();
        return;
    }
    no_core_files();
    // What a victim manages to send is not meant for this process.
    ignore_signals();
    // SAFETY: numbers. Orphans of victims become this process's children.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    let before = processes();
    let mut settled = None;
    for round in budget.rounds() {
        let seed = first.wrapping_add(round);
        let place = format!("/tmp/fuzz.{seed}");
        let made = std::fs::create_dir(&place);
        check!(made.is_ok(), "round {seed}: {place}: {made:?}");
        let victim = fork(|| fuzz::victim(seed, &place));
        end(victim, seed, before);
        let _ = std::fs::remove_dir_all(&place);
        if round == SETTLED {
            settled = Some(free());
        }
    }
    if let Some(settled) = settled {
        let now = free();
        check!(now + SLACK >= settled, "{now} KiB are free, {settled} after the first rounds");
    }
    ok();
}

/// Ignores what can be ignored, but for SIGCHLD. The C library keeps two signals for itself; so it is not asked.
fn ignore_signals() {
    let ignore = [libc::SIG_IGN as u64, 0, 0, 0];
    for signal in (1..=64).filter(|&signal| signal != libc::SIGCHLD) {
        // SAFETY: a handler, flags, a restorer and a mask, as the kernel has them; for two signals it is an error.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, ignore.as_ptr(), std::ptr::null_mut::<u64>(), 8) };
    }
}

/// Two signs, so that no other system is taken for it.
fn is_quire() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.trim().ends_with("-quire") && counters().iter().any(|(name, _)| name == "arena_joins")
}

/// Waits for the victim, kills it and its group when its life is over, reaps whoever has become a child of this process,
/// and waits until there are as many processes as before.
fn end(victim: Child, seed: u64, before: usize) {
    let pid = victim.pid();
    let began = Instant::now();
    let mut killed = false;
    loop {
        // SAFETY: any child; its status is not wanted.
        match unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG | libc::__WALL) } {
            -1 if processes() == before => return,
            -1 | 0 => {}
            _ => continue,
        }
        if began.elapsed() > LIFE && !killed {
            killed = true;
            // SAFETY: the victim's group has its number, and the victim's descendants' orphans are children of this process.
            unsafe {
                libc::kill(pid, libc::SIGKILL);
                libc::kill(-pid, libc::SIGKILL);
            }
        }
        if killed {
            for orphan in children() {
                // SAFETY: a child of this process.
                unsafe { libc::kill(orphan, libc::SIGKILL) };
            }
        }
        check!(began.elapsed() < LIFE + DEATH, "round {seed}: killed, but not gone: {:?}", children());
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Children of this process, as /proc has them.
fn children() -> Vec<i32> {
    let own = std::process::id().to_string();
    let is_child = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)) == Some(own.as_str())
    };
    pids().filter(is_child).collect()
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn processes() -> usize {
    pids().count()
}

/// KiB of memory that are free.
fn free() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemFree:")).unwrap_or("");
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}
