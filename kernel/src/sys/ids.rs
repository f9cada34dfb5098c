//! Who a process is: ids, groups, sessions, names.

use crate::mem::user::{UserPtr, UserSlice, read_cstr};
use crate::proc::policy;
use crate::proc::process::ALL_CAPABILITIES;
use crate::proc::process::Process;
use crate::proc::signal::MAX;
use crate::proc::thread::{current, user};
use crate::proc::tree;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use linux_raw_sys::prctl as p;
use quire_arch::UserRegs;
use quire_base::errno::*;

/// `getpid`
pub fn getpid(_: &mut UserRegs) -> SysResult {
    Ok(current().pid as usize)
}
/// `gettid`
pub fn gettid(_: &mut UserRegs) -> SysResult {
    Ok(user().tid() as usize)
}
/// `getppid`
pub fn getppid(_: &mut UserRegs) -> SysResult {
    Ok(tree::parent_pid(current()) as usize)
}
/// The user and group ids: everybody is root.
pub fn zero(_: &mut UserRegs) -> SysResult {
    Ok(0)
}
/// `setuid`, `setgid`: root stays root.
pub fn set_one(r: &mut UserRegs) -> SysResult {
    if r.a0() as u32 == 0 { Ok(0) } else { Err(EPERM) }
}
/// `setresuid` and its kind.
pub fn set_many(r: &mut UserRegs) -> SysResult {
    let ok = |v: usize| matches!(v as u32, 0 | u32::MAX);
    if ok(r.a0()) && ok(r.a1()) { Ok(0) } else { Err(EPERM) }
}
/// `getresuid`, `getresgid`
pub fn getres(r: &mut UserRegs) -> SysResult {
    for at in [r.a0(), r.a1(), r.a2()] {
        UserPtr::<u32>::new(at).write(0)?;
    }
    Ok(0)
}
/// `getgroups`: one group, root's.
pub fn getgroups(r: &mut UserRegs) -> SysResult {
    match r.a0() as i32 {
        0 => Ok(1),
        ..0 => Err(EINVAL),
        _ => {
            UserPtr::<u32>::new(r.a1()).write(0)?;
            Ok(1)
        }
    }
}
/// `set_tid_address`
pub fn set_tid_address(r: &mut UserRegs) -> SysResult {
    user().clear_child_tid.store(r.a0() as u64, Ordering::Relaxed);
    Ok(user().tid() as usize)
}

fn by_pid(pid: usize) -> Result<Arc<Process>, Errno> {
    match pid as i32 {
        0 => Ok(current().clone()),
        ..0 => Err(ESRCH),
        pid => tree::process_of(pid as u32).ok_or(ESRCH),
    }
}

/// `getpgid`
pub fn getpgid(r: &mut UserRegs) -> SysResult {
    Ok(tree::group_of(&*by_pid(r.a0())?) as usize)
}
/// `getpgrp`
pub fn getpgrp(_: &mut UserRegs) -> SysResult {
    Ok(tree::group_of(current()) as usize)
}
/// `setpgid`
pub fn setpgid(r: &mut UserRegs) -> SysResult {
    let (pid, group) = (r.a0() as i32, r.a1() as i32);
    if group < 0 || pid < 0 {
        return Err(if group < 0 { EINVAL } else { ESRCH });
    }
    let me = current();
    let process = by_pid(pid as usize)?;
    if pid != 0 && process.pid != pid as u32 {
        return Err(EINVAL);
    }
    let mut tree = tree::lock();
    let is_me = Arc::ptr_eq(&process, me);
    let is_child = tree.parent(&process).is_some_and(|p| Arc::ptr_eq(&p, me));
    if !is_me && !is_child {
        return Err(ESRCH);
    }
    if is_child && process.did_exec.load(Ordering::Relaxed) {
        return Err(EACCES);
    }
    let sid = tree.links(me).sid;
    if tree.links(&process).sid != sid || sid == process.pid {
        return Err(EPERM);
    }
    let group = if group == 0 { process.pid } else { group as u32 };
    if group != process.pid {
        let all: alloc::vec::Vec<_> = tree.processes.values().cloned().collect();
        if !all.iter().any(|p| {
            let links = tree.links(p);
            links.pgid == group && links.sid == sid
        }) {
            return Err(EPERM);
        }
    }
    tree.links(&process).pgid = group;
    Ok(0)
}
/// `getsid`
pub fn getsid(r: &mut UserRegs) -> SysResult {
    let process = by_pid(r.a0())?;
    Ok(tree::lock().links(&process).sid as usize)
}
/// `setsid`
pub fn setsid(_: &mut UserRegs) -> SysResult {
    let me = current();
    let mut tree = tree::lock();
    let all: alloc::vec::Vec<_> = tree.processes.values().cloned().collect();
    if all.iter().any(|p| tree.links(p).pgid == me.pid) {
        return Err(EPERM);
    }
    let links = tree.links(me);
    (links.pgid, links.sid) = (me.pid, me.pid);
    Ok(me.pid as usize)
}

