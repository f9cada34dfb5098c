//! Resource limits: recorded for all, obeyed for files, stack, address space and data.

use linux_raw_sys::general as l;

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

/// The limits of one process.
pub type Limits = [Limit; COUNT];

/// What a process starts with: Linux's defaults for root.
pub fn defaults() -> Limits {
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

/// How large the current program's stack may grow, in pages.
pub fn stack_pages() -> u64 {
    let Some(user) = &crate::sched::current().user else { return 0 };
    user.process.limit(l::RLIMIT_STACK) / 4096
}
