//! Copies that the kernel makes between files, pipes and sockets: sendfile and copy_file_range. And what maps and scheduling calls
//! tell of files and threads.

use std::fs::{File, OpenOptions, read_to_string, remove_file};
use std::io::{Read, Seek, SeekFrom, Write, pipe};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::ptr::null_mut;
use std::thread;

use quire_workloads::{Budget, check, ok, violated};

const LEN: usize = 150_000;

fn open(path: &str) -> File {
    match OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path) {
        Ok(file) => file,
        Err(error) => violated(format_args!("{path}: {error}")),
    }
}

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

fn sendfile(to: &impl AsRawFd, from: &impl AsRawFd, at: Option<&mut i64>, count: usize) -> isize {
    let at = at.map_or(null_mut(), |at| at as *mut i64);
    // SAFETY: the position lives through the call.
    unsafe { libc::sendfile(to.as_raw_fd(), from.as_raw_fd(), at, count) }
}

fn copy(from: &File, at: &mut i64, to: &File, behind: &mut i64, count: usize) -> isize {
    // SAFETY: the positions live through the call.
    unsafe { libc::copy_file_range(from.as_raw_fd(), at, to.as_raw_fd(), behind, count, 0) }
}

/// Copies from a file to one, to a pipe that is smaller, and to a socket.
fn everywhere(from: &mut File, to: &mut File, bytes: &[u8]) {
    let mut at = 7;
    check!(sendfile(to, from, Some(&mut at), 100) == 100 && at == 107, "{at} after 100 bytes");
    check!(from.stream_position().is_ok_and(|at| at == 0), "a position of one's own moves the file's");
    check!(sendfile(to, from, None, 2 * LEN) == LEN as isize, "not the rest of the file");
    check!(from.stream_position().is_ok_and(|at| at == LEN as u64), "the file's position stays");
    check!(sendfile(to, from, None, 10) == 0, "bytes behind the end");
    let mut all = Vec::new();
    check!(to.seek(SeekFrom::Start(0)).is_ok() && to.read_to_end(&mut all).is_ok(), "not read");
    check!(all[..100] == bytes[7..107] && all[100..] == *bytes, "another content");
    let Ok((mut reader, writer)) = pipe() else { violated(format_args!("no pipe")) };
    let Ok((here, mut there)) = UnixStream::pair() else { violated(format_args!("no pair")) };
    let send = |to: &dyn AsRawFd| {
        let mut at = 0;
        while at < LEN as i64 {
            let left = LEN - at as usize;
            let n = sendfile(&to.as_raw_fd(), from, Some(&mut at), left);
            check!(n > 0, "{n} bytes at {at}: {}", errno());
        }
    };
    thread::scope(|scope| {
        let mut got = vec![0; LEN];
        let sender = scope.spawn(|| {
            send(&writer);
            send(&here);
        });
        check!(reader.read_exact(&mut got).is_ok() && got == bytes, "another content through a pipe");
        check!(there.read_exact(&mut got).is_ok() && got == bytes, "another content through a socket");
        check!(sender.join().is_ok(), "the sender fails");
    });
    check!(sendfile(to, &reader, None, 10) == -1 && errno() == libc::EINVAL, "from a pipe");
    check!(sendfile(to, from, Some(&mut -1), 10) == -1 && errno() == libc::EINVAL, "before the file");
}

fn ranges(from: &File, to: &File, bytes: &[u8]) {
    let (mut at, mut behind) = (50_000, 3);
    check!(to.set_len(0).is_ok(), "not cut");
    check!(copy(from, &mut at, to, &mut behind, 60_000) == 60_000, "not copied");
    check!((at, behind) == (110_000, 60_003), "positions {at} and {behind}");
    let mut got = vec![0; 60_003];
    check!(to.read_exact_at(&mut got, 0).is_ok() && got[..3] == [0; 3], "not read");
    check!(got[3..] == bytes[50_000..110_000], "another content");
    check!(copy(from, &mut { 0 }, from, &mut { 10 }, 100) == -1 && errno() == libc::EINVAL, "over itself");
    check!(copy(from, &mut { 0 }, from, &mut { LEN as i64 }, 10) == 10, "behind itself");
    check!(from.set_len(LEN as u64).is_ok(), "not cut");
}

