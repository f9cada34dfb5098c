//! Calls that take paths: here those that open, make and take away names.
//!
//! What only looks is in `stat`, what changes a file behind its name in `attributes`, where paths begin in `cwd`.

mod attributes;
mod cwd;
mod stat;

pub use attributes::{chmod, fchmod, fchmodat, truncate, utimensat};
pub use cwd::{chdir, fchdir, getcwd, umask};
pub use stat::{access, faccessat, fstat, fstatfs, lstat, newfstatat, readlink, readlinkat, stat, statfs, statx};

use super::Args;
use super::errno::*;
use crate::arch::UserRegs;
use crate::fs::console::Console;
use crate::fs::directory::Directory;
use crate::fs::pipe::{End, Pipe};
use crate::fs::procfs::{ProcEntry, Snapshot};
use crate::fs::walk::{Place, entries, walk};
use crate::fs::{File, Inode, Kind, OpenFile, Regular, base_of, inode};
use crate::mem::user::read_path;
use crate::proc::process::arc;
use crate::proc::sleep::SleepMutex;
use crate::proc::thread::user;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as l;

const CWD: usize = l::AT_FDCWD as isize as usize;

/// Held by who changes names, from the look to the change: of two who make or take one name, one is refused.
static NAMES: SleepMutex<()> = SleepMutex::new(());

/// Names and nodes are kernel memory, and those who make them can be refused.
fn has_room() -> Result<(), Errno> {
    if inode::has_room() { Ok(()) } else { Err(ENOSPC) }
}

/// Walks a path argument of an *at call.
fn find(fd: usize, path: &[u8], follow: bool) -> Result<Place, Errno> {
    if path.is_empty() {
        return Err(ENOENT);
    }
    walk(&base_of(fd as i32, path)?, path, follow)
}

fn node(fd: usize, path: &[u8], follow: bool) -> Result<Arc<Inode>, Errno> {
    find(fd, path, follow)?.node.ok_or(ENOENT)
}

fn do_open(fd: usize, path_at: usize, flags: u32, mode: u32) -> SysResult {
    let path = read_path(path_at)?;
    let create = flags & l::O_CREAT != 0;
    let follow = flags & l::O_NOFOLLOW == 0 && !(create && flags & l::O_EXCL != 0);
    if flags & l::__O_TMPFILE != 0 {
        return open_unnamed(fd, &path, flags, mode);
    }
    let mut place = find(fd, &path, follow)?;
    let mut made = false;
    if create && place.node.is_none() {
        if place.wants_dir {
            return Err(EISDIR);
        }
        has_room()?;
        let masked = mode & !user().fs.get().umask.load(Ordering::Relaxed);
        let new = Inode::new(Kind::Regular(arc(Regular::empty(masked)?)?), masked);
        let _changing = NAMES.lock();
        // Somebody may have made it meanwhile.
        place = find(fd, &path, follow)?;
        if place.node.is_none() {
            entries(&place.parent)?.lock().insert(place.name.clone(), new.clone());
            (place.node, made) = (Some(new), true);
        }
    }
    let inode = place.node.ok_or(ENOENT)?;
    if create && flags & l::O_EXCL != 0 && !made {
        return Err(EEXIST);
    }
    let file = open_node(&inode, &place.path, flags)?;
    user().files().add(file, flags & l::O_CLOEXEC != 0)
}

/// O_TMPFILE: a file without a name.
fn open_unnamed(fd: usize, path: &[u8], flags: u32, mode: u32) -> SysResult {
    if !node(fd, path, true)?.is_dir() {
        return Err(ENOTDIR);
    }
    if flags & l::O_ACCMODE == l::O_RDONLY {
        return Err(EINVAL);
    }
    let regular = arc(Regular::empty(mode)?)?;
    regular.links.store(0, Ordering::Relaxed);
    let file: Arc<dyn File> = arc(regular)?;
    let file = OpenFile::new(file, flags & !l::__O_TMPFILE, b"/tmp/# (deleted)", None)?;
    user().files().add(file, flags & l::O_CLOEXEC != 0)
}

