//! Old after new: three threads around one page that is copied on write.
//!
//! Races 2, 3, 30, 48, 49: while a write fault replaces a shared page by a copy, some CPU still reads the old page
//! after another one has read the new one. The writer writes a number; the first reader waits until it sees it and says
//! so; the second one, told, must see it too. A fork before each round makes the pages shared again.

use std::sync::Barrier;
use std::thread;

use quire_workloads::process::{Pipe, fork};
use quire_workloads::{Area, Budget, Epoch, check, ok, pin};

const PAGES: usize = 32;

fn main() {
    let budget = Budget::from_arguments(60);
    let (area, told, barrier) = (Area::new(PAGES), Area::shared(1), Barrier::new(4));
    area.fill(0..PAGES, 0);
    let running = Epoch::new();
    thread::scope(|scope| {
        // Writer, first reader, second reader, and one that writes another word of the same pages.
        for role in 0..4usize {
            let (barrier, running) = (&barrier, &running);
            scope.spawn(move || {
                pin(role);
                for round in 1.. {
                    if running.wait(|value| value >= round) == u64::MAX {
                        return;
                    }
                    barrier.wait();
                    for page in 0..PAGES {
                        act(role, area, told, page, round);
                    }
                    barrier.wait();
                }
            });
        }
        for round in budget.rounds() {
            let (hold, ready) = (Pipe::new(), Pipe::new());
            let child = fork(|| {
                ready.send(1);
                hold.wait_for_byte();
                // Nothing that the parent wrote after the fork may be seen here (race 4 and 28).
                for page in 0..PAGES {
                    if area.read(page, 0) != round || area.read(page, 1) != round {
                        return 1;
                    }
                }
                0
            });
            ready.wait_for_byte();
            running.set(round + 1);
            // All four have finished their pages when the last of them holds this round's number in both words.
            for page in 0..PAGES {
                while area.read(page, 0) != round + 1 || area.read(page, 1) != round + 1 {
                    thread::yield_now();
                }
            }
            hold.send(1);
            child.expect_success("the child's snapshot");
            while (0..PAGES).any(|page| told.read(0, page) != round + 1) {
                thread::yield_now();
            }
        }
        running.set(u64::MAX);
    });
    ok();
}

fn act(role: usize, area: Area, told: Area, page: usize, round: u64) {
    match role {
        0 => area.write(page, 0, round),
        1 => {
            let mut spins = 0;
            while area.read(page, 0) != round {
                quire_workloads::pause(spins);
                spins += 1;
            }
            told.write(0, page, round);
        }
        2 => {
            let mut spins = 0;
            // Reads the page too while it waits, so that its CPU holds a translation of the old one.
            while told.read(0, page) != round {
                area.read(page, 0);
                quire_workloads::pause(spins);
                spins += 1;
            }
            let value = area.read(page, 0);
            check!(value == round, "page {page} holds {value} for one thread after another has read {round}");
        }
        _ => {
            let before = area.read(page, 1);
            check!(before == round - 1, "page {page} lost a write of its second writer: {before}, not {}", round - 1);
            area.write(page, 1, round);
        }
    }
}
