//! System calls that look before they edit, against another thread that edits between the look and the edit.
//!
//! Each case begins every round with the same memory; then two threads make one call each, at the same time. What came of them must be
//! what one of the two orders gives: the answers of both calls, what is mapped then, with which rights and which contents. So a call that
//! decides by what it has seen before its edit is found as soon as the other one falls in between.

mod places;
mod rights;
mod shared;

use std::io;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

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

/// Moves a shared page from `AT`: 0 or the error.
fn move_to(place: usize, how: c_int) -> i64 {
    let how = how | libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: as in `map`.
    answer(unsafe { libc::mremap(AT as *mut _, PAGE, PAGE, how, place) } as i64).min(0)
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

/// The heap ends at a page's end, which the scene knows.
fn heap(scene: &Scene) {
    let end = (brk(0) + PAGE as i64 - 1) & -(PAGE as i64);
    check!(brk(end) == end, "the heap does not grow");
    scene.id.store(end, Ordering::Relaxed);
}

/// The heap grows by a page: 1 if it did.
fn grow_heap(scene: &Scene) -> i64 {
    let end = scene.id.load(Ordering::Relaxed) + PAGE as i64;
    i64::from(brk(end) == end)
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

fn main() {
    let cases = rights::CASES.iter().chain(places::CASES).chain(shared::CASES);
    for round in Budget::from_arguments(15).rounds() {
        for (number, case) in cases.clone().enumerate() {
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
