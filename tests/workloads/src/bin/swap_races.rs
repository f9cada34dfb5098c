//! Forced eviction against everything else, on an area of a few dozen slots: writers, readers, unmap, fork, protect.
//!
//! `swap_races [ROUNDS | SECONDSs]`. Threads own pages and count up in them; others page them out, fork, protect, move and unmap
//! under them. A page that comes back older than its owner left it is found at once. Races 22 to 25, 27, 31, 33 to 36, 53 to 55.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use quire_workloads::area::{READ, READ_WRITE};
use quire_workloads::process::try_fork;
use quire_workloads::{Area, Budget, Random, Stop, check, ok};

/// Pages that are counted in: about as many as there are slots.
const PAGES: usize = 48;
const WRITERS: usize = 3;
/// Pages that come and go.
const LOOSE: usize = 16;

static STOP: Stop = Stop::new();
/// What the writers have reached: nobody may see less afterwards.
static REACHED: [AtomicU64; PAGES] = [const { AtomicU64::new(0) }; PAGES];

fn main() {
    let budget = Budget::from_arguments(60);
    let pages = Area::new(PAGES);
    let loose = Area::far(0, LOOSE);
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            scope.spawn(move || write(pages, writer));
        }
        scope.spawn(move || page_out(pages, loose));
        scope.spawn(move || protect(pages));
        scope.spawn(move || come_and_go(loose));
        for _ in budget.rounds() {
            snapshot(pages);
        }
        STOP.stop();
    });
    ok();
}

/// Counts up in each page of one's own, in its first and in its last word.
fn write(pages: Area, writer: usize) {
    let mut random = Random::new(writer as u64 + 1);
    let mut own = [0u64; PAGES];
    while !STOP.stopped() {
        let page = writer + WRITERS * random.below(PAGES / WRITERS);
        let (first, last) = (pages.read(page, 0), pages.read(page, 511));
        check!(first == own[page] && last == first, "page {page} is {first} and {last} instead of {}", own[page]);
        own[page] += 1;
        if random.below(8) == 0 {
            // Nobody stores meanwhile: the owner is here.
            pages.protect(page..page + 1, READ);
            let found = pages.read(page, 0);
            check!(found == first, "page {page} is {found} instead of {first} while it is read-only");
            pages.protect(page..page + 1, READ_WRITE);
        }
        pages.write(page, 0, own[page]);
        pages.write(page, 511, own[page]);
        REACHED[page].store(own[page], Ordering::Release);
    }
}

fn page_out(pages: Area, loose: Area) {
    let mut random = Random::new(77);
    while !STOP.stopped() {
        let first = random.below(PAGES);
        advise(pages.address(first), 1 + random.below(PAGES - first), libc::MADV_PAGEOUT);
        if random.below(4) == 0 {
            advise(loose.address(0), LOOSE, libc::MADV_PAGEOUT);
        }
        if random.below(4) == 0 {
            advise(pages.address(first), 1, libc::MADV_WILLNEED);
        }
    }
}

fn advise(address: usize, pages: usize, advice: i32) {
    // SAFETY: no advice that is used here takes content away. A hole in the range is an answer, no harm.
    unsafe { libc::madvise(address as *mut _, pages * quire_workloads::PAGE, advice) };
}

/// Takes a right away again and again that nobody uses: the entries change, the stores go on.
fn protect(pages: Area) {
    let mut random = Random::new(99);
    while !STOP.stopped() {
        let page = random.below(PAGES);
        pages.protect(page..page + 1, READ_WRITE | libc::PROT_EXEC);
        pages.protect(page..page + 1, READ_WRITE);
        thread::yield_now();
    }
}

/// Pages that are written, paged out and torn away: a fresh one is always zero.
fn come_and_go(loose: Area) {
    let mut random = Random::new(111);
    while !STOP.stopped() {
        let first = random.below(LOOSE - 4);
        loose.unmap(first..first + 4);
        loose.replace(first..first + 4, READ_WRITE);
        for page in first..first + 4 {
            let found = loose.read(page, 100);
            check!(found == 0, "a fresh page shows {found:#x}");
            loose.write(page, 100, 0xdead_0000 + page as u64);
        }
        for page in first..first + 4 {
            let found = loose.read(page, 100);
            check!(found == 0xdead_0000 + page as u64, "page {page} lost what was written: {found:#x}");
        }
    }
}

/// The child sees each page as it was at the fork: not older than what had been reached, and never changing.
fn snapshot(pages: Area) {
    let mut before = [0; PAGES];
    for (page, reached) in before.iter_mut().enumerate() {
        *reached = REACHED[page].load(Ordering::Acquire);
    }
    let child = try_fork(|| {
        let mut seen = [0; PAGES];
        for round in 0..3 {
            for page in 0..PAGES {
                let (first, last) = (pages.read(page, 0), pages.read(page, 511));
                if round == 0 {
                    seen[page] = first;
                }
                if first != seen[page] || first < before[page] || last + 1 < first || last > first {
                    return 1;
                }
            }
            advise(pages.address(0), PAGES, libc::MADV_PAGEOUT);
        }
        0
    });
    if let Ok(child) = child {
        child.expect_success("a snapshot of pages that go in and out");
    }
}
