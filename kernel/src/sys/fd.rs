//! Descriptors: closing, duplicating, controls, and the files that have no path.

use super::readwrite::store_pair;
use crate::fs::eventfd::EventFd;
use crate::fs::pipe::{End, Pipe};
use crate::fs::regular::Regular;
use crate::fs::stat::kind;
use crate::fs::{File, Kind, OpenFile, locks};
use crate::mem::user::{UserPtr, read_cstr};
use crate::proc::process::arc;
use crate::proc::thread::{current, user};
use alloc::format;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as l;
use linux_raw_sys::ioctl;
use quire_arch::UserRegs;
use quire_base::errno::*;

/// `close`
pub fn close(r: &mut UserRegs) -> SysResult {
    let file = user().files().remove(r.a0() as i32)?;
    locks::closed(&file);
    Ok(0)
}

const CLOSE_RANGE_UNSHARE: u32 = 2;
const CLOSE_RANGE_CLOEXEC: u32 = 4;

/// `close_range`
pub fn close_range(r: &mut UserRegs) -> SysResult {
    let (first, last, flags) = (r.a0() as u32, r.a1() as u32, r.a2() as u32);
    if first > last || flags & !(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC) != 0 {
        return Err(EINVAL);
    }
    if flags & CLOSE_RANGE_UNSHARE != 0 {
        let copy = user().files().copy()?;
        drop(user().set_files(Some(copy)));
    }
    let table = user().files();
    let mut at = first as usize;
    while let Some(fd) = table.next(at).filter(|fd| *fd <= last as usize) {
        // Another thread may have closed it meanwhile.
        if flags & CLOSE_RANGE_CLOEXEC != 0 {
            let _ = table.set_close_on_exec(fd as i32, true);
        } else {
            let _ = table.remove(fd as i32).map(|file| locks::closed(&file));
        }
        at = fd + 1;
    }
    Ok(0)
}

/// `dup`
pub fn dup(r: &mut UserRegs) -> SysResult {
    let table = user().files();
    table.add(table.get_any(r.a0() as i32)?, false)
}

/// A descriptor means another file than before.
fn replaced(old: Option<Arc<OpenFile>>) {
    old.iter().for_each(|old| locks::closed(old));
}

/// `dup2`
pub fn dup2(r: &mut UserRegs) -> SysResult {
    let table = user().files();
    let file = table.get_any(r.a0() as i32)?;
    if r.a0() as i32 == r.a1() as i32 {
        return Ok(r.a1());
    }
    if (r.a1() as i32) < 0 {
        return Err(EBADF);
    }
    let fd = r.a1() as u32 as usize;
    replaced(table.put(fd, file, false)?);
    Ok(fd)
}

/// `dup3`
pub fn dup3(r: &mut UserRegs) -> SysResult {
    let flags = r.a2() as u32;
    if flags & !l::O_CLOEXEC != 0 || r.a0() as i32 == r.a1() as i32 {
        return Err(EINVAL);
    }
    if (r.a1() as i32) < 0 {
        return Err(EBADF);
    }
    let table = user().files();
    let file = table.get_any(r.a0() as i32)?;
    let fd = r.a1() as u32 as usize;
    replaced(table.put(fd, file, flags != 0)?);
    Ok(fd)
}

