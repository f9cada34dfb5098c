//! Threads created and joined by the thousand, some of them by threads, some alive at once.
//!
//! Race 58 and leaks: stacks, tables and thread numbers come back, or the machine runs out of them.

use std::thread;

use quire_workloads::{Budget, check, ok};

fn main() {
    let budget = Budget::from_arguments(1000);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(move || {
                for round in budget.divided(5).rounds() {
                    let made = thread::spawn(move || grow(round as usize % 40));
                    check!(made.join().is_ok_and(|sum| sum == round % 40), "a thread returned something else");
                }
            });
        }
    });
    for round in budget.divided(200).rounds() {
        let alive: Vec<_> =
            (0..40u64).map(|index| thread::Builder::new().stack_size(64 << 10).spawn(move || index ^ round)).collect();
        for (index, made) in (0..).zip(alive) {
            let sum = made.map(thread::JoinHandle::join);
            check!(matches!(sum, Ok(Ok(value)) if value == index ^ round), "thread {index} of a crowd failed");
        }
    }
    ok();
}

/// Uses some stack.
fn grow(depth: usize) -> u64 {
    let page = std::hint::black_box([1u8; 2048]);
    if depth == 0 { 0 } else { u64::from(page[depth]) + grow(depth - 1) }
}
