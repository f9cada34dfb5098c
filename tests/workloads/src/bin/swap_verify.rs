//! A working set of a given size, every word checked: filled, read in order, read at random, rewritten in order.
//!
//! `swap_verify [MIB] [THREADS]`. On a machine with less memory every pass pages in and out. Races 16, 22, 23, 25.

use std::thread;

use quire_workloads::large::{Large, MIB, argument, shuffled, stamp};
use quire_workloads::ok;

fn main() {
    let (mib, threads) = (argument(1, 64), argument(2, 1).max(1));
    let all = Large::new(mib * MIB);
    let parts = all.split(threads);
    thread::scope(|scope| {
        for (i, part) in parts.iter().enumerate() {
            scope.spawn(move || work(part, i as u64));
        }
    });
    ok();
}

fn work(part: &Large, seed: u64) {
    let n = part.pages();
    (0..n).for_each(|page| part.fill(page, stamp(page, seed)));
    (0..n).for_each(|page| part.expect(page, stamp(page, seed), "read in order"));
    for page in shuffled(n, seed) {
        part.expect(page as usize, stamp(page as usize, seed), "read at random");
    }
    for page in 0..n {
        part.expect(page, stamp(page, seed), "before it is rewritten");
        part.fill(page, stamp(page, seed + 1000));
    }
    for page in shuffled(n, seed + 1) {
        part.expect(page as usize, stamp(page as usize, seed + 1000), "after it was rewritten");
    }
}
