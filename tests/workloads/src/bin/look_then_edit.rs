//! System calls that look before they edit, against another thread that edits between the look and the edit.
//!
//! Each case begins every round with the same memory; then two threads make one call each, at the same time. What came of them must be
//! what one of the two orders gives: the answers of both calls, what is mapped then, with which rights and which contents. So a call that
//! decides by what it has seen before its edit is found as soon as the other one falls in between.

use std::io;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;

use libc::{
    EACCES, EBUSY, EEXIST, EFAULT, EIDRM, EINVAL, ENOMEM, EPERM, MAP_ANONYMOUS, MAP_FIXED, MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN, MAP_PRIVATE, MAP_SHARED, PROT_NONE, PROT_READ, PROT_WRITE, c_int,
};
use quire_workloads::process::leave;
use quire_workloads::{Budget, Epoch, PAGE, Random, check, ok, spin};

/// Where no system maps anything by itself.
const AT: usize = 0x30_0000_0000;
/// Where things move.
const TO: usize = AT + 0x1000_0000;
const RW: c_int = PROT_READ | PROT_WRITE;
const PRIVATE: c_int = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
const DONE: i64 = 0;
/// F_ADD_SEALS.
const ADD_SEALS: c_int = 1033;

/// What a case works with.
#[derive(Default)]
struct Scene {
    /// A memfd of this round, two pages of sevens.
    file: AtomicI64,
    /// A segment of System V's of this round, or whatever else the first call is to know.
    id: AtomicI64,
    /// A descriptor for reading the file.
    reader: AtomicI64,
}

/// A case: how a round begins, the two calls, and whether their answers fit together.
struct Case {
    name: &'static str,
    /// A round of it forks: fewer will do.
    slow: bool,
    begin: fn(&Scene),
    one: fn(&Scene) -> i64,
    other: fn(&Scene) -> i64,
    legal: fn(&Scene, i64, i64) -> bool,
}

/// A call's answer: 0 or what it returns, or its error, negative.
fn answer(result: i64) -> i64 {
    if result == -1 { -i64::from(io::Error::last_os_error().raw_os_error().unwrap_or(0)) } else { result }
}

fn no(error: c_int) -> i64 {
    -i64::from(error)
}

fn page(n: usize) -> usize {
    AT + n * PAGE
}

fn map(at: usize, pages: usize, rights: c_int, flags: c_int, file: i64) -> i64 {
    // SAFETY: the places belong to this program, and nobody has references into them.
    answer(unsafe { libc::mmap(at as *mut _, pages * PAGE, rights, flags, file as c_int, 0) } as i64)
}

/// As `map`, where the address is known: 0 or the error.
fn mapped(at: usize, pages: usize, rights: c_int, flags: c_int, file: i64) -> i64 {
    match map(at, pages, rights, flags, file) {
        place if place == at as i64 => DONE,
        error => error,
    }
}

fn unmap(at: usize, pages: usize) -> i64 {
    // SAFETY: as in `map`.
    answer(i64::from(unsafe { libc::munmap(at as *mut _, pages * PAGE) }))
}

fn protect(at: usize, pages: usize, rights: c_int) -> i64 {
    // SAFETY: as in `map`.
    answer(i64::from(unsafe { libc::mprotect(at as *mut _, pages * PAGE, rights) }))
}

fn advise(at: usize, pages: usize, advice: c_int) -> i64 {
    // SAFETY: as in `map`.
    answer(i64::from(unsafe { libc::madvise(at as *mut _, pages * PAGE, advice) }))
}

fn lock(at: usize, pages: usize) -> i64 {
    // SAFETY: as in `map`.
    answer(i64::from(unsafe { libc::mlock(at as *const _, pages * PAGE) }))
}

fn unlock(at: usize, pages: usize) -> i64 {
    // SAFETY: as in `map`.
    answer(i64::from(unsafe { libc::munlock(at as *const _, pages * PAGE) }))
}

/// Makes `new` pages of `old` ones at `AT`, at `TO` if they move: 0 or the error.
fn remap(old: usize, new: usize, how: c_int) -> i64 {
    // SAFETY: as in `map`.
    answer(unsafe { libc::mremap(AT as *mut _, old * PAGE, new * PAGE, how, TO) } as i64).min(0)
}

