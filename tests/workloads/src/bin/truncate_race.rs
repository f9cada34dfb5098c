//! A file that becomes shorter and longer, and gets holes, under those who map it.
//!
//! When `ftruncate` has returned, nobody shows a page behind the end: not those who store there all the time, not the copies
//! of private mappings, not children that were forked meanwhile, and not a mapping that is moved about. What comes back is zeros,
//! and mappings and file agree.

use std::io;
use std::sync::Mutex;
use std::thread;

use quire_workloads::process::{Pipe, fork};
use quire_workloads::{Area, Budget, Random, Stop, canary, check, ok};

const PAGES: usize = 16;
/// What is never cut off.
const KEPT: usize = 2;
/// Places in different arenas of 512 GiB.
const PLACES: [usize; 3] = [0x100_0000_0000, 0x200_0000_0000, 0x300_0000_0000];
/// The word that only the main thread stores to.
const MINE: usize = 7;

fn main() {
    let budget = Budget::from_arguments(200);
    // SAFETY: a name that ends with zero.
    let file = unsafe { libc::memfd_create(c"cut".as_ptr(), libc::MFD_CLOEXEC) };
    check!(file >= 0, "memfd_create: {}", io::Error::last_os_error());
    resize(file, PAGES);
    let all = Area::of_file(0, file, PAGES, libc::MAP_SHARED);
    let copy = Area::of_file(0, file, PAGES, libc::MAP_PRIVATE);
    let fixed = libc::MAP_SHARED | libc::MAP_FIXED;
    let moving = Mutex::new(Area::of_file(PLACES[0], file, PAGES, fixed));
    let stop = Stop::new();
    thread::scope(|scope| {
        scope.spawn(|| canary::watch(&stop, 19));
        for seed in 0..2 {
            let stop = &stop;
            scope.spawn(move || {
                let mut random = Random::new(seed);
                let pipe = Pipe::new();
                while !stop.stopped() {
                    let page = random.below(PAGES);
                    // Refused behind the end.
                    let _ = (all.kernel_write(page), copy.kernel_write(page), all.kernel_read(&pipe, page));
                }
            });
        }
        scope.spawn(|| {
            for place in PLACES.iter().cycle().skip(1) {
                if stop.stopped() {
                    return;
                }
                let mut area = moving.lock().unwrap_or_else(|e| e.into_inner());
                let to = Area::mapped(*place, PAGES, 0, libc::MAP_PRIVATE | libc::MAP_FIXED);
                area.move_onto(&to);
                *area = to;
                drop(area);
                thread::yield_now();
            }
        });
        let mut random = Random::new(1);
        let pipe = Pipe::new();
        for round in budget.rounds() {
            shorter(file, [all, copy], &moving, &pipe, KEPT + random.below(PAGES - KEPT), round + 1);
            hole(file, [all, copy], random.below(PAGES), round + 1);
        }
        stop.stop();
    });
    ok();
}

fn shorter(file: i32, [all, copy]: [Area; 2], moving: &Mutex<Area>, pipe: &Pipe, end: usize, round: u64) {
    for page in end..PAGES {
        all.write(page, MINE, round);
        copy.write(page, MINE, round);
    }
    let (go, ready) = (Pipe::new(), Pipe::new());
    let look = |area: &Area, pipe: &Pipe, who: &str| {
        for page in end..PAGES {
            let found = area.kernel_read(pipe, page);
            check!(found.is_none(), "{who}: page {page} holds {found:?} behind the end {end}");
        }
    };
    let child = fork(|| {
        let pipe = Pipe::new();
        ready.send(1);
        if !go.wait_for_byte() {
            return 1;
        }
        look(&all, &pipe, "a child");
        look(&copy, &pipe, "a child's copy");
        0
    });
    // Forked before, or while it happens.
    if round.is_multiple_of(2) {
        ready.wait_for_byte();
    }
    resize(file, end);
    look(&all, pipe, "a shared mapping");
    look(&copy, pipe, "a private mapping");
    look(&moving.lock().unwrap_or_else(|e| e.into_inner()), pipe, "a mapping that moves");
    go.send(1);
    child.expect_success("what a child shows behind the end");
    resize(file, PAGES);
    for page in end..PAGES {
        check!(all.read(page, MINE) == 0 && copy.read(page, MINE) == 0, "page {page} came back with what it held");
        all.write(page, MINE, round);
        check!(stored(file, page) == round, "the file has another page {page} than its mapping");
    }
}

fn hole(file: i32, [all, copy]: [Area; 2], page: usize, round: u64) {
    all.write(page, MINE, round);
    copy.write(page, MINE, !round);
    let flags = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: a file and numbers.
    let done = unsafe { libc::fallocate(file, flags, (page * 4096) as i64, 4096) };
    check!(done == 0, "fallocate: {}", io::Error::last_os_error());
    check!(all.read(page, MINE) == 0 && stored(file, page) == 0, "page {page} is no hole");
    check!(copy.read(page, MINE) == !round, "the private copy of page {page} went with the hole");
}

/// What the file has in the main thread's word of a page.
fn stored(file: i32, page: usize) -> u64 {
    let mut value = 0u64;
    // SAFETY: eight bytes into eight bytes.
    let n = unsafe { libc::pread(file, (&raw mut value).cast(), 8, (page * 4096 + MINE * 8) as i64) };
    check!(n == 8, "pread: {}", io::Error::last_os_error());
    value
}

fn resize(file: i32, pages: usize) {
    // SAFETY: a file and a number.
    let done = unsafe { libc::ftruncate(file, (pages * 4096) as i64) };
    check!(done == 0, "ftruncate: {}", io::Error::last_os_error());
}
