//! Directories as open files: getdents64.

use super::{File, Inode, Kind, Stat, UserIo, procfs, stat::kind};
use crate::arch::UserRegs;
use crate::mem::user::UserSlice;
use crate::proc::thread::user;
use crate::sys::Args;
use crate::sys::errno::*;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use linux_raw_sys::general as l;

/// An open directory.
pub struct Directory(pub Arc<Inode>);

impl File for Directory {
    fn read(&self, _: &mut UserIo, _: u64, _: bool) -> SysResult {
        Err(EISDIR)
    }
    fn write(&self, _: &mut UserIo, _: u64, _: bool) -> SysResult {
        Err(EBADF)
    }
    fn stat(&self) -> Stat {
        self.0.stat()
    }
    fn poll(&self) -> u32 {
        l::POLLIN | l::POLLOUT
    }
    fn seekable(&self) -> bool {
        true
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Name, inode number and type of each entry.
fn entries(node: &Inode) -> Vec<(Vec<u8>, u64, u32)> {
    match &node.kind {
        Kind::Dir(entries) => {
            let all: Vec<_> = entries.lock().iter().map(|(n, i)| (n.clone(), i.clone())).collect();
            all.into_iter().map(|(n, i)| (n, i.ino, i.stat().mode & kind::MASK)).collect()
        }
        Kind::Proc(entry) => procfs::list(entry).into_iter().map(|(n, t)| (n, 1, t)).collect(),
        _ => Vec::new(),
    }
}

/// `getdents64`
pub fn getdents64(r: &mut UserRegs) -> SysResult {
    let (fd, at, size) = (r.a0() as i32, r.a1(), r.a2() as u32 as usize);
    let file = user().files().get(fd)?;
    let dir = file.file.as_any().downcast_ref::<Directory>().ok_or(ENOTDIR)?;
    let mut all = alloc::vec![(b".".to_vec(), dir.0.ino, kind::DIR), (b"..".to_vec(), dir.0.ino, kind::DIR)];
    all.extend(entries(&dir.0));
    // The position counts entries.
    let mut position = file.position.lock();
    let mut done = 0;
    for (index, (name, ino, mode)) in all.iter().enumerate().skip(*position as usize) {
        let len = (19 + name.len() + 1).next_multiple_of(8);
        if done + len > size {
            if done == 0 {
                return Err(EINVAL);
            }
            break;
        }
        let mut record = Vec::new();
        record.extend_from_slice(&ino.to_ne_bytes());
        record.extend_from_slice(&(index as u64 + 1).to_ne_bytes());
        record.extend_from_slice(&(len as u16).to_ne_bytes());
        record.push((mode >> 12) as u8);
        record.extend_from_slice(name);
        record.resize(len, 0);
        UserSlice::new(at + done, len)?.copy_out(&record)?;
        done += len;
        *position = index as u64 + 1;
    }
    Ok(done)
}
