//! Resource limits.

use crate::mem::user::UserPtr;
use crate::proc::limits::{COUNT, Limit};
use crate::proc::process::Process;
use crate::proc::thread::current;
use crate::proc::tree;
use alloc::sync::Arc;
use linux_raw_sys::general as l;
use quire_arch::UserRegs;
use quire_base::errno::*;

fn exchange(process: &Process, resource: u32, new: Option<Limit>) -> Result<Limit, Errno> {
    if resource as usize >= COUNT {
        return Err(EINVAL);
    }
    if let Some(new) = new {
        if new.soft > new.hard {
            return Err(EINVAL);
        }
        if resource == l::RLIMIT_NOFILE && new.hard > 1 << 20 {
            return Err(EPERM);
        }
    }
    Ok(process.limits.exchange(resource, new))
}

/// `prlimit64`
pub fn prlimit64(r: &mut UserRegs) -> SysResult {
    let pid = r.a0() as u32;
    let process: Arc<Process> = if pid == 0 { current().clone() } else { tree::process_of(pid).ok_or(ESRCH)? };
    let new = if r.a2() == 0 { None } else { Some(UserPtr::<Limit>::new(r.a2()).read()?) };
    let old = exchange(&process, r.a1() as u32, new)?;
    UserPtr::<Limit>::new(r.a3()).write_opt(old)?;
    Ok(0)
}

/// `getrlimit`
pub fn getrlimit(r: &mut UserRegs) -> SysResult {
    let old = exchange(current(), r.a0() as u32, None)?;
    UserPtr::<Limit>::new(r.a1()).write(old)?;
    Ok(0)
}

/// `setrlimit`
pub fn setrlimit(r: &mut UserRegs) -> SysResult {
    let new = UserPtr::<Limit>::new(r.a1()).read()?;
    exchange(current(), r.a0() as u32, Some(new))?;
    Ok(0)
}
