//! `futex` under load: waits, wakes, time-outs, requeues, bit sets, between threads and between processes.
//!
//! A lost wake-up shows as a program that stands still; a wake-up too many as a lock that two hold.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use quire_workloads::process::fork;
use quire_workloads::{Area, Budget, Random, check, ok};

const THREADS: u64 = 8;
const PRIVATE: i32 = libc::FUTEX_PRIVATE_FLAG;

fn main() {
    let budget = Budget::from_arguments(500);
    locks(budget);
    between_processes();
    for _ in budget.divided(20).rounds() {
        requeued();
    }
    bit_sets();
    time_outs();
    strangers();
    pages();
    ok();
}

fn futex(
    word: *const u32,
    operation: i32,
    value: u32,
    timeout: *const libc::timespec,
    other: *const u32,
    extra: u32,
) -> i64 {
    // SAFETY: the kernel checks the addresses itself; the words outlive the call.
    unsafe { libc::syscall(libc::SYS_futex, word, operation, value, timeout, other, extra) }
}

fn error() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// A lock of three states, as small C libraries have it: 0 free, 1 held, 2 held and somebody waits.
struct Lock {
    word: *const AtomicU32,
    private: i32,
}

// SAFETY: the word is only used atomically.
unsafe impl Sync for Lock {}

impl Lock {
    fn with(&self, work: impl FnOnce()) {
        // SAFETY: the word lives as long as the program.
        let word = unsafe { &*self.word };
        if word.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            while word.swap(2, Ordering::Acquire) != 0 {
                futex(self.word.cast(), libc::FUTEX_WAIT | self.private, 2, std::ptr::null(), std::ptr::null(), 0);
            }
        }
        work();
        if word.swap(0, Ordering::Release) == 2 {
            futex(self.word.cast(), libc::FUTEX_WAKE | self.private, 1, std::ptr::null(), std::ptr::null(), 0);
        }
    }
}

/// Few locks, many threads.
fn locks(budget: Budget) {
    static WORDS: [AtomicU32; 3] = [const { AtomicU32::new(0) }; 3];
    let counts = [const { AtomicU64::new(0) }; 3];
    thread::scope(|scope| {
        for seed in 0..THREADS {
            let counts = &counts;
            scope.spawn(move || {
                let mut random = Random::new(seed);
                for _ in 0..budget.rounds().count().min(20_000) {
                    let index = random.below(3);
                    Lock { word: &WORDS[index], private: PRIVATE }.with(|| increment(&counts[index]));
                }
            });
        }
    });
}

/// Not atomic on purpose: only a lock makes it right.
fn increment(count: &AtomicU64) {
    let value = count.load(Ordering::Relaxed);
    std::hint::spin_loop();
    check!(
        count.compare_exchange(value, value + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok(),
        "two threads held one lock"
    );
}

/// A word in shared memory, seen at the same address by parent and children.
fn between_processes() {
    const STEPS: u64 = 1000;
    let area = Area::shared(1);
    let work = || {
        let lock = Lock { word: area.address(0) as *const AtomicU32, private: 0 };
        for _ in 0..STEPS {
            lock.with(|| area.write(0, 9, area.read(0, 9) + 1));
        }
    };
    let children: Vec<_> = (0..3)
        .map(|_| {
            fork(|| {
                work();
                0
            })
        })
        .collect();
    work();
    for child in children {
        child.expect_success("a child that takes a shared lock");
    }
    check!(area.read(0, 9) == 4 * STEPS, "{} steps under a shared lock, not {}", area.read(0, 9), 4 * STEPS);
    area.unmap(0..1);
}

/// All wait at one word, are moved to another one, and woken there one by one.
fn requeued() {
    let (gate, door, awake) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while gate.load(Ordering::Acquire) == 0 {
                    futex(gate.as_ptr(), libc::FUTEX_WAIT | PRIVATE, 0, std::ptr::null(), std::ptr::null(), 0);
                }
                awake.fetch_add(1, Ordering::AcqRel);
            });
        }
        let refused = futex(gate.as_ptr(), libc::FUTEX_CMP_REQUEUE | PRIVATE, 1, 100 as *const _, door.as_ptr(), 7);
        check!(refused == -1 && error() == libc::EAGAIN, "a requeue with the wrong value: {refused}");
        gate.store(1, Ordering::Release);
        let mut moved = 0;
        while u64::from(awake.load(Ordering::Acquire)) < THREADS {
            // Wakes one, moves the others; the fourth argument is a number here.
            moved += futex(gate.as_ptr(), libc::FUTEX_CMP_REQUEUE | PRIVATE, 1, 100 as *const _, door.as_ptr(), 1);
            futex(door.as_ptr(), libc::FUTEX_WAKE | PRIVATE, 1, std::ptr::null(), std::ptr::null(), 0);
            thread::yield_now();
        }
        check!(moved >= 0, "a requeue failed");
    });
}

/// A wake with other bits wakes nobody.
fn bit_sets() {
    let (word, awake) = (AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        for bit in 0..4u32 {
            let (word, awake) = (&word, &awake);
            scope.spawn(move || {
                while word.load(Ordering::Acquire) & 1 << bit == 0 {
                    let value = word.load(Ordering::Acquire);
                    let operation = libc::FUTEX_WAIT_BITSET | PRIVATE;
                    if value & 1 << bit == 0 {
                        futex(word.as_ptr(), operation, value, std::ptr::null(), std::ptr::null(), 1 << bit);
                    }
                }
                awake.fetch_add(1, Ordering::AcqRel);
            });
        }
        for bit in 0..4u32 {
            word.fetch_or(1 << bit, Ordering::AcqRel);
            while awake.load(Ordering::Acquire) != bit + 1 {
                let operation = libc::FUTEX_WAKE_BITSET | PRIVATE;
                futex(word.as_ptr(), operation, 100, std::ptr::null(), std::ptr::null(), 1 << bit);
                thread::yield_now();
            }
        }
    });
}

