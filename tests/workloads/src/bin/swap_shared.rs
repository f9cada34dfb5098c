//! Several processes share one memfd, or a file below /tmp, that is larger than memory: what one writes the others read.
//!
//! `swap_shared [MIB] [PROCESSES] [file]`. Every process owns each n-th page and rewrites it round by round; after each round all check
//! all pages, some through their mapping, some by read(2). Races 37, 52, 53.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use quire_workloads::large::{Large, MIB, WORDS, argument, stamp};
use quire_workloads::process::fork;
use quire_workloads::{Area, PAGE, check, ok, pause};

const ROUNDS: u64 = 3;

fn main() {
    let (mib, processes) = (argument(1, 48), argument(2, 3).max(1));
    let pages = mib * MIB;
    let below_tmp = std::env::args().nth(3).is_some_and(|word| word == "file");
    // SAFETY: the names are NUL-terminated strings.
    let fd = unsafe {
        match below_tmp {
            true => libc::open(c"/tmp".as_ptr(), libc::O_TMPFILE | libc::O_RDWR, 0o600),
            false => libc::memfd_create(c"shared".as_ptr(), 0),
        }
    };
    check!(fd >= 0, "a file: {}", io::Error::last_os_error());
    // SAFETY: a system call on values.
    let sized = unsafe { libc::ftruncate(fd, (pages * PAGE) as libc::off_t) };
    check!(sized == 0, "ftruncate: {}", io::Error::last_os_error());
    let meeting = Area::shared(1).address(0);
    let children: Vec<_> = (0..processes).map(|i| fork(|| work(fd, pages, i, processes, meeting))).collect();
    children.into_iter().for_each(|child| child.expect_success("a process that shares"));
    // By read(2), without a mapping: the pages come back to the file alone.
    let mut page = [0u64; WORDS];
    for i in (0..pages).step_by(7) {
        // SAFETY: the buffer has the length that is given.
        let got = unsafe { libc::pread(fd, page.as_mut_ptr().cast(), PAGE, (i * PAGE) as libc::off_t) };
        check!(got == PAGE as isize, "pread of page {i}: {got} {}", io::Error::last_os_error());
        let all = Large::of_file(fd, pages);
        all.expect(i, stamp(i, ROUNDS), "after all have ended");
        // SAFETY: the page is mapped, and nobody writes any more.
        let mapped = unsafe { *(all.address(i) as *const [u64; WORDS]) };
        check!(page == mapped, "page {i}: read(2) and the mapping differ");
        all.unmap();
    }
    ok();
}

fn work(fd: i32, pages: usize, own: usize, processes: usize, meeting: usize) -> i32 {
    let all = Large::of_file(fd, pages);
    for round in 1..=ROUNDS {
        for page in (own..pages).step_by(processes) {
            if round > 1 {
                all.expect(page, stamp(page, round - 1), "before it is rewritten");
            }
            all.fill(page, stamp(page, round));
        }
        meet(meeting, processes, 2 * round as usize - 1);
        for page in 0..pages {
            all.expect(page, stamp(page, round), format_args!("by process {own} in round {round}"));
        }
        meet(meeting, processes, 2 * round as usize);
    }
    0
}

/// Waits until all processes have come for the `nth` time.
fn meet(at: usize, processes: usize, nth: usize) {
    // SAFETY: the shared page outlives the processes, and is touched through atomics only.
    let come = unsafe { &*(at as *const AtomicUsize) };
    come.fetch_add(1, Ordering::AcqRel);
    let mut turns = 0;
    while come.load(Ordering::Acquire) < processes * nth {
        pause(turns);
        turns = turns.wrapping_add(1);
        if turns % 4096 == 0 {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}
