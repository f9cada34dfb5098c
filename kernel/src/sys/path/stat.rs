//! What a path leads to, without changing it: `stat`, `statfs`, `access`, `readlink`, each in all its forms.

use super::{CWD, node, node_at, node_of};
use crate::fs::Stat;
use crate::fs::regular::TREE;
use crate::fs::stat::kind;
use crate::fs::walk::read_link;
use crate::mem::user::{UserPtr, UserSlice, read_path};
use crate::proc::thread::user;
use linux_raw_sys::general as l;
use quire_arch::UserRegs;
use quire_base::errno::*;

/// `fstat`
pub fn fstat(r: &mut UserRegs) -> SysResult {
    user().files().get_any(r.a0() as i32)?.stat().store(r.a1())?;
    Ok(0)
}
/// `stat`
pub fn stat(r: &mut UserRegs) -> SysResult {
    node(CWD, &read_path(r.a0())?, true)?.stat().store(r.a1())?;
    Ok(0)
}
/// `lstat`
pub fn lstat(r: &mut UserRegs) -> SysResult {
    node(CWD, &read_path(r.a0())?, false)?.stat().store(r.a1())?;
    Ok(0)
}

/// Flags of statx about how fresh the answer must be: not both. It is always fresh.
const SYNC: u32 = l::AT_STATX_FORCE_SYNC | l::AT_STATX_DONT_SYNC;

/// What the *at forms of stat look at.
fn stat_at(fd: usize, path_at: usize, flags: u32) -> Result<Stat, Errno> {
    let known = l::AT_SYMLINK_NOFOLLOW | l::AT_EMPTY_PATH | l::AT_NO_AUTOMOUNT | SYNC;
    if flags & !known != 0 {
        return Err(EINVAL);
    }
    let path = if path_at == 0 && flags & l::AT_EMPTY_PATH != 0 { Default::default() } else { read_path(path_at)? };
    if path.is_empty() && flags & l::AT_EMPTY_PATH != 0 {
        if fd as i32 == l::AT_FDCWD {
            return Ok(node(CWD, b".", true)?.stat());
        }
        return Ok(user().files().get_any(fd as i32)?.stat());
    }
    Ok(node(fd, &path, flags & l::AT_SYMLINK_NOFOLLOW == 0)?.stat())
}

/// `newfstatat`
pub fn newfstatat(r: &mut UserRegs) -> SysResult {
    stat_at(r.a0(), r.a1(), r.a3() as u32)?.store(r.a2())?;
    Ok(0)
}
/// `statx`
pub fn statx(r: &mut UserRegs) -> SysResult {
    let (flags, mask) = (r.a2() as u32, r.a3() as u32);
    if mask & l::STATX__RESERVED != 0 || flags & SYNC == SYNC {
        return Err(EINVAL);
    }
    stat_at(r.a0(), r.a1(), flags)?.store_x(r.a4())?;
    Ok(0)
}

fn store_statfs(at: usize) -> SysResult {
    let m = crate::mem::memory();
    let (most, used) = (m.total_frames() / 2, TREE.used());
    let free = most.saturating_sub(used).min(m.free_frames());
    // TMPFS_MAGIC, block size, blocks, free, available, files, free files, id, longest name, fragment size, flags.
    let words: [u64; 15] = [0x0102_1994, 4096, most, free, free, 1 << 20, 1 << 19, 0, 255, 4096, 0x20, 0, 0, 0, 0];
    UserPtr::<[u64; 15]>::new(at).write(words)?;
    Ok(0)
}
/// `statfs`
pub fn statfs(r: &mut UserRegs) -> SysResult {
    node(CWD, &read_path(r.a0())?, true)?;
    store_statfs(r.a1())
}
/// `fstatfs`
pub fn fstatfs(r: &mut UserRegs) -> SysResult {
    user().files().get_any(r.a0() as i32)?;
    store_statfs(r.a1())
}

fn do_access(fd: usize, path_at: usize, mode: u32, flags: u32) -> SysResult {
    const EACCESS: u32 = l::AT_EACCESS;
    if mode & !7 != 0 || flags & !(EACCESS | l::AT_SYMLINK_NOFOLLOW | l::AT_EMPTY_PATH) != 0 {
        return Err(EINVAL);
    }
    let node = node_at(fd, path_at, flags)?;
    if mode & 2 != 0 && node.regular().is_some_and(|f| f.is_image()) {
        return Err(EROFS);
    }
    // Root may do everything but execute what nobody may execute.
    if mode & 1 != 0 && !node.is_dir() && node.mode() & 0o111 == 0 {
        return Err(EACCES);
    }
    Ok(0)
}
/// `access`
pub fn access(r: &mut UserRegs) -> SysResult {
    do_access(CWD, r.a0(), r.a1() as u32, 0)
}
/// `faccessat`
pub fn faccessat(r: &mut UserRegs) -> SysResult {
    do_access(r.a0(), r.a1(), r.a2() as u32, 0)
}
/// `faccessat2`
pub fn faccessat2(r: &mut UserRegs) -> SysResult {
    do_access(r.a0(), r.a1(), r.a2() as u32, r.a3() as u32)
}

fn do_readlink(fd: usize, path_at: usize, at: usize, size: usize) -> SysResult {
    if size as i32 <= 0 {
        return Err(EINVAL);
    }
    let path = read_path(path_at)?;
    // An empty path: the link that was opened as itself. Linux says ENOENT where there is none.
    let node = match path.is_empty() {
        true => node_of(fd).ok().filter(|node| node.file_type() == kind::LINK).ok_or(ENOENT)?,
        false => node(fd, &path, false)?,
    };
    let target = read_link(&node)?;
    node.times().accessed();
    let n = target.len().min(size);
    UserSlice::new(at, n)?.copy_out(&target[..n])?;
    Ok(n)
}
/// `readlink`
pub fn readlink(r: &mut UserRegs) -> SysResult {
    do_readlink(CWD, r.a0(), r.a1(), r.a2())
}
/// `readlinkat`
pub fn readlinkat(r: &mut UserRegs) -> SysResult {
    do_readlink(r.a0(), r.a1(), r.a2(), r.a3())
}
