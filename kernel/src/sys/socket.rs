//! Pairs of stream sockets of the local family. There is no network, and no socket has a name.

use super::fd::add_pair;
use super::{control, readwrite::file};
use crate::fs::rights::Rights;
use crate::fs::socket::{self, Socket};
use crate::fs::{OpenFile, UserIo};
use crate::mem::user::UserPtr;
use crate::proc::process::arc;
use alloc::sync::Arc;
use linux_raw_sys::{general as l, net};
use quire_arch::UserRegs;
use quire_base::errno::*;

/// `socketpair`: streams.
pub fn socketpair(r: &mut UserRegs) -> SysResult {
    let (family, kind) = (r.a0() as u32, r.a1() as u32);
    if family != net::AF_UNIX {
        return Err(if family < net::AF_MAX { EOPNOTSUPP } else { EAFNOSUPPORT });
    }
    let flags = kind & (l::O_CLOEXEC | l::O_NONBLOCK);
    if kind & !flags != 1 {
        return Err(EPROTONOSUPPORT);
    }
    let (a, b) = socket::pair()?;
    let open = |s: Socket| -> Result<Arc<OpenFile>, Errno> {
        OpenFile::new(arc(s)?, l::O_RDWR | flags & l::O_NONBLOCK, b"socket:[1]", None)
    };
    add_pair(r.a3(), open(a)?, open(b)?, flags & l::O_CLOEXEC != 0)
}

/// `socket`: there is no network.
pub fn socket(_: &mut UserRegs) -> SysResult {
    Err(EAFNOSUPPORT)
}

/// Does something with the socket that a descriptor means.
fn with<T>(fd: usize, what: impl FnOnce(&OpenFile, &Socket) -> Result<T, Errno>) -> Result<T, Errno> {
    let open = file(fd)?;
    what(&open, open.file.as_any().downcast_ref::<Socket>().ok_or(ENOTSOCK)?)
}

/// `shutdown`
pub fn shutdown(r: &mut UserRegs) -> SysResult {
    with(r.a0(), |_, socket| socket.shutdown(r.a1() as u32))
}

fn send(open: &OpenFile, socket: &Socket, io: &mut UserIo, flags: u32, rights: Option<Rights>) -> SysResult {
    if flags & net::MSG_OOB != 0 {
        return Err(EOPNOTSUPP);
    }
    let sent = socket.send(io, open.nonblock() || flags & net::MSG_DONTWAIT != 0, rights);
    if flags & net::MSG_NOSIGNAL != 0 { sent } else { crate::fs::broken(sent) }
}

fn receive(open: &OpenFile, socket: &Socket, io: &mut UserIo, flags: u32, rights: &mut Option<Rights>) -> SysResult {
    if flags & net::MSG_OOB != 0 {
        return Err(EOPNOTSUPP);
    }
    let nonblock = open.nonblock() || flags & net::MSG_DONTWAIT != 0;
    if flags & net::MSG_PEEK != 0 {
        return socket.peek(io, nonblock, rights);
    }
    let mut done = socket.receive(io, nonblock, rights)?;
    // All of it, unless the other side ends or something comes between.
    while flags & net::MSG_WAITALL != 0 && !nonblock && io.left() > 0 && rights.is_none() {
        match socket.receive(io, false, rights) {
            Ok(0) | Err(_) => break,
            Ok(more) => done += more,
        }
    }
    Ok(done)
}

/// `sendto`
pub fn sendto(r: &mut UserRegs) -> SysResult {
    with(r.a0(), |open, socket| {
        if r.a4() != 0 && r.a5() != 0 {
            return Err(EISCONN);
        }
        send(open, socket, &mut UserIo::single(r.a1(), r.a2())?, r.a3() as u32, None)
    })
}

/// `recvfrom`
pub fn recvfrom(r: &mut UserRegs) -> SysResult {
    with(r.a0(), |open, socket| {
        let done = receive(open, socket, &mut UserIo::single(r.a1(), r.a2())?, r.a3() as u32, &mut None)?;
        if r.a4() != 0 {
            // The sender has no name.
            UserPtr::<i32>::new(r.a5()).write(0)?;
        }
        Ok(done)
    })
}

