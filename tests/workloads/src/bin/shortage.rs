//! Memory runs out by what is no page of a program: page tables, bytes in pipes, files without a name, files on their way through a
//! socket, processes that share one memory, a fork for which there is no room. Whoever has most is ended, and nobody else. And by what
//! stays when its maker has ended: segments of System V's, small files. Of that there is only so much.
//!
//! On a machine with much memory each stops by itself, so that the program stays polite there.

use std::fs;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::time::Instant;

use quire_workloads::area::READ_WRITE;
use quire_workloads::process::{Child, Ended, Pipe, clone_vm, fork, leave, no_core_files, try_fork};
use quire_workloads::{Area, Budget, PAGE, check, counters, ok};

const MIB: usize = 1 << 20;
/// The most bytes that one program takes, or half of them.
const POLITE: usize = 96 * MIB;
/// What one page table maps.
const SPARSE: usize = 2 * MIB;
const SHARERS: usize = 100;
const ADJ: &str = "/proc/self/oom_score_adj";

fn main() {
    no_core_files();
    for _ in Budget::from_arguments(1).rounds() {
        adjustment();
        weight_of_descriptors();
        a_thread_with_descriptors_of_its_own();
        maps_without_room();
        let end = Pipe::new();
        let bystander = waiter(&end, 256);
        for (what, hog) in [("tables", tables as fn()), ("a file", memfd), ("sharers", sharers)] {
            let ended = hogging(hog).wait();
            check!(
                matches!(ended, Ended::Exited(0) | Ended::Killed(libc::SIGKILL)),
                "the one that takes all memory by {what}: {ended:?}"
            );
            after(what);
        }
        for (what, hog) in [("pipes", pipes as fn()), ("files on their way", travellers)] {
            // It stays with what it has: somebody else finds no memory.
            let full = Pipe::new();
            let ready = full.writer();
            let child = fork(|| {
                hog();
                // SAFETY: one byte from one byte; then waits for a signal.
                unsafe {
                    libc::write(ready, [1u8].as_ptr().cast(), 1);
                    loop {
                        libc::pause();
                    }
                }
            });
            // SAFETY: the descriptor is this process's, and the pipe is only read from now on.
            unsafe { libc::close(full.writer()) };
            full.wait_for_byte();
            std::mem::forget(full);
            after(what);
            child.kill();
            let ended = child.wait();
            check!(ended == Ended::Killed(libc::SIGKILL), "the one with {what}: {ended:?}");
        }
        segments();
        small_files();
        wide_fork();
        killed_in_between();
        order();
        drop(end);
        bystander.expect_success("a bystander");
    }
    ok();
}

/// Bytes of memory, if that is less than the polite amount.
fn memory() -> usize {
    // SAFETY: the structure is plain numbers and lives through the call.
    let total = unsafe {
        let mut info: libc::sysinfo = std::mem::zeroed();
        check!(libc::sysinfo(&raw mut info) == 0, "sysinfo");
        info.totalram as usize * info.mem_unit as usize
    };
    total.min(POLITE)
}

fn hogging(hog: fn()) -> Child {
    fork(move || {
        // What it starts ends with it.
        // SAFETY: no memory is involved.
        unsafe { libc::setpgid(0, 0) };
        hog();
        0
    })
}

/// Holds some pages until the other end of the pipe is closed, and finds them as they were.
fn waiter(end: &Pipe, pages: usize) -> Child {
    let (reader, writer) = (end.reader(), end.writer());
    fork(move || {
        let area = Area::new(pages);
        area.fill(0..pages, 77);
        let mut byte = 0u8;
        // SAFETY: the descriptors are this process's copies; one byte goes into one byte.
        unsafe {
            libc::close(writer);
            libc::read(reader, (&raw mut byte).cast(), 1);
        }
        area.expect(0..pages, 77, "a bystander's memory");
        0
    })
}

/// What somebody had is free for others.
fn after(what: &str) {
    let child = fork(|| {
        let area = Area::new(2000);
        area.fill(0..2000, 5);
        area.expect(0..2000, 5, "memory after memory had run out");
        0
    });
    child.expect_success(&format!("a program after {what}"));
}

/// A large mapping of which nothing is there yet.
fn sparse(len: usize) -> Area {
    Area::mapped(0, len / PAGE, READ_WRITE, libc::MAP_PRIVATE | libc::MAP_NORESERVE)
}

/// One read in each table's part: no page, a table each.
fn tables() {
    let count = 2 * memory() / PAGE;
    let area = sparse(count * SPARSE);
    (0..count).for_each(|n| _ = area.read(n * SPARSE / PAGE, 0));
}

