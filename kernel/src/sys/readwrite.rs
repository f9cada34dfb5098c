//! read, write and their kind.

use crate::fs::pipe::End;
use crate::fs::{OpenFile, UserIo};
use crate::mem::user::UserPtr;
use crate::proc::thread::user;
use alloc::sync::Arc;
use linux_raw_sys::general as l;
use quire_arch::UserRegs;
use quire_base::errno::*;

/// The open file that a descriptor means.
pub fn file(fd: usize) -> Result<Arc<OpenFile>, Errno> {
    user().files().get(fd as i32)
}

/// `read`
pub fn read(r: &mut UserRegs) -> SysResult {
    let file = file(r.a0())?;
    file.begin(false)?;
    file.read(&mut UserIo::single(r.a1(), r.a2())?)
}
/// `write`
pub fn write(r: &mut UserRegs) -> SysResult {
    let file = file(r.a0())?;
    file.begin(true)?;
    file.write(&mut UserIo::single(r.a1(), r.a2())?)
}
/// `readv`
pub fn readv(r: &mut UserRegs) -> SysResult {
    read_parts(&*file(r.a0())?, r, None, 0)
}
/// `writev`
pub fn writev(r: &mut UserRegs) -> SysResult {
    write_parts(&*file(r.a0())?, r, None, 0)
}

/// Where the calls with a position begin.
fn position(value: usize) -> Result<u64, Errno> {
    if (value as i64) < 0 { Err(EINVAL) } else { Ok(value as u64) }
}

/// `pread64`
pub fn pread(r: &mut UserRegs) -> SysResult {
    let at = position(r.a3())?;
    let file = positioned(r)?;
    file.begin(false)?;
    file.read_at(&mut UserIo::single(r.a1(), r.a2())?, at)
}
/// `pwrite64`
pub fn pwrite(r: &mut UserRegs) -> SysResult {
    let at = position(r.a3())?;
    let file = positioned(r)?;
    file.begin(true)?;
    // As on Linux, the end comes before any position.
    let append = file.appends();
    file.write_at(&mut UserIo::single(r.a1(), r.a2())?, at, append)
}
/// `preadv`
pub fn preadv(r: &mut UserRegs) -> SysResult {
    let at = position(r.a3())?;
    read_parts(&*positioned(r)?, r, Some(at), 0)
}
/// `pwritev`
pub fn pwritev(r: &mut UserRegs) -> SysResult {
    let at = position(r.a3())?;
    write_parts(&*positioned(r)?, r, Some(at), 0)
}
/// `preadv2`: -1 is the file's own position.
pub fn preadv2(r: &mut UserRegs) -> SysResult {
    if r.a3() == usize::MAX {
        return read_parts(&*file(r.a0())?, r, None, r.a5() as u32);
    }
    let at = position(r.a3())?;
    read_parts(&*positioned(r)?, r, Some(at), r.a5() as u32)
}
/// `pwritev2`
pub fn pwritev2(r: &mut UserRegs) -> SysResult {
    if r.a3() == usize::MAX {
        return write_parts(&*file(r.a0())?, r, None, r.a5() as u32);
    }
    let at = position(r.a3())?;
    write_parts(&*positioned(r)?, r, Some(at), r.a5() as u32)
}

/// Writes at the position, whatever the file says (include/uapi/linux/fs.h).
const RWF_NOAPPEND: u32 = 0x20;

/// The file of a call with a position.
fn positioned(r: &UserRegs) -> Result<Arc<OpenFile>, Errno> {
    let file = file(r.a0())?;
    if file.file.seekable() { Ok(file) } else { Err(ESPIPE) }
}

/// What is asked for one call alone (`RWF_`): whether it may not wait. There is nothing to do for those about disks and polling.
fn flags_of(file: &OpenFile, flags: u32) -> Result<bool, Errno> {
    const KNOWN: u32 = l::RWF_HIPRI | l::RWF_DSYNC | l::RWF_SYNC | l::RWF_NOWAIT | l::RWF_APPEND | RWF_NOAPPEND;
    let nowait = flags & l::RWF_NOWAIT != 0;
    // As Linux's files in memory, which may always have to wait for a page.
    if flags & !KNOWN != 0 || nowait && (file.regular().is_some() || file.inode.is_some() && !file.file.stays()) {
        return Err(EOPNOTSUPP);
    }
    Ok(nowait || file.nonblock())
}

