//! The calls about policies of scheduling.

use super::schedule::target;
use crate::mem::user::{UserPtr, UserSlice};
use crate::mem::user_time::store_timespec;
use crate::proc::policy;
use crate::proc::thread::of;
use linux_raw_sys::general as l;
use quire_arch::UserRegs;
use quire_base::errno::*;
use quire_sched::SLICE;
use quire_unix::policy::Policy;

// Linux's flags of `struct sched_attr`, and of those the ones that are taken.
const RESET: u64 = l::SCHED_FLAG_RESET_ON_FORK as u64;
const KEEP_POLICY: u64 = l::SCHED_FLAG_KEEP_POLICY as u64;
const KEEP_PARAMS: u64 = l::SCHED_FLAG_KEEP_PARAMS as u64;
const CLAMP: u64 = (l::SCHED_FLAG_UTIL_CLAMP_MIN | l::SCHED_FLAG_UTIL_CLAMP_MAX) as u64;
/// That of a kernel thread which no program is; Linux takes it, and so it is taken here.
const SUGOV: u64 = 0x1000_0000;
const KNOWN: u64 =
    RESET | l::SCHED_FLAG_RECLAIM as u64 | l::SCHED_FLAG_DL_OVERRUN as u64 | KEEP_POLICY | KEEP_PARAMS | CLAMP | SUGOV;

/// Bytes of the first `struct sched_attr`, and of this one.
const FIRST: usize = 48;
const SIZE: usize = 56;

/// `sched_getscheduler`
pub fn getscheduler(r: &mut UserRegs) -> SysResult {
    let policy = policy::get(of(&*target(r.a0())?));
    Ok((policy.policy | if policy.reset { l::SCHED_RESET_ON_FORK } else { 0 }) as usize)
}

/// A thread's number, and a `sched_param`. As on Linux, none of either is another mistake than one that cannot be read.
fn read_priority(id: usize, at: usize) -> Result<u32, Errno> {
    if at == 0 || (id as i32) < 0 { Err(EINVAL) } else { UserPtr::<u32>::new(at).read() }
}

/// `sched_setscheduler`
pub fn setscheduler(r: &mut UserRegs) -> SysResult {
    let number = r.a1() as u32;
    if (number as i32) < 0 {
        return Err(EINVAL);
    }
    let priority = read_priority(r.a0(), r.a2())?;
    let reset = number & l::SCHED_RESET_ON_FORK != 0;
    let thread = target(r.a0())?;
    let old = policy::get(of(&thread));
    let new = Policy { policy: number & !l::SCHED_RESET_ON_FORK, priority, reset, ..old }.check()?;
    policy::set(of(&thread), new);
    Ok(0)
}

/// `sched_getparam`
pub fn getparam(r: &mut UserRegs) -> SysResult {
    if r.a1() == 0 {
        return Err(EINVAL);
    }
    UserPtr::<u32>::new(r.a1()).write(policy::get(of(&*target(r.a0())?)).priority)?;
    Ok(0)
}

/// `sched_setparam`
pub fn setparam(r: &mut UserRegs) -> SysResult {
    let priority = read_priority(r.a0(), r.a1())?;
    let thread = target(r.a0())?;
    let new = Policy { priority, ..policy::get(of(&thread)) }.check()?;
    policy::set(of(&thread), new);
    Ok(0)
}

