//! Calls that take paths: here those that open, make and take away names.
//!
//! What only looks is in `stat`, what changes a file behind its name in `attributes`, where paths begin in `cwd`.

mod attributes;
mod cwd;
mod stat;

pub use attributes::{chmod, fchmod, fchmodat, fchmodat2, futimesat, truncate, utime, utimensat, utimes};
pub use cwd::{chdir, fchdir, getcwd, umask};
pub use stat::{
    access, faccessat, faccessat2, fstat, fstatfs, lstat, newfstatat, readlink, readlinkat, stat, statfs, statx,
};

use crate::fs::busy::Writing;
use crate::fs::console::Console;
use crate::fs::directory::Directory;
use crate::fs::inode::Entries;
use crate::fs::pipe::{End, Pipe};
use crate::fs::snapshot::Snapshot;
use crate::fs::stat::kind;
use crate::fs::walk::{Last, Moving, NoName, Place, entries, walk};
use crate::fs::{File, Inode, Kind, OpenFile, Regular, base_of, inode};
use crate::mem::user::read_path;
use crate::proc::process::arc;
use crate::proc::thread::user;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as l;
use quire_arch::UserRegs;
use quire_base::errno::*;
use quire_base::lock::Mutex;
use quire_sched::SleepMutex;

const CWD: usize = l::AT_FDCWD as isize as usize;

/// Held by who changes names, from the look to the change: of two who make or take one name, one is refused.
static NAMES: SleepMutex<()> = SleepMutex::new(());

/// Names and nodes are kernel memory, and those who make them can be refused.
fn has_room() -> Result<(), Errno> {
    if inode::has_room() { Ok(()) } else { Err(ENOSPC) }
}

/// Walks a path argument of an *at call.
fn find(fd: usize, path: &[u8], last: Last) -> Result<Place, Errno> {
    if path.is_empty() {
        return Err(ENOENT);
    }
    walk(&base_of(fd as i32, path)?, path, last)
}

fn node(fd: usize, path: &[u8], follow: bool) -> Result<Arc<Inode>, Errno> {
    find(fd, path, if follow { Last::Target } else { Last::Link })?.node.ok_or(ENOENT)
}

/// The file that an empty path with AT_EMPTY_PATH means: that of the descriptor.
fn node_of(fd: usize) -> Result<Arc<Inode>, Errno> {
    if fd as i32 == l::AT_FDCWD {
        return node(fd, b".", true);
    }
    Ok(user().files().get_any(fd as i32)?.node())
}

/// A path argument that may be empty if the flags say so.
fn node_at(fd: usize, path_at: usize, flags: u32) -> Result<Arc<Inode>, Errno> {
    let path = read_path(path_at)?;
    match path.is_empty() && flags & l::AT_EMPTY_PATH != 0 {
        true => node_of(fd),
        false => node(fd, &path, flags & l::AT_SYMLINK_NOFOLLOW == 0),
    }
}

/// Whether there is something at a path argument: 0, or why not.
pub fn exists(path_at: usize, follow: bool) -> SysResult {
    node(CWD, &read_path(path_at)?, follow).map(|_| 0)
}

/// The list of a directory in which something is to be made: none of /proc.
fn list_for_new(place: &Place) -> Result<&Mutex<Entries>, Errno> {
    entries(&place.parent).map_err(|why| if why == EPERM { ENOENT } else { why })
}

/// A directory's list has changed.
fn noted(parent: &Inode) {
    parent.times().modified();
}

/// Flags of open that make no sense together, or with O_PATH mean nothing.
fn checked(mut flags: u32) -> Result<u32, Errno> {
    const NAMED: u32 = l::O_DIRECTORY | l::O_NOFOLLOW | l::O_PATH | l::O_CLOEXEC;
    let unnamed = flags & l::__O_TMPFILE != 0;
    if unnamed && (flags & (l::O_DIRECTORY | l::O_CREAT) != l::O_DIRECTORY || flags & l::O_ACCMODE == l::O_RDONLY)
        || flags & (l::O_CREAT | l::O_DIRECTORY) == l::O_CREAT | l::O_DIRECTORY && flags & l::O_PATH == 0
    {
        return Err(EINVAL);
    }
    if flags & l::O_PATH != 0 {
        flags &= NAMED;
    } else {
        flags |= l::O_LARGEFILE;
    }
    Ok(flags)
}

