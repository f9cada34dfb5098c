//! Control messages of sockets: descriptors that travel with the bytes.

use crate::fs::rights::{MOST, Rights};
use crate::mem::user::{UserPtr, UserSlice, plain};
use crate::proc::thread::{current, user};
use alloc::vec::Vec;
use linux_raw_sys::net;
use quire_base::errno::*;

/// Most bytes of control messages of one call.
const MOST_BYTES: usize = 16 << 10;

/// Linux's `struct cmsghdr`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Header {
    /// Bytes, with this header.
    len: usize,
    level: u32,
    kind: u32,
}
plain!(Header);
const HEADER: usize = size_of::<Header>();

/// What a message that is sent carries.
pub fn read(at: usize, len: usize) -> Result<Option<Rights>, Errno> {
    if len > MOST_BYTES {
        return Err(ENOBUFS);
    }
    UserSlice::new(at, len)?;
    let mut files = Vec::new();
    let mut done = 0;
    while done + HEADER <= len {
        let header = UserPtr::<Header>::new(at + done).read()?;
        let inside = header.len.checked_sub(HEADER).filter(|n| *n <= len - done - HEADER).ok_or(EINVAL)?;
        let from = at + done + HEADER;
        match (header.level, header.kind) {
            (net::SOL_SOCKET, net::SCM_RIGHTS) => {
                let count = inside / size_of::<i32>();
                if files.len() + count > MOST {
                    return Err(EINVAL);
                }
                files.try_reserve(count).map_err(|_| ENOMEM)?;
                for fd in UserPtr::<i32>::new(from).read_vec(count)? {
                    files.push(user().files().get_any(fd)?);
                }
            }
            // Who sends it may say only who it is. Nobody asks for it: SO_PASSCRED is not offered.
            (net::SOL_SOCKET, net::SCM_CREDENTIALS) => {
                let [pid, uid, gid] = UserPtr::<[u32; 3]>::new(from).read()?;
                if inside != 12 {
                    return Err(EINVAL);
                }
                if [pid, uid, gid] != [current().pid, 0, 0] {
                    return Err(EPERM);
                }
            }
            (net::SOL_SOCKET, _) => return Err(EINVAL),
            _ => {}
        }
        done += header.len.next_multiple_of(size_of::<usize>());
    }
    if files.is_empty() { Ok(None) } else { Rights::new(files).map(Some) }
}

/// Gives the program the descriptors that came. Returns the bytes used, and whether some did not fit.
pub fn write(at: usize, len: usize, rights: Option<Rights>, close_on_exec: bool) -> Result<(usize, bool), Errno> {
    let Some(rights) = rights else { return Ok((0, false)) };
    let room = (len.saturating_sub(HEADER) / size_of::<i32>()).min(MOST);
    let table = user().files();
    let place = UserPtr::<i32>::new(at.wrapping_add(HEADER));
    let (mut count, mut cut) = (0, false);
    for file in rights.take() {
        let fd = if count < room { table.add(file, close_on_exec) } else { Err(EMFILE) };
        // As on Linux, what cannot be given is dropped.
        match fd {
            Ok(fd) if place.at(count).write(fd as i32).is_ok() => count += 1,
            Ok(fd) => {
                drop(table.remove(fd as i32));
                cut = true;
            }
            Err(_) => cut = true,
        }
    }
    if count == 0 {
        return Ok((0, cut));
    }
    let used = HEADER + count * size_of::<i32>();
    UserPtr::new(at).write(Header { len: used, level: net::SOL_SOCKET, kind: net::SCM_RIGHTS })?;
    Ok((used.next_multiple_of(size_of::<usize>()).min(len), cut))
}