/// What opening a node gives.
fn open_node(inode: &Arc<Inode>, path: &[u8], flags: u32) -> Result<Arc<OpenFile>, Errno> {
    let writes = flags & l::O_ACCMODE != l::O_RDONLY;
    let reads = flags & l::O_ACCMODE != l::O_WRONLY;
    let path_only = flags & l::O_PATH != 0;
    if flags & l::O_DIRECTORY != 0 && !inode.is_dir() {
        return Err(ENOTDIR);
    }
    let file: Arc<dyn File> = match &inode.kind {
        _ if inode.is_dir() => {
            if writes || flags & l::O_CREAT != 0 {
                return Err(EISDIR);
            }
            arc(Directory::new(inode.clone()))?
        }
        _ if path_only => arc(Directory::new(inode.clone()))?,
        Kind::Regular(regular) => {
            if writes && regular.is_image() {
                return Err(EROFS);
            }
            if flags & l::O_TRUNC != 0 && writes {
                regular.set_len(0)?;
            }
            arc(regular.clone())?
        }
        Kind::Link(_) => return Err(ELOOP),
        Kind::Device(device) => arc(*device)?,
        Kind::Proc(ProcEntry::Fd(_, fd)) => {
            // Opening /proc/self/fd/N of a pipe or of the console gives the same thing again.
            user().files().get(*fd)?.file.clone()
        }
        Kind::Proc(entry) => arc(Snapshot::open(inode, entry)?)?,
        Kind::Fifo(pipe) => {
            let end = End::new(pipe, reads, writes)?;
            if flags & l::O_NONBLOCK == 0 {
                end.wait_for_other()?;
            } else if writes && !reads && !end.has_reader() {
                return Err(ENXIO);
            }
            end
        }
        Kind::Dir(_) => return Err(EISDIR),
    };
    let kept = if file.as_any().is::<Console>() { None } else { Some(inode.clone()) };
    OpenFile::new(file, flags, path, kept)
}

/// `open`
pub fn open(r: &mut UserRegs) -> SysResult {
    do_open(CWD, r.a0(), r.a1() as u32, r.a2() as u32)
}
/// `openat`
pub fn openat(r: &mut UserRegs) -> SysResult {
    do_open(r.a0(), r.a1(), r.a2() as u32, r.a3() as u32)
}
/// `creat`
pub fn creat(r: &mut UserRegs) -> SysResult {
    do_open(CWD, r.a0(), l::O_CREAT | l::O_WRONLY | l::O_TRUNC, r.a1() as u32)
}

/// Adds a new node at a path that must not exist.
fn make(fd: usize, path_at: usize, dir: bool, new: impl FnOnce() -> Result<Arc<Inode>, Errno>) -> SysResult {
    let path = read_path(path_at)?;
    has_room()?;
    let new = new()?;
    let _changing = NAMES.lock();
    let place = find(fd, &path, false)?;
    if place.node.is_some() {
        return Err(EEXIST);
    }
    if place.wants_dir && !dir {
        return Err(ENOENT);
    }
    entries(&place.parent)?.lock().insert(place.name, new);
    Ok(0)
}
fn masked(mode: usize) -> u32 {
    mode as u32 & 0o7777 & !user().fs.get().umask.load(Ordering::Relaxed)
}
/// `mkdir`
pub fn mkdir(r: &mut UserRegs) -> SysResult {
    make(CWD, r.a0(), true, || Ok(Inode::directory(masked(r.a1()))))
}
/// `mkdirat`
pub fn mkdirat(r: &mut UserRegs) -> SysResult {
    make(r.a0(), r.a1(), true, || Ok(Inode::directory(masked(r.a2()))))
}
fn do_mknod(fd: usize, path_at: usize, mode: usize) -> SysResult {
    make(fd, path_at, false, || match mode as u32 & 0o170_000 {
        0o010_000 => Ok(Inode::new(Kind::Fifo(Pipe::new()?), masked(mode))),
        0 | 0o100_000 => Ok(Inode::new(Kind::Regular(arc(Regular::empty(masked(mode))?)?), masked(mode))),
        _ => Err(EPERM),
    })
}
/// `mknod`
pub fn mknod(r: &mut UserRegs) -> SysResult {
    do_mknod(CWD, r.a0(), r.a1())
}
/// `mknodat`
pub fn mknodat(r: &mut UserRegs) -> SysResult {
    do_mknod(r.a0(), r.a1(), r.a2())
}
/// `symlink`
pub fn symlink(r: &mut UserRegs) -> SysResult {
    let target = read_path(r.a0())?;
    make(CWD, r.a1(), false, || Ok(Inode::new(Kind::Link(target), 0o777)))
}
/// `symlinkat`
pub fn symlinkat(r: &mut UserRegs) -> SysResult {
    let target = read_path(r.a0())?;
    make(r.a1(), r.a2(), false, || Ok(Inode::new(Kind::Link(target), 0o777)))
}