fn new_memfd() -> std::io::Result<fs::File> {
    // SAFETY: the name is a constant; the descriptor is nobody else's.
    match unsafe { libc::memfd_create(c"shortage".as_ptr(), 0) } {
        -1 => Err(std::io::Error::last_os_error()),
        // SAFETY: as above.
        file => Ok(unsafe { fs::File::from_raw_fd(file) }),
    }
}

/// A file that is written and mapped nowhere.
fn memfd() {
    let Ok(mut file) = new_memfd() else { return };
    let page = [7; PAGE];
    (0..2 * memory() / PAGE).take_while(|_| file.write_all(&page).is_ok()).for_each(drop);
}

/// Processes that have one memory between them: they weigh as one, and go together.
fn sharers() {
    extern "C" fn wait(_: *mut libc::c_void) -> i32 {
        loop {
            // SAFETY: waits for a signal.
            unsafe { libc::pause() };
        }
    }
    let stacks: Vec<Area> = (0..SHARERS).map(|_| Area::new(4)).collect();
    let all: Vec<Child> = stacks.iter().map(|stack| clone_vm(stack, wait, 0)).collect();
    let pages = 2 * memory() / PAGE;
    let area = sparse(pages * PAGE);
    (0..pages).for_each(|page| area.write(page, 0, 1));
    all.iter().for_each(Child::kill);
    all.into_iter().for_each(|child| _ = child.wait());
}

fn pipes() {
    let limit = libc::rlimit { rlim_cur: 8192, rlim_max: 8192 };
    // SAFETY: the limit is readable.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    let page = [1; 65_536];
    for _ in 0..memory() / page.len() {
        let mut ends: [RawFd; 2] = [0; 2];
        // SAFETY: there is room for two descriptors; they stay open on purpose.
        if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK) } != 0 {
            return;
        }
        // SAFETY: the bytes live through the call.
        if unsafe { libc::write(ends[1], page.as_ptr().cast(), page.len()) } <= 0 {
            return;
        }
    }
}

/// Files that only a socket's queue has: sent, and closed.
fn travellers() {
    let mut ends: [RawFd; 2] = [0; 2];
    // SAFETY: there is room for two descriptors.
    let made = unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, ends.as_mut_ptr()) };
    check!(made == 0, "no pair of sockets");
    let page = [7; PAGE];
    for _ in 0..8 {
        let Ok(mut file) = new_memfd() else { return };
        let full = (0..memory() / PAGE / 8).any(|_| file.write_all(&page).is_err());
        if !send(ends[0], &file) || full {
            return;
        }
    }
}

fn send(socket: RawFd, file: &fs::File) -> bool {
    let mut byte = 1u8;
    let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let mut room = [0u64; 4];
    // SAFETY: the header's parts live through the call, and the control message fits its room.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
        message.msg_control = room.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(4) as usize;
        let control = libc::CMSG_FIRSTHDR(&raw const message);
        ((*control).cmsg_level, (*control).cmsg_type) = (libc::SOL_SOCKET, libc::SCM_RIGHTS);
        (*control).cmsg_len = libc::CMSG_LEN(4) as usize;
        libc::CMSG_DATA(control).cast::<RawFd>().write_unaligned(file.as_raw_fd());
        libc::sendmsg(socket, &raw const message, 0) == 1
    }
}

/// Segments of System V's, shown or not, large or small: they stay when their maker has ended, and leave room for others.
fn segments() {
    for (what, pages, shown) in [("shown segments", 256, true), ("segments", 256, false), ("small segments", 1, false)]
    {
        let child = fork(move || {
            let most = memory() / PAGE / pages;
            let _ = (0..most).all(|_| segment(pages, shown));
            0
        });
        let pid = child.pid();
        let ended = child.wait();
        check!(
            matches!(ended, Ended::Exited(0) | Ended::Killed(libc::SIGKILL | libc::SIGBUS)),
            "the one that takes all memory by {what}: {ended:?}"
        );
        after(what);
        remove_segments_of(pid);
        after(what);
    }
}

/// Makes a segment and fills it. False: there are no more.
fn segment(pages: usize, shown: bool) -> bool {
    // SAFETY: where the segment is shown is the kernel's choice, and nobody else's; it is as long as what is written.
    unsafe {
        let id = libc::shmget(libc::IPC_PRIVATE, pages * PAGE, libc::IPC_CREAT | 0o600);
        if id < 0 {
            return false;
        }
        let at = libc::shmat(id, std::ptr::null(), 0);
        if at as isize == -1 {
            return false;
        }
        (0..pages).for_each(|page| at.cast::<u8>().add(page * PAGE).write_volatile(1));
        if !shown {
            libc::shmdt(at);
        }
    }
    true
}

