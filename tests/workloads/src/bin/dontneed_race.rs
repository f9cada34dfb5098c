//! Contents thrown away (`MADV_DONTNEED`) under writers and readers.
//!
//! * Race 14: the kernel copies into a page that is shared with a child while the page is thrown away: its retry must
//!   not write to the shared page. The child looks at its memory all the time.
//! * Race 53 and 1: what has been thrown away is zero once the call has returned, and a frame given back is nobody's.

use std::thread;

use quire_workloads::process::{Pipe, fork};
use quire_workloads::{Area, Budget, Random, Stop, canary, check, ok};

const PAGES: usize = 16;

fn main() {
    let budget = Budget::from_arguments(200);
    shared_with_a_child(budget);
    alone(budget);
    ok();
}

fn shared_with_a_child(budget: Budget) {
    for round in budget.divided(40).rounds() {
        let area = Area::new(PAGES);
        for page in 0..PAGES {
            area.fill(page..page + 1, round);
            area.write(page, 509, round);
            area.write(page, 510, round);
        }
        let (hold, ready) = (Pipe::new(), Area::shared(1));
        let child = fork(|| {
            while ready.read(0, 0) == 0 {
                for page in 0..PAGES {
                    if [0, 509, 510, 511].iter().any(|&word| area.read(page, word) != round) {
                        return 1;
                    }
                }
            }
            i32::from(!hold.wait_for_byte())
        });
        let stop = Stop::new();
        thread::scope(|scope| {
            for seed in 0..2 {
                let stop = &stop;
                scope.spawn(move || {
                    for page in (0..PAGES).cycle().skip(seed * 7) {
                        if stop.stopped() {
                            return;
                        }
                        check!(area.kernel_write(page), "the kernel could not write to a writable page");
                    }
                });
            }
            let mut random = Random::new(round);
            for _ in 0..100 {
                let first = random.below(PAGES);
                let last = first + 1 + random.below(PAGES - first);
                area.discard(first..last);
                for page in first..last {
                    let value = area.read(page, 0);
                    check!(value == 0, "page {page} holds {value} after it was thrown away");
                }
            }
            stop.stop();
        });
        ready.write(0, 0, 1);
        hold.send(1);
        child.expect_success("a child's pages while its parent threw away its own");
        area.unmap(0..PAGES);
    }
}

/// Several threads, each its own word: after a discard it is zero or what this thread wrote since.
fn alone(budget: Budget) {
    let area = Area::new(PAGES);
    let stop = Stop::new();
    thread::scope(|scope| {
        scope.spawn(|| canary::watch(&stop, 17));
        for word in 0..3usize {
            let stop = &stop;
            scope.spawn(move || {
                let mut count = 0;
                while !stop.stopped() {
                    for page in 0..PAGES {
                        count += 1;
                        let stamp = (page as u64) << 48 | (word as u64) << 40 | count;
                        area.write(page, word, stamp);
                        let value = area.read(page, word);
                        check!(value == stamp || value == 0, "page {page} holds {value:#x} after {stamp:#x}");
                    }
                }
            });
        }
        let mut random = Random::new(1);
        for _ in budget.rounds() {
            let first = random.below(PAGES);
            area.discard(first..first + 1 + random.below(PAGES - first));
            area.write(first, 8, 1);
            area.discard(first..first + 1);
            check!(area.read(first, 8) == 0, "a page kept its contents");
        }
        stop.stop();
    });
    area.unmap(0..PAGES);
}
