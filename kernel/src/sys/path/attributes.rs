//! What a file is like, changed by its path: its length, rights and times.

use super::{CWD, cut, node, node_at, node_of};
use crate::fs::stat::kind;
use crate::mem::user::{UserPtr, read_path};
use crate::proc::thread::user;
use linux_raw_sys::general as l;
use quire_arch::UserRegs;
use quire_base::errno::*;
use quire_sched::timer;

/// `truncate`
pub fn truncate(r: &mut UserRegs) -> SysResult {
    if (r.a1() as i64) < 0 {
        return Err(EINVAL);
    }
    let node = node(CWD, &read_path(r.a0())?, true)?;
    if node.is_dir() {
        return Err(EISDIR);
    }
    cut(&node.regular().ok_or(EINVAL)?, r.a1() as u64)?;
    Ok(0)
}
/// `chmod`
pub fn chmod(r: &mut UserRegs) -> SysResult {
    node(CWD, &read_path(r.a0())?, true)?.set_mode(r.a1() as u32)?;
    Ok(0)
}
/// `fchmod`
pub fn fchmod(r: &mut UserRegs) -> SysResult {
    user().files().get(r.a0() as i32)?;
    node_of(r.a0())?.set_mode(r.a1() as u32)?;
    Ok(0)
}
/// `fchmodat`
pub fn fchmodat(r: &mut UserRegs) -> SysResult {
    node(r.a0(), &read_path(r.a1())?, true)?.set_mode(r.a2() as u32)?;
    Ok(0)
}
/// `fchmodat2`
pub fn fchmodat2(r: &mut UserRegs) -> SysResult {
    let flags = r.a3() as u32;
    if flags & !(l::AT_SYMLINK_NOFOLLOW | l::AT_EMPTY_PATH) != 0 {
        return Err(EINVAL);
    }
    let node = node_at(r.a0(), r.a1(), flags)?;
    if node.file_type() == kind::LINK {
        return Err(EOPNOTSUPP);
    }
    node.set_mode(r.a2() as u32)?;
    Ok(0)
}

/// Time of access, time of modification; `None` stays.
type Pair = (Option<i64>, Option<i64>);

/// As nanoseconds; what does not fit is the nearest that does.
fn nanoseconds(seconds: i64, ns: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(ns)
}

/// Sets the times of what a path names, or (without a path) of a descriptor's file.
fn set_times(fd: usize, path_at: usize, flags: u32, (access, modification): Pair) -> SysResult {
    let node = if path_at != 0 {
        node_at(fd, path_at, flags)?
    } else if flags != 0 {
        return Err(EINVAL);
    } else {
        user().files().get(fd as i32)?;
        node_of(fd)?
    };
    node.times().set(access, modification);
    Ok(0)
}

fn now() -> Pair {
    let now = Some(timer::realtime_ns() as i64);
    (now, now)
}

/// `utimensat`
pub fn utimensat(r: &mut UserRegs) -> SysResult {
    const NOW: i64 = 0x3fff_ffff;
    const OMIT: i64 = 0x3fff_fffe;
    let flags = r.a3() as u32;
    let mut times = now();
    if r.a2() != 0 {
        let [seconds, ns, seconds2, ns2] = UserPtr::<[i64; 4]>::new(r.a2()).read()?;
        if ns == OMIT && ns2 == OMIT {
            return Ok(0);
        }
        let set = |seconds: i64, ns: i64, now: Option<i64>| match ns {
            NOW => Ok(now),
            OMIT => Ok(None),
            0..1_000_000_000 => Ok(Some(nanoseconds(seconds, ns))),
            _ => Err(EINVAL),
        };
        times = (set(seconds, ns, times.0)?, set(seconds2, ns2, times.1)?);
    }
    if flags & !(l::AT_SYMLINK_NOFOLLOW | l::AT_EMPTY_PATH) != 0 {
        return Err(EINVAL);
    }
    // No path means the descriptor itself, and there is none.
    if r.a1() == 0 && r.a0() as i32 == l::AT_FDCWD {
        return Err(EFAULT);
    }
    set_times(r.a0(), r.a1(), flags, times)
}

/// Two `timeval`s, or now.
fn read_timevals(at: usize) -> Result<Pair, Errno> {
    if at == 0 {
        return Ok(now());
    }
    let [seconds, micros, seconds2, micros2] = UserPtr::<[i64; 4]>::new(at).read()?;
    let fits = |micros: &i64| (0..1_000_000).contains(micros);
    if !fits(&micros) || !fits(&micros2) {
        return Err(EINVAL);
    }
    Ok((Some(nanoseconds(seconds, micros * 1000)), Some(nanoseconds(seconds2, micros2 * 1000))))
}

/// `utimes`
pub fn utimes(r: &mut UserRegs) -> SysResult {
    let times = read_timevals(r.a1())?;
    node(CWD, &read_path(r.a0())?, true)?.times().set(times.0, times.1);
    Ok(0)
}

/// `futimesat`
pub fn futimesat(r: &mut UserRegs) -> SysResult {
    set_times(r.a0(), r.a1(), 0, read_timevals(r.a2())?)
}

/// `utime`: whole seconds.
pub fn utime(r: &mut UserRegs) -> SysResult {
    let times = if r.a1() == 0 {
        now()
    } else {
        let [access, modification] = UserPtr::<[i64; 2]>::new(r.a1()).read()?;
        (Some(nanoseconds(access, 0)), Some(nanoseconds(modification, 0)))
    };
    node(CWD, &read_path(r.a0())?, true)?.times().set(times.0, times.1);
    Ok(0)
}
