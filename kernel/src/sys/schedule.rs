//! Scheduling calls: affinity and nice values are obeyed, policies are recorded.

use super::Args;
use super::errno::*;
use crate::arch::{self, UserRegs};
use crate::mem::user::{UserPtr, UserSlice};
use crate::proc::thread::{current, of, user};
use crate::proc::tree;
use crate::sched::{self, ThreadRef};
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as l;

fn target(tid: usize) -> Result<ThreadRef, Errno> {
    match tid as i32 {
        0 => Ok(sched::current_ref()),
        ..0 => Err(EINVAL),
        tid => tree::thread(tid as u32).ok_or(ESRCH),
    }
}

/// As [`target`], for the calls about CPUs: a number below zero is nobody's.
fn of_any(tid: usize) -> Result<ThreadRef, Errno> {
    target(tid).map_err(|_| ESRCH)
}

/// `sched_yield`
pub fn sched_yield(_: &mut UserRegs) -> SysResult {
    sched::yield_now();
    Ok(0)
}

fn all_cpus() -> u64 {
    arch::cpu::online()
}

/// `sched_getaffinity`
pub fn getaffinity(r: &mut UserRegs) -> SysResult {
    let (tid, size, at) = (r.a0(), r.a1() as u32 as usize, r.a2());
    if size < 8 || size % 8 != 0 {
        return Err(EINVAL);
    }
    let mask = of_any(tid)?.affinity() & all_cpus();
    UserPtr::<u64>::new(at).write(mask)?;
    Ok(8)
}

/// `sched_setaffinity`
pub fn setaffinity(r: &mut UserRegs) -> SysResult {
    let (tid, size, at) = (r.a0(), r.a1() as u32 as usize, r.a2());
    let mut bytes = [0u8; 8];
    let n = size.min(8);
    UserSlice::new(at, n)?.copy_in(&mut bytes[..n])?;
    let thread = of_any(tid)?;
    let mask = u64::from_ne_bytes(bytes) & all_cpus();
    if mask == 0 {
        return Err(EINVAL);
    }
    thread.set_affinity(mask);
    if thread.tid == sched::current().tid {
        // Moves at once if this CPU is no longer allowed.
        sched::yield_now();
    }
    Ok(0)
}

/// Whether a policy takes a priority.
fn fits(policy: u32, priority: i32) -> bool {
    match policy {
        l::SCHED_NORMAL | l::SCHED_BATCH | l::SCHED_IDLE => priority == 0,
        l::SCHED_FIFO | l::SCHED_RR => (1..=99).contains(&priority),
        _ => false,
    }
}

fn policy(thread: &ThreadRef) -> (u32, i32) {
    let word = of(thread).policy.load(Ordering::Relaxed);
    (word & 0xff, (word >> 8) as i32)
}

fn set_policy(thread: &ThreadRef, policy: u32, priority: i32) -> SysResult {
    if !fits(policy, priority) {
        return Err(EINVAL);
    }
    of(thread).policy.store(policy | (priority as u32) << 8, Ordering::Relaxed);
    Ok(0)
}

/// `sched_getscheduler`
pub fn getscheduler(r: &mut UserRegs) -> SysResult {
    Ok(policy(&target(r.a0())?).0 as usize)
}

/// A `sched_param`. As on Linux, none is another mistake than one that cannot be read.
fn read_priority(at: usize) -> Result<i32, Errno> {
    if at == 0 { Err(EINVAL) } else { UserPtr::<i32>::new(at).read() }
}

/// `sched_setscheduler`: recorded; there is one policy.
pub fn setscheduler(r: &mut UserRegs) -> SysResult {
    let priority = read_priority(r.a2())?;
    set_policy(&target(r.a0())?, r.a1() as u32 & !l::SCHED_RESET_ON_FORK, priority)
}

/// `sched_getparam`
pub fn getparam(r: &mut UserRegs) -> SysResult {
    if r.a1() == 0 {
        return Err(EINVAL);
    }
    UserPtr::<i32>::new(r.a1()).write(policy(&target(r.a0())?).1)?;
    Ok(0)
}

/// `sched_setparam`
pub fn setparam(r: &mut UserRegs) -> SysResult {
    let priority = read_priority(r.a1())?;
    let thread = target(r.a0())?;
    set_policy(&thread, policy(&thread).0, priority)
}

/// `sched_get_priority_max`
pub fn priority_max(r: &mut UserRegs) -> SysResult {
    match r.a0() as u32 {
        l::SCHED_FIFO | l::SCHED_RR => Ok(99),
        l::SCHED_NORMAL | l::SCHED_BATCH | l::SCHED_IDLE | l::SCHED_DEADLINE => Ok(0),
        _ => Err(EINVAL),
    }
}

/// `sched_get_priority_min`
pub fn priority_min(r: &mut UserRegs) -> SysResult {
    priority_max(r).map(|max| usize::from(max > 0))
}

/// `sched_rr_get_interval`
pub fn rr_interval(r: &mut UserRegs) -> SysResult {
    target(r.a0())?;
    super::time::store_timespec(r.a1(), 4_000_000)?;
    Ok(0)
}

/// The threads whose nice values are meant. There is one user.
fn whose(which: usize, who: usize) -> Result<Vec<ThreadRef>, Errno> {
    let group = match which as u32 {
        l::PRIO_PROCESS => return target(who).map(|t| vec![t]).map_err(|_| ESRCH),
        l::PRIO_PGRP if who == 0 => Some(tree::group_of(current())),
        l::PRIO_PGRP => Some(who as u32),
        l::PRIO_USER if who == 0 => None,
        l::PRIO_USER => return Err(ESRCH),
        _ => return Err(EINVAL),
    };
    let members = tree::living(|p, links| p.pid > 1 && group.is_none_or(|group| links.pgid == group));
    let all: Vec<_> = members.iter().flat_map(|p| p.thread_list()).collect();
    if all.is_empty() { Err(ESRCH) } else { Ok(all) }
}

/// `getpriority`: 20 minus the lowest nice value.
pub fn getpriority(r: &mut UserRegs) -> SysResult {
    let lowest = whose(r.a0(), r.a1())?.iter().map(|t| t.nice()).min().ok_or(ESRCH)?;
    Ok((20 - lowest) as usize)
}

/// `setpriority`
pub fn setpriority(r: &mut UserRegs) -> SysResult {
    let nice = r.a2() as i32;
    whose(r.a0(), r.a1())?.iter().for_each(|t| t.set_nice(nice));
    Ok(0)
}

/// `getcpu`
pub fn getcpu(r: &mut UserRegs) -> SysResult {
    UserPtr::<u32>::new(r.a0()).write_opt(arch::cpu_id() as u32)?;
    UserPtr::<u32>::new(r.a1()).write_opt(0)?;
    Ok(0)
}

/// `membarrier`: every other CPU passes a full barrier.
pub fn membarrier(r: &mut UserRegs) -> SysResult {
    const QUERY: u32 = 0;
    const GLOBAL: u32 = 1;
    const PRIVATE: u32 = 8;
    const REGISTER_PRIVATE: u32 = 16;
    if r.a1() != 0 {
        return Err(EINVAL);
    }
    match r.a0() as u32 {
        QUERY => Ok((GLOBAL | PRIVATE | REGISTER_PRIVATE) as usize),
        GLOBAL | PRIVATE => {
            crate::mem::barrier_everywhere(&user().memory().space);
            Ok(0)
        }
        REGISTER_PRIVATE => Ok(0),
        _ => Err(EINVAL),
    }
}
