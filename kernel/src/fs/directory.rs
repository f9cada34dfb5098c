//! Directories as open files: getdents64, and getdents as it was before.

use super::{File, Inode, Kind, Stat, UserIo, procfs, stat::kind};
use crate::mem::user::UserSlice;
use crate::proc::thread::user;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::ops::Bound;
use quire_arch::UserRegs;
use quire_base::errno::*;
use quire_base::lock::Mutex;

/// Most entries that one call gives, so that none works for long. Programs ask until there are no more.
const MOST: usize = 1024;
/// Bytes of the shortest record.
const SHORTEST: usize = 24;

/// An open directory.
pub struct Directory {
    inode: Arc<Inode>,
    /// Number of the one above, when it was opened.
    above: u64,
    /// The name that a reader has seen last, and the position behind it.
    last: Mutex<(u64, Vec<u8>)>,
}

impl Directory {
    /// Opens a directory (or, with O_PATH, anything).
    pub fn new(inode: Arc<Inode>, above: u64) -> Self {
        Directory { inode, above, last: Mutex::new((0, Vec::new())) }
    }

    /// What it is.
    pub fn inode(&self) -> &Arc<Inode> {
        &self.inode
    }
}

impl File for Directory {
    fn read(&self, _: &mut UserIo, _: u64, _: bool) -> SysResult {
        Err(EISDIR)
    }
    fn write(&self, _: &mut UserIo, _: u64, _: bool) -> SysResult {
        Err(EBADF)
    }
    fn stat(&self) -> Stat {
        self.inode.stat()
    }
    fn can_wait(&self) -> bool {
        false
    }
    fn seekable(&self) -> bool {
        true
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Name, inode number and type of an entry.
type Entry = (Vec<u8>, u64, u32);

/// Up to `most` entries from a position on: the directory itself, the one above, the others by name.
///
/// Who reads on begins behind the name seen last, wherever that is now: what is deleted meanwhile moves nothing. Only a
/// position that was jumped to is counted off.
fn entries(dir: &Directory, position: u64, most: usize) -> Result<Vec<Entry>, Errno> {
    let node = &dir.inode;
    let mut out = Vec::new();
    out.try_reserve_exact(most).map_err(|_| ENOMEM)?;
    let dots = [(&b"."[..], node.ino), (b"..", dir.above)].map(|(name, ino)| (name.to_vec(), ino, kind::DIR));
    out.extend(dots.into_iter().skip(position as usize).take(most));
    let (skip, room) = (position.saturating_sub(2) as usize, most - out.len());
    match &node.kind {
        Kind::Dir(entries) => {
            let last = dir.last.lock();
            let known = position > 2 && last.0 == position;
            let (from, skip) = if known { (Bound::Excluded(&last.1), 0) } else { (Bound::Unbounded, skip) };
            let all = entries.lock();
            let range = all.range::<Vec<u8>, _>((from, Bound::Unbounded));
            out.extend(range.skip(skip).take(room).map(|(name, inode)| (name.clone(), inode.ino, inode.file_type())));
        }
        Kind::Proc(entry) if !entry.is_there() => return Err(ENOENT),
        Kind::Proc(entry) => {
            procfs::list(entry, skip, room, &mut out);
        }
        _ => {}
    }
    Ok(out)
}

/// Bytes of a record before its name, in both forms: inode number, position behind it, length, and in the new form the type.
const BEFORE_NAME: usize = 18;

/// A record as programs read it. The old form has the type behind everything else.
fn record((name, ino, kind): &Entry, behind: u64, old: bool) -> Result<Vec<u8>, Errno> {
    let len = (BEFORE_NAME + name.len() + 2).next_multiple_of(8);
    let mut record = Vec::new();
    record.try_reserve_exact(len).map_err(|_| ENOMEM)?;
    record.extend_from_slice(&ino.to_ne_bytes());
    record.extend_from_slice(&behind.to_ne_bytes());
    record.extend_from_slice(&(len as u16).to_ne_bytes());
    let kind = (kind >> 12) as u8;
    if !old {
        record.push(kind);
    }
    record.extend_from_slice(name);
    record.resize(len, 0);
    if old {
        record[len - 1] = kind;
    }
    Ok(record)
}

fn read_entries(r: &UserRegs, old: bool) -> SysResult {
    let (fd, at, size) = (r.a0() as i32, r.a1(), r.a2() as u32 as usize);
    let file = user().files().get(fd)?;
    let dir = file.file.as_any().downcast_ref::<Directory>().ok_or(ENOTDIR)?;
    let mut position = file.position.lock();
    let mut done = 0;
    let most = (size / SHORTEST).clamp(1, MOST);
    for entry in entries(dir, *position, most)? {
        let record = record(&entry, *position + 1, old)?;
        let put = match done + record.len() <= size {
            true => UserSlice::new(at + done, record.len()).and_then(|place| place.copy_out(&record)),
            false => Err(EINVAL),
        };
        match put {
            Ok(()) => done += record.len(),
            // What does not fit, or has no page, comes with the next call.
            Err(_) if done > 0 => break,
            Err(why) => return Err(why),
        }
        // The position counts entries.
        *position += 1;
        *dir.last.lock() = (*position, entry.0);
    }
    file.accessed();
    Ok(done)
}

/// `getdents64`
pub fn getdents64(r: &mut UserRegs) -> SysResult {
    read_entries(r, false)
}

/// `getdents`
pub fn getdents(r: &mut UserRegs) -> SysResult {
    read_entries(r, true)
}
