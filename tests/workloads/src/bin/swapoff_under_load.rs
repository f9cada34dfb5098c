//! swapoff and swapon while programs use what is in the area: everything comes back, or ENOMEM and nothing is lost.
//!
//! `swapoff_under_load [MIB] [ROUNDS]`. Without /dev/vda as an area in use (on a system without one, or without the right to),
//! the programs run all the same. Races 22, 24, 33.

use std::io;
use std::time::Duration;

use quire_workloads::large::{Large, MIB, argument, stamp};
use quire_workloads::process::{Pipe, fork};
use quire_workloads::{check, ok};

const DISK: &std::ffi::CStr = c"/dev/vda";

fn main() {
    let (mib, rounds) = (argument(1, 24), argument(2, 3));
    let here = std::fs::read_to_string("/proc/swaps").is_ok_and(|text| text.contains("/dev/vda"));
    let end = Pipe::new();
    let programs: Vec<_> = (0..2u64)
        .map(|seed| {
            let (reader, writer) = (end.reader(), end.writer());
            fork(move || {
                // SAFETY: the descriptor is this process's copy.
                unsafe { libc::close(writer) };
                program(mib, seed, reader)
            })
        })
        .collect();
    // More than memory, so that swapoff has to say no.
    let all = if here { free_memory() + MIB } else { MIB };
    let mine = Large::new(all);
    for round in 0..rounds as u64 {
        for page in 0..all {
            mine.fill(page, stamp(page, round));
        }
        if here {
            let refused = swapoff();
            check!(
                matches!(&refused, Err(error) if error.raw_os_error() == Some(libc::ENOMEM)),
                "swapoff of more than memory holds: {refused:?}"
            );
        }
        for page in 0..all {
            mine.expect(page, stamp(page, round), "after swapoff was refused");
        }
        // SAFETY: the pages are this program's, and are filled again in the next round.
        unsafe { libc::madvise(mine.address(0) as *mut _, all * quire_workloads::PAGE, libc::MADV_DONTNEED) };
        if here {
            // The programs fit into memory, but not always at this moment.
            let mut tries = 0;
            while let Err(error) = swapoff() {
                check!(error.raw_os_error() == Some(libc::ENOMEM) && tries < 200, "swapoff: {error}");
                std::thread::sleep(Duration::from_millis(20));
                tries += 1;
            }
            let text = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
            check!(text.lines().count() == 1, "/proc/swaps after swapoff: {text}");
            let again = swapoff();
            let is_closed = matches!(&again, Err(error) if error.raw_os_error() == Some(libc::EINVAL));
            check!(is_closed, "a second swapoff: {again:?}");
            std::thread::sleep(Duration::from_millis(20));
            // SAFETY: the path is a NUL-terminated string.
            let on = unsafe { libc::swapon(DISK.as_ptr(), 0) };
            check!(on == 0, "swapon: {}", io::Error::last_os_error());
            // SAFETY: as above.
            let twice = unsafe { libc::swapon(DISK.as_ptr(), 0) };
            let busy = io::Error::last_os_error().raw_os_error() == Some(libc::EBUSY);
            check!(twice == -1 && busy, "a second swapon: {}", io::Error::last_os_error());
        }
    }
    drop(end);
    programs.into_iter().for_each(|child| child.expect_success("a program whose pages came back"));
    ok();
}

fn swapoff() -> io::Result<()> {
    // SAFETY: the path is a NUL-terminated string.
    match unsafe { libc::swapoff(DISK.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Pages that the machine has.
fn free_memory() -> usize {
    // SAFETY: the structure is plain numbers and lives through the call.
    unsafe {
        let mut info: libc::sysinfo = std::mem::zeroed();
        libc::sysinfo(&raw mut info);
        (info.totalram as usize * info.mem_unit as usize) / quire_workloads::PAGE
    }
}

fn program(mib: usize, seed: u64, end: i32) -> i32 {
    let area = Large::new(mib / 2 * MIB);
    let n = area.pages();
    (0..n).for_each(|page| area.fill(page, stamp(page, seed)));
    let mut round = seed;
    // SAFETY: plain numbers, alive through the call.
    while unsafe { libc::poll(&mut libc::pollfd { fd: end, events: libc::POLLIN, revents: 0 }, 1, 0) } == 0 {
        let _ = area.advise(0, n / 2, libc::MADV_PAGEOUT);
        for page in 0..n {
            area.expect(page, stamp(page, round), "while the area comes and goes");
            area.fill(page, stamp(page, round + 1));
        }
        round += 1;
        let child = fork(|| {
            (0..n).step_by(5).for_each(|page| area.expect(page, stamp(page, round), "in a child"));
            0
        });
        child.expect_success("a child");
    }
    0
}
