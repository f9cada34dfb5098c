//! What a program has used: processor time in user mode and in the kernel, by thread, process and children, and faults.
//!
//! Times are compared with generous slack, for Linux counts them by ticks in some configurations.

use quire_workloads::{Area, Budget, check, ok};
use std::mem::zeroed;
use std::time::{Duration, Instant};

/// How long any of this may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// What is to be used up, in microseconds.
const WANTED: i64 = 60_000;

/// User time, system time in microseconds, faults without and with the disk.
fn usage(who: i32) -> (i64, i64, i64, i64) {
    // SAFETY: all zeros are a value of this structure of numbers.
    let mut usage: libc::rusage = unsafe { zeroed() };
    // SAFETY: the structure lives through the call.
    check!(unsafe { libc::getrusage(who, &raw mut usage) } == 0, "getrusage {who}");
    (micros(usage.ru_utime), micros(usage.ru_stime), usage.ru_minflt, usage.ru_majflt)
}

fn micros(time: libc::timeval) -> i64 {
    time.tv_sec * 1_000_000 + time.tv_usec
}

/// A clock, in microseconds.
fn clock(id: i32) -> i64 {
    // SAFETY: all zeros are a value of this structure of numbers.
    let mut time: libc::timespec = unsafe { zeroed() };
    // SAFETY: the structure lives through the call.
    check!(unsafe { libc::clock_gettime(id, &raw mut time) } == 0, "clock_gettime {id}");
    time.tv_sec * 1_000_000 + time.tv_nsec / 1000
}

/// Repeats `step` until `enough` says so.
fn until(what: &str, mut step: impl FnMut(), mut enough: impl FnMut() -> bool) {
    let began = Instant::now();
    while !enough() {
        check!(began.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        step();
    }
}

/// Some milliseconds of user mode.
fn compute() {
    let mut x = 1u64;
    for i in 0..1_000_000u64 {
        x = std::hint::black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(i));
    }
}

/// Many short stays in the kernel.
fn call() {
    for _ in 0..200 {
        // SAFETY: closes nothing, or asks for a number.
        unsafe { libc::syscall(libc::SYS_getppid) };
        Area::new(64).unmap(0..64);
    }
}

fn of_myself() {
    let (user, system, ..) = usage(libc::RUSAGE_SELF);
    until("user time", compute, || usage(libc::RUSAGE_SELF).0 - user > WANTED);
    until("system time", call, || usage(libc::RUSAGE_SELF).1 - system > WANTED);
    let (user, system, ..) = usage(libc::RUSAGE_SELF);
    let clock = clock(libc::CLOCK_PROCESS_CPUTIME_ID);
    check!((clock - user - system).abs() < WANTED, "the clock shows {clock} us, the sum of {user} and {system}");
}

/// Another thread's time is the process's, but not this thread's; it counts while that thread still runs.
fn of_threads() {
    let own = usage(libc::RUSAGE_THREAD).0;
    let all = usage(libc::RUSAGE_SELF).0;
    let end = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let worker = {
        let end = end.clone();
        std::thread::spawn(move || {
            while !end.load(std::sync::atomic::Ordering::Relaxed) {
                compute();
            }
        })
    };
    let nap = || std::thread::sleep(Duration::from_millis(5));
    until("a running thread's time", nap, || usage(libc::RUSAGE_SELF).0 - all > 2 * WANTED);
    end.store(true, std::sync::atomic::Ordering::Relaxed);
    check!(worker.join().is_ok(), "the worker ended badly");
    let (own, all) = (usage(libc::RUSAGE_THREAD).0 - own, usage(libc::RUSAGE_SELF).0 - all);
    check!(own < all, "this thread {own} us, all {all} us");
}

fn of_children() {
    let before = usage(libc::RUSAGE_CHILDREN);
    // SAFETY: the process has one thread now, so the child may do anything.
    let child = unsafe { libc::fork() };
    check!(child >= 0, "fork");
    if child == 0 {
        until("a child's time", compute, || usage(libc::RUSAGE_SELF).0 > WANTED);
        std::process::exit(0);
    }
    let mut status = 0;
    // SAFETY: all zeros are a value of this structure of numbers.
    let mut own: libc::rusage = unsafe { zeroed() };
    // SAFETY: both live through the call.
    let waited = unsafe { libc::wait4(child, &raw mut status, 0, &raw mut own) };
    check!(waited == child && status == 0, "wait4: {waited}, status {status}");
    check!(micros(own.ru_utime) >= WANTED, "wait4 tells of {} us", micros(own.ru_utime));
    let children = usage(libc::RUSAGE_CHILDREN).0 - before.0;
    check!(children >= WANTED, "children: {children} us");
}

fn of_faults() {
    const PAGES: usize = 500;
    let before = usage(libc::RUSAGE_THREAD);
    let area = Area::new(PAGES);
    for page in 0..PAGES {
        area.write(page, 0, 1);
    }
    let after = usage(libc::RUSAGE_THREAD);
    area.unmap(0..PAGES);
    let faults = after.2 - before.2;
    check!(faults >= PAGES as i64 / 16, "{faults} faults of {PAGES} new pages");
    check!(after.3 >= before.3, "faults with the disk: {} after {}", after.3, before.3);
}

fn main() {
    for _ in Budget::from_arguments(1).rounds() {
        of_myself();
        of_threads();
        of_children();
        of_faults();
    }
    ok();
}