/// Who reads maps finds the file, and that it is gone.
fn told(file: &File, path: &str) {
    // SAFETY: a fresh mapping, which nobody uses.
    let map = unsafe { libc::mmap(null_mut(), 4096, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
    check!(map != libc::MAP_FAILED, "not mapped");
    let has = |text: &str| read_to_string("/proc/self/maps").is_ok_and(|maps| maps.lines().any(|l| l.ends_with(text)));
    check!(has(path), "maps do not name the file");
    check!(remove_file(path).is_ok() && has(&format!("{path} (deleted)")), "maps do not say that it is gone");
    // A file that was opened for reading is never written through a shared mapping.
    let Ok(read_only) = File::open("/proc/self/exe") else { violated(format_args!("no program")) };
    // SAFETY: as above.
    unsafe {
        let map = libc::mmap(null_mut(), 4096, libc::PROT_READ, libc::MAP_SHARED, read_only.as_raw_fd(), 0);
        let wider = libc::mprotect(map, 4096, libc::PROT_READ | libc::PROT_WRITE);
        check!(wider == -1 && errno() == libc::EACCES, "a shared view of a file for reading becomes writable");
        let Ok(writable) = File::create(path) else { violated(format_args!("no file")) };
        check!(writable.set_len(4096).is_ok(), "no length");
        let Ok(only) = File::open(path) else { violated(format_args!("not opened")) };
        let map = libc::mmap(null_mut(), 4096, libc::PROT_READ, libc::MAP_SHARED, only.as_raw_fd(), 0);
        let wider = libc::mprotect(map, 4096, libc::PROT_READ | libc::PROT_WRITE);
        check!(wider == -1 && errno() == libc::EACCES, "a shared view of a file for reading becomes writable");
        libc::munmap(map, 4096);
    }
    // SAFETY: a mapping that nobody uses.
    unsafe { libc::munmap(map, 4096) };
    check!(remove_file(path).is_ok(), "the file does not go");
}

fn scheduling() {
    // SAFETY: asks for a number.
    let own = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    // Whoever runs this may be nice already.
    let nicer = (own + 7).min(19);
    let set = thread::spawn(move || {
        let none = libc::sched_param { sched_priority: 0 };
        // SAFETY: the parameter lives through the call; everything else is numbers.
        unsafe {
            check!(libc::setpriority(libc::PRIO_PROCESS, 0, nicer) == 0, "not nice");
            check!(libc::getpriority(libc::PRIO_PROCESS, 0) == nicer, "nice and forgotten");
            check!(libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const none) == 0, "no other policy");
            check!(libc::sched_getscheduler(0) == libc::SCHED_BATCH, "the policy is forgotten");
        }
    });
    check!(set.join().is_ok(), "the other thread fails");
    // SAFETY: as above.
    check!(unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) } == own, "another thread's nice value");
}

fn main() {
    let paths = ["from", "to"].map(|name| format!("/tmp/copies-{name}-{}", std::process::id()));
    let bytes: Vec<u8> = (0..LEN).map(|n| (n * 7 + n / 251) as u8).collect();
    for _ in Budget::from_arguments(5).rounds() {
        let (mut from, mut to) = (open(&paths[0]), open(&paths[1]));
        check!(from.write_all(&bytes).is_ok() && from.seek(SeekFrom::Start(0)).is_ok(), "not written");
        everywhere(&mut from, &mut to, &bytes);
        ranges(&from, &to, &bytes);
        told(&from, &paths[0]);
        check!(remove_file(&paths[1]).is_ok(), "the file does not go");
        scheduling();
    }
    ok();
}
