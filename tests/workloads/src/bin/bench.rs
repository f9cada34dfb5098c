//! What the operations of memory management cost. `bench instructions` is for a machine that counts instructions
//! instead of time (one CPU); `bench wall` runs one thread, then four, each on memory of its own.
//!
//! Prints `name value` lines: nanoseconds for each operation, the least of several runs. Works on Linux as well.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use quire_workloads::area::{NONE, READ, READ_WRITE};
use quire_workloads::process::{Pipe, fork};
use quire_workloads::{Area, Random, pin};

fn main() {
    match std::env::args().nth(1).as_deref() {
        None | Some("instructions") => instructions(),
        Some("wall") => wall(),
        Some(_) => {
            eprintln!("usage: bench [instructions | wall]");
            std::process::exit(2);
        }
    }
}

fn print(name: &str, each: f64) {
    println!("{name} {each:.1}");
}

/// The least of three runs, each of which did `count` operations.
fn least(name: &str, count: usize, mut run: impl FnMut() -> Duration) {
    let least = (0..3).map(|_| run()).min().unwrap_or_default();
    print(name, least.as_nanos() as f64 / count as f64);
}

fn timed(work: impl FnOnce()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}

fn instructions() {
    least("null_call", 1000, || timed(|| (0..1000).for_each(|_| null_call())));
    faults();
    least("map_write_unmap", 200, || timed(|| (0..200).for_each(|_| map_write_unmap())));
    least("map_unmap_64", 200, || timed(|| (0..200).for_each(|_| map_unmap_64())));
    protect();
    forks("fork_4", 1024, 10);
    forks("fork_64", 16_384, 3);
    copies();
    for segments in [1000, 10_000] {
        random_faults(segments);
    }
    many_segments();
    for pieces in [1000, 10_000] {
        reservation(pieces);
    }
}

fn null_call() {
    // SAFETY: a call without arguments.
    unsafe { libc::syscall(libc::SYS_getppid) };
}

fn touch(area: Area) {
    (0..area.pages()).for_each(|page| area.write(page, 0, 1));
}

fn map_write_unmap() {
    let area = Area::new(1);
    area.write(0, 0, 1);
    area.unmap(0..1);
}

fn map_unmap_64() {
    let area = Area::new(64);
    area.unmap(0..64);
}

fn faults() {
    const PAGES: usize = 1024;
    let mut unmapping = Duration::MAX;
    least("write_fault", PAGES, || {
        let area = Area::new(PAGES);
        let faulting = timed(|| touch(area));
        unmapping = unmapping.min(timed(|| area.unmap(0..PAGES)));
        faulting
    });
    print("unmap_page", unmapping.as_nanos() as f64 / PAGES as f64);
}

fn protect() {
    let area = Area::new(16);
    touch(area);
    least("protect_16", 100, || {
        timed(|| {
            for _ in 0..100 {
                area.protect(0..16, READ);
                area.protect(0..16, READ_WRITE);
                touch(area);
            }
        })
    });
    area.unmap(0..16);
}

fn forks(name: &str, pages: usize, count: usize) {
    let area = Area::new(pages);
    touch(area);
    least(name, count, || {
        timed(|| {
            for _ in 0..count {
                fork(|| 0).expect_success("a child");
            }
        })
    });
    area.unmap(0..pages);
}

/// Writes to pages that a child shares (each is copied), and to pages that a child shared (each is reused).
fn copies() {
    const PAGES: usize = 1024;
    let area = Area::new(PAGES);
    touch(area);
    let mut reusing = Duration::MAX;
    least("cow_copy", PAGES, || {
        let hold = Pipe::new();
        let child = fork(|| i32::from(!hold.wait_for_byte()));
        let copying = timed(|| touch(area));
        hold.send(1);
        child.expect_success("a child that holds pages");
        fork(|| 0).expect_success("a child");
        reusing = reusing.min(timed(|| touch(area)));
        copying
    });
    print("cow_reuse", reusing.as_nanos() as f64 / PAGES as f64);
    area.unmap(0..PAGES);
}

