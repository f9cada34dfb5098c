//! First touches: threads fault in memory of their own, and all at once in shared memory.
//!
//! Races 11 and 21: two CPUs install the same page or the same table; a page or a table installed twice loses what was
//! written to the first one.

use std::sync::Barrier;
use std::thread;

use quire_workloads::{Area, Budget, Random, check, ok};

const THREADS: usize = 8;
/// More than one page table covers (512), so that tables, too, are touched first by several.
const SHARED: usize = 700;
const OWN: usize = 64;

fn main() {
    let budget = Budget::from_arguments(8);
    let barrier = Barrier::new(THREADS);
    for round in budget.rounds() {
        let shared = Area::new(SHARED);
        thread::scope(|scope| {
            for index in 0..THREADS {
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    together(shared, index, round);
                    alone(index, round);
                });
            }
        });
        for page in 0..SHARED {
            for index in 0..THREADS {
                let value = shared.read(page, index);
                check!(value == stamp(page, index, round), "page {page} lost the word of thread {index}: {value:#x}");
            }
        }
        shared.unmap(0..SHARED);
    }
    ok();
}

fn stamp(page: usize, index: usize, round: u64) -> u64 {
    (page as u64) << 32 | (index as u64) << 24 | (round & 0xffff) | 1 << 63
}

/// Every thread writes its own word of every page; half of them read first, which maps the page of zeros.
fn together(shared: Area, index: usize, round: u64) {
    for page in 0..SHARED {
        if index.is_multiple_of(2) {
            let value = shared.read(page, index);
            check!(value == 0, "untouched word {index} of page {page} holds {value:#x}");
        }
        shared.write(page, index, stamp(page, index, round));
    }
}

/// Random touches of the thread's own pages, each checked against a plain model.
fn alone(index: usize, round: u64) {
    let mut random = Random::new(index as u64 + 100 * round);
    let own = Area::new(OWN);
    let mut model = [0u64; OWN];
    for _ in 0..4 * OWN {
        let page = random.below(OWN);
        let value = own.read(page, 7);
        check!(value == model[page], "page {page} holds {value:#x}, not {:#x}", model[page]);
        if random.below(2) == 0 {
            model[page] = random.draw();
            own.write(page, 7, model[page]);
        }
    }
    own.unmap(0..OWN);
}