fn do_open(fd: usize, path_at: usize, flags: u32, mode: u32) -> SysResult {
    let flags = checked(flags)?;
    let path = read_path(path_at)?;
    user().files().has_room()?;
    if flags & l::__O_TMPFILE != 0 {
        return open_unnamed(fd, &path, flags, mode);
    }
    let create = flags & l::O_CREAT != 0;
    let alone = create && flags & l::O_EXCL != 0;
    let last = if flags & l::O_NOFOLLOW != 0 || alone { Last::Link } else { Last::Target };
    if create && path.last() == Some(&b'/') && find(fd, &path, Last::Name)?.ends_in.is_none() {
        return Err(EISDIR);
    }
    let mut place = find(fd, &path, last)?;
    let mut made = false;
    if create && place.node.is_none() {
        has_room()?;
        let masked = mode & 0o7777 & !user().fs.umask.load(Ordering::Relaxed);
        let new = Inode::new(Kind::Regular(arc(Regular::empty(masked)?)?), masked);
        let _changing = NAMES.lock();
        // Somebody may have made it meanwhile.
        place = find(fd, &path, last)?;
        if place.node.is_none() {
            list_for_new(&place)?.lock().insert(place.name.clone(), new.clone());
            noted(&place.parent);
            (place.node, made) = (Some(new), true);
        }
    }
    let inode = place.node.ok_or(ENOENT)?;
    if alone && !made {
        return Err(EEXIST);
    }
    // What was made now is not cut.
    let file = open_node(&inode, &place.parent, &place.path, if made { flags & !l::O_TRUNC } else { flags })?;
    user().files().add(file, flags & l::O_CLOEXEC != 0)
}

/// O_TMPFILE: a file without a name.
fn open_unnamed(fd: usize, path: &[u8], flags: u32, mode: u32) -> SysResult {
    let parent = node(fd, path, true)?;
    if !parent.is_dir() {
        return Err(ENOTDIR);
    }
    entries(&parent).map_err(|_| EOPNOTSUPP)?;
    let regular = arc(Regular::empty(mode & !user().fs.umask.load(Ordering::Relaxed))?)?;
    regular.unname(flags & l::O_EXCL == 0);
    let file: Arc<dyn File> = arc(regular)?;
    let file = OpenFile::new(file, flags, b"/tmp/# (deleted)", None)?;
    user().files().add(file, flags & l::O_CLOEXEC != 0)
}

/// What opening a node gives.
fn open_node(inode: &Arc<Inode>, parent: &Inode, path: &[u8], flags: u32) -> Result<Arc<OpenFile>, Errno> {
    let access = flags & l::O_ACCMODE;
    let writes = access != l::O_RDONLY;
    if flags & l::O_DIRECTORY != 0 && !inode.is_dir() {
        return Err(ENOTDIR);
    }
    let file: Arc<dyn File> = match &inode.kind {
        _ if inode.is_dir() => {
            if writes || flags & (l::O_CREAT | l::O_TRUNC) != 0 {
                return Err(EISDIR);
            }
            arc(Directory::new(inode.clone(), parent.ino))?
        }
        // It only names.
        _ if flags & l::O_PATH != 0 => arc(Directory::new(inode.clone(), parent.ino))?,
        Kind::Regular(regular) => {
            if writes && regular.is_image() {
                return Err(EROFS);
            }
            arc(regular.clone())?
        }
        Kind::Link(_) => return Err(ELOOP),
        Kind::Device(device) => arc(*device)?,
        Kind::Proc(entry) if entry.file_type() == kind::LINK => return Err(ELOOP),
        Kind::Proc(entry) => arc(Snapshot::open(inode, entry)?)?,
        Kind::Fifo(pipe) => open_pipe(pipe, access, flags)?,
        Kind::Open(open) => {
            let any = open.file.as_any();
            match (any.downcast_ref::<End>(), any.downcast_ref::<Console>()) {
                (Some(end), _) => open_pipe(end.pipe(), access, flags)?,
                // The streams are the host's, and are what they are.
                (_, Some(console)) => arc(*console)?,
                // As on Linux, sockets and what has no contents cannot be opened again.
                _ => return Err(ENXIO),
            }
        }
        Kind::Dir(_) => return Err(EISDIR),
    };
    let (path, kept) = match &inode.kind {
        Kind::Open(open) => (&open.path[..], None),
        _ => (path, Some(inode.clone())),
    };
    let open = OpenFile::new(file, flags, path, kept)?;
    // As on Linux, whatever it is opened for.
    if let (Kind::Regular(regular), true) = (&inode.kind, flags & l::O_TRUNC != 0) {
        cut(regular, 0)?;
    }
    Ok(open)
}

