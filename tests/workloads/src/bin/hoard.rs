//! Programs that hoard what the kernel keeps for them: pipes full of bytes, descriptors, threads, processes, files in memory. Each is
//! told that there is no more, or ended; what it had is free again for the next one.

use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use quire_workloads::process::{Ended, fork, no_core_files, try_fork};
use quire_workloads::{Area, Budget, check, ok, violated};

/// Kept so low that the program stays polite on a machine with much memory.
const PIPES: usize = 1000;
const COUNTERS: usize = 20_000;
const THREADS: usize = 2000;
const PROCESSES: usize = 400;

fn main() {
    no_core_files();
    for _ in Budget::from_arguments(1).rounds() {
        files();
        for (what, hoarder) in
            [("pipes", pipes as fn()), ("counters", counters), ("threads", threads), ("processes", processes)]
        {
            let _ = fork(|| {
                // What the hoarder starts ends with it.
                // SAFETY: no memory is involved.
                unsafe { libc::setpgid(0, 0) };
                many_descriptors();
                hoarder();
                // SAFETY: as above; nobody handles the signal.
                unsafe { libc::kill(0, libc::SIGKILL) };
                0
            })
            .wait();
            let next = || {
                let area = Area::new(4000);
                area.fill(0..4000, 9);
                area.expect(0..4000, 9, "memory after a hoarder");
                0
            };
            check!(fork(next).wait() == Ended::Exited(0), "nothing is left after {what}");
        }
    }
    ok();
}

/// A file system in memory takes half of the memory and no more. Only where /tmp is one that nobody else uses.
fn files() {
    if !std::path::Path::new("/proc/quire").exists() {
        return;
    }
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total =
        memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok());
    let half = total.unwrap_or(0) / 2 / 4;
    for round in 0..2 {
        let Ok(file) = std::fs::File::create("/tmp/hoard") else { violated(format_args!("no file in /tmp")) };
        // A byte for each page.
        let full =
            (0..2 * half).map(|page| (page, file.write_all_at(&[7], page * 4096))).find(|(_, result)| result.is_err());
        let Some((pages, Err(error))) = full else { violated(format_args!("{half} pages are half, and all fit")) };
        check!(error.raw_os_error() == Some(libc::ENOSPC), "a full /tmp: {error}");
        check!(pages * 10 > half * 9 && pages <= half + 1, "round {round}: {pages} pages of {half} fit into /tmp");
        let len = file.metadata().map_or(0, |m| m.len());
        check!(len <= pages * 4096, "a file of {len} bytes after {pages} pages");
        // What is not in /tmp has room.
        let area = Area::new(1000);
        area.fill(0..1000, 9);
        area.expect(0..1000, 9, "memory beside a full /tmp");
        check!(file.set_len((pages - 2 * PASSING) * 4096).is_ok(), "the file does not become shorter");
        (0..40).for_each(passing);
        check!(std::fs::remove_file("/tmp/hoard").is_ok(), "the file does not go");
    }
}

/// Pages of a file that comes and goes.
const PASSING: u64 = 256;

/// A file that is written, mapped and gone again. What the kernel frees of it later, in its own time, must not count against the next.
fn passing(turn: u64) {
    let Ok(file) = std::fs::File::options().read(true).write(true).create(true).truncate(true).open("/tmp/passing")
    else {
        violated(format_args!("no file in /tmp"))
    };
    let bytes = vec![turn as u8; PASSING as usize * 4096];
    let refused = file.write_all_at(&bytes, 0);
    check!(refused.is_ok(), "turn {turn}: {refused:?} with room for two in /tmp");
    let view = || {
        let (rights, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping, which nobody else knows, of as many bytes as the file has; it is gone before anybody looks for it.
        unsafe {
            let at = libc::mmap(std::ptr::null_mut(), bytes.len(), rights, shared, file.as_raw_fd(), 0);
            check!(at != libc::MAP_FAILED, "no mapping of a file in /tmp");
            at.cast::<u8>().write_bytes(turn as u8 + 1, bytes.len());
            libc::munmap(at, bytes.len());
        }
    };
    view();
    let removed = std::fs::remove_file("/tmp/passing");
    check!(removed.is_ok(), "the file does not go: {removed:?}");
}

fn many_descriptors() {
    let limit = libc::rlimit { rlim_cur: 30_000, rlim_max: 30_000 };
    // SAFETY: the limit is readable.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
}

fn pipes() {
    for _ in 0..PIPES {
        let mut ends = [0; 2];
        // SAFETY: there is room for two descriptors.
        if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK) } != 0 {
            return;
        }
        // SAFETY: they were just made; the reading end stays open on purpose.
        let mut writer = std::fs::File::from(unsafe { OwnedFd::from_raw_fd(ends[1]) });
        let _ = writer.write(&[1; 65_536]);
        let _ = writer.into_raw_fd();
    }
}

fn counters() {
    for _ in 0..COUNTERS {
        // SAFETY: makes a descriptor, which stays open on purpose.
        if unsafe { libc::eventfd(0, 0) } < 0 {
            return;
        }
    }
}

fn threads() {
    for _ in 0..THREADS {
        if std::thread::Builder::new().stack_size(16 << 10).spawn(std::thread::park).is_err() {
            return;
        }
    }
}

fn processes() {
    for _ in 0..PROCESSES {
        let sleep = || loop {
            // SAFETY: waits for a signal.
            unsafe { libc::pause() };
        };
        if try_fork(sleep).is_err() {
            return;
        }
    }
}
