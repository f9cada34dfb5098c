//! What the workloads have in common: a budget of rounds or seconds, memory to be tortured, processes, a clear verdict.
//!
//! Each workload is an ordinary static Linux program. It takes one optional argument, a number of rounds (`200`) or a
//! time (`10s`), prints one line that is the same on every run (`NAME: ok`), and ends with status 1 and a line on
//! standard error when it finds a violation. None of them handles a signal: what must fail is tried by a system call
//! (`EFAULT` instead of `SIGSEGV`, through the same translations) or in a child whose end the parent looks at.

use std::fmt::Arguments;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub mod area;
pub mod canary;
pub mod differ;
pub mod large;
pub mod process;

pub use area::{Area, PAGE};

/// How long a workload shall go on.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    rounds: u64,
    deadline: Option<Instant>,
}

impl Budget {
    /// From the first argument: rounds, or seconds with an `s` behind, or `rounds` if there is none.
    pub fn from_arguments(rounds: u64) -> Self {
        let Some(text) = std::env::args().nth(1) else { return Self { rounds, deadline: None } };
        let parsed = match text.strip_suffix('s') {
            Some(seconds) => seconds.parse().map(|seconds| Self {
                rounds: u64::MAX,
                deadline: Some(Instant::now() + Duration::from_secs(seconds)),
            }),
            None => text.parse().map(|rounds| Self { rounds, deadline: None }),
        };
        parsed.unwrap_or_else(|_| {
            eprintln!("usage: {} [ROUNDS | SECONDSs]", name());
            std::process::exit(2)
        })
    }

    /// The rounds, counted from zero, until their number or the time is used up.
    pub fn rounds(self) -> impl Iterator<Item = u64> {
        (0..self.rounds).take_while(move |_| self.deadline.is_none_or(|deadline| Instant::now() < deadline))
    }

    /// The number of rounds divided by `by`, at least one; the time stays.
    #[must_use]
    pub fn divided(self, by: u64) -> Self {
        Self { rounds: (self.rounds / by).max(1), ..self }
    }
}

/// The program's name without its directory.
pub fn name() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        let path = std::env::args().next().unwrap_or_default();
        path.rsplit('/').next().unwrap_or_default().to_owned()
    })
}

/// The line that says that nothing was found.
pub fn ok() {
    println!("{}: ok", name());
}

/// Ends the process, and all its threads, with a clear line.
pub fn violated(what: Arguments<'_>) -> ! {
    eprintln!("{}: violation: {what}", name());
    std::process::exit(1)
}

/// `check!(condition, "what was seen {}", value)`: ends the process when the condition does not hold.
#[macro_export]
macro_rules! check {
    ($condition:expr, $($what:tt)+) => {
        if !$condition {
            $crate::violated(format_args!($($what)+));
        }
    };
}

/// Small, fast, the same on every run: xorshift64*.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Different seeds, different sequences.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Less than `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.draw()) * bound as u128) >> 64) as usize
    }
}

/// A flag that helpers look at to learn that the main part is over.
#[derive(Debug, Default)]
pub struct Stop(AtomicBool);

impl Stop {
    /// Not yet.
    pub const fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Over now.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it is over.
    pub fn stopped(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A number that only grows, seen by all threads.
#[derive(Debug, Default)]
pub struct Epoch(AtomicU64);

impl Epoch {
    /// Zero.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Everything done before is visible to whoever sees `value`.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Release);
    }

    /// The latest value that has arrived here.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Spins, then yields, until `condition` holds for the value.
    pub fn wait(&self, condition: impl Fn(u64) -> bool) -> u64 {
        for spins in 0u32.. {
            let value = self.get();
            if condition(value) {
                return value;
            }
            pause(spins);
        }
        unreachable!("the loop has no end")
    }
}

/// One step of a wait: spin at first, then let others run. A vCPU that is waited for may be stopped by the host.
pub fn pause(spins: u32) {
    if spins % 128 == 127 { std::thread::yield_now() } else { std::hint::spin_loop() }
}

/// Spins for about so long without giving the CPU away.
pub fn spin(steps: u32) {
    for _ in 0..steps {
        std::hint::spin_loop();
    }
}

/// Quire's counters, by name; none on another kernel.
pub fn counters() -> Vec<(String, u64)> {
    let text = std::fs::read_to_string("/proc/quire").unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once(' ').map(|(name, n)| (name.into(), n.parse().unwrap_or(0))))
        .collect()
}

/// Number of CPUs that this process may use.
pub fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Keeps the calling thread on the `index`-th CPU (modulo their number), where the system allows it.
pub fn pin(index: usize) {
    // SAFETY: an all-zero CPU set is a valid empty one, and the call reads no more than its size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(index % cpus(), &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
    }
}
