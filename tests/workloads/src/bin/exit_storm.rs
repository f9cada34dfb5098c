//! `exit_group` and `execve` while every other thread faults, maps and forks.
//!
//! Races 17, 43: a thread is ended in the middle of an edit, a fork or a wait, and leaves a claim, a frame or a child
//! behind. The audit afterwards counts them. An `execve` waits for the other threads, and must keep nothing meanwhile that
//! these need in order to end, such as the working directory.

use std::ffi::CStr;
use std::ptr;
use std::thread;
use std::time::Duration;

use quire_workloads::process::{Ended, fork, leave, try_fork};
use quire_workloads::{Area, Budget, Random, check, ok, spin};

/// The argument with which the program only ends.
const REPLACED: &CStr = c"replaced";

fn main() {
    if std::env::args().nth(1).is_some_and(|argument| argument.as_bytes() == REPLACED.to_bytes()) {
        leave(8);
    }
    let budget = Budget::from_arguments(40);
    for round in budget.rounds() {
        let ended = fork(|| victim(round)).wait();
        check!(ended == Ended::Exited(7), "exit_group among busy threads: {ended:?}");
        let ended = fork(|| replaced(round)).wait();
        check!(ended == Ended::Exited(8), "execve among busy threads: {ended:?}");
        let killed = fork(|| victim(u64::MAX));
        spin((round * 997 % 50_000) as u32);
        if round % 2 == 0 {
            thread::sleep(Duration::from_micros(round * 50));
        }
        killed.kill();
        let ended = killed.wait();
        check!(ended == Ended::Killed(libc::SIGKILL), "a kill among busy threads: {ended:?}");
    }
    ok();
}

fn victim(round: u64) -> i32 {
    let shared = Area::new(64);
    for seed in 0..2 {
        thread::spawn(move || map(seed));
        thread::spawn(move || fault(shared, seed));
    }
    thread::spawn(breed);
    thread::spawn(|| thread::sleep(Duration::from_secs(1000)));
    if round == u64::MAX {
        thread::sleep(Duration::from_secs(1000));
    }
    thread::sleep(Duration::from_micros(round * 37 % 3000));
    leave(7)
}

fn replaced(round: u64) -> i32 {
    for _ in 0..2 {
        thread::spawn(breed);
        thread::spawn(|| while std::env::current_dir().is_ok() {});
    }
    thread::sleep(Duration::from_micros(round * 37 % 3000));
    let program = c"/proc/self/exe";
    let arguments = [program.as_ptr(), REPLACED.as_ptr(), ptr::null()];
    // SAFETY: strings that live for ever, and arrays that end with a null pointer.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), arguments[2..].as_ptr()) };
    9
}

fn map(seed: u64) {
    let mut random = Random::new(seed);
    loop {
        let area = Area::new(1 + random.below(50));
        area.fill(0..area.pages(), 1);
        area.unmap(0..area.pages());
    }
}

fn fault(shared: Area, seed: u64) {
    let mut random = Random::new(seed);
    loop {
        let page = random.below(60);
        shared.write(page, 1, 1);
        shared.discard(page..page + 4);
    }
}

fn breed() {
    loop {
        if let Ok(child) = try_fork(|| 0) {
            let _ = child.wait();
        }
    }
}