/// `fcntl`
pub fn fcntl(r: &mut UserRegs) -> SysResult {
    let (fd, command, argument) = (r.a0() as i32, r.a1() as u32, r.a2());
    let table = user().files();
    let file = match command {
        l::F_DUPFD | l::F_DUPFD_CLOEXEC | l::F_GETFD | l::F_SETFD | l::F_GETFL => table.get_any(fd)?,
        _ => table.get(fd)?,
    };
    let end = file.file.as_any().downcast_ref::<End>();
    match command {
        l::F_DUPFD | l::F_DUPFD_CLOEXEC => {
            if argument as u64 >= current().limit(l::RLIMIT_NOFILE) {
                return Err(EINVAL);
            }
            table.add_from(argument, file, command == l::F_DUPFD_CLOEXEC)
        }
        l::F_GETFD => Ok(usize::from(table.close_on_exec_of(fd)?)),
        l::F_SETFD => {
            table.set_close_on_exec(fd, argument as u32 & l::FD_CLOEXEC != 0)?;
            Ok(0)
        }
        l::F_GETFL => Ok(file.flags() as usize),
        l::F_SETFL => {
            const SETTABLE: u32 = l::O_APPEND | l::O_NONBLOCK | l::O_DIRECT | l::O_NOATIME | l::FASYNC;
            let flags = file.flags() & !SETTABLE | argument as u32 & SETTABLE;
            file.flags.store(flags, Ordering::Relaxed);
            end.iter().for_each(|end| end.set_packets(flags & l::O_DIRECT != 0));
            Ok(0)
        }
        l::F_GETLK | l::F_SETLK | l::F_SETLKW | l::F_OFD_GETLK | l::F_OFD_SETLK | l::F_OFD_SETLKW => {
            locks::of_range(&file, fd, command, argument)
        }
        l::F_GETPIPE_SZ => Ok(end.ok_or(EBADF)?.pipe().capacity()),
        l::F_SETPIPE_SZ => end.ok_or(EBADF)?.pipe().set_capacity(argument as u32 as usize),
        l::F_GETOWN | l::F_SETOWN => Ok(0),
        l::F_GET_SEALS | l::F_ADD_SEALS => {
            let regular = file.file.as_any().downcast_ref::<Arc<Regular>>().ok_or(EINVAL)?;
            if command == l::F_GET_SEALS {
                return Ok(regular.seals() as usize);
            }
            const SEALS: u32 =
                l::F_SEAL_SEAL | l::F_SEAL_SHRINK | l::F_SEAL_GROW | l::F_SEAL_WRITE | l::F_SEAL_FUTURE_WRITE;
            file.writable().map_err(|_| EPERM)?;
            if argument as u32 & !(SEALS | l::F_SEAL_EXEC) != 0 {
                return Err(EINVAL);
            }
            regular.add_seals(argument as u32).map(|()| 0)
        }
        _ => Err(EINVAL),
    }
}

/// `flock`
pub fn flock(r: &mut UserRegs) -> SysResult {
    let operation = r.a1() as u32;
    if !matches!(operation & !l::LOCK_NB, l::LOCK_UN | l::LOCK_SH | l::LOCK_EX) {
        return Err(EINVAL);
    }
    locks::flock(&*user().files().get(r.a0() as i32)?, operation)
}

/// The descriptor's file, and its type.
fn typed(fd: usize) -> Result<(Arc<OpenFile>, u32), Errno> {
    let file = user().files().get(fd as i32)?;
    let kind = file.stat().mode & kind::MASK;
    Ok((file, kind))
}

/// `fsync` and its kind: everything is memory.
pub fn sync(r: &mut UserRegs) -> SysResult {
    let (file, kind) = typed(r.a0())?;
    let of_proc = file.inode.as_ref().is_some_and(|inode| matches!(inode.kind, Kind::Proc(_)) && !inode.is_dir());
    if matches!(kind, kind::REG | kind::DIR) && !of_proc { Ok(0) } else { Err(EINVAL) }
}

/// `syncfs`
pub fn syncfs(r: &mut UserRegs) -> SysResult {
    user().files().get(r.a0() as i32).map(|_| 0)
}

/// `sync_file_range`
pub fn sync_file_range(r: &mut UserRegs) -> SysResult {
    let (_, kind) = typed(r.a0())?;
    let (from, len, flags) = (r.a1() as i64, r.a2() as i64, r.a3() as u32);
    let known = l::SYNC_FILE_RANGE_WAIT_BEFORE | l::SYNC_FILE_RANGE_WRITE | l::SYNC_FILE_RANGE_WAIT_AFTER;
    if flags & !known != 0 || from < 0 || len < 0 || from.checked_add(len).is_none() {
        return Err(EINVAL);
    }
    if matches!(kind, kind::REG | kind::BLOCK | kind::DIR | kind::LINK) { Ok(0) } else { Err(ESPIPE) }
}

/// `fadvise64`: nothing is read ahead that is in memory.
pub fn fadvise(r: &mut UserRegs) -> SysResult {
    let (_, kind) = typed(r.a0())?;
    if kind == kind::FIFO {
        return Err(ESPIPE);
    }
    if (r.a2() as i64) < 0 || r.a3() as u32 > l::POSIX_FADV_NOREUSE { Err(EINVAL) } else { Ok(0) }
}

/// `readahead`
pub fn readahead(r: &mut UserRegs) -> SysResult {
    let (file, kind) = typed(r.a0())?;
    file.readable()?;
    if matches!(kind, kind::REG | kind::BLOCK) { Ok(0) } else { Err(EINVAL) }
}

