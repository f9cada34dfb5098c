//! Memory and swap are exhausted: the largest process is killed, everyone else keeps what he has.
//!
//! `swap_full [MIB] [ROUNDS]`. Bystanders hold some MiB each and verify them over and over while a glutton takes pages without end.
//! On a system that has much memory the glutton stops at a limit by itself. Race 43.

use quire_workloads::large::{Large, MIB, argument, stamp};
use quire_workloads::process::{Ended, Pipe, fork, leave, no_core_files};
use quire_workloads::{check, ok};

const BYSTANDERS: usize = 2;
/// Where the glutton stops on a system that does not.
const ENOUGH: usize = 400;

fn main() {
    no_core_files();
    let (mib, rounds) = (argument(1, 4), argument(2, 2));
    let full = Pipe::new();
    let bystanders: Vec<_> = (0..BYSTANDERS)
        .map(|i| {
            let own = full.reader();
            let writer = full.writer();
            fork(move || {
                // Only the parent writes: its end of the pipe is the end of this process.
                // SAFETY: the descriptor is this process's copy.
                unsafe { libc::close(writer) };
                bystander(mib, i as u64, own)
            })
        })
        .collect();
    for round in 0..rounds {
        let ended = fork(glutton).wait();
        check!(
            ended == Ended::Killed(libc::SIGKILL) || ended == Ended::Exited(0),
            "the one that takes everything: {ended:?}"
        );
        // What it had can be had again.
        fork(move || {
            let area = Large::new(2 * mib * MIB);
            (0..area.pages()).for_each(|page| area.fill(page, stamp(page, round as u64)));
            (0..area.pages()).for_each(|page| area.expect(page, stamp(page, round as u64), "afterwards"));
            0
        })
        .expect_success("a program afterwards");
    }
    drop(full);
    bystanders.into_iter().for_each(|child| child.expect_success("a bystander"));
    ok();
}

fn bystander(mib: usize, seed: u64, end: i32) -> i32 {
    let area = Large::new(mib * MIB);
    let n = area.pages();
    let mut round = 0;
    (0..n).for_each(|page| area.fill(page, stamp(page, seed)));
    // Until the parent closes the pipe.
    // SAFETY: plain numbers, alive through the call.
    while unsafe { libc::poll(&mut libc::pollfd { fd: end, events: libc::POLLIN, revents: 0 }, 1, 0) } == 0 {
        for page in 0..n {
            area.expect(page, stamp(page, seed + round), "of a bystander");
            area.fill(page, stamp(page, seed + round + 1));
        }
        round += 1;
    }
    0
}

fn glutton() -> i32 {
    for taken in 0..ENOUGH {
        let area = Large::new(MIB);
        (0..MIB).for_each(|page| area.fill(page, taken as u64));
    }
    leave(0)
}
