//! Where a process's paths begin, and which rights its new files lack: `getcwd`, `chdir`, `fchdir`, `umask`.

use crate::fs::{Inode, base_of, resolve};
use crate::mem::user::{UserSlice, read_path};
use crate::proc::thread::user;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as l;
use quire_arch::UserRegs;
use quire_base::errno::*;

/// `getcwd`
pub fn getcwd(r: &mut UserRegs) -> SysResult {
    let mut path = user().fs.cwd_path()?;
    path.push(0);
    if path.len() > r.a1() {
        return Err(ERANGE);
    }
    UserSlice::new(r.a0(), path.len())?.copy_out(&path)?;
    Ok(path.len())
}
/// Makes a directory the working directory.
fn enter(node: Arc<Inode>, path: Vec<u8>) {
    let old = core::mem::replace(&mut *user().fs.cwd.lock(), (node, path));
    // The last one to hold it takes it away: not under the lock.
    drop(old);
}
/// `chdir`
pub fn chdir(r: &mut UserRegs) -> SysResult {
    let path = read_path(r.a0())?;
    let (node, full) = resolve(&base_of(l::AT_FDCWD, &path)?, &path, true)?;
    if !node.is_dir() {
        return Err(ENOTDIR);
    }
    enter(node, full);
    Ok(0)
}
/// `fchdir`
pub fn fchdir(r: &mut UserRegs) -> SysResult {
    let file = user().files().get_any(r.a0() as i32)?;
    let node = file.inode.clone().filter(|node| node.is_dir()).ok_or(ENOTDIR)?;
    enter(node, file.path.to_vec());
    Ok(0)
}
/// `umask`
pub fn umask(r: &mut UserRegs) -> SysResult {
    Ok(user().fs.umask.swap(r.a0() as u32 & 0o777, Ordering::Relaxed) as usize)
}
