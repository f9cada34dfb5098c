//! What a file is like, changed by its path: its length, rights and times.

use super::{CWD, node};
use crate::arch::UserRegs;
use crate::fs::Regular;
use crate::mem::user::{UserPtr, read_path};
use crate::proc::thread::user;
use crate::sched::timer;
use crate::sys::Args;
use crate::sys::errno::*;
use alloc::sync::Arc;
use linux_raw_sys::general as l;

/// `truncate`
pub fn truncate(r: &mut UserRegs) -> SysResult {
    let node = node(CWD, &read_path(r.a0())?, true)?;
    if (r.a1() as i64) < 0 {
        return Err(EINVAL);
    }
    if node.is_dir() {
        return Err(EISDIR);
    }
    node.regular().ok_or(EINVAL)?.set_len(r.a1() as u64)?;
    Ok(0)
}
/// `chmod`
pub fn chmod(r: &mut UserRegs) -> SysResult {
    node(CWD, &read_path(r.a0())?, true)?.set_mode(r.a1() as u32);
    Ok(0)
}
/// `fchmod`
pub fn fchmod(r: &mut UserRegs) -> SysResult {
    let file = user().files().get(r.a0() as i32)?;
    if let Some(inode) = &file.inode {
        inode.set_mode(r.a1() as u32);
    } else if let Some(regular) = file.file.as_any().downcast_ref::<Arc<Regular>>() {
        regular.set_mode(r.a1() as u32 & 0o7777)?;
    }
    Ok(0)
}
/// `fchmodat`
pub fn fchmodat(r: &mut UserRegs) -> SysResult {
    node(r.a0(), &read_path(r.a1())?, true)?.set_mode(r.a2() as u32);
    Ok(0)
}
/// `utimensat`: the modification time only.
pub fn utimensat(r: &mut UserRegs) -> SysResult {
    const NOW: i64 = 0x3fff_ffff;
    const OMIT: i64 = 0x3fff_fffe;
    let regular = if r.a1() == 0 {
        let file = user().files().get(r.a0() as i32)?;
        file.file.as_any().downcast_ref::<Arc<Regular>>().cloned()
    } else {
        node(r.a0(), &read_path(r.a1())?, r.a3() as u32 & l::AT_SYMLINK_NOFOLLOW == 0)?.regular()
    };
    let mut time = Some(timer::realtime_ns());
    if r.a2() != 0 {
        let [_, _, seconds, ns] = UserPtr::<[i64; 4]>::new(r.a2()).read()?;
        time = match ns {
            NOW => time,
            OMIT => None,
            0..1_000_000_000 => Some(seconds.max(0) as u64 * 1_000_000_000 + ns as u64),
            _ => return Err(EINVAL),
        };
    }
    if let (Some(file), Some(time)) = (regular, time) {
        file.set_mtime(time);
    }
    Ok(0)
}
