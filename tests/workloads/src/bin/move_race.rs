//! `mremap` against writers, readers and `munmap`.
//!
//! * Race 6: a store through a translation of the old place, after the move has returned, changes the page at its new
//!   place, or a stranger's page once it is freed.
//! * Race 26: a move onto a live mapping leaves a moment without any, or erases what was written afterwards.
//! * Race 57: pages that go there and back keep their contents.

use std::thread;

use quire_workloads::area::READ_WRITE;
use quire_workloads::{Area, Budget, Epoch, Random, Stop, canary, check, ok, spin};

const PAGES: usize = 16;

fn main() {
    let budget = Budget::from_arguments(400);
    against_writers(budget);
    onto_readers(budget);
    there_and_back(budget);
    ok();
}

/// Writers know the old place only, and write through the kernel: whatever changes at the new place is stale.
fn against_writers(budget: Budget) {
    let (from, to) = (Area::far(0, PAGES), Area::far(1, PAGES));
    let (stop, helper) = (Stop::new(), Epoch::new());
    thread::scope(|scope| {
        scope.spawn(|| canary::watch(&stop, 11));
        for seed in 0..2 {
            let stop = &stop;
            scope.spawn(move || {
                for page in (0..PAGES).cycle().skip(seed * 5) {
                    if stop.stopped() {
                        return;
                    }
                    // Refused while the pages are elsewhere.
                    let _ = from.kernel_write(page);
                }
            });
        }
        // Tears the new place away while the next move is already on its way to it.
        scope.spawn(|| {
            let mut seen = 0;
            while !stop.stopped() {
                seen = helper.wait(|value| value != seen || stop.stopped());
                to.unmap(PAGES / 2..PAGES);
            }
        });
        for round in budget.rounds() {
            from.replace(0..PAGES, READ_WRITE);
            from.fill(0..PAGES, round);
            from.move_onto(&to);
            if round % 2 == 0 {
                let before: Vec<_> = (0..PAGES).map(|page| to.read(page, 509)).collect();
                spin(500);
                to.expect(0..PAGES, round, "a moved page");
                for (page, &before) in before.iter().enumerate() {
                    check!(to.read(page, 509) == before, "page {page} was written through its old address");
                }
                to.unmap(0..PAGES);
            } else {
                helper.set(round);
                to.expect(0..PAGES / 2, round, "a moved page");
                // The helper may still be at it: it is waited for by moving on only when its half is gone.
                while to.kernel_write(PAGES - 1) {
                    thread::yield_now();
                }
                to.unmap(0..PAGES);
            }
        }
        stop.stop();
    });
}

/// The new place is a live mapping: readers find the old page or the new one, never nothing, never older than before.
fn onto_readers(budget: Budget) {
    let to = Area::far(2, PAGES);
    let (stop, moved) = (Stop::new(), Epoch::new());
    thread::scope(|scope| {
        for seed in 0..2 {
            let (stop, moved) = (&stop, &moved);
            scope.spawn(move || {
                let mut random = Random::new(seed);
                let mut latest = [0; PAGES];
                while !stop.stopped() {
                    let page = random.below(PAGES);
                    let epoch = moved.get();
                    let value = to.read(page, 0);
                    check!(value >= epoch, "page {page} holds {value} after move {epoch}");
                    check!(value >= latest[page], "page {page} holds {value}, before it held {}", latest[page]);
                    latest[page] = value;
                }
            });
        }
        for round in budget.rounds() {
            let from = Area::new(PAGES);
            from.fill(0..PAGES, round + 1);
            from.move_onto(&to);
            moved.set(round + 1);
            to.expect(0..PAGES, round + 1, "a moved page");
        }
        stop.stop();
    });
    to.unmap(0..PAGES);
}

/// Each thread moves its own pages between two places that lie next to the others'.
fn there_and_back(budget: Budget) {
    let places = [Area::far(3, 4 * PAGES), Area::far(200, 4 * PAGES)];
    for place in places {
        place.unmap(0..4 * PAGES);
    }
    thread::scope(|scope| {
        for index in 0..4 {
            scope.spawn(move || {
                let pages = index * PAGES..(index + 1) * PAGES;
                let own = places.map(|place| Area::part(&place, pages.clone()));
                own[0].replace(0..PAGES, READ_WRITE);
                own[0].fill(0..PAGES, index as u64);
                for round in budget.rounds() {
                    let (here, there) = if round % 2 == 0 { (own[0], own[1]) } else { (own[1], own[0]) };
                    here.move_onto(&there);
                    there.expect(0..PAGES, index as u64 + round, "a page that moved");
                    there.fill(0..PAGES, index as u64 + round + 1);
                    check!(!here.kernel_write(0), "the old place is still there");
                }
            });
        }
    });
}
