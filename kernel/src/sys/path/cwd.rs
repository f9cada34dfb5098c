//! Where a process's paths begin, and which rights its new files lack: `getcwd`, `chdir`, `fchdir`, `umask`.

use crate::arch::UserRegs;
use crate::fs::{base_of, resolve};
use crate::mem::user::{UserSlice, read_path};
use crate::proc::thread::user;
use crate::sys::Args;
use crate::sys::errno::*;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as l;

/// `getcwd`
pub fn getcwd(r: &mut UserRegs) -> SysResult {
    let mut path = user().fs.get().cwd.lock().clone();
    path.push(0);
    if path.len() > r.a1() {
        return Err(ERANGE);
    }
    UserSlice::new(r.a0(), path.len())?.copy_out(&path)?;
    Ok(path.len())
}
/// `chdir`
pub fn chdir(r: &mut UserRegs) -> SysResult {
    let path = read_path(r.a0())?;
    let (node, full) = resolve(&base_of(l::AT_FDCWD, &path)?, &path, true)?;
    if !node.is_dir() {
        return Err(ENOTDIR);
    }
    *user().fs.get().cwd.lock() = full;
    Ok(0)
}
/// `fchdir`
pub fn fchdir(r: &mut UserRegs) -> SysResult {
    let file = user().files().get_any(r.a0() as i32)?;
    if !file.inode.as_ref().is_some_and(|i| i.is_dir()) {
        return Err(ENOTDIR);
    }
    let path = file.path.to_vec();
    *user().fs.get().cwd.lock() = path;
    Ok(0)
}
/// `umask`
pub fn umask(r: &mut UserRegs) -> SysResult {
    Ok(user().fs.get().umask.swap(r.a0() as u32 & 0o777, Ordering::Relaxed) as usize)
}
