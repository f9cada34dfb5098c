//! Names in directories: read while they are deleted, made and taken by many threads at once, nested deep.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use quire_workloads::{Budget, check, ok};

const FILES: usize = 2500;
const THREADS: usize = 4;
const RACES: usize = 150;
const DEEP: usize = 300;
const LOOKS: usize = 3000;

fn main() {
    let home = PathBuf::from(format!("/tmp/names-{}", std::process::id()));
    check!(fs::create_dir(&home).is_ok(), "no directory of our own");
    for _ in Budget::from_arguments(3).rounds() {
        deleted_while_read(&home.join("many"));
        jumps(&home.join("jumps"));
        races(&home);
        moved(&home.join("from"), &home.join("to"));
        deep(&home);
    }
    check!(fs::remove_dir(&home).is_ok(), "something is left");
    ok();
}

fn make(path: &Path) {
    check!(File::create(path).is_ok(), "no file {}", path.display());
}

/// Who deletes what it reads (`rm -r`) sees every entry once.
fn deleted_while_read(dir: &Path) {
    check!(fs::create_dir(dir).is_ok(), "no directory");
    (0..FILES).for_each(|n| make(&dir.join(format!("entry-{n:05}"))));
    let Ok(entries) = fs::read_dir(dir) else { quire_workloads::violated(format_args!("cannot be read")) };
    let mut seen = 0;
    for entry in entries {
        check!(entry.is_ok_and(|e| fs::remove_file(e.path()).is_ok()), "an entry that does not go");
        seen += 1;
    }
    check!(seen == FILES, "{seen} entries of {FILES} were read while they were deleted");
    check!(fs::remove_dir(dir).is_ok(), "a directory whose entries all went is not empty");
}

/// A position that was told leads back to where it was.
fn jumps(dir: &Path) {
    check!(fs::create_dir(dir).is_ok(), "no directory");
    (0..40).for_each(|n| make(&dir.join(format!("{n}"))));
    let path = CString::new(dir.to_string_lossy().as_bytes()).unwrap_or_default();
    // SAFETY: the stream is checked, used by this thread alone, and closed at the end; names are copied before the next read.
    unsafe {
        let stream = libc::opendir(path.as_ptr());
        check!(!stream.is_null(), "not opened");
        let name = || {
            let entry = libc::readdir(stream);
            if entry.is_null() { None } else { Some(std::ffi::CStr::from_ptr((*entry).d_name.as_ptr()).to_owned()) }
        };
        let first: Vec<_> = (0..10).map(|_| name()).collect();
        let place = libc::telldir(stream);
        let rest: Vec<_> = std::iter::from_fn(name).collect();
        check!(first.iter().all(Option::is_some) && first.len() + rest.len() == 42, "{} + {}", first.len(), rest.len());
        libc::seekdir(stream, place);
        check!(std::iter::from_fn(name).collect::<Vec<_>>() == rest, "another rest after a jump");
        libc::rewinddir(stream);
        check!((0..10).map(|_| name()).collect::<Vec<_>>() == first, "another beginning");
        libc::closedir(stream);
    }
    check!(fs::remove_dir_all(dir).is_ok(), "does not go");
}

/// Where an open file is, is known while it moves to and fro, and changes places with another.
fn moved(from: &Path, to: &Path) {
    check!(fs::create_dir(from).is_ok() && fs::create_dir(to).is_ok(), "no directories");
    let (here, there) = (from.join("name"), to.join("name"));
    make(&here);
    let Ok(file) = File::open(&here) else { quire_workloads::violated(format_args!("not opened")) };
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    let done = AtomicUsize::new(0);
    let [a, b] = [&here, &there].map(|p| CString::new(p.to_string_lossy().as_bytes()).unwrap_or_default());
    thread::scope(|scope| {
        scope.spawn(|| {
            while done.load(Ordering::Relaxed) == 0 {
                check!(fs::rename(&here, &there).is_ok(), "does not move");
                make(&here);
                // SAFETY: the names live through the call.
                let exchanged = unsafe {
                    libc::syscall(libc::SYS_renameat2, libc::AT_FDCWD, a.as_ptr(), libc::AT_FDCWD, b.as_ptr(), 2)
                };
                check!(exchanged == 0 && fs::remove_file(&there).is_ok(), "does not change places");
            }
        });
        for _ in 0..LOOKS {
            let said = fs::read_link(&link).unwrap_or_default();
            check!(said == here || said == there, "an open file is said to be at {}", said.display());
        }
        done.store(1, Ordering::Relaxed);
    });
    check!(fs::remove_dir_all(from).is_ok() && fs::remove_dir_all(to).is_ok(), "does not go");
}

/// Of several threads that make a file that must be new, or delete or rename one, one succeeds.
fn races(home: &Path) {
    let (path, other) = (home.join("lock"), home.join("other"));
    let (made, gone, moved) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let gate = Barrier::new(THREADS);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for round in 0..RACES {
                    gate.wait();
                    let error = match OpenOptions::new().write(true).create_new(true).open(&path) {
                        Ok(_) => {
                            made.fetch_add(1, Ordering::Relaxed);
                            None
                        }
                        Err(error) => Some(error),
                    };
                    check!(error.is_none_or(|e| e.kind() == ErrorKind::AlreadyExists), "another error");
                    gate.wait();
                    moved.fetch_add(usize::from(fs::rename(&path, &other).is_ok()), Ordering::Relaxed);
                    gate.wait();
                    gone.fetch_add(usize::from(fs::remove_file(&other).is_ok()), Ordering::Relaxed);
                    gate.wait();
                    let all = [&made, &moved, &gone].map(|n| n.load(Ordering::Relaxed));
                    check!(all == [round + 1; 3], "round {round}: made, moved, deleted {all:?}");
                }
            });
        }
    });
}

/// A deep tree is made step by step, and deleted from below.
fn deep(home: &Path) {
    check!(std::env::set_current_dir(home).is_ok(), "no way home");
    for _ in 0..DEEP {
        check!(fs::create_dir("d").is_ok() && std::env::set_current_dir("d").is_ok(), "a step does not go");
    }
    make(Path::new("f"));
    check!(fs::remove_file("f").is_ok(), "the file below does not go");
    for _ in 0..DEEP {
        check!(std::env::set_current_dir("..").is_ok() && fs::remove_dir("d").is_ok(), "a step does not go back");
    }
    check!(std::env::set_current_dir("/").is_ok(), "no root");
}
