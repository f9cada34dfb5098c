//! Protections change under writers.
//!
//! * Race 41 and 47: once `mprotect` to read-only has returned, nothing changes any more, however stale a translation
//!   is or however late a fault. The writers write through the kernel, which uses the same translations and answers
//!   `EFAULT` where a store would end the process; and a second set of them stores directly, in a child that must end
//!   by SIGSEGV, never by noticing that its store had worked.
//! * Race 46: a page that grants nothing cannot be read by the kernel either.
//! * Race 16: changing an entry's rights loses no write of a neighbour to the same page.

use std::thread;

use quire_workloads::area::{NONE, READ, READ_WRITE};
use quire_workloads::process::{Ended, Pipe, fork, no_core_files};
use quire_workloads::{Area, Budget, Epoch, PAGE, Stop, canary, check, ok, spin};

const PAGES: usize = 8;
const WRITERS: usize = 3;

fn main() {
    no_core_files();
    let budget = Budget::from_arguments(400);
    through_the_kernel(budget);
    lost_writes(budget);
    for round in budget.divided(10).rounds() {
        refused(round);
    }
    ok();
}

fn through_the_kernel(budget: Budget) {
    let area = Area::far(0, PAGES);
    area.fill(0..PAGES, 1);
    // Even: writable and nothing under way. Odd: some change is going on, or the pages are read-only.
    let (stop, epoch) = (Stop::new(), Epoch::new());
    thread::scope(|scope| {
        scope.spawn(|| canary::watch(&stop, 3));
        for seed in 0..WRITERS {
            let (stop, epoch) = (&stop, &epoch);
            scope.spawn(move || {
                for page in (0..PAGES).cycle().skip(seed) {
                    if stop.stopped() {
                        return;
                    }
                    let before = epoch.get();
                    let written = area.kernel_write(page);
                    check!(written || before % 2 == 1 || epoch.get() != before, "a writable page refused a write");
                }
            });
        }
        let pipe = Pipe::new();
        for round in budget.rounds() {
            epoch.set(2 * round + 1);
            area.protect(0..PAGES, READ);
            let seen: Vec<_> = (0..PAGES).map(|page| times(area, page)).collect();
            spin(if round % 4 == 0 { 5000 } else { 50 });
            for (page, &seen) in seen.iter().enumerate() {
                check!(times(area, page) == seen, "page {page} changed after it had become read-only");
            }
            if round % 8 == 0 {
                area.protect(0..PAGES, NONE);
                check!(area.kernel_read(&pipe, 0).is_none(), "the kernel read a page that grants nothing");
            }
            area.protect(0..PAGES, READ_WRITE);
            area.expect(0..PAGES, 1, "a page whose rights came back");
            epoch.set(2 * round + 2);
            spin(500);
        }
        stop.stop();
    });
    area.unmap(0..PAGES);
}

/// What `kernel_write` writes.
fn times(area: Area, page: usize) -> (u64, u64) {
    (area.read(page, PAGE / 8 - 3), area.read(page, PAGE / 8 - 2))
}

/// Rights come and go (with and without execution) under threads that count.
fn lost_writes(budget: Budget) {
    let area = Area::far(1, 2);
    let stop = Stop::new();
    thread::scope(|scope| {
        for word in 0..WRITERS {
            let stop = &stop;
            scope.spawn(move || {
                let mut count = 0;
                while !stop.stopped() {
                    for page in 0..2 {
                        let value = area.read(page, word);
                        check!(value == count, "word {word} of page {page} holds {value} after {count} was written");
                        area.write(page, word, count + 1);
                    }
                    count += 1;
                }
            });
        }
        for round in budget.rounds() {
            area.protect(0..2, if round % 2 == 0 { READ_WRITE | libc::PROT_EXEC } else { READ_WRITE });
        }
        stop.stop();
    });
    area.unmap(0..2);
}

/// A child in which one thread stores all the time and another one takes the right away.
fn refused(round: u64) {
    let child = fork(|| {
        let (area, taken) = (Area::new(1), Epoch::new());
        thread::scope(|scope| {
            for word in 0..2 {
                let taken = &taken;
                scope.spawn(move || {
                    loop {
                        let before = taken.get();
                        area.write(0, word, 1);
                        if before != 0 {
                            quire_workloads::process::leave(7);
                        }
                    }
                });
            }
            while area.read(0, 0) + area.read(0, 1) < 2 {
                thread::yield_now();
            }
            spin((round * 37 % 2000) as u32);
            area.protect(0..1, READ);
            taken.set(1);
        });
        0
    });
    let ended = child.wait();
    check!(ended == Ended::Killed(libc::SIGSEGV), "a store into a page without the right: {ended:?}");
}