fn do_unlink(fd: usize, path_at: usize, dir: bool) -> SysResult {
    let path = read_path(path_at)?;
    let _changing = NAMES.lock();
    let place = find(fd, &path, false)?;
    let node = place.node.ok_or(ENOENT)?;
    let list = entries(&place.parent)?;
    if place.name.is_empty() {
        return Err(if dir { EBUSY } else { EISDIR });
    }
    match (&node.kind, dir) {
        (Kind::Dir(_), false) => return Err(EISDIR),
        (Kind::Dir(children), true) if !children.lock().is_empty() => return Err(ENOTEMPTY),
        (Kind::Dir(_), true) => {}
        (_, true) => return Err(ENOTDIR),
        (Kind::Regular(file), false) if file.is_image() => return Err(EROFS),
        (Kind::Regular(file), false) => {
            file.links.fetch_sub(1, Ordering::Relaxed);
        }
        _ => {}
    }
    let gone = list.lock().remove(&place.name);
    drop(gone);
    Ok(0)
}
/// `unlink`
pub fn unlink(r: &mut UserRegs) -> SysResult {
    do_unlink(CWD, r.a0(), false)
}
/// `rmdir`
pub fn rmdir(r: &mut UserRegs) -> SysResult {
    do_unlink(CWD, r.a0(), true)
}
/// `unlinkat`
pub fn unlinkat(r: &mut UserRegs) -> SysResult {
    let flags = r.a2() as u32;
    if flags & !l::AT_REMOVEDIR != 0 {
        return Err(EINVAL);
    }
    do_unlink(r.a0(), r.a1(), flags != 0)
}

fn do_rename(from_fd: usize, from_at: usize, to_fd: usize, to_at: usize, flags: u32) -> SysResult {
    let no_replace = flags & l::RENAME_NOREPLACE != 0;
    if flags & !l::RENAME_NOREPLACE != 0 {
        return Err(EINVAL);
    }
    let (from_path, to_path) = (read_path(from_at)?, read_path(to_at)?);
    let _changing = NAMES.lock();
    let from = find(from_fd, &from_path, false)?;
    let to = find(to_fd, &to_path, false)?;
    let node = from.node.ok_or(ENOENT)?;
    if from.name.is_empty() || to.name.is_empty() {
        return Err(EBUSY);
    }
    if to.path.len() > from.path.len() && to.path.starts_with(&from.path) && to.path[from.path.len()] == b'/' {
        return Err(EINVAL);
    }
    if node.regular().is_some_and(|f| f.is_image()) {
        return Err(EROFS);
    }
    if let Some(there) = &to.node {
        if no_replace {
            return Err(EEXIST);
        }
        if Arc::ptr_eq(there, &node) {
            return Ok(0);
        }
        match (node.is_dir(), there.is_dir()) {
            (true, false) => return Err(ENOTDIR),
            (false, true) => return Err(EISDIR),
            _ => {}
        }
        if let Kind::Dir(children) = &there.kind
            && !children.lock().is_empty()
        {
            return Err(ENOTEMPTY);
        }
    }
    // One after the other: a moment without a name is not seen by anyone who holds the file open.
    let (from_list, to_list) = (entries(&from.parent)?, entries(&to.parent)?);
    let replaced = to_list.lock().insert(to.name, node);
    if let Some(Kind::Regular(file)) = replaced.as_ref().map(|n| &n.kind) {
        file.links.fetch_sub(1, Ordering::Relaxed);
    }
    let old = from_list.lock().remove(&from.name);
    drop((replaced, old));
    Ok(0)
}
/// `rename`
pub fn rename(r: &mut UserRegs) -> SysResult {
    do_rename(CWD, r.a0(), CWD, r.a1(), 0)
}
/// `renameat`
pub fn renameat(r: &mut UserRegs) -> SysResult {
    do_rename(r.a0(), r.a1(), r.a2(), r.a3(), 0)
}
/// `renameat2`
pub fn renameat2(r: &mut UserRegs) -> SysResult {
    do_rename(r.a0(), r.a1(), r.a2(), r.a3(), r.a4() as u32)
}

fn do_link(from_fd: usize, from_at: usize, to_fd: usize, to_at: usize, follow: bool) -> SysResult {
    let node = node(from_fd, &read_path(from_at)?, follow)?;
    if node.is_dir() {
        return Err(EPERM);
    }
    let file = node.regular();
    make(to_fd, to_at, false, || Ok(node))?;
    if let Some(file) = file {
        file.links.fetch_add(1, Ordering::Relaxed);
    }
    Ok(0)
}
/// `link`
pub fn link(r: &mut UserRegs) -> SysResult {
    do_link(CWD, r.a0(), CWD, r.a1(), false)
}
/// `linkat`
pub fn linkat(r: &mut UserRegs) -> SysResult {
    do_link(r.a0(), r.a1(), r.a2(), r.a3(), r.a4() as u32 & l::AT_SYMLINK_FOLLOW != 0)
}
