//! Threads write distinct words of pages that are copied on write, in parent and child at once.
//!
//! Race 11: two threads copy the same page, and what one wrote to the first copy is lost. Race 12: parent and child
//! break sharing at the same moment, and both keep the page.

use std::sync::Barrier;
use std::thread;

use quire_workloads::process::fork;
use quire_workloads::{Area, Budget, check, ok};

const THREADS: usize = 4;
const PAGES: usize = 16;

fn main() {
    let budget = Budget::from_arguments(60);
    for round in budget.rounds() {
        let area = Area::new(PAGES);
        for page in 0..PAGES {
            for word in 0..2 * THREADS {
                area.write(page, word, round);
            }
        }
        let child = fork(|| i32::from(!scribble(area, round, 1)));
        if !scribble(area, round, 2) {
            quire_workloads::violated(format_args!("the parent's page lost a word, or holds the child's"));
        }
        child.expect_success("the child's page lost a word, or holds the parent's");
        area.unmap(0..PAGES);
    }
    ok();
}

/// Each thread writes its word of each page, forwards or backwards; then all words are looked at.
fn scribble(area: Area, round: u64, who: u64) -> bool {
    let barrier = Barrier::new(THREADS);
    let value = |page: usize, word: usize| who << 60 | round << 16 | (page * THREADS + word) as u64;
    thread::scope(|scope| {
        let barrier = &barrier;
        let start = |word: usize| {
            scope.spawn(move || {
                barrier.wait();
                for step in 0..PAGES {
                    let page = if word.is_multiple_of(2) { step } else { PAGES - 1 - step };
                    area.write(page, word, value(page, word));
                }
            })
        };
        let threads: Vec<_> = (0..THREADS).map(start).collect();
        // The scope waits for what they do, not for their ends: the next fork might copy a lock of the library that a thread
        // holds while it ends, and the child's threads would wait for it for ever.
        for thread in threads {
            check!(thread.join().is_ok(), "a thread failed");
        }
    });
    (0..PAGES).all(|page| {
        (0..THREADS).all(|word| area.read(page, word) == value(page, word))
            && (THREADS..2 * THREADS).all(|word| area.read(page, word) == round)
    })
}