fn truncate(file: c_int, pages: i64) -> i64 {
    // SAFETY: numbers only.
    answer(i64::from(unsafe { libc::ftruncate(file, pages * PAGE as i64) }))
}

fn allocate(file: c_int, how: c_int, pages: i64) -> i64 {
    // SAFETY: numbers only.
    answer(i64::from(unsafe { libc::fallocate(file, how, 0, pages * PAGE as i64) }))
}

fn seal(scene: &Scene, seals: c_int) -> i64 {
    // SAFETY: numbers only.
    answer(i64::from(unsafe { libc::fcntl(fd(scene), ADD_SEALS, seals) }))
}

fn fd(scene: &Scene) -> c_int {
    scene.file.load(Ordering::Relaxed) as c_int
}

/// Stores a word through the kernel: false where a store would be refused.
fn store(at: usize, value: u64) -> bool {
    let source = [value];
    let vector = libc::iovec { iov_base: source.as_ptr() as *mut _, iov_len: 8 };
    let target = libc::iovec { iov_base: at as *mut _, iov_len: 8 };
    // SAFETY: the kernel checks the target; the source lives through the call.
    let n = unsafe { pass(&vector, &target) };
    check!(n == 8 || n == no(EFAULT), "a store through a pipe: {n}");
    n == 8
}

/// Loads a word through the kernel: none where a load would be refused.
fn load(at: usize) -> Option<u64> {
    let mut word = [0u64];
    let source = libc::iovec { iov_base: at as *mut _, iov_len: 8 };
    let target = libc::iovec { iov_base: word.as_mut_ptr().cast(), iov_len: 8 };
    // SAFETY: as in `store`.
    let n = unsafe { pass(&source, &target) };
    check!(n == 8 || n == no(EFAULT), "a load through a pipe: {n}");
    (n == 8).then_some(word[0])
}

/// Copies eight bytes through a pipe of this thread.
///
/// # Safety
///
/// What of the two is no address to be checked lives through the call.
unsafe fn pass(source: &libc::iovec, target: &libc::iovec) -> i64 {
    thread_local!(static PIPE: [c_int; 2] = {
        let mut ends = [0; 2];
        // SAFETY: two descriptors fit.
        check!(unsafe { libc::pipe(ends.as_mut_ptr()) } == 0, "no pipe");
        ends
    });
    PIPE.with(|&[out, into]| {
        let mut lost = [0u8; 8];
        // SAFETY: by this function's contract; what the target refuses is taken out of the pipe again.
        unsafe {
            let n = answer(libc::write(into, source.iov_base, 8) as i64);
            if n != 8 {
                return n;
            }
            let n = answer(libc::read(out, target.iov_base, 8) as i64);
            if n != 8 {
                // What could not be delivered may be there still, or not.
                libc::fcntl(out, libc::F_SETFL, libc::O_NONBLOCK);
                libc::read(out, lost.as_mut_ptr().cast(), 8);
                libc::fcntl(out, libc::F_SETFL, 0);
            }
            n
        }
    })
}

/// Whether a page is mapped.
fn is_mapped(at: usize) -> bool {
    let mut there = 0u8;
    // SAFETY: one byte for one page.
    match answer(i64::from(unsafe { libc::mincore(at as *mut _, PAGE, &raw mut there) })) {
        DONE => true,
        error => {
            check!(error == no(ENOMEM), "mincore: {error}");
            false
        }
    }
}

/// Whether a mapped page of private memory is locked: it is not discarded then.
fn is_locked(at: usize) -> bool {
    let done = advise(at, 1, libc::MADV_DONTNEED);
    check!(done == DONE || done == no(EINVAL), "MADV_DONTNEED: {done}");
    done != DONE
}

/// Three pages of sevens.
fn three(_: &Scene) {
    unmap(AT, 16);
    check!(mapped(AT, 3, RW, PRIVATE, -1) == DONE, "not mapped");
    (0..3).for_each(|n| check!(store(page(n), 7), "not stored"));
}

/// As `three`, for reading only.
fn three_for_reading(scene: &Scene) {
    three(scene);
    check!(protect(AT, 3, PROT_READ) == DONE, "not protected");
}

