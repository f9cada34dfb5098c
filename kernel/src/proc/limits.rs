//! Resource limits: recorded for all, obeyed for files, stack, address space, data, processor time and pending signals.

use super::signal::{SIGXFSZ, SigInfo, code, send};
use super::thread::part;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use linux_raw_sys::general as l;
use quire_base::errno::{EFBIG, Errno};
use quire_base::lock::Mutex;
use quire_sched as sched;

/// "No limit".
pub const INFINITY: u64 = u64::MAX;
/// Number of resources that Linux knows.
pub const COUNT: usize = 16;

/// A soft and a hard limit.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Limit {
    /// What is enforced.
    pub soft: u64,
    /// How far the program may raise it.
    pub hard: u64,
}
crate::mem::user::plain!(Limit);

/// The limits of one process. Both limits of a resource change together, under a lock; who obeys reads the soft one without it.
pub struct Limits {
    table: Mutex<[Limit; COUNT]>,
    soft: [AtomicU64; COUNT],
    /// RLIMIT_AS or RLIMIT_DATA is one.
    holds_memory: AtomicBool,
}

impl Limits {
    /// What the first process starts with: Linux's defaults for root.
    pub fn new() -> Limits {
        let table = defaults();
        let soft = table.map(|limit| AtomicU64::new(limit.soft));
        Limits { soft, table: Mutex::new(table), holds_memory: AtomicBool::new(false) }
    }

    /// Whether there is a limit of memory. Relaxed, as [`Limits::soft`].
    #[inline]
    pub fn hold_memory(&self) -> bool {
        self.holds_memory.load(Ordering::Relaxed)
    }

    /// The soft limit of a resource. Relaxed: a number by itself.
    #[inline]
    pub fn soft(&self, resource: u32) -> u64 {
        self.soft[resource as usize].load(Ordering::Relaxed)
    }

    /// All of them.
    pub fn all(&self) -> [Limit; COUNT] {
        *self.table.lock()
    }

    /// Gives a resource another limit, if there is a new one; returns the one that it had.
    pub fn exchange(&self, resource: u32, new: Option<Limit>) -> Limit {
        let mut table = self.table.lock();
        let old = table[resource as usize];
        if let Some(new) = new {
            table[resource as usize] = new;
            self.soft[resource as usize].store(new.soft, Ordering::Relaxed);
            let is = |resource: u32| table[resource as usize].soft != INFINITY;
            self.holds_memory.store(is(l::RLIMIT_AS) || is(l::RLIMIT_DATA), Ordering::Relaxed);
        }
        old
    }

    /// Makes a soft limit larger by one, if the limit is still this one.
    pub fn raise(&self, resource: u32, old: Limit) -> bool {
        let mut table = self.table.lock();
        let limit = &mut table[resource as usize];
        let same = (limit.soft, limit.hard) == (old.soft, old.hard);
        if same {
            limit.soft += 1;
            self.soft[resource as usize].store(limit.soft, Ordering::Relaxed);
        }
        same
    }

    /// A child's: as its parent's.
    pub fn inherit(&self, parent: &Limits) {
        for (limit, resource) in parent.all().into_iter().zip(0..) {
            self.exchange(resource, Some(limit));
        }
    }
}

fn defaults() -> [Limit; COUNT] {
    let mut limits = [Limit { soft: INFINITY, hard: INFINITY }; COUNT];
    limits[l::RLIMIT_STACK as usize] = Limit { soft: 8 << 20, hard: INFINITY };
    limits[l::RLIMIT_CORE as usize] = Limit { soft: 0, hard: INFINITY };
    limits[l::RLIMIT_NOFILE as usize] = Limit { soft: 1024, hard: 524_288 };
    limits[l::RLIMIT_MEMLOCK as usize] = Limit { soft: 8 << 20, hard: 8 << 20 };
    limits[l::RLIMIT_NPROC as usize] = Limit { soft: 63_000, hard: 63_000 };
    limits[l::RLIMIT_SIGPENDING as usize] = Limit { soft: 63_000, hard: 63_000 };
    limits[l::RLIMIT_MSGQUEUE as usize] = Limit { soft: 819_200, hard: 819_200 };
    limits[l::RLIMIT_NICE as usize] = Limit { soft: 0, hard: 0 };
    limits[l::RLIMIT_RTPRIO as usize] = Limit { soft: 0, hard: 0 };
    limits
}

/// How many bytes the current program may write from byte `at` of a file on. EFBIG with SIGXFSZ: none.
pub fn file_room(at: u64) -> Result<u64, Errno> {
    let Some(user) = part(sched::current()) else { return Ok(u64::MAX) };
    let limit = user.process.limit(l::RLIMIT_FSIZE);
    if limit == INFINITY || at < limit {
        return Ok(limit - at);
    }
    // A standard signal always finds room.
    let _ = send::to_thread(&sched::current_ref(), SigInfo::from_current(SIGXFSZ, code::USER));
    Err(EFBIG)
}

/// How large the current program's stack may grow, in bytes.
pub fn stack_limit() -> u64 {
    const FIRST: u64 = 8 << 20;
    part(sched::current()).map_or(FIRST, |user| user.process.limit(l::RLIMIT_STACK))
}