/// Files of one byte each, until there is no room: most of what they take is not what they hold.
fn small_files() {
    let place = format!("/tmp/shortage-{}", std::process::id());
    check!(fs::create_dir(&place).is_ok(), "a directory");
    let child = fork(|| {
        let _ = (0..memory() / PAGE / 2).try_for_each(|n| fs::write(format!("{place}/{n}"), [1]));
        0
    });
    let ended = child.wait();
    check!(
        matches!(ended, Ended::Exited(0) | Ended::Killed(libc::SIGKILL)),
        "the one that takes all memory by small files: {ended:?}"
    );
    after("small files");
    check!(fs::remove_dir_all(&place).is_ok(), "the directory goes");
    after("small files");
}

/// Removes what a process has made.
fn remove_segments_of(pid: i32) {
    const SHM_INFO: i32 = 14;
    const SHM_STAT: i32 = 13;
    // SAFETY: both structures are plain numbers that live through the calls, and are as large as the kernel's.
    unsafe {
        let mut room = [0u64; 16];
        let last = libc::shmctl(0, SHM_INFO, room.as_mut_ptr().cast());
        for n in 0..=last {
            let mut what: libc::shmid_ds = std::mem::zeroed();
            let id = libc::shmctl(n, SHM_STAT, &raw mut what);
            if id >= 0 && what.shm_cpid == pid {
                libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut());
            }
        }
    }
}

/// A fork that needs as many tables as there is memory left, or more: it is made, or refused, and that after few attempts.
fn wide_fork() {
    let child = fork(|| {
        let count = memory() * 3 / 8 / PAGE;
        let area = sparse(count * SPARSE);
        (0..count).for_each(|n| area.write(n * SPARSE / PAGE, 0, n as u64));
        let forks = || counters().iter().find(|(name, _)| name == "forks").map_or(0, |(_, value)| *value);
        let before = forks();
        if let Ok(child) = try_fork(|| 0) {
            let ended = child.wait();
            check!(matches!(ended, Ended::Exited(0) | Ended::Killed(libc::SIGKILL)), "a wide child: {ended:?}");
        }
        let attempts = forks() - before;
        check!(attempts <= 4, "one fork was begun {attempts} times");
        (0..count).for_each(|n| check!(area.read(n * SPARSE / PAGE, 0) == n as u64, "page {n} after a fork"));
        0
    });
    let ended = child.wait();
    check!(matches!(ended, Ended::Exited(0) | Ended::Killed(libc::SIGKILL)), "the one that forks: {ended:?}");
}

/// Whoever takes all is ended at a moment of somebody else's choice.
fn killed_in_between() {
    for wait in [1, 10, 40, 160] {
        for hog in [tables as fn(), memfd] {
            let child = hogging(hog);
            std::thread::sleep(std::time::Duration::from_millis(wait));
            child.kill();
            let ended = child.wait();
            check!(matches!(ended, Ended::Exited(0) | Ended::Killed(libc::SIGKILL)), "a hog that is killed: {ended:?}");
        }
    }
    after("those that were killed");
}

/// What is written reads back, and goes to children.
fn adjustment() {
    let value = || fs::read_to_string(ADJ).unwrap_or_default();
    let child = fork(|| {
        check!(fs::write(ADJ, "500").is_ok() && value() == "500\n", "{ADJ}: {}", value());
        fork(|| i32::from(value() != "500\n")).expect_success("a child's adjustment");
        for wrong in ["1001", "-1001", "many", ""] {
            let error =
                fs::OpenOptions::new().write(true).open(ADJ).and_then(|mut file| file.write_all(wrong.as_bytes()));
            check!(wrong.is_empty() || error.is_err_and(|e| e.raw_os_error() == Some(libc::EINVAL)), "took {wrong}");
        }
        check!(value() == "500\n", "a refused value stays: {}", value());
        let score: i64 = fs::read_to_string("/proc/self/oom_score").unwrap_or_default().trim().parse().unwrap_or(-1);
        check!((667..=1334).contains(&score), "a score of {score}");
        0
    });
    child.expect_success("the adjustment");
}

fn score() -> i64 {
    fs::read_to_string("/proc/self/oom_score").unwrap_or_default().trim().parse().unwrap_or(-1)
}

/// A file that is open often weighs as one, and is looked at once.
fn weight_of_descriptors() {
    let child = fork(|| {
        let limit = libc::rlimit { rlim_cur: 8192, rlim_max: 8192 };
        // SAFETY: the limit is readable.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
        let Ok(mut file) = new_memfd() else { return 0 };
        let full = (0..16).any(|_| file.write_all(&[7; MIB]).is_err());
        check!(!full, "no room for 16 MiB");
        let (before, began) = (score(), Instant::now());
        let fd = file.as_raw_fd();
        // SAFETY: descriptors stay open on purpose.
        check!((0..4000).all(|_| unsafe { libc::dup(fd) } >= 0), "no room for descriptors");
        let again: Vec<_> = (0..20).map_while(|_| fs::File::open(format!("/proc/self/fd/{fd}")).ok()).collect();
        check!(again.len() == 20, "a file opens {} times", again.len());
        let (after, took) = (score(), began.elapsed());
        check!((before - after).abs() < 20, "a score of {before}, with more descriptors of the same {after}");
        check!(took.as_secs() < 15, "a look at descriptors took {took:?}");
        0
    });
    child.expect_success("the weight of descriptors");
}

