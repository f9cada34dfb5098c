//! Pages in the swap area are shared by fork: parent and child see the same contents, then each its own.
//!
//! `swap_fork [MIB] [ROUNDS]`. In each round a child rewrites half of the pages while the parent rewrites a third, both verify
//! everything; a second child is killed in the middle. Races 24, 27, 33, 35.

use std::time::Duration;

use quire_workloads::large::{Large, MIB, argument, stamp};
use quire_workloads::process::{Ended, fork};
use quire_workloads::{check, ok};

fn main() {
    let (mib, rounds) = (argument(1, 48), argument(2, 2) as u64);
    let all = Large::new(mib * MIB);
    let n = all.pages();
    // What the page holds: rewritten pages carry the last round that did so.
    let mut written = vec![0u64; n];
    (0..n).for_each(|page| all.fill(page, stamp(page, 0)));
    for round in 1..=rounds {
        // Nothing but memory and numbers is used in the children.
        let child = fork(|| {
            let own = |page: usize| if page.is_multiple_of(2) { 1000 + round } else { written[page] };
            (0..n).step_by(2).for_each(|page| all.fill(page, stamp(page, own(page))));
            (0..n).for_each(|page| all.expect(page, stamp(page, own(page)), "in the child"));
            0
        });
        let doomed = fork(|| {
            loop {
                (0..n).rev().for_each(|page| all.fill(page, stamp(page, 2000)));
            }
        });
        for page in (0..n).step_by(3) {
            all.expect(page, stamp(page, written[page]), "in the parent before it is rewritten");
            all.fill(page, stamp(page, round));
            written[page] = round;
        }
        std::thread::sleep(Duration::from_millis(50 * round));
        doomed.kill();
        let ended = doomed.wait();
        check!(ended == Ended::Killed(libc::SIGKILL), "the child that was killed: {ended:?}");
        (0..n).for_each(|page| all.expect(page, stamp(page, written[page]), "in the parent while a child runs"));
        child.expect_success("the child");
        (0..n).for_each(|page| all.expect(page, stamp(page, written[page]), "in the parent, alone"));
    }
    ok();
}
