//! `exit_group` while every other thread faults, maps and forks.
//!
//! Races 17, 43: a thread is ended in the middle of an edit, a fork or a wait, and leaves a claim, a frame or a child
//! behind. The audit afterwards counts them.

use std::thread;
use std::time::Duration;

use quire_workloads::process::{Ended, fork, leave, try_fork};
use quire_workloads::{Area, Budget, Random, check, ok, spin};

fn main() {
    let budget = Budget::from_arguments(40);
    for round in budget.rounds() {
        let ended = fork(|| victim(round)).wait();
        check!(ended == Ended::Exited(7), "exit_group among busy threads: {ended:?}");
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
