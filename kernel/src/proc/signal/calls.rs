//! The system calls about signals.

use super::send::{to_group, to_process, to_thread};
use super::{Action, AltStack, Detail, MAX, SigInfo, UNBLOCKABLE, code, frame};
use crate::mem::user::{UserPtr, UserSlice, plain};
use crate::mem::user_time as time;
use crate::proc::process::Process;
use crate::proc::sleep::sleep_until;
use crate::proc::thread::{current, of, user};
use crate::proc::{signal, tree};
use core::sync::atomic::Ordering;
use linux_raw_sys::general as l;
use quire_arch::UserRegs;
use quire_base::errno::*;
use quire_sched::timer;

/// Checks a signal number that may be 0 (only a test of existence).
pub fn number(value: usize) -> Result<Option<u8>, Errno> {
    match value as u32 {
        0 => Ok(None),
        n if n <= u32::from(MAX) => Ok(Some(n as u8)),
        _ => Err(EINVAL),
    }
}

/// Copies a mask in; Linux insists on its size.
pub fn read_mask(at: usize, size: usize) -> Result<u64, Errno> {
    if size != 8 {
        return Err(EINVAL);
    }
    UserPtr::<u64>::new(at).read()
}

/// The flags of an action that there are: others are not kept.
const FLAGS: u64 = (l::SA_NOCLDSTOP | l::SA_NOCLDWAIT | l::SA_SIGINFO | l::SA_EXPOSE_TAGBITS) as u64
    | (l::SA_RESTORER | l::SA_ONSTACK | l::SA_RESTART | l::SA_NODEFER | l::SA_RESETHAND) as u64;

/// `rt_sigaction`
pub fn sigaction(r: &mut UserRegs) -> SysResult {
    let (signal, new, old, size) = (r.a0(), r.a1(), r.a2(), r.a3());
    if size != 8 {
        return Err(EINVAL);
    }
    let signal = match number(signal)? {
        Some(s) => s,
        None => return Err(EINVAL),
    };
    let action = if new != 0 { Some(UserPtr::<Action>::new(new).read()?) } else { None };
    if action.is_some() && super::bit(signal) & UNBLOCKABLE != 0 {
        return Err(EINVAL);
    }
    let process = current();
    let table = process.actions.lock().clone();
    let before = table.get(signal);
    if let Some(mut action) = action {
        action.mask &= !UNBLOCKABLE;
        // A program that tries what is known finds in what it gets back which flags are.
        action.flags &= FLAGS;
        table.set(signal, action);
        if action.ignores(signal) {
            // Ignoring a signal discards what is pending of it.
            let mut pending = process.pending.lock();
            pending.remove(super::bit(signal));
            process.pending_bits.store(pending.bits(), Ordering::SeqCst);
            drop(pending);
            for thread in process.thread_list() {
                of(&thread).pending.lock().remove(super::bit(signal));
            }
        }
    }
    UserPtr::<Action>::new(old).write_opt(before)?;
    Ok(0)
}

/// `rt_sigprocmask`
pub fn sigprocmask(r: &mut UserRegs) -> SysResult {
    let (how, new, old, size) = (r.a0() as u32, r.a1(), r.a2(), r.a3());
    if size != 8 {
        return Err(EINVAL);
    }
    let before = user().blocked.load(Ordering::Relaxed);
    if new != 0 {
        let set = UserPtr::<u64>::new(new).read()?;
        let mask = match how {
            l::SIG_BLOCK => before | set,
            l::SIG_UNBLOCK => before & !set,
            l::SIG_SETMASK => set,
            _ => return Err(EINVAL),
        };
        super::set_mask(mask);
    }
    UserPtr::<u64>::new(old).write_opt(before)?;
    Ok(0)
}

/// `rt_sigpending`
pub fn sigpending(r: &mut UserRegs) -> SysResult {
    if r.a1() > 8 {
        return Err(EINVAL);
    }
    let user = user();
    let bits = user.pending.lock().bits() | user.process.pending_bits.load(Ordering::SeqCst);
    UserSlice::new(r.a0(), r.a1())?.copy_out(&(bits & user.blocked.load(Ordering::Relaxed)).to_ne_bytes()[..r.a1()])?;
    Ok(0)
}

/// `rt_sigsuspend`
pub fn sigsuspend(r: &mut UserRegs) -> SysResult {
    let mask = read_mask(r.a0(), r.a1())?;
    let user = user();
    let before = user.blocked.load(Ordering::Relaxed);
    user.signals.saved_mask.set(Some(before));
    super::set_mask(mask);
    sleep_until(None)?;
    Err(EINTR)
}

/// `pause`
pub fn pause(_: &mut UserRegs) -> SysResult {
    sleep_until(None)?;
    Err(EINTR)
}

/// `rt_sigtimedwait`
pub fn sigtimedwait(r: &mut UserRegs) -> SysResult {
    let (set, info_at, timeout, size) = (r.a0(), r.a1(), r.a2(), r.a3());
    let set = read_mask(set, size)? & !UNBLOCKABLE;
    let deadline = time::read_timeout(timeout)?.map(|ns| timer::now_ns().saturating_add(ns));
    let info = signal::wait_for(set, deadline)?;
    if info_at != 0 {
        UserPtr::<[u8; 128]>::new(info_at).write(info.encode())?;
    }
    Ok(info.signal as usize)
}

