//! Four threads of one process that map, touch and unmap memory of their own interrupt nobody.
//!
//! Quire's counters say so: /proc/quire is read while the threads stand at a barrier, before and after. Elsewhere there are no
//! such counters, and only the contents are checked. Each thread stays on one CPU: what a thread touches on another CPU that
//! CPU may have translations of.

use std::sync::Barrier;
use std::thread;

use quire_workloads::{Area, Budget, check, counters, cpus, ok, pin};

const THREADS: usize = 4;
const PAGES: usize = 16;
/// Mappings of each thread in one round. Their number is known before: the threads agree on nothing while they are counted.
const TURNS: u64 = 25;

fn main() {
    for round in Budget::from_arguments(8).rounds() {
        count(round);
    }
    ok();
}

fn count(round: u64) {
    let barrier = Barrier::new(THREADS + 1);
    thread::scope(|scope| {
        let barrier = &barrier;
        let start = |index: usize| {
            scope.spawn(move || {
                pin(index % cpus());
                // What a thread needs once (its stack, its CPU's tables) comes before the count begins.
                turn(0);
                barrier.wait();
                barrier.wait();
                (0..TURNS).for_each(|n| turn(round * TURNS + n + index as u64));
                barrier.wait();
                barrier.wait();
            })
        };
        let threads: Vec<_> = (0..THREADS).map(start).collect();
        barrier.wait();
        let before = counters();
        barrier.wait();
        barrier.wait();
        let after = counters();
        barrier.wait();
        for (name, value) in &after {
            let earlier = before.iter().find(|counter| counter.0 == *name).map_or(0, |counter| counter.1);
            let more = value - earlier;
            match name.as_str() {
                name if name.starts_with("shootdown") && name != "shootdowns_served" => {
                    check!(more == 0, "{name}: {more}, none was due")
                }
                // Were it not counted, the zeros above would mean nothing.
                "edits_unmap" => check!(more >= THREADS as u64 * TURNS, "only {more} unmaps were counted"),
                _ => {}
            }
        }
        // The scope waits only for what the threads were told to do. Their ends, which give stacks back and unmap what the
        // library mapped for them, would fall into the next count.
        for thread in threads {
            check!(thread.join().is_ok(), "a thread failed");
        }
    });
}

fn turn(value: u64) {
    let area = Area::new(PAGES);
    area.fill(0..PAGES, value);
    area.expect(0..PAGES, value, "memory of one's own");
    area.unmap(0..PAGES);
}