/// `sched_setattr`
pub fn setattr(r: &mut UserRegs) -> SysResult {
    let (at, bad) = (r.a1(), (r.a0() as i32) < 0 || r.a2() as u32 != 0);
    if at == 0 || bad {
        return Err(EINVAL);
    }
    let (raw, size) = read_attr(at)?;
    let word = |n: usize| u32::from_ne_bytes([raw[n], raw[n + 1], raw[n + 2], raw[n + 3]]);
    let (policy, nice, priority) = (word(4), word(16) as i32, word(20));
    let long = |n: usize| u64::from(word(n)) | u64::from(word(n + 4)) << 32;
    let (flags, runtime) = (long(8), long(24));
    if flags & CLAMP != 0 && size < SIZE || (policy as i32) < 0 {
        return Err(EINVAL);
    }
    let thread = target(r.a0())?;
    let old = policy::get(of(&thread));
    let (keeps, keeps_params) = (flags & KEEP_POLICY != 0, flags & KEEP_PARAMS != 0);
    let new = Policy {
        policy: if keeps { old.policy } else { policy },
        priority: if keeps_params && old.is_realtime() { old.priority } else { priority },
        reset: if keeps { old.reset } else { flags & RESET != 0 },
        runtime: old.runtime,
    };
    if flags & !KNOWN != 0 {
        return Err(EINVAL);
    }
    let mut new = new.check()?;
    if flags & CLAMP != 0 {
        return Err(EOPNOTSUPP);
    }
    if keeps_params {
        // As on Linux, the policy is one of them.
        policy::set(of(&thread), Policy { reset: new.reset, ..old });
        return Ok(0);
    }
    if new.is_fair() {
        new.runtime = Policy::runtime_of(runtime);
        thread.set_nice(nice);
    }
    policy::set(of(&thread), new);
    Ok(0)
}

/// A `struct sched_attr`, and how much of it there was. E2BIG, with the size that is known, where it can be stored: another size, or
/// more than is known.
fn read_attr(at: usize) -> Result<([u8; SIZE], usize), Errno> {
    let too_big = || {
        let _ = UserPtr::<u32>::new(at).write(SIZE as u32);
        E2BIG
    };
    let size = match UserPtr::<u32>::new(at).read()? as usize {
        0 => FIRST,
        size if (FIRST..=4096).contains(&size) => size,
        _ => return Err(too_big()),
    };
    let mut raw = [0u8; SIZE];
    let known = size.min(SIZE);
    for more in SIZE..size {
        if UserPtr::<u8>::new(at + more).read()? != 0 {
            return Err(too_big());
        }
    }
    UserSlice::new(at, known)?.copy_in(&mut raw[..known])?;
    Ok((raw, size))
}

/// `sched_getattr`
pub fn getattr(r: &mut UserRegs) -> SysResult {
    let (at, size) = (r.a1(), r.a2() as u32 as usize);
    if at == 0 || (r.a0() as i32) < 0 || !(FIRST..=4096).contains(&size) || r.a3() as u32 != 0 {
        return Err(EINVAL);
    }
    let thread = target(r.a0())?;
    let policy = policy::get(of(&thread));
    let nice = if policy.is_realtime() { 0 } else { thread.nice() };
    let words = [size.min(SIZE) as u32, policy.policy, u32::from(policy.reset), 0, nice as u32, policy.priority];
    let mut raw = [0u8; SIZE];
    raw.chunks_mut(4).zip(words).for_each(|(to, word)| to.copy_from_slice(&word.to_ne_bytes()));
    let runtime = if policy.is_realtime() { 0 } else { policy.slice(SLICE) };
    raw[24..32].copy_from_slice(&runtime.to_ne_bytes());
    let known = size.min(SIZE);
    // What is behind it first, as on Linux.
    if size > SIZE && UserSlice::new(at + SIZE, size - SIZE)?.zero_some() < size - SIZE {
        return Err(EFAULT);
    }
    UserSlice::new(at, known)?.copy_out(&raw[..known])?;
    Ok(0)
}

/// `sched_get_priority_max`
pub fn priority_max(r: &mut UserRegs) -> SysResult {
    /// Linux's `SCHED_EXT`.
    const EXT: u32 = 7;
    match r.a0() as u32 {
        l::SCHED_FIFO | l::SCHED_RR => Ok(99),
        l::SCHED_NORMAL | l::SCHED_BATCH | l::SCHED_IDLE | l::SCHED_DEADLINE | EXT => Ok(0),
        _ => Err(EINVAL),
    }
}

/// `sched_get_priority_min`
pub fn priority_min(r: &mut UserRegs) -> SysResult {
    priority_max(r).map(|max| usize::from(max > 0))
}

/// `sched_rr_get_interval`: what Linux says of the policy.
pub fn rr_interval(r: &mut UserRegs) -> SysResult {
    let policy = policy::get(of(&*target(r.a0())?));
    let interval = match policy.policy {
        l::SCHED_RR => 100_000_000,
        l::SCHED_FIFO => 0,
        _ => policy.slice(SLICE),
    };
    store_timespec(r.a1(), interval)?;
    Ok(0)
}