/// `capget`: all of them.
pub fn capget(r: &mut UserRegs) -> SysResult {
    UserPtr::<u32>::new(r.a0()).write(0x2008_0522)?;
    if r.a1() != 0 {
        let (low, high) = (ALL_CAPABILITIES as u32, (ALL_CAPABILITIES >> 32) as u32);
        let all = [low, low, 0, high, high, 0];
        UserPtr::<[u32; 6]>::new(r.a1()).write(all)?;
    }
    Ok(0)
}
/// `personality`: that of Linux, with or without addresses that are the same in every run, as they are here.
pub fn personality(r: &mut UserRegs) -> SysResult {
    let settings = &mut user().settings.lock();
    let before = settings.personality;
    match r.a0() as u32 {
        u32::MAX => {}
        new if new & !FIXED_ADDRESSES == 0 => settings.personality = new,
        _ => return Err(EINVAL),
    }
    Ok(before as usize)
}
/// `ADDR_NO_RANDOMIZE`
const FIXED_ADDRESSES: u32 = 0x0004_0000;

/// `prctl`
pub fn prctl(r: &mut UserRegs) -> SysResult {
    let (option, arg) = (r.a0() as u32, r.a1());
    match option {
        p::PR_SET_NAME => {
            let mut name = [0u8; 16];
            let text = match read_cstr(arg, 15) {
                Err(e) if e == ENAMETOOLONG => {
                    let mut head = [0u8; 15];
                    UserSlice::new(arg, 15)?.copy_in(&mut head)?;
                    head.to_vec()
                }
                other => other?,
            };
            name[..text.len()].copy_from_slice(&text);
            *user().name.lock() = name;
            Ok(0)
        }
        p::PR_GET_NAME => {
            let name = *user().name.lock();
            UserPtr::<[u8; 16]>::new(arg).write(name)?;
            Ok(0)
        }
        p::PR_SET_PDEATHSIG => {
            let signal = u8::try_from(arg).ok().filter(|&signal| signal <= MAX).ok_or(EINVAL)?;
            current().parent_death.store(signal, Ordering::Relaxed);
            Ok(0)
        }
        p::PR_GET_PDEATHSIG => {
            let signal = current().parent_death.load(Ordering::Relaxed);
            UserPtr::<i32>::new(arg).write(i32::from(signal))?;
            Ok(0)
        }
        p::PR_GET_DUMPABLE => Ok(usize::from(current().dumpable.load(Ordering::Relaxed))),
        p::PR_SET_DUMPABLE => {
            if arg > 1 {
                return Err(EINVAL);
            }
            current().dumpable.store(arg == 1, Ordering::Relaxed);
            Ok(0)
        }
        p::PR_SET_CHILD_SUBREAPER => {
            current().subreaper.store(arg != 0, Ordering::Relaxed);
            Ok(0)
        }
        p::PR_GET_CHILD_SUBREAPER => {
            UserPtr::<i32>::new(arg).write(i32::from(current().subreaper.load(Ordering::Relaxed)))?;
            Ok(0)
        }
        p::PR_SET_NO_NEW_PRIVS => {
            if arg != 1 || [r.a2(), r.a3(), r.a4()] != [0; 3] {
                return Err(EINVAL);
            }
            user().settings.lock().no_new_privs = true;
            Ok(0)
        }
        p::PR_GET_NO_NEW_PRIVS if [arg, r.a2(), r.a3(), r.a4()] != [0; 4] => Err(EINVAL),
        p::PR_GET_NO_NEW_PRIVS => Ok(usize::from(user().settings.lock().no_new_privs)),
        p::PR_SET_KEEPCAPS => {
            if arg > 1 {
                return Err(EINVAL);
            }
            user().settings.lock().keep_caps = arg == 1;
            Ok(0)
        }
        p::PR_GET_KEEPCAPS => Ok(usize::from(user().settings.lock().keep_caps)),
        p::PR_SET_TIMERSLACK => {
            let mut settings = user().settings.lock();
            // A real-time thread has none, and keeps to it.
            if !policy::get(user()).is_realtime() {
                settings.slack[0] = if arg == 0 { settings.slack[1] } else { arg as u64 };
            }
            Ok(0)
        }
        p::PR_GET_TIMERSLACK => Ok(user().settings.lock().slack[0] as usize),
        p::PR_GET_SECCOMP | p::PR_SET_THP_DISABLE => Ok(0),
        p::PR_GET_THP_DISABLE | p::PR_GET_MDWE | p::PR_MCE_KILL_GET if [arg, r.a2(), r.a3(), r.a4()] != [0; 4] => {
            Err(EINVAL)
        }
        p::PR_GET_THP_DISABLE => Ok(1),
        // Times are sampled nowhere, what is mapped may be written and run, and a broken page ends whoever touches it.
        p::PR_GET_TIMING | p::PR_GET_MDWE => Ok(0),
        p::PR_SET_TIMING if arg as u32 == p::PR_TIMING_STATISTICAL => Ok(0),
        p::PR_MCE_KILL_GET => Ok(p::PR_MCE_KILL_DEFAULT as usize),
        p::PR_GET_TSC => {
            UserPtr::<u32>::new(arg).write(p::PR_TSC_ENABLE)?;
            Ok(0)
        }
        p::PR_GET_SECUREBITS => {
            const KEEP_CAPS: usize = 1 << 4;
            Ok(if user().settings.lock().keep_caps { KEEP_CAPS } else { 0 })
        }
        p::PR_CAPBSET_READ => {
            if arg <= 40 {
                Ok(1)
            } else {
                Err(EINVAL)
            }
        }
        p::PR_GET_TID_ADDRESS => {
            UserPtr::<u64>::new(arg).write(user().clear_child_tid.load(Ordering::Relaxed))?;
            Ok(0)
        }
        // Names for anonymous memory are accepted as by a kernel that does not show them: EINVAL.
        _ => Err(EINVAL),
    }
}
