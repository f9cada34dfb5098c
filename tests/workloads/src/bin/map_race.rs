//! Map, write, read back, unmap: at places that the system chooses, at fixed places one after the other, at fixed
//! places at the same time, and under readers.
//!
//! * Race 42: two mappings without a hint find the same hole: one is erased by the other, its stamps are gone.
//! * Race 20: a fault that began before an unmap and a new mapping at the same address puts the old page, or the old
//!   right, into the new one: a fresh page holds an old stamp, or the kernel may write where nobody may.
//! * Race 26: replacing a mapping leaves a moment without any: a reader is killed by SIGSEGV.
//! * Race 19: a fault installs a page between the sweep and the end of the tables.

use std::sync::Mutex;
use std::thread;

use quire_workloads::area::{READ, READ_WRITE};
use quire_workloads::{Area, Budget, Epoch, Random, Stop, canary, check, ok};

const THREADS: u64 = 4;

fn main() {
    let budget = Budget::from_arguments(300);
    anywhere(budget);
    in_turn(budget);
    overlapping(budget);
    under_readers(budget);
    ok();
}

/// Places that the system chooses.
fn anywhere(budget: Budget) {
    thread::scope(|scope| {
        for seed in 0..THREADS {
            scope.spawn(move || {
                let mut random = Random::new(seed);
                let mut areas: Vec<(Area, u64)> = Vec::new();
                for _ in budget.rounds() {
                    if areas.len() < 8 {
                        let area = Area::new(1 + random.below(20));
                        area.expect(0..area.pages(), 0, "a fresh mapping");
                        let stamp = random.draw();
                        area.fill(0..area.pages(), stamp);
                        areas.push((area, stamp));
                    } else {
                        let (area, stamp) = areas.swap_remove(random.below(areas.len()));
                        area.expect(0..area.pages(), stamp, "a mapping of one thread");
                        area.unmap(0..area.pages());
                    }
                }
                for (area, stamp) in areas {
                    area.expect(0..area.pages(), stamp, "a mapping of one thread");
                    area.unmap(0..area.pages());
                }
            });
        }
    });
}

/// One place, one thread at a time, other rights and other contents each time; the others fault next door.
fn in_turn(budget: Budget) {
    let area = Area::far(0, 64);
    let turn = Mutex::new(());
    thread::scope(|scope| {
        for seed in 0..THREADS {
            let turn = &turn;
            scope.spawn(move || {
                let mut random = Random::new(seed);
                // Page 0 to 31 go round; 32 and more are each thread's own, in the same page table.
                let own = 32 + 8 * seed as usize..40 + 8 * seed as usize;
                for round in budget.rounds() {
                    let guard = turn.lock().unwrap();
                    let (first, stamp) = (random.below(24), random.draw() | 1);
                    let pages = first..first + 1 + random.below(8);
                    area.replace(pages.clone(), READ);
                    area.expect(pages.clone(), 0, "a fresh read-only mapping");
                    check!(!area.kernel_write(first), "the kernel wrote into a read-only mapping");
                    area.replace(pages.clone(), READ_WRITE);
                    area.expect(pages.clone(), 0, "a fresh mapping");
                    area.fill(pages.clone(), stamp);
                    area.protect(pages.clone(), READ);
                    check!(!area.kernel_write(first), "the kernel wrote into a protected mapping");
                    area.expect(pages.clone(), stamp, "a protected mapping");
                    area.unmap(pages.clone());
                    check!(!area.kernel_write(first), "the kernel wrote into a hole");
                    drop(guard);
                    area.replace(own.clone(), READ_WRITE);
                    area.expect(own.clone(), 0, "a fresh mapping next door");
                    area.fill(own.clone(), round);
                    area.expect(own.clone(), round, "a mapping next door");
                }
            });
        }
    });
    area.replace(0..64, READ_WRITE);
    area.unmap(0..64);
}

/// Everybody replaces overlapping ranges at once. Whatever a page holds, it was written for that page.
fn overlapping(budget: Budget) {
    const PAGES: usize = 48;
    let area = Area::far(1, PAGES);
    let stop = Stop::new();
    thread::scope(|scope| {
        scope.spawn(|| canary::watch(&stop, 7));
        let workers: Vec<_> = (0..THREADS)
            .map(|seed| {
                scope.spawn(move || {
                    let mut random = Random::new(seed + 50);
                    for round in budget.rounds() {
                        let first = random.below(PAGES - 16);
                        area.replace(first..first + 1 + random.below(16), READ_WRITE);
                        for _ in 0..16 {
                            let page = random.below(PAGES);
                            let value = area.read(page, 3);
                            let whose = value >> 32;
                            check!(value == 0 || whose == page as u64, "page {page} holds {value:#x}");
                            area.write(page, 3, (page as u64) << 32 | round & 0xffff_ffff);
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
    area.unmap(0..PAGES);
}

/// One thread replaces a mapping again and again. A reader never sees what was there before a replacement that had
/// returned when it began to read, and always finds something.
fn under_readers(budget: Budget) {
    const PAGES: usize = 4;
    let area = Area::far(2, PAGES);
    let (stop, replaced) = (Stop::new(), Epoch::new());
    thread::scope(|scope| {
        for seed in 1..THREADS {
            let (stop, replaced) = (&stop, &replaced);
            scope.spawn(move || {
                let mut random = Random::new(seed);
                while !stop.stopped() {
                    let page = random.below(PAGES);
                    let epoch = replaced.get();
                    let value = area.read(page, 0);
                    check!(value == 0 || value >= epoch, "page {page} holds {value} after replacement {epoch}");
                }
            });
        }
        for round in budget.rounds() {
            // Readers of a read-only mapping install the page of zeros, which the next mapping must not keep.
            area.replace(0..PAGES, if round % 2 == 0 { READ_WRITE } else { READ });
            replaced.set(round + 1);
            if round % 2 == 0 {
                area.fill(0..PAGES, round + 1);
                area.expect(0..PAGES, round + 1, "what was just written");
            } else {
                area.expect(0..PAGES, 0, "a fresh mapping");
            }
        }
        stop.stop();
    });
    area.unmap(0..PAGES);
}
