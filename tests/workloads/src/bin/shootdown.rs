//! After `munmap` has returned, nobody sees the page any more.
//!
//! * Races 1, 8, 38: a CPU that was running, about to run, idle or half switched keeps a translation.
//! * Race 5: of two threads that unmap the same pages, the second one finds nothing and returns before the first one's
//!   interrupts are answered.
//! * Race 9: everybody unmaps at once, and each waits for all others.
//!
//! The victim is a child. Its readers read all the time, and read once more after they have learnt that an unmap has
//! returned: that read must end the process by SIGSEGV.

use std::thread;

use quire_workloads::process::{Ended, fork, leave, no_core_files};
use quire_workloads::{Area, Budget, Epoch, Stop, canary, check, ok, pin, spin};

const PAGES: usize = 4;

fn main() {
    no_core_files();
    let budget = Budget::from_arguments(60);
    for round in budget.rounds() {
        for unmappers in 1..=2 {
            let ended = fork(|| victim(round, unmappers)).wait();
            check!(
                ended == Ended::Killed(libc::SIGSEGV),
                "a thread used a page that {unmappers} had unmapped: {ended:?} (7: by reading, 8: by writing)"
            );
        }
    }
    all_to_all(budget);
    sleepers(budget);
    ok();
}

fn victim(round: u64, unmappers: u64) -> i32 {
    let area = Area::far(0, PAGES);
    let (ready, begin, gone) = (Area::new(1), Epoch::new(), Epoch::new());
    thread::scope(|scope| {
        for index in 0..3 {
            let gone = &gone;
            scope.spawn(move || {
                pin(index + 1);
                let mut first = true;
                loop {
                    let before = gone.get();
                    if index == 0 {
                        area.write(PAGES - 1, 0, 1);
                    } else {
                        area.read(PAGES - 1, 0);
                    }
                    if before != 0 {
                        leave(if index == 0 { 8 } else { 7 });
                    }
                    if first {
                        ready.add(0, 0, 1);
                        first = false;
                    }
                }
            });
        }
        for index in 0..unmappers {
            let (begin, gone) = (&begin, &gone);
            scope.spawn(move || {
                pin(index as usize);
                begin.wait(|value| value != 0);
                // The second one comes a little later, a little more so in each round.
                spin(if index == 0 { 0 } else { (round * 13 % 800) as u32 });
                area.unmap(0..PAGES);
                gone.set(1);
            });
        }
        while ready.read(0, 0) < 3 {
            thread::yield_now();
        }
        begin.set(1);
    });
    0
}

/// Every thread unmaps pages that every other thread has just read.
fn all_to_all(budget: Budget) {
    const THREADS: usize = 8;
    let areas: Vec<_> = (0..THREADS).map(|index| Area::far(index + 1, PAGES)).collect();
    let epochs: [Epoch; THREADS] = Default::default();
    let stop = Stop::new();
    thread::scope(|scope| {
        scope.spawn(|| canary::watch(&stop, 5));
        let workers: Vec<_> = (0..THREADS)
            .map(|own| {
                let (areas, epochs) = (&areas, &epochs);
                scope.spawn(move || {
                    for round in budget.rounds() {
                        areas[own].replace(0..PAGES, quire_workloads::area::READ_WRITE);
                        epochs[own].set(round + 1);
                        areas[own].fill(0..PAGES, round + 1);
                        for (other, epoch) in epochs.iter().enumerate() {
                            let replaced = epoch.get();
                            let value = areas[other].read(0, 0);
                            check!(value == 0 || value >= replaced, "{value} read after replacement {replaced}");
                        }
                    }
                })
            })
            .collect();
        for worker in workers {
            check!(worker.join().is_ok(), "a thread failed");
        }
        stop.stop();
    });
    for area in areas {
        area.unmap(0..PAGES);
    }
}

/// Threads read, sleep (their CPUs turn idle), wake and read again, while the pages are replaced.
fn sleepers(budget: Budget) {
    let area = Area::far(20, PAGES);
    let (stop, replaced) = (Stop::new(), Epoch::new());
    thread::scope(|scope| {
        for index in 0..4u64 {
            let (stop, replaced) = (&stop, &replaced);
            scope.spawn(move || {
                while !stop.stopped() {
                    let epoch = replaced.get();
                    let value = area.read(0, 0);
                    check!(value == 0 || value >= epoch, "{value} read after replacement {epoch}");
                    thread::sleep(std::time::Duration::from_micros(50 * index));
                }
            });
        }
        for round in budget.rounds() {
            area.replace(0..PAGES, quire_workloads::area::READ_WRITE);
            replaced.set(round + 1);
            area.fill(0..PAGES, round + 1);
            thread::sleep(std::time::Duration::from_micros(100));
        }
        stop.stop();
    });
    area.unmap(0..PAGES);
}
