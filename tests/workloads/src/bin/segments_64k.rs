//! As many segments as a process may have: alternating rights, random faults, all removed again.
//!
//! Race 44 at the limit: an edit that fails changes nothing. Nothing may take time in proportion to the number of
//! segments, or this program does not end.

use quire_workloads::area::{NONE, READ, READ_WRITE};
use quire_workloads::{Area, Budget, Random, check, ok};

/// Two segments for each pair of pages, so twice as many pairs as the limit of 65,536 needs.
const PAGES: usize = 140_000;

fn main() {
    let budget = Budget::from_arguments(1);
    for round in budget.rounds() {
        let flags = libc::MAP_PRIVATE | libc::MAP_NORESERVE;
        let area = Area::mapped(0, PAGES, NONE, flags);
        let writable = split(area);
        touch(area, writable, round);
        area.unmap(0..PAGES);
        // What is gone is gone: the same number fits again.
        let again = Area::mapped(0, PAGES, NONE, flags);
        check!(split(again) >= writable - 16, "fewer segments fit after the first ones are gone");
        merge(again, writable);
        again.unmap(0..PAGES);
    }
    ok();
}

/// Makes every other page writable until the system has enough of it; returns how many pages that were.
fn split(area: Area) -> usize {
    for index in 0..PAGES / 2 {
        if let Err(error) = area.try_protect(2 * index..2 * index + 1, READ_WRITE) {
            check!(error.raw_os_error() == Some(libc::ENOMEM), "mprotect at the limit: {error}");
            // Linux allows 65,530 mappings by default, Quire 65,536 segments; some are the program's own.
            check!((32_000..=32_768).contains(&index), "ENOMEM after {} segments", 2 * index);
            return index;
        }
    }
    quire_workloads::violated(format_args!("no limit after {PAGES} segments"))
}

fn touch(area: Area, writable: usize, seed: u64) {
    let mut random = Random::new(seed);
    let mut touched = Vec::new();
    for _ in 0..2000 {
        let page = 2 * random.below(writable);
        let value = random.draw();
        area.write(page, 0, value);
        touched.push((page, value));
        check!(!area.kernel_write(page + 1), "the page between two segments can be written");
    }
    // A later write to the same page counts.
    touched.reverse();
    touched.sort_by_key(|&(page, _)| page);
    touched.dedup_by_key(|&mut (page, _)| page);
    for &(page, value) in &touched {
        check!(area.read(page, 0) == value, "page {page} of one segment among many lost its value");
    }
    for &(page, _) in touched.iter().step_by(3) {
        area.protect(page..page + 1, READ);
        check!(!area.kernel_write(page), "a segment among many kept the right to be written");
    }
}

/// Equal neighbours become one segment again, so that others fit.
fn merge(area: Area, writable: usize) {
    area.protect(0..2 * writable, READ_WRITE);
    let other = Area::mapped(0, PAGES, NONE, libc::MAP_PRIVATE | libc::MAP_NORESERVE);
    let more = split(other);
    other.unmap(0..PAGES);
    check!(more >= writable - 16, "{more} segments fit after the others were merged, {writable} before");
}
