//! read, write and their kind.

use super::Args;
use super::errno::*;
use crate::arch::UserRegs;
use crate::fs::pipe::End;
use crate::fs::regular::Regular;
use crate::fs::{OpenFile, UserIo};
use crate::mem::user::UserPtr;
use crate::proc::thread::user;
use alloc::sync::Arc;
use linux_raw_sys::general as l;

/// The open file that a descriptor means.
pub fn file(fd: usize) -> Result<Arc<OpenFile>, Errno> {
    user().files().get(fd as i32)
}

/// `read`
pub fn read(r: &mut UserRegs) -> SysResult {
    let file = file(r.a0())?;
    file.readable()?;
    file.read(&mut UserIo::single(r.a1(), r.a2())?)
}
/// `write`
pub fn write(r: &mut UserRegs) -> SysResult {
    let file = file(r.a0())?;
    file.writable()?;
    file.write(&mut UserIo::single(r.a1(), r.a2())?)
}
/// `readv`
pub fn readv(r: &mut UserRegs) -> SysResult {
    let file = file(r.a0())?;
    file.readable()?;
    file.read(&mut UserIo::vector(r.a1(), r.a2())?)
}
/// `writev`
pub fn writev(r: &mut UserRegs) -> SysResult {
    let file = file(r.a0())?;
    file.writable()?;
    file.write(&mut UserIo::vector(r.a1(), r.a2())?)
}

fn position(value: usize) -> Result<u64, Errno> {
    if (value as i64) < 0 { Err(EINVAL) } else { Ok(value as u64) }
}

/// `pread64`
pub fn pread(r: &mut UserRegs) -> SysResult {
    let at = position(r.a3())?;
    file(r.a0())?.read_at(&mut UserIo::single(r.a1(), r.a2())?, at)
}
/// `pwrite64`
pub fn pwrite(r: &mut UserRegs) -> SysResult {
    let at = position(r.a3())?;
    file(r.a0())?.write_at(&mut UserIo::single(r.a1(), r.a2())?, at)
}
/// `preadv`, `preadv2`
pub fn preadv(r: &mut UserRegs) -> SysResult {
    if r.a3() == usize::MAX {
        return readv(r);
    }
    let at = position(r.a3())?;
    file(r.a0())?.read_at(&mut UserIo::vector(r.a1(), r.a2())?, at)
}
/// `pwritev`, `pwritev2`
pub fn pwritev(r: &mut UserRegs) -> SysResult {
    if r.a3() == usize::MAX {
        return writev(r);
    }
    let at = position(r.a3())?;
    file(r.a0())?.write_at(&mut UserIo::vector(r.a1(), r.a2())?, at)
}

/// `lseek`
pub fn lseek(r: &mut UserRegs) -> SysResult {
    let file = file(r.a0())?;
    let (offset, whence) = (r.a1() as i64, r.a2() as u32);
    if !file.file.seekable() {
        return Err(ESPIPE);
    }
    let size = file.file.stat().size as i64;
    let mut position = file.position.lock();
    let new = match whence {
        l::SEEK_SET => Some(offset),
        l::SEEK_CUR => (*position as i64).checked_add(offset),
        l::SEEK_END => size.checked_add(offset),
        l::SEEK_DATA if offset >= 0 && offset < size => Some(offset),
        l::SEEK_HOLE if offset >= 0 && offset < size => Some(size),
        l::SEEK_DATA | l::SEEK_HOLE => return Err(ENXIO),
        _ => return Err(EINVAL),
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
    let (mode, offset, len) = (r.a1() as u32, r.a2() as i64, r.a3() as i64);
    let file = file(r.a0())?;
    file.writable()?;
    if offset < 0 || len <= 0 {
        return Err(EINVAL);
    }
    let other = if file.file.as_any().is::<End>() { ESPIPE } else { ENODEV };
    let regular = file.file.as_any().downcast_ref::<Arc<Regular>>().ok_or(other)?;
    let end = offset.checked_add(len).ok_or(EFBIG)? as u64;
    const HOLE: u32 = l::FALLOC_FL_PUNCH_HOLE | l::FALLOC_FL_KEEP_SIZE;
    match mode {
        0 | l::FALLOC_FL_KEEP_SIZE => regular.grow(end, mode != 0)?,
        HOLE => regular.punch(offset as u64, end)?,
        _ => return Err(EOPNOTSUPP),
    }
    Ok(0)
}

/// Stores a pair of descriptors.
pub fn store_pair(at: usize, a: usize, b: usize) -> Result<(), Errno> {
    UserPtr::<[i32; 2]>::new(at).write([a as i32, b as i32])
}
