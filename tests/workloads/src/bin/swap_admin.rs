//! swapon and swapoff where the disk does not do its part. `swap_admin refused`: it cannot be read; nothing is lost by trying.
//! `swap_admin dead`: it stops answering; swapoff says so. `swap_admin needed`: advice about terabytes comes back soon. Without an area or
//! a disk at /dev/vda there is nothing to do.

use std::io;
use std::time::{Duration, Instant};

use quire_workloads::large::{Large, MIB, stamp};
use quire_workloads::process::{Ended, fork};
use quire_workloads::{Area, PAGE, check, ok, violated};

const DISK: &std::ffi::CStr = c"/dev/vda";
const TERA: usize = 1 << 40;
const TRIES: u64 = 300;

fn main() {
    let here = std::path::Path::new("/proc/quire").exists();
    match std::env::args().nth(1).as_deref() {
        Some("refused") if here => refused(),
        Some("dead") if here => dead(),
        Some("needed") => needed(),
        _ if !here => {}
        other => violated(format_args!("{other:?} is nothing that can be tried")),
    }
    ok();
}

fn call(number: libc::c_long) -> io::Result<()> {
    // SAFETY: a path and a zero.
    match unsafe { libc::syscall(number, DISK.as_ptr(), 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn free_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    text.lines().find_map(|l| l.strip_prefix("MemFree:")?.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0) / 4
}

fn refused() {
    let swapon = || {
        let result = call(libc::SYS_swapon);
        let unread = matches!(&result, Err(error) if error.raw_os_error() == Some(libc::EIO));
        check!(unread, "swapon of a disk that cannot be read: {result:?}");
    };
    (0..20).for_each(|_| swapon());
    let before = free_memory();
    (0..TRIES).for_each(|_| swapon());
    let lost = before.saturating_sub(free_memory());
    check!(lost < TRIES / 2, "{TRIES} refused swapons cost {lost} pages");
}

/// What the child fills: more than memory and what the disk takes before it dies, together.
const FILLED: usize = 90 * MIB;

/// A child fills memory until the disk has died over it; then the area cannot be emptied.
fn dead() {
    // This process needs no disk.
    // SAFETY: a system call on a value.
    unsafe { libc::mlockall(libc::MCL_CURRENT) };
    let child = fork(|| {
        let all = Large::new(FILLED);
        (0..FILLED).for_each(|page| all.fill(page, stamp(page, 1)));
        0
    });
    let ended = child.wait();
    check!(ended != Ended::Exited(0), "everything fitted");
    let start = Instant::now();
    let result = call(libc::SYS_swapoff);
    check!(start.elapsed() < Duration::from_secs(60), "swapoff took {:?}", start.elapsed());
    check!(result.is_err(), "swapoff of a dead disk");
}

fn needed() {
    let flags = libc::MAP_PRIVATE | libc::MAP_NORESERVE;
    let area = Area::mapped(0, 32 * TERA / PAGE, libc::PROT_READ | libc::PROT_WRITE, flags);
    for page in [0, 5 * TERA / PAGE, 32 * TERA / PAGE - 1] {
        area.fill(page..page + 1, page as u64);
    }
    let start = Instant::now();
    // SAFETY: advice about the program's own memory.
    let result = unsafe { libc::madvise(area.address(0) as *mut _, 32 * TERA, libc::MADV_WILLNEED) };
    check!(result == 0, "MADV_WILLNEED: {}", io::Error::last_os_error());
    check!(start.elapsed() < Duration::from_secs(20), "MADV_WILLNEED took {:?}", start.elapsed());
    for page in [0, 5 * TERA / PAGE, 32 * TERA / PAGE - 1] {
        area.expect(page..page + 1, page as u64, "a page after advice");
    }
}