/// Words of Linux's `struct msghdr` (include/linux/socket.h, `user_msghdr`).
mod message {
    pub const WORDS: usize = 7;
    pub const NAME: usize = 0;
    pub const NAME_LEN: usize = 1;
    pub const PARTS: usize = 2;
    pub const PART_COUNT: usize = 3;
    pub const CONTROL: usize = 4;
    pub const CONTROL_LEN: usize = 5;
    pub const FLAGS: usize = 6;
}

fn header(at: usize) -> Result<([usize; message::WORDS], UserIo<'static>), Errno> {
    let words = UserPtr::<[usize; message::WORDS]>::new(at).read()?;
    let count = words[message::PART_COUNT];
    if count > crate::fs::MAX_PARTS {
        return Err(EMSGSIZE);
    }
    Ok((words, UserIo::vector(words[message::PARTS], count)?))
}

/// `sendmsg`
pub fn sendmsg(r: &mut UserRegs) -> SysResult {
    with(r.a0(), |open, socket| {
        let (words, mut io) = header(r.a1())?;
        if words[message::NAME] != 0 && words[message::NAME_LEN] as u32 != 0 {
            return Err(EISCONN);
        }
        let rights = control::read(words[message::CONTROL], words[message::CONTROL_LEN])?;
        send(open, socket, &mut io, r.a2() as u32, rights)
    })
}

/// `recvmsg`
pub fn recvmsg(r: &mut UserRegs) -> SysResult {
    with(r.a0(), |open, socket| {
        let (words, mut io) = header(r.a1())?;
        let flags = r.a2() as u32;
        let mut rights = None;
        let done = receive(open, socket, &mut io, flags, &mut rights)?;
        let close_on_exec = flags & net::MSG_CMSG_CLOEXEC != 0;
        let (len, cut) = control::write(words[message::CONTROL], words[message::CONTROL_LEN], rights, close_on_exec)?;
        let cut = if cut { net::MSG_CTRUNC } else { 0 };
        let word = |index: usize| r.a1() + index * size_of::<usize>();
        UserPtr::<i32>::new(word(message::NAME_LEN)).write(0)?;
        UserPtr::<usize>::new(word(message::CONTROL_LEN)).write(len)?;
        UserPtr::<u32>::new(word(message::FLAGS)).write(flags & net::MSG_CMSG_CLOEXEC | cut)?;
        Ok(done)
    })
}

/// `getsockopt`: what a library asks a socket that it was handed.
pub fn getsockopt(r: &mut UserRegs) -> SysResult {
    with(r.a0(), |_, _| {
        let value: u32 = match (r.a1() as u32, r.a2() as u32) {
            (net::SOL_SOCKET, net::SO_TYPE) => 1,
            (net::SOL_SOCKET, net::SO_DOMAIN) => net::AF_UNIX,
            (net::SOL_SOCKET, net::SO_PROTOCOL | net::SO_ERROR | net::SO_ACCEPTCONN) => 0,
            (net::SOL_SOCKET, _) => return Err(ENOPROTOOPT),
            _ => return Err(EOPNOTSUPP),
        };
        let room = UserPtr::<i32>::new(r.a4());
        let len = usize::try_from(room.read()?).map_err(|_| EINVAL)?.min(size_of::<u32>());
        room.write(len as i32)?;
        if UserIo::single(r.a3(), len)?.put(&value.to_ne_bytes()[..len]) < len { Err(EFAULT) } else { Ok(0) }
    })
}

/// `getsockname` and `getpeername` of a pair: the family, and no name.
pub fn name(r: &mut UserRegs) -> SysResult {
    with(r.a0(), |_, _| {
        let family = (net::AF_UNIX as u16).to_ne_bytes();
        let room = UserPtr::<i32>::new(r.a2());
        let len = usize::try_from(room.read()?).map_err(|_| EINVAL)?.min(family.len());
        room.write(family.len() as i32)?;
        if UserIo::single(r.a1(), len)?.put(&family[..len]) < len { Err(EFAULT) } else { Ok(0) }
    })
}
