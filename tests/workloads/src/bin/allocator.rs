//! The heap of an ordinary program, used hard: sizes from bytes to a megabyte, blocks that grow, blocks that other threads free.
//!
//! It prints a sum over everything that it wrote and read back, which must be Linux's.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::mpsc::sync_channel;
use std::thread;

use quire_workloads::{Budget, Random, check, ok};

const THREADS: u64 = 6;

fn main() {
    let rounds = Budget::from_arguments(2).rounds().count() as u64;
    let sums: Vec<u64> = thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS).map(|seed| scope.spawn(move || blocks(seed + 1, rounds * 1500))).collect();
        workers.into_iter().filter_map(|worker| worker.join().ok()).collect()
    });
    check!(sums.len() == THREADS as usize, "a thread failed");
    println!("blocks {sums:x?}");
    println!("passed on {:x}", passed_on(rounds * 200));
    println!("collections {:x}", collections(rounds * 5000));
    ok();
}

/// Allocates, grows and frees in no order.
fn blocks(seed: u64, steps: u64) -> u64 {
    let mut random = Random::new(seed);
    let mut alive: Vec<Vec<u8>> = Vec::new();
    let mut sum = 0u64;
    for step in 0..steps {
        let size = match random.below(20) {
            0 => random.below(1 << 20),
            1..=4 => random.below(20_000),
            _ => random.below(300),
        };
        alive.push(vec![step as u8; size + 1]);
        if alive.len() > 100 {
            let at = random.below(alive.len());
            alive[at].resize(size * 2 + 1, 7);
            let block = alive.swap_remove(random.below(100));
            sum = sum.rotate_left(5)
                ^ (u64::from(block[0]) << 32 | u64::from(block[block.len() - 1]) << 24 | block.len() as u64);
        }
    }
    sum
}

/// One thread allocates, another one frees.
fn passed_on(batches: u64) -> u64 {
    let (send, receive) = sync_channel::<VecDeque<Box<[u64]>>>(3);
    thread::scope(|scope| {
        let sum = scope.spawn(move || {
            receive.iter().flatten().fold(0u64, |sum, block| sum.rotate_left(3) ^ block.iter().sum::<u64>())
        });
        for batch in 0..batches {
            let blocks =
                (0..40).map(|index| vec![batch ^ index; (index * 11) as usize + 1].into_boxed_slice()).collect();
            check!(send.send(blocks).is_ok(), "nobody takes blocks");
        }
        drop(send);
        sum.join().unwrap_or(0)
    })
}

fn collections(entries: u64) -> u64 {
    let (mut random, mut tree, mut table) = (Random::new(77), BTreeMap::new(), HashMap::new());
    for _ in 0..entries {
        let key = random.below(entries as usize) as u64;
        tree.insert(key, format!("value {key}"));
        *table.entry(key / 3).or_insert(0u64) += key;
        if key.is_multiple_of(4) {
            tree.remove(&(key + 1));
        }
    }
    let sum = tree.iter().fold(0u64, |sum, (key, text)| sum.rotate_left(1) ^ key ^ text.len() as u64);
    table.values().fold(sum, |sum, value| sum.wrapping_add(*value))
}