#[derive(Clone, Copy)]
#[repr(C)]
struct RawAltStack {
    base: u64,
    flags: u32,
    pad: u32,
    size: u64,
}
plain!(RawAltStack);

/// `sigaltstack`
pub fn sigaltstack(r: &mut UserRegs) -> SysResult {
    let (new, old) = (r.a0(), r.a1());
    let cell = &user().signals.alt;
    let before = cell.copy();
    let flags = frame::alt_flags(before, r.rsp);
    if new != 0 {
        let raw = UserPtr::<RawAltStack>::new(new).read()?;
        if flags == 1 {
            return Err(EPERM);
        }
        let mode = raw.flags & !(1 << 31);
        if mode == 2 {
            cell.set(AltStack { flags: raw.flags & (1 << 31), ..AltStack::default() });
        } else if mode > 1 {
            return Err(EINVAL);
        } else if raw.size < u64::from(l::MINSIGSTKSZ) {
            return Err(ENOMEM);
        } else {
            cell.set(AltStack { base: raw.base, size: raw.size, flags: raw.flags & (1 << 31) });
        }
    }
    UserPtr::<RawAltStack>::new(old).write_opt(RawAltStack { base: before.base, flags, pad: 0, size: before.size })?;
    Ok(0)
}

/// `kill`. Here and below: as on Linux, whoever is nobody is found out before a signal that is none.
pub fn kill(r: &mut UserRegs) -> SysResult {
    let pid = r.a0() as i32;
    let info = || Ok(number(r.a1())?.map(|s| SigInfo::from_current(s, code::USER)));
    match pid {
        1.. => {
            let process = tree::process_of(pid as u32).ok_or(ESRCH)?;
            if let Some(info) = info()? {
                to_process(&process, info)?;
            }
        }
        -1 => {
            let me = current().pid;
            let others = tree::living(|p, _| p.pid > 1 && p.pid != me);
            if others.is_empty() {
                return Err(ESRCH);
            }
            if let Some(info) = info()? {
                for process in others {
                    to_process(&process, info)?;
                }
            }
        }
        _ => {
            let group = if pid == 0 { tree::group_of(current()) } else { pid.unsigned_abs() };
            let is_there = || tree::lock().has_group(group);
            let reached = match info() {
                Ok(Some(info)) => to_group(group, info),
                Ok(None) => is_there(),
                Err(why) => return Err(if is_there() { why } else { ESRCH }),
            };
            if !reached {
                return Err(ESRCH);
            }
        }
    }
    Ok(0)
}

fn to_tid(group: Option<i32>, tid: i32, signal: usize, info: impl FnOnce(u8) -> SigInfo) -> SysResult {
    if tid <= 0 || group.is_some_and(|group| group <= 0) {
        return Err(EINVAL);
    }
    let is_other = |process: &Process| group.is_some_and(|group| process.pid != group as u32);
    let Some(thread) = tree::thread(tid as u32) else {
        // A leader that is gone stays until its process is waited for, and hears nothing.
        tree::process(tid as u32).filter(|process| !is_other(process)).ok_or(ESRCH)?;
        return number(signal).map(|_| 0);
    };
    if is_other(&of(&thread).process) {
        return Err(ESRCH);
    }
    if let Some(signal) = number(signal)? {
        to_thread(&thread, info(signal))?;
    }
    Ok(0)
}

/// `tkill`
pub fn tkill(r: &mut UserRegs) -> SysResult {
    to_tid(None, r.a0() as i32, r.a1(), |s| SigInfo::from_current(s, code::TKILL))
}

/// `tgkill`
pub fn tgkill(r: &mut UserRegs) -> SysResult {
    to_tid(Some(r.a0() as i32), r.a1() as i32, r.a2(), |s| SigInfo::from_current(s, code::TKILL))
}

/// Copies in what is to be sent with a signal.
pub fn read_info(signal: u8, at: usize) -> Result<SigInfo, Errno> {
    let raw = UserPtr::<[u8; 128]>::new(at).read()?;
    let int = |at: usize| i32::from_ne_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
    let code = int(8);
    let mut value = [0u8; 8];
    value.copy_from_slice(&raw[24..32]);
    let detail = Detail::Queued { pid: int(16) as u32, uid: int(20) as u32, value: u64::from_ne_bytes(value) };
    Ok(SigInfo { signal, errno: int(4), code, detail })
}

/// Whether it says that it comes from the kernel, or from kill: only a thread itself may send itself that.
pub fn is_forged(info: &SigInfo) -> bool {
    info.code >= 0 || info.code == code::TKILL
}

/// `rt_sigqueueinfo`
pub fn sigqueueinfo(r: &mut UserRegs) -> SysResult {
    let info = read_info(r.a1() as u8, r.a2())?;
    let pid = r.a0() as u32;
    if is_forged(&info) && pid != user().tid() {
        return Err(EPERM);
    }
    let process = tree::process_of(pid).ok_or(ESRCH)?;
    if number(r.a1())?.is_some() {
        to_process(&process, info)?;
    }
    Ok(0)
}

/// `rt_tgsigqueueinfo`
pub fn tgsigqueueinfo(r: &mut UserRegs) -> SysResult {
    let info = read_info(r.a2() as u8, r.a3())?;
    let (group, tid) = (r.a0() as i32, r.a1() as i32);
    if group > 0 && tid > 0 && is_forged(&info) && tid as u32 != user().tid() {
        return Err(EPERM);
    }
    to_tid(Some(group), tid, r.a2(), |_| info)
}
