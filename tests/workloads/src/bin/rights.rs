//! Open files that travel through sockets: to another process, partly, in vain, and sockets within sockets.

use std::fs::File;
use std::io::{Read, Write, pipe};
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use quire_workloads::process::{Ended, fork};
use quire_workloads::{Budget, check, ok, violated};

/// Room for the descriptors of one message.
const ROOM: usize = 128;

fn pair() -> (UnixStream, UnixStream) {
    UnixStream::pair().unwrap_or_else(|error| violated(format_args!("no pair: {error}")))
}

fn ends() -> (std::io::PipeReader, std::io::PipeWriter) {
    pipe().unwrap_or_else(|error| violated(format_args!("no pipe: {error}")))
}

/// Sends bytes with descriptors; false: refused.
fn send(socket: &UnixStream, bytes: &[u8], fds: &[RawFd]) -> bool {
    let mut control = [0u64; ROOM / 8];
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: the header's parts live through the call, and the control message fits its room.
    unsafe {
        let mut message: libc::msghdr = zeroed();
        (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
        let len = size_of_val(fds) as u32;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(len) as usize;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(len) as usize;
        std::ptr::copy_nonoverlapping(fds.as_ptr(), libc::CMSG_DATA(header).cast(), fds.len());
        libc::sendmsg(socket.as_raw_fd(), &raw const message, 0) == bytes.len() as isize
    }
}

/// Receives into `bytes`, with room for `most` descriptors: how many bytes, the descriptors, the flags of the message.
fn receive(socket: &UnixStream, bytes: &mut [u8], most: usize, flags: i32) -> (isize, Vec<OwnedFd>, i32) {
    let mut control = [0u64; ROOM / 8];
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: as in `send`; the kernel's descriptors are nobody else's.
    unsafe {
        let mut message: libc::msghdr = zeroed();
        (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
        if most > 0 {
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_LEN((most * size_of::<RawFd>()) as u32) as usize;
        }
        let n = libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags);
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        let mut fds = Vec::new();
        if n >= 0 && !header.is_null() {
            check!((*header).cmsg_type == libc::SCM_RIGHTS, "another message");
            let count = ((*header).cmsg_len - libc::CMSG_LEN(0) as usize) / size_of::<RawFd>();
            let data: *const RawFd = libc::CMSG_DATA(header).cast();
            fds.extend((0..count).map(|i| OwnedFd::from_raw_fd(data.add(i).read_unaligned())));
        }
        (n, fds, message.msg_flags)
    }
}

/// A child gets a pipe's end and writes into it; the end comes when the last copy is gone.
fn to_a_child() {
    let ((here, there), (mut reader, writer)) = (pair(), ends());
    let child = fork(|| {
        let mut word = [0; 16];
        let (n, fds, _) = receive(&there, &mut word, 2, 0);
        let [fd] = <[OwnedFd; 1]>::try_from(fds).unwrap_or_else(|fds| violated(format_args!("{} files", fds.len())));
        let written = File::from(fd).write_all(b"through");
        i32::from(n != 3 || &word[..3] != b"abc" || written.is_err())
    });
    check!(send(&here, b"abc", &[writer.as_raw_fd()]), "not sent");
    drop(writer);
    let mut text = String::new();
    check!(reader.read_to_string(&mut text).is_ok() && text == "through", "{text:?} came through");
    check!(child.wait() == Ended::Exited(0), "the child has not got it");
}

/// Bytes of other messages do not mix with those behind files; what does not fit is cut; a look takes nothing.
fn messages() {
    let ((here, there), (reader, writer)) = (pair(), ends());
    let fds = [reader.as_raw_fd(), writer.as_raw_fd()];
    check!((&here).write_all(b"one").is_ok() && send(&here, b"two", &fds), "not sent");
    check!((&here).write_all(b"three").is_ok() && send(&here, b"four", &fds), "not sent");
    let mut bytes = [0; 32];
    let (n, looked, _) = receive(&there, &mut bytes, 4, libc::MSG_PEEK);
    check!(n >= 3 && looked.len() <= 2, "a look: {n} bytes, {} files", looked.len());
    let (n, mut fds, flags) = receive(&there, &mut bytes, 4, libc::MSG_CMSG_CLOEXEC);
    check!(n == 6 && &bytes[..6] == b"onetwo" && fds.len() == 2, "{n} bytes, {} files", fds.len());
    check!(flags & libc::MSG_CTRUNC == 0, "cut");
    let Some(last) = fds.pop() else { violated(format_args!("no file")) };
    // SAFETY: asks for flags.
    check!(unsafe { libc::fcntl(last.as_raw_fd(), libc::F_GETFD) } == libc::FD_CLOEXEC, "it stays open over exec");
    check!(File::from(last).write_all(b"x").is_ok(), "not the writing end");
    let (n, fds, flags) = receive(&there, &mut bytes, 1, 0);
    check!(n == 9 && &bytes[..9] == b"threefour" && fds.len() == 1, "{n} bytes, {} files", fds.len());
    check!(flags & libc::MSG_CTRUNC != 0, "nobody says that a file is missing");
    check!(!send(&here, b"bad", &[-1]), "a descriptor that does not exist was sent");
}

/// Files that nobody receives go: with a plain read, with their socket.
fn in_vain() {
    let ((here, mut there), (mut reader, writer)) = (pair(), ends());
    check!(send(&here, b"abc", &[writer.as_raw_fd()]), "not sent");
    drop(writer);
    let mut word = [0; 3];
    check!(there.read_exact(&mut word).is_ok() && &word == b"abc", "{word:?} instead of abc");
    check!(reader.read(&mut word).is_ok_and(|n| n == 0), "a file that nobody asked for lives on");
    let (mut reader, writer) = ends();
    check!(send(&here, b"abc", &[writer.as_raw_fd()]), "not sent");
    drop((there, writer));
    check!(reader.read(&mut word).is_ok_and(|n| n == 0), "a file lives on in a socket that is closed");
}

/// Each socket is put into the next one, as long as the kernel likes; then all go at once.
fn within() {
    let (mut reader, writer) = ends();
    let mut inner = OwnedFd::from(writer);
    for _ in 0..600 {
        let (here, there) = pair();
        if !send(&here, b"x", &[inner.as_raw_fd()]) {
            break;
        }
        // What is inside stays reachable through `there`; `here` may go.
        inner = OwnedFd::from(there);
    }
    drop(inner);
    check!(reader.read(&mut [0; 1]).is_ok_and(|n| n == 0), "something lives on in sockets that are closed");
}

fn main() {
    for _ in Budget::from_arguments(10).rounds() {
        to_a_child();
        messages();
        in_vain();
        within();
    }
    ok();
}
