//! A disk that loses pages, or dies: who needs them gets SIGBUS, nobody else notices.
//!
//! `swap_lost [MIB] [CHILDREN] [LOST]`: so many children fill and verify so many MiB each; at least LOST of them must end by SIGBUS
//! (0: none may), and not all of them unless LOST says so. The parent's memory is locked, so it needs no disk.

use quire_workloads::large::{Large, MIB, argument, stamp};
use quire_workloads::process::{Ended, fork, no_core_files};
use quire_workloads::{check, ok};

fn main() {
    no_core_files();
    let (mib, children, expected) = (argument(1, 16), argument(2, 4), argument(3, 0));
    // SAFETY: a system call on values. Without the right to it (on a system with a low limit) nothing is lost but the lock.
    unsafe { libc::mlockall(libc::MCL_CURRENT) };
    let own = Large::new(MIB);
    let lock_own = own.advise(0, MIB, libc::MADV_NORMAL).and_then(|()| lock(own.address(0), MIB));
    (0..MIB).for_each(|page| own.fill(page, stamp(page, 77)));
    let running: Vec<_> = (0..children as u64).map(|seed| fork(move || work(mib * MIB, seed))).collect();
    let mut lost = 0;
    for child in running {
        match child.wait() {
            Ended::Exited(0) => {}
            Ended::Killed(libc::SIGBUS) => lost += 1,
            // Without a disk memory is short, too.
            Ended::Killed(libc::SIGKILL) if expected == children => lost += 1,
            other => check!(false, "a child: {other:?}"),
        }
        if lock_own.is_ok() {
            (0..MIB).for_each(|page| own.expect(page, stamp(page, 77), "locked memory"));
        }
    }
    eprintln!("{lost} of {children} children lost a page");
    // When all may be lost, those that the first ones made room for may yet end well.
    let least = if expected == children { 1 } else { expected };
    check!(lost >= least && (expected != 0 || lost == 0), "{lost} children lost a page, {least} should have");
    check!(lost < children || expected == children, "all {children} children lost a page");
    ok();
}

fn lock(address: usize, pages: usize) -> std::io::Result<()> {
    // SAFETY: the pages are the caller's.
    match unsafe { libc::mlock(address as *const _, pages * quire_workloads::PAGE) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

fn work(pages: usize, seed: u64) -> i32 {
    let area = Large::new(pages);
    (0..pages).for_each(|page| area.fill(page, stamp(page, seed)));
    for _ in 0..2 {
        (0..pages).for_each(|page| area.expect(page, stamp(page, seed), "that was not lost"));
    }
    0
}