/// `ioctl`
pub fn ioctl(r: &mut UserRegs) -> SysResult {
    let (fd, command, argument) = (r.a0() as i32, r.a1() as u32, r.a2());
    let table = user().files();
    let file = table.get(fd)?;
    match command {
        ioctl::FIONBIO => {
            let on = UserPtr::<i32>::new(argument).read()? != 0;
            let flags = file.flags() & !l::O_NONBLOCK | if on { l::O_NONBLOCK } else { 0 };
            file.flags.store(flags, Ordering::Relaxed);
            Ok(0)
        }
        ioctl::FIOCLEX | ioctl::FIONCLEX => {
            table.set_close_on_exec(fd, command == ioctl::FIOCLEX)?;
            Ok(0)
        }
        // What is left behind the position.
        ioctl::FIONREAD if file.regular().is_some() => {
            let left = file.stat().size as i64 - *file.position.lock() as i64;
            UserPtr::<i32>::new(argument).write(left as i32)?;
            Ok(0)
        }
        _ => file.file.ioctl(command, argument),
    }
}

/// Adds two files, or none.
pub fn add_pair(at: usize, a: Arc<OpenFile>, b: Arc<OpenFile>, close_on_exec: bool) -> SysResult {
    let table = user().files();
    let first = table.add(a, close_on_exec)?;
    let second = match table.add(b, close_on_exec) {
        Ok(second) => second,
        Err(e) => {
            drop(table.remove(first as i32));
            return Err(e);
        }
    };
    if let Err(e) = store_pair(at, first, second) {
        drop(table.remove(first as i32));
        drop(table.remove(second as i32));
        return Err(e);
    }
    Ok(0)
}

/// `pipe`
pub fn pipe(r: &mut UserRegs) -> SysResult {
    make_pipe(r.a0(), 0)
}
/// `pipe2`
pub fn pipe2(r: &mut UserRegs) -> SysResult {
    make_pipe(r.a0(), r.a1() as u32)
}
fn make_pipe(at: usize, flags: u32) -> SysResult {
    if flags & !(l::O_CLOEXEC | l::O_NONBLOCK | l::O_DIRECT) != 0 {
        return Err(EINVAL);
    }
    let pipe = Pipe::new()?;
    let name = format!("pipe:[{}]", pipe.number());
    let status = flags & (l::O_NONBLOCK | l::O_DIRECT);
    let read: Arc<dyn File> = End::new(&pipe, true, false)?;
    let write = End::new(&pipe, false, true)?;
    write.set_packets(flags & l::O_DIRECT != 0);
    // Only who writes makes packets of what he writes.
    let read = OpenFile::new(read, l::O_RDONLY | flags & l::O_NONBLOCK, name.as_bytes(), None)?;
    let write = OpenFile::new(write, l::O_WRONLY | status, name.as_bytes(), None)?;
    add_pair(at, read, write, flags & l::O_CLOEXEC != 0)
}

/// `eventfd`
pub fn eventfd(r: &mut UserRegs) -> SysResult {
    make_eventfd(r.a0() as u32, 0)
}
/// `eventfd2`
pub fn eventfd2(r: &mut UserRegs) -> SysResult {
    make_eventfd(r.a0() as u32, r.a1() as u32)
}
fn make_eventfd(value: u32, flags: u32) -> SysResult {
    if flags & !(l::O_CLOEXEC | l::O_NONBLOCK | 1) != 0 {
        return Err(EINVAL);
    }
    let file = arc(EventFd::new(u64::from(value), flags & 1 != 0))?;
    let file = OpenFile::new(file, l::O_RDWR | flags & l::O_NONBLOCK, b"anon_inode:[eventfd]", None)?;
    user().files().add(file, flags & l::O_CLOEXEC != 0)
}

/// `memfd_create`
pub fn memfd_create(r: &mut UserRegs) -> SysResult {
    let flags = r.a1() as u32;
    let name = read_cstr(r.a0(), 249).map_err(|e| if e == ENAMETOOLONG { EINVAL } else { e })?;
    let known = l::MFD_CLOEXEC | l::MFD_ALLOW_SEALING | l::MFD_NOEXEC_SEAL | l::MFD_EXEC;
    if flags & (l::MFD_EXEC | l::MFD_NOEXEC_SEAL) == l::MFD_EXEC | l::MFD_NOEXEC_SEAL {
        return Err(EINVAL);
    }
    if flags & !known != 0 {
        // Huge pages are not offered.
        return Err(if flags & l::MFD_HUGETLB != 0 { ENOSYS } else { EINVAL });
    }
    let regular = Regular::memfd()?;
    regular.links.store(0, Ordering::Relaxed);
    if flags & (l::MFD_ALLOW_SEALING | l::MFD_NOEXEC_SEAL) != 0 {
        regular.allow_seals(flags & l::MFD_NOEXEC_SEAL != 0);
    }
    let path = [b"/memfd:", &name[..], b" (deleted)"].concat();
    let file: Arc<dyn File> = arc(arc(regular)?)?;
    let file = OpenFile::of_memfd(file, &path)?;
    user().files().add(file, flags & l::MFD_CLOEXEC != 0)
}
