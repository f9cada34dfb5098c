//! The workloads, and how much of each is enough for a test.

use crate::House;
use crate::guest::Case;

/// One workload.
pub struct Workload {
    /// The program's name.
    pub name: &'static str,
    /// Arguments that keep it below a few seconds under QEMU's translator.
    pub short: &'static [&'static str],
    /// Fit for a stress run, where its argument is a time.
    pub stress: bool,
}

const fn basic(name: &'static str, short: &'static [&'static str]) -> Workload {
    Workload { name, short, stress: false }
}

const fn stress(name: &'static str, short: &'static [&'static str]) -> Workload {
    Workload { name, short, stress: true }
}

/// All of them, in the order of the table.
pub const ALL: &[Workload] = &[
    basic("hello", &["one", "two words", ""]),
    basic("posix-musl", &[]),
    basic("posix-glibc", &[]),
    basic("posix-pie", &[]),
    basic("memcalls-glibc", &[]),
    basic("filekinds-glibc", &[]),
    basic("filepaths-musl", &[]),
    basic("filefaults-glibc", &[]),
    basic("clocks-musl", &[]),
    basic("processes-glibc", &[]),
    basic("programs-musl", &[]),
    basic("schedule-musl", &[]),
    basic("jobs-musl", &[]),
    stress("threads", &["2"]),
    stress("fault_storm", &["2"]),
    stress("map_race", &["40"]),
    stress("cow_tree", &["1"]),
    stress("pipes", &["1"]),
    stress("protect_race", &["40"]),
    stress("move_race", &["40"]),
    stress("shootdown", &["8"]),
    stress("cow_three", &["10"]),
    stress("fork_freeze", &["10"]),
    stress("fork_storm", &["20"]),
    stress("cow_scribble", &["8"]),
    stress("segments_64k", &["2"]),
    stress("dontneed_race", &["40"]),
    stress("bare_tables", &["1"]),
    stress("truncate_race", &["40"]),
    stress("look_then_edit", &["4"]),
    stress("thread_churn", &["200"]),
    stress("futex_storm", &["60"]),
    stress("exit_storm", &["6"]),
    stress("oom", &["1"]),
    stress("shortage", &["1"]),
    stress("own_memory", &["4"]),
    stress("read_first", &["2"]),
    stress("crowds", &["1"]),
    stress("events", &["10"]),
    stress("hoard", &["1"]),
    stress("stacks", &["20"]),
    basic("usage", &["1"]),
    stress("populate", &["1"]),
    stress("timers", &["5"]),
    stress("signals", &["3"]),
    stress("heirs", &["30"]),
    stress("names", &["2"]),
    stress("locks", &["2"]),
    stress("waits", &["1"]),
    basic("registers", &[]),
    stress("rights", &["5"]),
    stress("copies", &["2"]),
    basic("allocator", &["2"]),
    stress("overlaps", &["6"]),
    stress("syscall_fuzz", &["4"]),
    stress("swap_races", &["5"]),
    stress("thrash", &["1", "4", "4"]),
];

/// The cases of a short run.
pub fn short_cases(house: &House) -> Vec<Case> {
    ALL.iter().map(|workload| Case::new(house, workload.name, workload.short)).collect()
}
