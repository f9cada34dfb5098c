//! Tests on the fake machine, each over many seeds.

extern crate std;

mod life;
mod mutex;
mod park;
mod place;
mod queue;
mod timer;
mod wait;

use crate::machine::{pause, random, run};
use core::mem::forget;

/// Runs what `main` does on machines of 1 to 4 CPUs, with so many seeds each.
fn each(seeds: u64, main: impl Fn() + Clone + 'static) {
    for cpus in 1..=4 {
        for seed in 0..seeds {
            let told = Told { cpus, seed };
            run(cpus, seed, main.clone());
            forget(told);
        }
    }
}

/// Says in which run a test failed.
struct Told {
    cpus: usize,
    seed: u64,
}

impl Drop for Told {
    fn drop(&mut self) {
        std::eprintln!("with {} CPUs and seed {}", self.cpus, self.seed);
    }
}

/// Gives others some turns, or none.
fn dally() {
    (0..random(6)).for_each(|_| pause());
}
