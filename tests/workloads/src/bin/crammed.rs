//! Small things that the kernel keeps for programs, until there is no more room for them: directories, links, and the interests of
//! sets of descriptors; with `selects`, what select keeps of a million. Whoever asks for more is told so, and the machine goes on.
//!
//! Not for a machine with other work: the kernel's heap stays as large as it has become.

use std::fs;
use std::io::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use quire_workloads::{Area, check, ok};

const MOST: usize = 400_000;

fn main() {
    if std::env::args().nth(1).is_some_and(|what| what == "selects") {
        return selects();
    }
    check!(fs::create_dir("/tmp/crammed").is_ok(), "no directory");
    for (what, one) in [("directories", directory as fn(usize) -> i32), ("links", link), ("interests", interest)] {
        let refused = (0..MOST).map(one).enumerate().find(|(_, error)| *error != 0);
        let (count, error) = refused.unwrap_or((MOST, 0));
        check!(count > 1000, "only {count} {what}: error {error}");
        check!(matches!(error, 0 | libc::ENOSPC | libc::ENOMEM), "{what}: error {error}");
        let area = Area::new(500);
        area.fill(0..500, 9);
        area.expect(0..500, 9, what);
        // SAFETY: what is open was opened by `interest`, which is done.
        unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
        check!(
            fs::remove_dir_all("/tmp/crammed").is_ok() && fs::create_dir("/tmp/crammed").is_ok(),
            "{what} do not go"
        );
    }
    check!(fs::remove_dir("/tmp/crammed").is_ok(), "the directory does not go");
    ok();
}

fn errno() -> i32 {
    Error::last_os_error().raw_os_error().unwrap_or(0)
}

fn directory(n: usize) -> i32 {
    fs::create_dir(format!("/tmp/crammed/{n:0200}")).err().and_then(|e| e.raw_os_error()).unwrap_or(0)
}

fn link(n: usize) -> i32 {
    let made = std::os::unix::fs::symlink("x/".repeat(2000), format!("/tmp/crammed/{n}"));
    made.err().and_then(|e| e.raw_os_error()).unwrap_or(0)
}

/// Each descriptor of a few hundred in each set of many.
fn interest(n: usize) -> i32 {
    const COUNTERS: usize = 500;
    static SETS: std::sync::Mutex<Vec<Vec<i32>>> = std::sync::Mutex::new(Vec::new());
    let Ok(mut sets) = SETS.lock() else { return libc::EIO };
    if sets.is_empty() {
        // SAFETY: makes descriptors, which stay open on purpose.
        sets.push((0..COUNTERS).map(|_| unsafe { libc::eventfd(0, 0) }).collect());
        sets.push(Vec::new());
    }
    if n.is_multiple_of(COUNTERS) {
        // SAFETY: as above.
        match unsafe { libc::epoll_create1(0) } {
            -1 if errno() == libc::EMFILE => return libc::ENOSPC,
            -1 => return errno(),
            set => sets[1].push(set),
        }
    }
    let (set, counter) = (sets[1].last().copied().unwrap_or(-1), sets[0][n % COUNTERS]);
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
    // SAFETY: the event lives through the call.
    if unsafe { libc::epoll_ctl(set, libc::EPOLL_CTL_ADD, counter, &raw mut event) } == 0 { 0 } else { errno() }
}

/// Threads that wait at once for each of a million descriptors.
fn selects() {
    const DESCRIPTORS: usize = 1_000_000;
    const THREADS: usize = 8;
    static READY: AtomicUsize = AtomicUsize::new(0);
    let limit = libc::rlimit { rlim_cur: DESCRIPTORS as u64, rlim_max: DESCRIPTORS as u64 };
    // SAFETY: the limit is readable; makes a descriptor, which stays open on purpose.
    let never = unsafe {
        check!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) == 0, "not so many descriptors");
        libc::eventfd(0, 0)
    };
    let wait = || {
        let mut set = vec![u64::MAX; DESCRIPTORS / 64];
        // Not the streams.
        set[0] &= !7;
        READY.fetch_add(1, Ordering::Relaxed);
        while READY.load(Ordering::Relaxed) < THREADS + 1 {
            thread::yield_now();
        }
        let (none, now) = (std::ptr::null_mut(), &mut libc::timeval { tv_sec: 0, tv_usec: 0 });
        // SAFETY: the set has a bit for each of them; both live through the call.
        let found = unsafe { libc::select(DESCRIPTORS as i32, set.as_mut_ptr().cast(), none, none, now) };
        check!(found == 0 || errno() == libc::ENOMEM, "select: {found}, {}", errno());
    };
    let threads: Vec<_> = (0..THREADS).map(|_| thread::spawn(wait)).collect();
    for to in (3..DESCRIPTORS as i32).filter(|to| *to != never) {
        // SAFETY: as above.
        check!(unsafe { libc::dup2(never, to) } == to, "no descriptor {to}");
    }
    READY.fetch_add(1, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| check!(thread.join().is_ok(), "a thread fails"));
    ok();
}
