//! Hundreds of processes, several threads forking at once, some processes killed in the middle of a fork.
//!
//! Races 12, 17, 40: a fork that is cut short leaves half a space, or takes its parent's pages along. And who writes beside a thread
//! that forks in a loop gets on, too.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use quire_workloads::process::{Child, Ended, fork, try_fork};
use quire_workloads::{Area, Budget, Random, check, ok, spin};

const BREEDERS: u64 = 4;
const ALIVE: usize = 60;
const PAGES: usize = 32;

fn main() {
    let budget = Budget::from_arguments(150);
    let area = Area::new(PAGES);
    area.fill(0..PAGES, 42);
    thread::scope(|scope| {
        for seed in 0..BREEDERS {
            scope.spawn(move || {
                let mut random = Random::new(seed);
                let mut alive: Vec<(Child, bool)> = Vec::new();
                for round in budget.rounds() {
                    if alive.len() == ALIVE {
                        let oldest = alive.remove(0);
                        bury(oldest);
                    }
                    let deadly = random.below(4) == 0;
                    let child = fork(move || if deadly { breed_on(area) } else { live(area, seed, round) });
                    if deadly {
                        spin(random.below(20_000) as u32);
                        child.kill();
                    }
                    alive.push((child, deadly));
                }
                alive.into_iter().for_each(bury);
            });
        }
    });
    area.expect(0..PAGES, 42, "the parent's memory");
    writers_beside_a_forker();
    ok();
}

/// Each fork makes every page wait for its next store until the fork is over: a writer's chance is the time between two forks.
fn writers_beside_a_forker() {
    const WRITERS: usize = 3;
    const FORKS: u32 = 60;
    // They may be over before everybody has had a slice of a CPU.
    const LONG: Duration = Duration::from_millis(300);
    // Linux and Quire make thousands. Where the host has no CPU free, each store to a page that the last fork has shared takes tens of
    // milliseconds, for another CPU has to answer: 19 were seen. Whom nobody lets pass makes fewer than ten.
    const ENOUGH: u32 = 10;
    let area = Area::new(WRITERS * 8);
    let writes = [const { AtomicU32::new(0) }; WRITERS];
    let over = AtomicBool::new(false);
    let mut since = [0; WRITERS];
    let (mut forks, mut took) = (0, Duration::ZERO);
    thread::scope(|scope| {
        for (writer, count) in writes.iter().enumerate() {
            let over = &over;
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let step = count.fetch_add(1, Ordering::Relaxed);
                    area.write(writer * 8 + step as usize % 8, 0, step.into());
                    // In the kernel now and then, where it answers nobody.
                    black_box(Instant::now());
                }
            });
        }
        // The start of a thread is many stores and edits, each of which may have to wait for a fork.
        while writes.iter().any(|count| count.load(Ordering::Relaxed) == 0) {
            thread::sleep(Duration::from_millis(1));
        }
        let breed = |forks| (0..forks).for_each(|_| fork(|| 0).expect_success("a child of the forker"));
        // Before the first fork is over they write as they like.
        breed(4);
        let before = writes.each_ref().map(|count| count.load(Ordering::Relaxed));
        let start = Instant::now();
        while forks < FORKS || start.elapsed() < LONG {
            breed(1);
            forks += 1;
        }
        took = start.elapsed();
        over.store(true, Ordering::Relaxed);
        since = before;
    });
    for (count, before) in writes.into_iter().zip(since) {
        let count = count.into_inner().wrapping_sub(before);
        check!(count >= ENOUGH, "a writer got on {count} times beside {forks} forks, which took {took:?}");
    }
    area.unmap(0..area.pages());
}

fn bury((child, deadly): (Child, bool)) {
    let ended = child.wait();
    let expected = if deadly { Ended::Killed(libc::SIGKILL) } else { Ended::Exited(0) };
    check!(ended == expected, "a child of the storm: {ended:?}, not {expected:?}");
}

/// Writes over half of what it got, and looks at all of it.
fn live(area: Area, seed: u64, round: u64) -> i32 {
    let stamp = seed << 32 | round;
    for page in (0..PAGES).step_by(2) {
        area.fill(page..page + 1, stamp);
    }
    spin(1000);
    for page in 0..PAGES {
        let expected = if page % 2 == 0 { stamp } else { 42 };
        if area.read(page, 0) != expected || area.read(page, 511) != expected {
            return 1;
        }
    }
    0
}

/// Forks until it is killed.
fn breed_on(area: Area) -> i32 {
    loop {
        area.fill(0..PAGES, 43);
        if let Ok(child) = try_fork(|| i32::from(area.read(0, 0) != 43)) {
            let _ = child.wait();
        }
    }
}