/// A file of two pages of sevens, nothing mapped.
fn file(scene: &Scene) {
    unmap(AT, 16);
    unmap(TO, 16);
    for old in [&scene.file, &scene.reader] {
        let old = old.swap(0, Ordering::Relaxed) as c_int;
        if old != 0 {
            // SAFETY: a descriptor of this scene.
            unsafe { libc::close(old) };
        }
    }
    // SAFETY: a name that ends with zero.
    let new = unsafe { libc::memfd_create(c"sealed".as_ptr(), libc::MFD_ALLOW_SEALING) };
    check!(new >= 0 && write(new, 2, 7) == 2 * PAGE as i64, "no file");
    scene.file.store(i64::from(new), Ordering::Relaxed);
}

/// The same, with a shared view of a page at `AT`.
fn view(scene: &Scene) {
    file(scene);
    check!(mapped(AT, 1, RW, MAP_SHARED | MAP_FIXED, scene.file.load(Ordering::Relaxed)) == DONE, "no view");
}

fn write(file: c_int, pages: usize, word: u64) -> i64 {
    let words = vec![word; pages * PAGE / 8];
    // SAFETY: the words live through the call.
    answer(unsafe { libc::pwrite(file, words.as_ptr().cast(), pages * PAGE, 0) } as i64)
}

/// The words of a file's two pages, if they are all the same in each page.
fn words(file: c_int) -> [Option<u64>; 2] {
    let mut all = [[0u64; PAGE / 8]; 2];
    // SAFETY: the words live through the call.
    let n = unsafe { libc::pread(file, all.as_mut_ptr().cast(), 2 * PAGE, 0) };
    check!(n == 2 * PAGE as isize, "{n} bytes of the file");
    all.map(|page| page.iter().all(|&w| w == page[0]).then_some(page[0]))
}

fn length(file: c_int) -> i64 {
    // SAFETY: numbers only.
    answer(unsafe { libc::lseek(file, 0, libc::SEEK_END) })
}

fn brk(to: i64) -> i64 {
    // SAFETY: nobody in this program uses the heap that brk moves at the moment: the allocator does not shrink below what it has.
    unsafe { libc::syscall(libc::SYS_brk, to) }
}

/// A round with two views of a segment of System V's: no name, two pages, attached at `AT`.
fn attached(_: &Scene) {
    unmap(AT, 16);
    // SAFETY: numbers and a place of our own.
    unsafe {
        let id = libc::shmget(libc::IPC_PRIVATE, 2 * PAGE, 0o600);
        check!(id >= 0 && libc::shmat(id, AT as *const _, 0) as usize == AT, "not attached");
        check!(libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) == 0, "not removed");
    }
}

fn detach() -> i64 {
    // SAFETY: a place of our own.
    answer(i64::from(unsafe { libc::shmdt(AT as *const _) }))
}

/// What a child finds: true if `check` holds there.
fn in_a_child(check: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child only makes system calls.
    match unsafe { libc::fork() } {
        -1 => quire_workloads::violated(format_args!("fork: {}", io::Error::last_os_error())),
        0 => leave(i32::from(!check())),
        child => {
            let mut status = 0;
            // SAFETY: our child.
            check!(unsafe { libc::waitpid(child, &raw mut status, 0) } == child, "the child is not ours");
            status == 0
        }
    }
}

