//! Three generations of forks, all of which write and verify.
//!
//! Races 12, 13, 15: parent and child break sharing together, a page is reused although somebody else still has it, an
//! ancestor's page shows through. Each process writes its own stamps over a part of the memory that it got, so each
//! page is shared by a different set of relatives, and each verifies all of it while the others write.

use quire_workloads::process::fork;
use quire_workloads::{Area, Budget, Random, ok, spin};

const PAGES: usize = 96;
const GENERATIONS: u64 = 3;
const CHILDREN: u64 = 3;

fn main() {
    let budget = Budget::from_arguments(6);
    for round in budget.rounds() {
        let area = Area::new(PAGES);
        let mut model = [0u64; PAGES];
        live(area, &mut model, 0, round + 1);
        area.unmap(0..PAGES);
    }
    ok();
}

/// One process's life: write, verify, have children, write on, verify, see the children end well.
fn live(area: Area, model: &mut [u64; PAGES], generation: u64, name: u64) {
    let mut random = Random::new(name);
    scribble(area, model, &mut random);
    verify(area, model);
    let children: Vec<_> = (0..if generation < GENERATIONS { CHILDREN } else { 0 })
        .map(|index| {
            let mut model = *model;
            let child = fork(|| {
                live(area, &mut model, generation + 1, name * (CHILDREN + 1) + index);
                0
            });
            spin(1000);
            child
        })
        .collect();
    for _ in 0..4 {
        scribble(area, model, &mut random);
        verify(area, model);
    }
    for child in children {
        child.expect_success("a child");
    }
    verify(area, model);
}

fn scribble(area: Area, model: &mut [u64; PAGES], random: &mut Random) {
    for _ in 0..PAGES / 3 {
        let page = random.below(PAGES);
        model[page] = random.draw();
        area.fill(page..page + 1, model[page]);
    }
}

fn verify(area: Area, model: &[u64; PAGES]) {
    for (page, &value) in model.iter().enumerate() {
        area.expect(page..page + 1, value, "a process's own memory");
    }
}