/// What /proc says of a process is what its leader has, and its weight is what all of its threads have.
fn a_thread_with_descriptors_of_its_own() {
    extern "C" fn leave_at_once(_: *mut libc::c_void) -> i32 {
        0
    }
    let child = fork(|| {
        let Ok(mut file) = new_memfd() else { return 0 };
        check!((0..16).all(|_| file.write_all(&[7; MIB]).is_ok()), "no room for 16 MiB");
        let open = || fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        let (before, entries) = (score(), open());
        let stack = Area::new(4);
        let flags = libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND | libc::CLONE_FS;
        // SAFETY: the stack is the thread's alone until the process ends.
        let tid = unsafe {
            let top = (stack.address(3) + PAGE) as *mut libc::c_void;
            libc::clone(leave_at_once, top, flags, std::ptr::null_mut())
        };
        check!(tid > 0, "no thread");
        while fs::exists(format!("/proc/self/task/{tid}")).unwrap_or(false) {
            std::thread::yield_now();
        }
        check!(open() == entries, "{entries} descriptors, and {} after a thread", open());
        check!((before - score()).abs() < 10, "a score of {before}, after a thread {}", score());
        0
    });
    child.expect_success("descriptors beside a thread's");
}

/// A long text about a process while there is no room for it: refused, or given.
fn maps_without_room() {
    let child = fork(|| {
        let count = 40_000;
        let area = sparse(count * PAGE);
        (0..count).step_by(2).for_each(|page| area.protect(page..page + 1, libc::PROT_READ));
        let free = || {
            let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("MemFree:")).unwrap_or_default().to_owned();
            line.trim().trim_end_matches(" kB").parse::<usize>().unwrap_or(0)
        };
        let pages = memory() / PAGE;
        let filler = sparse(pages * PAGE);
        let mut at = 0;
        while free() > 3000 && at + 64 <= pages {
            (at..at + 64).for_each(|page| filler.write(page, 0, 1));
            at += 64;
        }
        for _ in 0..3 {
            let _ = fs::File::open("/proc/self/maps");
        }
        0
    });
    let ended = child.wait();
    check!(matches!(ended, Ended::Exited(0) | Ended::Killed(libc::SIGKILL)), "the one with many segments: {ended:?}");
    after("a long text");
}

/// The one that asks for it goes first, however small; the one that is excepted never, however large.
fn order() {
    let end = Pipe::new();
    let first = adjusted(&end, 256, "1000");
    let spared = adjusted(&end, memory() * 2 / 5 / PAGE, "-1000");
    let ended = hogging(|| {
        let pages = memory() / PAGE;
        let area = sparse(pages * PAGE);
        (0..pages).for_each(|page| area.write(page, 0, 1));
    })
    .wait();
    drop(end);
    let (first, spared) = (first.wait(), spared.wait());
    if ended != Ended::Exited(0) {
        check!(first == Ended::Killed(libc::SIGKILL), "the one that should go first: {first:?}, after {ended:?}");
    }
    check!(spared == Ended::Exited(0), "the one that should never go: {spared:?}");
}

/// As [`waiter`], with an adjustment. A system may refuse to lower it: then nothing is waited for.
fn adjusted(end: &Pipe, pages: usize, adj: &str) -> Child {
    let filled = Pipe::new();
    let (reader, writer, ready) = (end.reader(), end.writer(), filled.writer());
    let adj = adj.to_owned();
    let child = fork(move || {
        if fs::write(ADJ, &adj).is_err() {
            leave(0);
        }
        let area = Area::new(pages);
        area.fill(0..pages, 77);
        let mut byte = 0u8;
        // SAFETY: the descriptors are this process's copies; single bytes.
        unsafe {
            libc::close(writer);
            libc::write(ready, [1u8].as_ptr().cast(), 1);
            libc::close(ready);
            libc::read(reader, (&raw mut byte).cast(), 1);
        }
        area.expect(0..pages, 77, "memory that stays");
        0
    });
    // SAFETY: the descriptor is this process's, and the pipe is only read from now on.
    unsafe { libc::close(filled.writer()) };
    filled.wait_for_byte();
    std::mem::forget(filled);
    child
}
