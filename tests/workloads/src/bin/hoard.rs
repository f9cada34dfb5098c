//! Programs that hoard what the kernel keeps for them: pipes full of bytes, descriptors, threads, processes. Each is told that
//! there is no more, or ended; what it had is free again for the next one.

use std::io::Write;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

use quire_workloads::process::{Ended, fork, no_core_files, try_fork};
use quire_workloads::{Area, Budget, check, ok};

/// Kept so low that the program stays polite on a machine with much memory.
const PIPES: usize = 1000;
const COUNTERS: usize = 20_000;
const THREADS: usize = 2000;
const PROCESSES: usize = 400;

fn main() {
    no_core_files();
    for _ in Budget::from_arguments(1).rounds() {
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
