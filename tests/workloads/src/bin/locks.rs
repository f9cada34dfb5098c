//! Locks on files: whole ones and ranges, between processes and between open files of one process.
//!
//! Without them the counter in the file loses steps.

use std::fs::{File, OpenOptions, remove_file};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::Duration;

use quire_workloads::process::{Ended, Pipe, fork};
use quire_workloads::{Budget, check, ok};

const CHILDREN: u64 = 4;
const STEPS: u64 = 60;

fn main() {
    let path = format!("/tmp/locks-{}", std::process::id());
    let open = || match OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path) {
        Ok(file) => file,
        Err(error) => quire_workloads::violated(format_args!("{path}: {error}")),
    };
    for _ in Budget::from_arguments(3).rounds() {
        let file = open();
        count(&file, "flock", &open, |f| flock(f, libc::LOCK_EX), |f| flock(f, libc::LOCK_UN));
        let all = |f: &File, kind: i32| fcntl(f, libc::F_SETLKW, kind, 0, 0);
        count(&file, "F_SETLKW", &open, |f| all(f, libc::F_WRLCK), |f| all(f, libc::F_UNLCK));
        let own = |f: &File, kind: i32| fcntl(f, libc::F_OFD_SETLKW, kind, 100, 10);
        count(&file, "F_OFD_SETLKW", &open, |f| own(f, libc::F_WRLCK), |f| own(f, libc::F_UNLCK));
        whole(&file, &open());
        ranges(&file, &open);
    }
    check!(remove_file(&path).is_ok(), "the file does not go");
    ok();
}

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// 0, or the error.
fn flock(file: &File, operation: i32) -> i32 {
    // SAFETY: no memory is involved.
    if unsafe { libc::flock(file.as_raw_fd(), operation) } == 0 { 0 } else { errno() }
}

fn lock_of(kind: i32, start: i64, len: i64) -> libc::flock {
    // SAFETY: all zeros are a value of this structure.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    (lock.l_type, lock.l_whence) = (kind as i16, libc::SEEK_SET as i16);
    (lock.l_start, lock.l_len) = (start, len);
    lock
}

/// 0, or the error.
fn fcntl(file: &File, command: i32, kind: i32, start: i64, len: i64) -> i32 {
    let lock = lock_of(kind, start, len);
    // SAFETY: the lock lives through the call.
    if unsafe { libc::fcntl(file.as_raw_fd(), command, &raw const lock) } == 0 { 0 } else { errno() }
}

/// What is in the way of an exclusive lock: kind, first byte, length, process.
fn in_the_way(file: &File, start: i64, len: i64) -> (i32, i64, i64, i32) {
    let mut lock = lock_of(libc::F_WRLCK, start, len);
    // SAFETY: the lock lives through the call.
    check!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLK, &raw mut lock) } == 0, "F_GETLK");
    (i32::from(lock.l_type), lock.l_start, lock.l_len, lock.l_pid)
}

/// Several processes count in a file, each step under the lock.
fn count(file: &File, what: &str, open: &dyn Fn() -> File, lock: impl Fn(&File) -> i32, unlock: impl Fn(&File) -> i32) {
    check!(file.write_all_at(&0u64.to_ne_bytes(), 0).is_ok(), "not written");
    let children: Vec<_> = (0..CHILDREN)
        .map(|_| {
            fork(|| {
                let mine = open();
                for _ in 0..STEPS {
                    let mut bytes = [0; 8];
                    if lock(&mine) != 0 || mine.read_exact_at(&mut bytes, 0).is_err() {
                        return 1;
                    }
                    thread::yield_now();
                    let more = u64::from_ne_bytes(bytes) + 1;
                    if mine.write_all_at(&more.to_ne_bytes(), 0).is_err() || unlock(&mine) != 0 {
                        return 2;
                    }
                }
                0
            })
        })
        .collect();
    children.into_iter().for_each(|child| check!(child.wait() == Ended::Exited(0), "{what}: a child fails"));
    let mut bytes = [0; 8];
    check!(file.read_exact_at(&mut bytes, 0).is_ok(), "not read");
    let counted = u64::from_ne_bytes(bytes);
    check!(counted == CHILDREN * STEPS, "{what}: {counted} steps of {}", CHILDREN * STEPS);
}

/// flock: shared by several, exclusive for one, gone with the last descriptor of its open file.
fn whole(a: &File, b: &File) {
    let no_wait = |f: &File, operation: i32| flock(f, operation | libc::LOCK_NB);
    check!(no_wait(a, libc::LOCK_SH) == 0 && no_wait(b, libc::LOCK_SH) == 0, "two cannot share");
    check!(no_wait(a, libc::LOCK_EX) == libc::EAGAIN, "exclusive although shared");
    check!(no_wait(b, libc::LOCK_EX) == 0, "who asked in vain kept its lock");
    check!(no_wait(a, libc::LOCK_SH) == libc::EAGAIN, "shared although exclusive");
    let child = fork(|| no_wait(b, libc::LOCK_EX));
    check!(child.wait() == Ended::Exited(0), "a lock is not the child's too");
    check!(no_wait(b, libc::LOCK_UN) == 0 && no_wait(a, libc::LOCK_EX) == 0, "not given back");
    check!(flock(a, 77) == libc::EINVAL, "a strange operation");
    let Ok(copy) = a.try_clone() else { quire_workloads::violated(format_args!("no copy of a descriptor")) };
    drop(copy);
    check!(no_wait(b, libc::LOCK_EX) == libc::EAGAIN, "gone with a copy");
    check!(flock(a, libc::LOCK_UN) == 0, "not given back");
}