/// Relative and absolute time-outs come, not early, and a wrong value or an odd address is told at once.
fn time_outs() {
    let word = AtomicU32::new(5);
    let short = libc::timespec { tv_sec: 0, tv_nsec: 3_000_000 };
    let began = Instant::now();
    let result = futex(word.as_ptr(), libc::FUTEX_WAIT | PRIVATE, 5, &raw const short, std::ptr::null(), 0);
    check!(result == -1 && error() == libc::ETIMEDOUT, "a wait of 3 ms: {result}");
    check!(began.elapsed() >= Duration::from_millis(3), "a time-out came early: {:?}", began.elapsed());
    let past = libc::timespec { tv_sec: 0, tv_nsec: 1 };
    let operation = libc::FUTEX_WAIT_BITSET | PRIVATE;
    let result = futex(word.as_ptr(), operation, 5, &raw const past, std::ptr::null(), u32::MAX);
    check!(result == -1 && error() == libc::ETIMEDOUT, "a wait until long ago: {result}");
    let result = futex(word.as_ptr(), libc::FUTEX_WAIT | PRIVATE, 4, std::ptr::null(), std::ptr::null(), 0);
    check!(result == -1 && error() == libc::EAGAIN, "a wait for another value: {result}");
    let odd = (word.as_ptr() as usize + 1) as *const u32;
    let result = futex(odd, libc::FUTEX_WAIT | PRIVATE, 5, std::ptr::null(), std::ptr::null(), 0);
    check!(result == -1 && error() == libc::EINVAL, "a wait at an odd address: {result}");
    let nowhere = 16 as *const u32;
    let result = futex(nowhere, libc::FUTEX_WAIT | PRIVATE, 5, std::ptr::null(), std::ptr::null(), 0);
    check!(result == -1 && error() == libc::EFAULT, "a wait nowhere: {result}");
}

/// Fresh shared memory of one page.
fn object() -> Area {
    // SAFETY: the name ends with zero.
    let file = unsafe { libc::memfd_create(c"word".as_ptr(), 0) };
    check!(file >= 0, "no file in memory");
    // SAFETY: only numbers; the mapping keeps the file.
    unsafe {
        check!(libc::ftruncate(file, 4096) == 0, "no length");
        let area = Area::of_file(0, file, 1, libc::MAP_SHARED);
        libc::close(file);
        area
    }
}

/// Who sleeps on a word of an object that is gone is not woken through another object in its place, nor through memory at its address.
fn strangers() {
    const SLEEPERS: usize = 8;
    static SLEEP: AtomicU32 = AtomicU32::new(0);
    let sleeper = fork(|| {
        for number in 0..SLEEPERS {
            let area = object();
            let word = area.address(0);
            let thread = thread::spawn(move || {
                // SAFETY: asks for a number.
                SLEEP.store(unsafe { libc::gettid() } as u32, Ordering::Release);
                futex(word as *const u32, libc::FUTEX_WAIT, 0, std::ptr::null(), std::ptr::null(), 0);
                eprintln!("futex_storm: sleeper {number} was woken by a stranger");
                quire_workloads::process::leave(1);
            });
            while SLEEP.load(Ordering::Acquire) == 0 {
                std::hint::spin_loop();
            }
            thread::sleep(Duration::from_millis(10));
            SLEEP.store(0, Ordering::Relaxed);
            area.unmap(0..1);
            drop(thread);
        }
        for _ in 0..1000 {
            let area = object();
            let woken =
                futex(area.address(0) as *const u32, libc::FUTEX_WAKE, 9, std::ptr::null(), std::ptr::null(), 0);
            if woken != 0 {
                return 2;
            }
            area.unmap(0..1);
        }
        0
    });
    sleeper.expect_success("a wake through a fresh object");
}

/// Without the private flag, the page counts: it must be there or come, and one that no object has is another place than the same
/// address with the flag.
fn pages() {
    let wake = |at: usize, private: i32| {
        let woken = futex(at as *const u32, libc::FUTEX_WAKE | private, 1, std::ptr::null(), std::ptr::null(), 0);
        if woken < 0 { -i64::from(error()) } else { woken }
    };
    let none = Area::mapped(0, 1, libc::PROT_NONE, libc::MAP_PRIVATE);
    let fault = -i64::from(libc::EFAULT);
    check!(wake(none.address(0), 0) == fault, "a page without rights: {}", wake(none.address(0), 0));
    check!(wake(none.address(0), PRIVATE) == 0, "a private futex that nobody waits on");
    let read_only = Area::mapped(0, 1, libc::PROT_READ, libc::MAP_PRIVATE);
    check!(wake(read_only.address(0), 0) == fault, "a private page that may only be read");
    none.unmap(0..1);
    check!(wake(none.address(0), 0) == fault, "a page that is gone");

    let word = AtomicU32::new(0);
    let at = word.as_ptr() as usize;
    thread::scope(|scope| {
        let waiter = scope.spawn(move || {
            futex(at as *const u32, libc::FUTEX_WAIT, 0, std::ptr::null(), std::ptr::null(), 0);
        });
        let end = Instant::now() + Duration::from_secs(60);
        let mut woken = 0;
        while woken == 0 {
            check!(wake(at, PRIVATE) == 0, "a private wake reaches who waits without the flag");
            woken = wake(at, 0);
            check!(Instant::now() < end, "nobody waits");
            thread::sleep(Duration::from_millis(1));
        }
        check!(waiter.join().is_ok(), "the waiter fails");
    });
}
