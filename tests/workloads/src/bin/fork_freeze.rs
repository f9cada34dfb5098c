//! The child of a fork holds one moment of its parent.
//!
//! * Race 4: a sibling thread's stale translation lets it write into the child's memory.
//! * Race 29: the child holds a later write without an earlier one. Each writer counts up through an array of pages, so
//!   whatever moment the child got, the numbers fall at most once, by one.
//! * Race 28: the parent loses a write. Each writer reads its own number back before it writes the next one.

use std::thread;

use quire_workloads::process::fork;
use quire_workloads::{Area, Budget, Stop, check, ok, spin};

const WRITERS: usize = 3;
const PAGES: usize = 24;

fn main() {
    let budget = Budget::from_arguments(100);
    let area = Area::new(PAGES);
    area.fill(0..PAGES, 0);
    let stop = Stop::new();
    thread::scope(|scope| {
        for word in 0..WRITERS {
            let stop = &stop;
            scope.spawn(move || {
                for count in 1.. {
                    if stop.stopped() {
                        return;
                    }
                    for page in 0..PAGES {
                        let value = area.read(page, word);
                        check!(value == count - 1, "the parent lost a write: {value} instead of {}", count - 1);
                        area.write(page, word, count);
                    }
                }
            });
        }
        for round in budget.rounds() {
            let child = fork(|| child(area));
            if round % 3 == 0 {
                spin(2000);
            }
            let ended = child.wait();
            check!(
                ended == quire_workloads::process::Ended::Exited(0),
                "a child's memory: {ended:?} (3: a later write without an earlier one, 4: it changed)"
            );
        }
        stop.stop();
    });
    ok();
}

fn child(area: Area) -> i32 {
    let mut seen = [[0; PAGES]; WRITERS];
    for (word, seen) in seen.iter_mut().enumerate() {
        for (page, seen) in seen.iter_mut().enumerate() {
            *seen = area.read(page, word);
        }
        let (first, last) = (seen[0], seen[PAGES - 1]);
        if first < last || first > last + 1 || seen.windows(2).any(|pair| pair[0] < pair[1]) {
            return 3;
        }
    }
    for _ in 0..3 {
        spin(3000);
        for (word, seen) in seen.iter().enumerate() {
            for (page, &seen) in seen.iter().enumerate() {
                if area.read(page, word) != seen {
                    return 4;
                }
            }
        }
    }
    0
}