fn read_parts(file: &OpenFile, r: &UserRegs, at: Option<u64>, flags: u32) -> SysResult {
    file.begin(false)?;
    let mut io = UserIo::vector(r.a1(), r.a2() as u32 as usize)?;
    if io.left() == 0 {
        return Ok(0);
    }
    let nonblock = flags_of(file, flags)?;
    match at {
        Some(at) => file.read_at(&mut io, at),
        None => file.read_now(&mut io, nonblock),
    }
}

fn write_parts(file: &OpenFile, r: &UserRegs, at: Option<u64>, flags: u32) -> SysResult {
    file.begin(true)?;
    let mut io = UserIo::vector(r.a1(), r.a2() as u32 as usize)?;
    if io.left() == 0 {
        return Ok(0);
    }
    let nonblock = flags_of(file, flags)?;
    let append = (file.appends() || flags & l::RWF_APPEND != 0) && flags & RWF_NOAPPEND == 0;
    match at {
        Some(at) => file.write_at(&mut io, at, append),
        None => file.write_now(&mut io, nonblock, append),
    }
}

/// `lseek`
pub fn lseek(r: &mut UserRegs) -> SysResult {
    let file = file(r.a0())?;
    let (offset, whence) = (r.a1() as i64, r.a2() as u32);
    if whence > l::SEEK_HOLE {
        return Err(EINVAL);
    }
    if file.file.stays() {
        return Ok(0);
    }
    if !file.file.seekable() {
        return Err(ESPIPE);
    }
    let size = file.stat().size as i64;
    let mut position = file.position.lock();
    let new = match whence {
        l::SEEK_SET => Some(offset),
        l::SEEK_CUR => (*position as i64).checked_add(offset),
        l::SEEK_END => size.checked_add(offset),
        _ if offset < 0 || offset >= size => return Err(ENXIO),
        _ => match file.regular() {
            Some(regular) => Some(regular.seek(offset as u64, whence == l::SEEK_DATA)? as i64),
            None => Some(if whence == l::SEEK_DATA { offset } else { size }),
        },
    };
    let new = new.filter(|n| *n >= 0).ok_or(EINVAL)?;
    *position = new as u64;
    Ok(new as usize)
}

/// `ftruncate`
pub fn ftruncate(r: &mut UserRegs) -> SysResult {
    if (r.a1() as i64) < 0 {
        return Err(EINVAL);
    }
    let file = file(r.a0())?;
    if file.writable().is_err() {
        return Err(EINVAL);
    }
    file.file.truncate(r.a1() as u64)?;
    Ok(0)
}

/// `fallocate`: pages are made when they are touched, so that only the length grows; and holes.
pub fn fallocate(r: &mut UserRegs) -> SysResult {
    const KEEP: u32 = l::FALLOC_FL_KEEP_SIZE;
    const HOLE: u32 = l::FALLOC_FL_PUNCH_HOLE | KEEP;
    let (mode, offset, len) = (r.a1() as u32, r.a2() as i64, r.a3() as i64);
    let file = file(r.a0())?;
    if offset < 0 || len <= 0 {
        return Err(EINVAL);
    }
    // What Linux knows; what its files in memory do not do is refused only behind the questions about the descriptor.
    let elsewhere = match mode & !KEEP {
        0 => false,
        l::FALLOC_FL_PUNCH_HOLE if mode == HOLE => false,
        l::FALLOC_FL_ZERO_RANGE | l::FALLOC_FL_UNSHARE_RANGE => true,
        l::FALLOC_FL_COLLAPSE_RANGE | l::FALLOC_FL_INSERT_RANGE if mode & KEEP == 0 => true,
        _ => return Err(EOPNOTSUPP),
    };
    file.writable()?;
    let other = if file.file.as_any().is::<End>() { ESPIPE } else { ENODEV };
    let regular = file.regular().ok_or(other)?;
    let end = offset.checked_add(len).ok_or(EFBIG)? as u64;
    if elsewhere {
        return Err(EOPNOTSUPP);
    }
    if mode == HOLE {
        regular.punch(offset as u64, end)?;
        return Ok(0);
    }
    regular.set_aside(offset as u64, end, mode == KEEP)?;
    Ok(0)
}

/// Stores a pair of descriptors.
pub fn store_pair(at: usize, a: usize, b: usize) -> Result<(), Errno> {
    UserPtr::<[i32; 2]>::new(at).write([a as i32, b as i32])
}