/// Sets the length of a file that a path has led to.
fn cut(file: &Arc<Regular>, len: u64) -> Result<(), Errno> {
    // Before it is asked who runs it, as on Linux.
    if file.is_image() {
        return Err(EROFS);
    }
    let _writing = Writing::new(file)?;
    file.set_len(len)
}

/// Opens a pipe by a name.
fn open_pipe(pipe: &Arc<Pipe>, access: u32, flags: u32) -> Result<Arc<dyn File>, Errno> {
    let (reads, writes) = match access {
        l::O_RDONLY => (true, false),
        l::O_WRONLY => (false, true),
        l::O_RDWR => (true, true),
        _ => return Err(EINVAL),
    };
    let end = End::new(pipe, reads, writes)?;
    end.set_packets(flags & l::O_DIRECT != 0);
    if flags & l::O_NONBLOCK == 0 {
        end.wait_for_other()?;
    } else if writes && !reads && !end.has_reader() {
        return Err(ENXIO);
    }
    Ok(end)
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
    let place = find(fd, &path, Last::Name)?;
    if place.node.is_some() {
        return Err(EEXIST);
    }
    if place.wants_dir && !dir {
        return Err(ENOENT);
    }
    list_for_new(&place)?.lock().insert(place.name.clone(), new);
    noted(&place.parent);
    Ok(0)
}
fn masked(mode: usize) -> u32 {
    mode as u32 & 0o7777 & !user().fs.umask.load(Ordering::Relaxed)
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
    make(fd, path_at, false, || match mode as u32 & kind::MASK {
        kind::FIFO => Ok(Inode::new(Kind::Fifo(Pipe::new()?), masked(mode))),
        0 | kind::REG => Ok(Inode::new(Kind::Regular(arc(Regular::empty(masked(mode))?)?), masked(mode))),
        // Directories have a call of their own; of the others there are no new ones.
        kind::DIR | kind::CHAR | kind::BLOCK | kind::SOCK => Err(EPERM),
        _ => Err(EINVAL),
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
fn do_symlink(target_at: usize, fd: usize, path_at: usize) -> SysResult {
    let target = read_path(target_at)?;
    if target.is_empty() {
        return Err(ENOENT);
    }
    make(fd, path_at, false, || Ok(Inode::new(Kind::Link(target), 0o777)))
}
/// `symlink`
pub fn symlink(r: &mut UserRegs) -> SysResult {
    do_symlink(r.a0(), CWD, r.a1())
}
/// `symlinkat`
pub fn symlinkat(r: &mut UserRegs) -> SysResult {
    do_symlink(r.a0(), r.a1(), r.a2())
}

/// A node has lost a name.
fn lost_name(node: &Inode) {
    if let Kind::Regular(file) = &node.kind {
        file.links.fetch_sub(1, Ordering::Relaxed);
    }
    node.times().changed();
}

fn do_unlink(fd: usize, path_at: usize, dir: bool) -> SysResult {
    let path = read_path(path_at)?;
    let _changing = NAMES.lock();
    let place = find(fd, &path, Last::Name)?;
    match place.ends_in {
        None => {}
        Some(_) if !dir => return Err(EISDIR),
        Some(NoName::Root) => return Err(EBUSY),
        Some(NoName::Dot) => return Err(EINVAL),
        Some(NoName::DotDot) => return Err(ENOTEMPTY),
    }
    let node = place.node.ok_or(ENOENT)?;
    let list = entries(&place.parent)?;
    match (&node.kind, dir) {
        (Kind::Dir(_), false) => return Err(EISDIR),
        (Kind::Dir(children), true) if !children.lock().is_empty() => return Err(ENOTEMPTY),
        (Kind::Dir(_), true) => {}
        (_, true) => return Err(ENOTDIR),
        (_, false) if place.wants_dir => return Err(ENOTDIR),
        (Kind::Regular(file), false) if file.is_image() => return Err(EROFS),
        _ => {}
    }
    let gone = list.lock().remove(&place.name);
    gone.iter().for_each(|node| lost_name(node));
    noted(&place.parent);
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

/// Whether the path `inner` lies below the path `outer`.
fn is_below(inner: &[u8], outer: &[u8]) -> bool {
    inner.len() > outer.len() && inner.starts_with(outer) && inner[outer.len()] == b'/'
}

fn do_rename(from_fd: usize, from_at: usize, to_fd: usize, to_at: usize, flags: u32) -> SysResult {
    let (no_replace, exchange) = (flags & l::RENAME_NOREPLACE != 0, flags & l::RENAME_EXCHANGE != 0);
    if flags & !(l::RENAME_NOREPLACE | l::RENAME_EXCHANGE) != 0 || no_replace && exchange {
        return Err(EINVAL);
    }
    let (from_path, to_path) = (read_path(from_at)?, read_path(to_at)?);
    let _changing = NAMES.lock();
    let from = find(from_fd, &from_path, Last::Name)?;
    let to = find(to_fd, &to_path, Last::Name)?;
    let is_proc = |place: &Place| matches!(place.parent.kind, Kind::Proc(_));
    if is_proc(&from) != is_proc(&to) {
        return Err(EXDEV);
    }
    if from.ends_in.is_some() || to.ends_in.is_some() {
        return Err(if no_replace && from.ends_in.is_none() { EEXIST } else { EBUSY });
    }
    let node = from.node.clone().ok_or(ENOENT)?;
    match &to.node {
        Some(_) if no_replace => return Err(EEXIST),
        None if exchange => return Err(ENOENT),
        Some(there) if exchange && to.wants_dir && !there.is_dir() => return Err(ENOTDIR),
        _ => {}
    }
    if !node.is_dir() && (from.wants_dir || to.wants_dir && !exchange) {
        return Err(ENOTDIR);
    }
    if is_below(&to.path, &from.path) {
        return Err(EINVAL);
    }
    if is_below(&from.path, &to.path) {
        return Err(if exchange { EINVAL } else { ENOTEMPTY });
    }
    let is_image = |node: &Inode| node.regular().is_some_and(|file| file.is_image());
    if is_image(&node) || exchange && to.node.as_ref().is_some_and(|there| is_image(there)) {
        return Err(EROFS);
    }
    if let Some(there) = &to.node {
        // As on Linux, of two names of one thing neither goes.
        if there.ino == node.ino {
            return Ok(0);
        }
        match (node.is_dir(), there.is_dir()) {
            _ if exchange => {}
            (true, false) => return Err(ENOTDIR),
            (false, true) => return Err(EISDIR),
            _ => {}
        }
        if let (Kind::Dir(children), false) = (&there.kind, exchange)
            && !children.lock().is_empty()
        {
            return Err(ENOTEMPTY);
        }
    }
    // One after the other: who looks for a name meanwhile looks again.
    let (from_list, to_list) = (entries(&from.parent)?, entries(&to.parent)?);
    let moving = Moving::begin();
    let replaced = to_list.lock().insert(to.name, node.clone());
    node.times().changed();
    let old = match replaced {
        Some(there) if exchange => {
            there.times().changed();
            let moved = from_list.lock().insert(from.name, there);
            drop(moving);
            moved
        }
        replaced => {
            replaced.iter().for_each(|node| lost_name(node));
            let moved = from_list.lock().remove(&from.name);
            drop(moving);
            // The last of a file may go here, and that takes its time.
            drop(replaced);
            moved
        }
    };
    noted(&from.parent);
    noted(&to.parent);
    drop(old);
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

fn do_link(from_fd: usize, from_at: usize, to_fd: usize, to_at: usize, flags: u32) -> SysResult {
    if flags & !(l::AT_SYMLINK_FOLLOW | l::AT_EMPTY_PATH) != 0 {
        return Err(EINVAL);
    }
    let nofollow = if flags & l::AT_SYMLINK_FOLLOW == 0 { l::AT_SYMLINK_NOFOLLOW } else { 0 };
    let node = node_at(from_fd, from_at, flags & l::AT_EMPTY_PATH | nofollow)?;
    match &node.kind {
        _ if node.is_dir() => return Err(EPERM),
        Kind::Proc(_) | Kind::Open(_) => return Err(EXDEV),
        _ => {}
    }
    // Counted before the name is there: whoever takes that away takes one off.
    let file = node.regular();
    let first = file.as_ref().map_or(Ok(false), |file| file.add_link())?;
    // Each name of a file has a node of its own: /proc shows what has become of that by which it was opened.
    let named = || file.clone().map_or_else(|| node.clone(), |file| Inode::new(Kind::Regular(file), 0));
    if let Err(why) = make(to_fd, to_at, false, || Ok(named())) {
        file.inspect(|file| file.drop_link(first));
        return Err(why);
    }
    node.times().changed();
    Ok(0)
}
/// `link`
pub fn link(r: &mut UserRegs) -> SysResult {
    do_link(CWD, r.a0(), CWD, r.a1(), 0)
}
/// `linkat`
pub fn linkat(r: &mut UserRegs) -> SysResult {
    do_link(r.a0(), r.a1(), r.a2(), r.a3(), r.a4() as u32)
}
