//! Four threads read fresh memory of one mapping before they store to it, as programs do whose compilers keep notes about memory beside
//! it. They interrupt each other for few of the pages. Then one only reads, which costs next to no memory.
//!
//! Quire's counters say so (/proc/quire). Elsewhere there are no such counters, and only the contents and the memory are checked.

use std::fs::read_to_string;
use std::sync::Barrier;
use std::thread;

use quire_workloads::{Area, Budget, check, counters, cpus, ok, pin};

const THREADS: usize = 4;
/// Pages that each thread stores to.
const STORED: usize = 250;
/// Pages that are only read.
const READ: usize = 8000;

fn main() {
    for round in Budget::from_arguments(8).rounds() {
        let area = Area::new(THREADS * STORED + READ);
        // SAFETY: advice about a mapping of our own. Huge pages would cost memory where a page is wanted.
        unsafe { libc::madvise(area.address(0) as *mut _, area.pages() * 4096, libc::MADV_NOHUGEPAGE) };
        let before = interrupted();
        store(&area, round + 1);
        let more = interrupted() - before;
        check!(more < (THREADS * STORED / 10) as u64, "{more} shootdowns for {} pages", THREADS * STORED);
        let before = resident();
        (THREADS * STORED..area.pages()).for_each(|page| check!(area.read(page, 0) == 0, "page {page} is not fresh"));
        let more = resident().saturating_sub(before);
        check!(more < THREADS * STORED / 10, "{more} pages more, after {READ} were read");
        area.unmap(0..area.pages());
    }
    ok();
}

fn store(area: &Area, value: u64) {
    let barrier = Barrier::new(THREADS);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let barrier = &barrier;
            scope.spawn(move || {
                pin(thread % cpus());
                barrier.wait();
                let pages = (0..STORED).map(|i| i * THREADS + thread);
                for page in pages.clone() {
                    check!(area.read(page, 1) == 0, "page {page} is not fresh");
                    area.write(page, 1, value + page as u64);
                }
                barrier.wait();
                pages.for_each(|page| check!(area.read(page, 1) == value + page as u64, "page {page} lost its store"));
            });
        }
    });
}

/// Shootdowns for first stores to what was read as the zero page, so far.
fn interrupted() -> u64 {
    counters().iter().find(|(name, _)| name == "shootdowns_zero_page").map_or(0, |counter| counter.1)
}

/// Pages in memory that this process maps.
fn resident() -> usize {
    let statm = read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0)
}