const CASES: &[Case] = &[
    Case {
        name: "mprotect, and a view for reading comes",
        slow: false,
        begin: |scene| {
            file(scene);
            let path = format!("/proc/self/fd/{}\0", fd(scene));
            // SAFETY: a path that ends with zero.
            let reader = unsafe { libc::open(path.as_ptr().cast(), libc::O_RDONLY) };
            check!(reader >= 0, "not opened for reading");
            scene.reader.store(i64::from(reader), Ordering::Relaxed);
            check!(mapped(AT, 1, PROT_READ, PRIVATE, -1) == DONE, "not mapped");
        },
        one: |scene| mapped(AT, 1, PROT_READ, MAP_SHARED | MAP_FIXED, scene.reader.load(Ordering::Relaxed)),
        other: |_| protect(AT, 1, RW),
        legal: |_, view, wider| view == DONE && (wider == DONE || wider == no(EACCES)) && !store(AT, 9),
    },
    Case {
        name: "mprotect, and a hole comes",
        slow: false,
        begin: three_for_reading,
        one: |_| unmap(page(1), 1),
        other: |_| protect(AT, 3, RW),
        legal: |_, hole, wider| {
            let ends = (store(page(0), 9), store(page(2), 9));
            hole == DONE && ((wider, ends) == (DONE, (true, true)) || (wider, ends) == (no(ENOMEM), (true, false)))
        },
    },
    Case {
        name: "mprotect of what grows down, and its lower end goes",
        slow: false,
        begin: |_| {
            unmap(AT, 16);
            check!(mapped(page(8), 4, RW, PRIVATE | MAP_GROWSDOWN, -1) == DONE, "not mapped");
        },
        one: |_| unmap(page(8), 2),
        other: |_| protect(page(11), 1, PROT_READ | libc::PROT_GROWSDOWN),
        legal: |_, less, narrower| {
            less == DONE && narrower == DONE && !store(page(10), 9) && !store(page(11), 9) && load(page(10)).is_some()
        },
    },
    Case {
        name: "MADV_DONTNEED, and a page is locked",
        slow: false,
        begin: three,
        one: |_| lock(page(1), 1),
        other: |_| advise(AT, 3, libc::MADV_DONTNEED),
        legal: |_, lock, gone| {
            let left = [0, 1, 2].map(|n| load(page(n)).unwrap_or(1));
            lock == DONE && ((gone, left) == (DONE, [0, 0, 0]) || (gone, left) == (no(EINVAL), [0, 7, 7]))
        },
    },
    Case {
        name: "MADV_WIPEONFORK, and shared memory comes",
        slow: true,
        begin: three,
        one: |_| mapped(page(1), 1, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1),
        other: |_| advise(AT, 3, libc::MADV_WIPEONFORK),
        legal: |_, shared, wiped| {
            let left = if wiped == DONE { 0 } else { 7 };
            let child = in_a_child(|| load(page(0)) == Some(0) && load(page(2)) == Some(left));
            shared == DONE && (wiped == DONE || wiped == no(EINVAL)) && child
        },
    },
    Case {
        name: "MADV_POPULATE_WRITE, and the rights go",
        slow: false,
        begin: three,
        one: |_| protect(AT, 3, PROT_NONE),
        other: |_| advise(AT, 3, libc::MADV_POPULATE_WRITE),
        legal: |_, hidden, there| {
            let answer = there == DONE || there == no(EINVAL) || there == no(EFAULT);
            hidden == DONE && answer && load(AT).is_none() && protect(AT, 3, PROT_READ) == DONE && load(AT) == Some(7)
        },
    },
    Case {
        name: "mlock, and a hole comes",
        slow: false,
        begin: three,
        one: |_| unmap(page(1), 1),
        other: |_| lock(AT, 3),
        legal: |_, hole, lock| {
            let locked = (is_locked(page(0)), is_locked(page(2)));
            hole == DONE && ((lock, locked) == (DONE, (true, true)) || (lock, locked) == (no(ENOMEM), (true, false)))
        },
    },
    Case {
        name: "munlock, and a hole comes",
        slow: false,
        begin: |scene| {
            three(scene);
            check!(lock(AT, 3) == DONE, "not locked");
        },
        one: |_| unmap(page(1), 1),
        other: |_| unlock(AT, 3),
        legal: |_, hole, lock| {
            let locked = (is_locked(page(0)), is_locked(page(2)));
            hole == DONE && ((lock, locked) == (DONE, (false, false)) || (lock, locked) == (no(ENOMEM), (false, true)))
        },
    },
    Case {
        name: "mlockall, and a mapping comes",
        slow: true,
        begin: |_| {
            unmap(AT, 16);
        },
        one: |_| mapped(AT, 1, RW, PRIVATE, -1),
        other: |_| {
            // SAFETY: numbers only.
            answer(i64::from(unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT) }))
        },
        legal: |_, new, lock| {
            let locked = is_locked(AT);
            // SAFETY: no arguments.
            check!(unsafe { libc::munlockall() } == 0 && !is_locked(AT), "not unlocked");
            new == DONE && (lock == DONE && locked || lock == no(EPERM) || lock == no(ENOMEM))
        },
    },
    Case {
        name: "brk, and something comes behind the heap",
        slow: false,
        begin: |scene| {
            let end = (brk(0) + PAGE as i64 - 1) & -(PAGE as i64);
            check!(brk(end) == end, "the heap does not grow");
            scene.id.store(end, Ordering::Relaxed);
        },
        one: |scene| {
            let end = scene.id.load(Ordering::Relaxed);
            i64::from(brk(end + PAGE as i64) == end + PAGE as i64)
        },
        other: |scene| {
            let end = scene.id.load(Ordering::Relaxed) as usize;
            mapped(end, 1, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1)
        },
        legal: |scene, grown, there| {
            let end = scene.id.load(Ordering::Relaxed);
            check!(brk(end) == end, "the heap does not shrink");
            if there == DONE {
                unmap(end as usize, 1);
            }
            (grown, there) == (1, no(EEXIST)) || (grown, there) == (0, DONE)
        },
    },
    Case {
        name: "fork, and the heap grows",
        slow: true,
        begin: |scene| {
            let end = (brk(0) + PAGE as i64 - 1) & -(PAGE as i64);
            check!(brk(end) == end, "the heap does not grow");
            scene.id.store(end, Ordering::Relaxed);
        },
        one: |scene| {
            let end = scene.id.load(Ordering::Relaxed);
            i64::from(brk(end + PAGE as i64) == end + PAGE as i64)
        },
        other: |scene| {
            let start = scene.id.load(Ordering::Relaxed);
            let page = PAGE as i64;
            // Its heap ends where its memory does.
            i64::from(in_a_child(|| {
                let end = brk(0);
                let grown = end == start + page && is_mapped(start as usize);
                (grown || end == start) && !is_mapped(end as usize) && brk(end + page) == end + page
            }))
        },
        legal: |scene, grown, child| {
            let end = scene.id.load(Ordering::Relaxed);
            brk(end) == end && grown == 1 && child == 1
        },
    },
    Case {
        name: "mremap in place, and something comes behind",
        slow: false,
        begin: |_| {
            unmap(AT, 16);
            check!(mapped(AT, 1, RW, PRIVATE, -1) == DONE, "not mapped");
        },
        one: |_| remap(1, 2, 0),
        other: |_| mapped(page(1), 1, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1),
        legal: |_, grown, there| (grown, there) == (0, no(EEXIST)) || (grown, there) == (no(ENOMEM), DONE),
    },
    Case {
        name: "mremap, and the rights change",
        slow: false,
        begin: |scene| {
            unmap(TO, 16);
            three(scene);
        },
        one: |_| remap(3, 3, libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED),
        other: |_| protect(AT, 3, PROT_READ),
        legal: |_, moved, narrower| {
            let rights = [0, 1, 2].map(|n| (load(TO + n * PAGE), store(TO + n * PAGE, 9)));
            let all = |writable| rights == [(Some(7), writable); 3];
            moved == 0 && (narrower == DONE && all(false) || narrower == no(ENOMEM) && all(true))
        },
    },
    Case {
        name: "a second view, and the first one goes and its file is sealed",
        slow: false,
        begin: view,
        one: |_| remap(0, 1, libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED),
        other: |scene| {
            check!(unmap(AT, 1) == DONE, "not unmapped");
            seal(scene, libc::F_SEAL_WRITE)
        },
        legal: |_, second, sealed| {
            (second, sealed) == (0, no(EBUSY)) && store(TO, 9)
                || (second, sealed) == (no(EFAULT), DONE) && !store(TO, 9)
        },
    },
    Case {
        name: "F_SEAL_WRITE, and a view for writing comes",
        slow: false,
        begin: file,
        one: |scene| mapped(AT, 1, RW, MAP_SHARED | MAP_FIXED, scene.file.load(Ordering::Relaxed)),
        other: |scene| seal(scene, libc::F_SEAL_WRITE),
        legal: |_, view, sealed| (view, sealed) == (DONE, no(EBUSY)) || (view, sealed) == (no(EPERM), DONE),
    },
    Case {
        name: "F_SEAL_WRITE, and a view comes that may become writable",
        slow: false,
        begin: file,
        one: |scene| mapped(AT, 1, PROT_READ, MAP_SHARED | MAP_FIXED, scene.file.load(Ordering::Relaxed)),
        other: |scene| seal(scene, libc::F_SEAL_WRITE),
        legal: |_, view, sealed| {
            let wider = protect(AT, 1, RW);
            view == DONE && ((wider, sealed) == (DONE, no(EBUSY)) || (wider, sealed) == (no(EACCES), DONE))
        },
    },
    Case {
        name: "F_SEAL_FUTURE_WRITE, and views come",
        slow: false,
        begin: view,
        one: |scene| mapped(page(1), 1, RW, MAP_SHARED | MAP_FIXED, scene.file.load(Ordering::Relaxed)),
        other: |scene| seal(scene, libc::F_SEAL_FUTURE_WRITE),
        legal: |scene, view, sealed| {
            let late = mapped(page(2), 1, RW, MAP_SHARED | MAP_FIXED, scene.file.load(Ordering::Relaxed));
            sealed == DONE && (view == DONE || view == no(EPERM)) && late == no(EPERM) && store(AT, 9)
        },
    },
    Case {
        name: "F_SEAL_WRITE, and a write",
        slow: false,
        begin: file,
        one: |scene| write(fd(scene), 2, 9),
        other: |scene| seal(scene, libc::F_SEAL_WRITE),
        legal: |scene, written, sealed| {
            let all = match written {
                n if n == 2 * PAGE as i64 => 9,
                error if error == no(EPERM) => 7,
                _ => return false,
            };
            sealed == DONE && words(fd(scene)) == [Some(all); 2]
        },
    },
    Case {
        name: "F_SEAL_WRITE after munmap, and stores",
        slow: false,
        begin: view,
        one: |_| {
            (10..30).for_each(|n| _ = store(AT, n));
            DONE
        },
        other: |scene| {
            check!(unmap(AT, 1) == DONE, "not unmapped");
            let sealed = seal(scene, libc::F_SEAL_WRITE);
            let mut word = 0u64;
            // SAFETY: eight bytes for a word.
            check!(unsafe { libc::pread(fd(scene), (&raw mut word).cast(), 8, 0) } == 8, "not read");
            if sealed == DONE { word as i64 } else { sealed }
        },
        legal: |scene, _, seen| {
            let mut word = 0u64;
            // SAFETY: as above.
            check!(unsafe { libc::pread(fd(scene), (&raw mut word).cast(), 8, 0) } == 8, "not read");
            seen == word as i64
        },
    },
    Case {
        name: "F_SEAL_SHRINK, and ftruncate",
        slow: false,
        begin: file,
        one: |scene| truncate(fd(scene), 1),
        other: |scene| seal(scene, libc::F_SEAL_SHRINK),
        legal: |scene, cut, sealed| {
            let pages = length(fd(scene)) / PAGE as i64;
            sealed == DONE && ((cut, pages) == (DONE, 1) || (cut, pages) == (no(EPERM), 2))
        },
    },
    Case {
        name: "F_SEAL_GROW, and fallocate",
        slow: false,
        begin: file,
        one: |scene| allocate(fd(scene), 0, 3),
        other: |scene| seal(scene, libc::F_SEAL_GROW),
        legal: |scene, grown, sealed| {
            let pages = length(fd(scene)) / PAGE as i64;
            sealed == DONE && ((grown, pages) == (DONE, 3) || (grown, pages) == (no(EPERM), 2))
        },
    },
    Case {
        name: "a hole is punched, and a write",
        slow: false,
        begin: file,
        one: |scene| allocate(fd(scene), libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, 1),
        other: |scene| write(fd(scene), 2, 9),
        legal: |scene, hole, written| {
            let [first, second] = words(fd(scene));
            let one = first == Some(0) || first == Some(9);
            hole == DONE && written == 2 * PAGE as i64 && one && second == Some(9)
        },
    },
    Case {
        name: "shmat, and the segment is removed",
        slow: false,
        begin: |scene| {
            unmap(AT, 16);
            // SAFETY: numbers only.
            let id = unsafe { libc::shmget(libc::IPC_PRIVATE, 2 * PAGE, 0o600) };
            check!(id >= 0, "no segment");
            scene.id.store(i64::from(id), Ordering::Relaxed);
        },
        one: |scene| {
            // SAFETY: a place of our own.
            let at = unsafe { libc::shmat(scene.id.load(Ordering::Relaxed) as c_int, AT as *const _, 0) };
            answer(at as i64).min(0)
        },
        other: |scene| {
            let id = scene.id.load(Ordering::Relaxed) as c_int;
            // SAFETY: nothing is asked for.
            answer(i64::from(unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) }))
        },
        legal: |_, at, removed| match at {
            0 => removed == DONE && store(AT, 9) && detach() == DONE,
            error => removed == DONE && (error == no(EINVAL) || error == no(EIDRM)) && !is_mapped(AT),
        },
    },
    Case {
        name: "shmdt, and another mapping comes",
        slow: false,
        begin: attached,
        one: |_| mapped(AT, 1, RW, PRIVATE, -1),
        other: |_| detach(),
        legal: |_, new, detached| new == DONE && detached == DONE && load(AT) == Some(0) && !is_mapped(page(1)),
    },
    Case {
        name: "a segment that grows down, and its rights change",
        slow: false,
        begin: |_| {
            unmap(AT, 16);
            check!(mapped(page(10), 1, RW, PRIVATE | MAP_GROWSDOWN, -1) == DONE, "not mapped");
        },
        one: |_| i64::from(store(page(9), 8)),
        other: |_| protect(page(10), 1, PROT_READ),
        legal: |_, stored, narrower| {
            let above = store(page(10), 9);
            narrower == DONE && !above && (stored == 1) == store(page(9), 8)
        },
    },
    Case {
        name: "a segment that grows down, and something comes below",
        slow: false,
        begin: |_| {
            unmap(AT, 16);
            check!(mapped(page(10), 1, RW, PRIVATE | MAP_GROWSDOWN, -1) == DONE, "not mapped");
        },
        one: |_| i64::from(store(page(9), 8)),
        other: |_| mapped(page(9), 1, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1),
        legal: |_, stored, there| stored == 1 && load(page(9)) == Some(8) && (there == DONE || there == no(EEXIST)),
    },
    Case {
        name: "mincore and msync, and a hole comes",
        slow: false,
        begin: three,
        one: |_| unmap(page(1), 1),
        other: |_| {
            let mut there = [0u8; 3];
            // SAFETY: three bytes for three pages.
            let core = answer(i64::from(unsafe { libc::mincore(AT as *mut _, 3 * PAGE, there.as_mut_ptr()) }));
            // SAFETY: nothing of ours is read or written.
            let sync = answer(i64::from(unsafe { libc::msync(AT as *mut _, 3 * PAGE, libc::MS_ASYNC) }));
            core * 1000 + sync
        },
        legal: |_, hole, seen| {
            let late = no(ENOMEM);
            hole == DONE && (seen == 0 || seen == late || seen == late * 1000 + late)
        },
    },
];

fn main() {
    for round in Budget::from_arguments(15).rounds() {
        for (number, case) in CASES.iter().enumerate() {
            run(case, if case.slow { 2 } else { 10 }, round * 100 + number as u64);
        }
    }
    ok();
}

/// Runs a case: this thread begins the rounds, makes the one call and judges; another thread makes the other call.
fn run(case: &Case, rounds: u64, seed: u64) {
    const OVER: u64 = u64::MAX;
    let (go, done, scene, seen) = (Epoch::new(), Epoch::new(), Scene::default(), AtomicI64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random::new(seed);
            for round in 1.. {
                if go.wait(|value| value >= round) == OVER {
                    return;
                }
                spin(random.below(300) as u32);
                seen.store((case.other)(&scene), Ordering::Relaxed);
                done.set(round);
            }
        });
        let mut random = Random::new(seed + 50);
        for round in 0..rounds {
            (case.begin)(&scene);
            go.set(round + 1);
            spin(random.below(300) as u32);
            let one = (case.one)(&scene);
            done.wait(|value| value > round);
            let other = seen.load(Ordering::Relaxed);
            check!((case.legal)(&scene, one, other), "{}: {one} and {other} in round {round}", case.name);
        }
        go.set(OVER);
    });
    file(&scene);
}