/// An open file's own locks are told to who asks so: with F_UNLCK.
fn own(file: &File) {
    let told = |command: i32, start: i64, len: i64| {
        let mut lock = lock_of(libc::F_UNLCK, start, len);
        // SAFETY: the lock lives through the call.
        let done = unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut lock) };
        if done == 0 { Ok((i32::from(lock.l_type), lock.l_start, lock.l_len, lock.l_pid)) } else { Err(errno()) }
    };
    check!(told(libc::F_GETLK, 0, 0) == Err(libc::EINVAL), "a process's are not told");
    for start in [20, 10] {
        check!(fcntl(file, libc::F_OFD_SETLK, libc::F_WRLCK, start, 5) == 0, "no lock");
    }
    check!(told(libc::F_OFD_GETLK, 0, 0) == Ok((libc::F_WRLCK, 10, 5, -1)), "the first of two is not told");
    check!(told(libc::F_OFD_GETLK, 12, 9) == Ok((libc::F_WRLCK, 10, 5, -1)), "one that begins before is not told");
    check!(told(libc::F_OFD_GETLK, 16, 9) == Ok((libc::F_WRLCK, 20, 5, -1)), "the second is not told");
    check!(told(libc::F_OFD_GETLK, 15, 5).is_ok_and(|found| found.0 == libc::F_UNLCK), "one is told where none is");
    check!(fcntl(file, libc::F_OFD_SETLK, libc::F_UNLCK, 0, 0) == 0, "not given back");
}

/// fcntl: ranges split and join, belong to the process, and go when it closes any descriptor of the file.
fn ranges(file: &File, open: &dyn Fn() -> File) {
    own(file);
    let me = std::process::id() as i32;
    let other = |what: &'static str, expected: (i32, i64, i64, i32), start: i64, len: i64| {
        let child = fork(|| {
            let found = in_the_way(file, start, len);
            check!(found == expected, "{what}: {found:?} instead of {expected:?}");
            0
        });
        check!(child.wait() == Ended::Exited(0), "{what}");
    };
    check!(fcntl(file, libc::F_SETLK, libc::F_WRLCK, 100, 100) == 0, "no lock");
    other("one", (libc::F_WRLCK, 100, 100, me), 0, 0);
    check!(fcntl(file, libc::F_SETLK, libc::F_UNLCK, 140, 20) == 0, "no hole");
    other("before the hole", (libc::F_WRLCK, 100, 40, me), 0, 0);
    other("behind the hole", (libc::F_WRLCK, 160, 40, me), 140, 0);
    let hole = fork(|| fcntl(file, libc::F_SETLK, libc::F_WRLCK, 140, 20));
    check!(hole.wait() == Ended::Exited(0), "the hole is taken");
    let over = fork(|| fcntl(file, libc::F_SETLK, libc::F_RDLCK, 139, 2));
    check!(over.wait() == Ended::Exited(libc::EAGAIN), "a lock over another");
    check!(fcntl(file, libc::F_SETLK, libc::F_WRLCK, 140, 20) == 0, "the hole stays");
    other("joined", (libc::F_WRLCK, 100, 100, me), 0, 0);
    check!(fcntl(file, libc::F_SETLK, libc::F_RDLCK, 0, 0) == 0, "not widened and shared");
    other("for ever", (libc::F_RDLCK, 0, 0, me), 500, 1);
    check!(fcntl(file, libc::F_SETLK, libc::F_WRLCK, -1, 1) == libc::EINVAL, "before the file");
    check!(flock(file, libc::LOCK_EX | libc::LOCK_NB) == 0, "the two kinds see each other");
    check!(flock(file, libc::LOCK_UN) == 0, "not given back");
    // Any descriptor will do.
    drop(open());
    let gone = fork(|| i32::from(in_the_way(file, 0, 0).0 != libc::F_UNLCK));
    check!(gone.wait() == Ended::Exited(0), "a lock is left after a descriptor was closed");
    // A child that ends leaves none behind; who waits gets it then.
    let held = Pipe::new();
    let holder = fork(|| {
        let got = fcntl(file, libc::F_SETLK, libc::F_WRLCK, 7, 1);
        held.send(1);
        thread::sleep(Duration::from_millis(20));
        got
    });
    check!(held.wait_for_byte(), "the holder has ended");
    check!(fcntl(file, libc::F_SETLKW, libc::F_WRLCK, 0, 10) == 0, "not waited for");
    check!(holder.wait() == Ended::Exited(0), "the holder fails");
    check!(fcntl(file, libc::F_SETLK, libc::F_UNLCK, 0, 0) == 0, "not given back");
}