/// First writes in random order, each to a segment of its own.
fn random_faults(segments: usize) {
    const FAULTS: usize = 1000;
    let mut random = Random::new(1);
    least(&format!("random_{segments}"), FAULTS, || {
        let area = Area::mapped(0, 2 * segments, NONE, libc::MAP_PRIVATE | libc::MAP_NORESERVE);
        (0..segments).for_each(|index| area.protect(2 * index..2 * index + 1, READ_WRITE));
        let mut order: Vec<usize> = (0..segments).collect();
        (1..segments).rev().for_each(|index| order.swap(index, random.below(index + 1)));
        let faulting = timed(|| order[..FAULTS].iter().for_each(|&index| area.write(2 * index, 0, 1)));
        area.unmap(0..2 * segments);
        faulting
    });
}

/// Ten thousand segments, mapped one by one in random places, unmapped one by one.
fn many_segments() {
    const SEGMENTS: usize = 10_000;
    let area = Area::far(0, 2 * SEGMENTS);
    area.unmap(0..2 * SEGMENTS);
    let mut random = Random::new(2);
    let mut order: Vec<usize> = (0..SEGMENTS).collect();
    let mut unmapping = Duration::MAX;
    least("map_10000", SEGMENTS, || {
        (1..SEGMENTS).rev().for_each(|index| order.swap(index, random.below(index + 1)));
        let mapping = timed(|| order.iter().for_each(|&index| area.replace(2 * index..2 * index + 1, READ_WRITE)));
        unmapping = unmapping.min(timed(|| order.iter().for_each(|&index| area.unmap(2 * index..2 * index + 1))));
        mapping
    });
    print("unmap_10000", unmapping.as_nanos() as f64 / SEGMENTS as f64);
}

/// One page after the other of a large range that was reserved without any right, as allocators and loaders do.
fn reservation(pieces: usize) {
    least(&format!("reserved_{pieces}"), pieces, || {
        let area = Area::mapped(0, 2 * pieces, NONE, libc::MAP_PRIVATE | libc::MAP_NORESERVE);
        let rights = |page| if page % 2 == 0 { READ_WRITE } else { READ };
        let mapping = timed(|| (0..pieces).for_each(|page| area.replace(page..page + 1, rights(page))));
        area.unmap(0..2 * pieces);
        mapping
    });
}

fn wall() {
    for threads in [1, 4] {
        let measure = |name: &str, count: usize, work: fn()| {
            let least = (0..3).map(|_| together(threads, count, work)).min().unwrap_or_default();
            print(&format!("{name}_{threads}"), least.as_nanos() as f64 / count as f64);
        };
        // Long enough that sharing the host's CPUs shows: some of its time slices.
        measure("spin", 3000, spin);
        measure("map_write_unmap", 5000, map_write_unmap);
        measure("map_unmap_64", 5000, map_unmap_64);
        // One mapping, written to, thrown away as a whole: faults for the most part.
        measure("fault_100", 100, || {
            let area = Area::new(100);
            touch(area);
            area.unmap(0..100);
        });
    }
}

/// The time of the slowest of `threads` threads, all begun together, each for `count` operations. Each takes its own
/// time: somebody who only watched would be woken late.
fn together(threads: usize, count: usize, work: fn()) -> Duration {
    let barrier = Barrier::new(threads);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|index| {
                let barrier = &barrier;
                scope.spawn(move || {
                    pin(index);
                    work();
                    barrier.wait();
                    timed(|| (0..count).for_each(|_| work()))
                })
            })
            .collect();
        workers.into_iter().filter_map(|worker| worker.join().ok()).max().unwrap_or_default()
    })
}

fn spin() {
    (0..10_000u32).for_each(|step| {
        black_box(step);
    });
}
