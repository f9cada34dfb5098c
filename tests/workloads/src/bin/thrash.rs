//! Processes whose memory together is several times the machine's: all finish, all find what they wrote.
//!
//! `thrash [ROUNDS | SECONDSs] [MIB] [PROCESSES]`: so many processes with so many MiB each, which they visit at random. Races 22,
//! 25, 43.

use quire_workloads::large::{Large, MIB, argument, stamp};
use quire_workloads::process::fork;
use quire_workloads::{Budget, Random, ok};

fn main() {
    let budget = Budget::from_arguments(2);
    let (mib, processes) = (argument(2, 8), argument(3, 10));
    let children: Vec<_> = (0..processes as u64).map(|seed| fork(move || work(budget, mib * MIB, seed))).collect();
    children.into_iter().for_each(|child| child.expect_success("one of many"));
    ok();
}

fn work(budget: Budget, pages: usize, seed: u64) -> i32 {
    let area = Large::new(pages);
    let mut random = Random::new(seed + 1);
    let mut round = vec![seed; pages];
    (0..pages).for_each(|page| area.fill(page, stamp(page, seed)));
    for _ in budget.rounds().flat_map(|_| 0..pages) {
        // Most visits fall into one quarter.
        let near = random.below(4) != 0;
        let page = if near { random.below(pages / 4 + 1) } else { random.below(pages) };
        area.expect(page, stamp(page, round[page]), "at a visit");
        if random.below(2) == 0 {
            round[page] += 100;
            area.fill(page, stamp(page, round[page]));
        }
    }
    (0..pages).for_each(|page| area.expect(page, stamp(page, round[page]), "at the end"));
    0
}
