//! Memory runs out: somebody is told `ENOMEM` or killed, and everybody else goes on.
//!
//! Race 43: the victim holds something that the others wait for. Race 17: memory runs out in the middle of a fork.
//! On a machine with much memory the glutton is limited to a part of it, so that the program stays polite there.

use quire_workloads::area::READ_WRITE;
use quire_workloads::process::{Ended, fork, no_core_files, try_fork};
use quire_workloads::{Area, Budget, check, ok};

/// Pages asked for at once.
const BITE: usize = 1024;
const POLITE: u64 = 2 << 30;

fn main() {
    no_core_files();
    let budget = Budget::from_arguments(3);
    let own = Area::new(256);
    own.fill(0..256, 77);
    for _ in budget.rounds() {
        let ended = fork(glutton).wait();
        check!(
            ended == Ended::Exited(0) || ended == Ended::Killed(libc::SIGKILL),
            "a program that uses all the memory: {ended:?}"
        );
        own.expect(0..256, 77, "a bystander's memory");
        // What it had is free again.
        fork(|| {
            let area = Area::new(2000);
            area.fill(0..2000, 5);
            area.expect(0..2000, 5, "memory after memory had run out");
            0
        })
        .expect_success("a program after memory had run out");
    }
    ok();
}

/// Eats until it is told or killed; its children share and copy what it has.
fn glutton() -> i32 {
    polite();
    let mut eaten = Vec::new();
    let flags = libc::MAP_PRIVATE | libc::MAP_NORESERVE;
    while let Ok(area) = Area::try_mapped(0, BITE, READ_WRITE, flags) {
        area.fill(0..BITE, eaten.len() as u64);
        eaten.push(area);
        if eaten.len() % 16 == 0
            && let Ok(child) = try_fork(|| {
                area.fill(0..BITE, 1);
                0
            })
        {
            let _ = child.wait();
            area.expect(0..BITE, eaten.len() as u64 - 1, "a page that a child has copied");
        }
    }
    0
}

/// On a machine with more than the polite amount, asks for a limit.
fn polite() {
    // SAFETY: both structures are plain numbers and live through the calls.
    unsafe {
        let mut info: libc::sysinfo = std::mem::zeroed();
        if libc::sysinfo(&raw mut info) == 0 && info.totalram * u64::from(info.mem_unit) > POLITE {
            let limit = libc::rlimit { rlim_cur: POLITE / 8, rlim_max: POLITE / 8 };
            libc::setrlimit(libc::RLIMIT_AS, &raw const limit);
        }
    }
}
