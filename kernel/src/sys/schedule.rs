//! Scheduling calls about CPUs and nice values, which are obeyed.

use crate::mem::user::{UserPtr, UserSlice};
use crate::proc::thread::current;
use crate::proc::tree;
use alloc::vec;
use alloc::vec::Vec;
use linux_raw_sys::general as l;
use quire_arch::UserRegs;
use quire_base::errno::*;
use quire_sched::{self as sched, ThreadRef};

pub(super) fn target(tid: usize) -> Result<ThreadRef, Errno> {
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
    quire_base::cpu::online()
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
    UserPtr::<u32>::new(r.a0()).write_opt(quire_base::cpu::cpu_id() as u32)?;
    UserPtr::<u32>::new(r.a1()).write_opt(0)?;
    Ok(0)
}
