//! What event loops live on: epoll by level and by edge, eventfd, timerfd, pipes, a pair of sockets.
//!
//! A run-time library waits for the edge of an eventfd that it never reads: each write must be reported, though what was
//! written before is still there.

use std::fs::File;
use std::io::{Read, Write, pipe};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use quire_workloads::{Budget, check, ok};

const READY: u32 = libc::EPOLLIN as u32;
const ROOM: u32 = libc::EPOLLOUT as u32;
const EDGE: u32 = libc::EPOLLET as u32;
const ONCE: u32 = libc::EPOLLONESHOT as u32;

/// A set of descriptors to wait for; the number of a descriptor is what its events carry.
struct Poll(OwnedFd);

impl Poll {
    fn new() -> Self {
        // SAFETY: makes a descriptor, which is checked.
        Self(owned(unsafe { libc::epoll_create1(0) }))
    }

    fn control(&self, operation: i32, fd: &impl AsRawFd, events: u32) {
        let mut event = libc::epoll_event { events, u64: fd.as_raw_fd() as u64 };
        // SAFETY: the event lives through the call.
        let done = unsafe { libc::epoll_ctl(self.0.as_raw_fd(), operation, fd.as_raw_fd(), &raw mut event) };
        check!(done == 0, "epoll_ctl {operation}");
    }

    fn add(&self, fd: &impl AsRawFd, events: u32) {
        self.control(libc::EPOLL_CTL_ADD, fd, events);
    }

    /// What `fd` reports within some milliseconds; nothing else may be reported.
    fn wait(&self, fd: &impl AsRawFd, milliseconds: i32) -> u32 {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 4];
        // SAFETY: there is room for so many events.
        let n = unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), 4, milliseconds) };
        let (seen, from) = (events[0].events, events[0].u64);
        check!(n == 0 || (n == 1 && from == fd.as_raw_fd() as u64), "{n} events, the first of {from}");
        if n == 0 { 0 } else { seen }
    }
}

fn owned(fd: i32) -> OwnedFd {
    check!(fd >= 0, "no descriptor: {}", std::io::Error::last_os_error());
    // SAFETY: it was just made, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn eventfd(value: u32, flags: i32) -> File {
    // SAFETY: makes a descriptor, which is checked.
    owned(unsafe { libc::eventfd(value, flags | libc::EFD_NONBLOCK) }).into()
}

fn add(mut counter: &File, value: u64) {
    check!(counter.write(&value.to_ne_bytes()).is_ok_and(|n| n == 8), "a counter refuses {value}");
}

fn take(mut counter: &File) -> Option<u64> {
    let mut value = [0; 8];
    counter.read(&mut value).ok().map(|_| u64::from_ne_bytes(value))
}

fn main() {
    for _ in Budget::from_arguments(20).rounds() {
        counters();
        edges();
        pipes();
        timers();
        sockets();
        messages();
        wakes();
        nested();
        fair();
    }
    ok();
}

fn counters() {
    let (sum, tokens) = (eventfd(3, 0), eventfd(3, libc::EFD_SEMAPHORE));
    add(&sum, 4);
    check!(take(&sum) == Some(7) && take(&sum).is_none(), "a counter is not taken whole");
    check!((0..3).all(|_| take(&tokens) == Some(1)) && take(&tokens).is_none(), "a semaphore does not count");
}

fn edges() {
    let (poll, counter) = (Poll::new(), eventfd(0, 0));
    poll.add(&counter, READY | EDGE);
    check!(poll.wait(&counter, 0) == 0, "an edge before anything came");
    for turn in 0..5 {
        add(&counter, 1);
        check!(poll.wait(&counter, 1000) == READY, "no edge for write {turn}");
        check!(poll.wait(&counter, 0) == 0, "two edges for write {turn}");
    }
    check!(take(&counter) == Some(5) && poll.wait(&counter, 0) == 0, "an edge for a read");
    poll.control(libc::EPOLL_CTL_MOD, &counter, READY | ONCE);
    add(&counter, 1);
    check!(poll.wait(&counter, 0) == READY && poll.wait(&counter, 0) == 0, "one shot is not one");
    poll.control(libc::EPOLL_CTL_MOD, &counter, READY);
    check!(poll.wait(&counter, 0) == READY && poll.wait(&counter, 0) == READY, "a level goes away");
}

fn pipes() {
    let (poll, Ok((mut reader, mut writer))) = (Poll::new(), pipe()) else {
        quire_workloads::violated(format_args!("no pipe"))
    };
    poll.add(&reader, READY | EDGE);
    for turn in 0..3 {
        check!(writer.write(b"abc").is_ok(), "a pipe refuses bytes");
        check!(poll.wait(&reader, 1000) == READY, "no edge for bytes {turn} in a pipe");
    }
    let mut bytes = [0; 4];
    check!(reader.read(&mut bytes).is_ok_and(|n| n == 4) && poll.wait(&reader, 0) == 0, "an edge for a read");
    drop(writer);
    check!(poll.wait(&reader, 1000) & libc::EPOLLHUP as u32 != 0, "nobody hears that the writer is gone");
    let mut rest = Vec::new();
    check!(reader.read_to_end(&mut rest).is_ok() && rest == b"bcabc", "the rest of a pipe: {rest:?}");
}

fn timers() {
    // SAFETY: makes a descriptor, which is checked.
    let timer: File = owned(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK) }).into();
    let poll = Poll::new();
    poll.add(&timer, READY | EDGE);
    let step = libc::timespec { tv_sec: 0, tv_nsec: 2_000_000 };
    let setting = libc::itimerspec { it_interval: step, it_value: step };
    // SAFETY: the setting is readable.
    let set = unsafe { libc::timerfd_settime(timer.as_raw_fd(), 0, &raw const setting, std::ptr::null_mut()) };
    check!(set == 0, "a timer is not set");
    check!(poll.wait(&timer, 5000) == READY, "a timer stands still");
    thread::sleep(Duration::from_millis(5));
    check!(poll.wait(&timer, 0) == 0, "a timer that nobody reads has two edges");
    check!(take(&timer).is_some_and(|n| n >= 2), "a timer does not count");
    check!(poll.wait(&timer, 5000) == READY && take(&timer).is_some(), "a timer that was read stands still");
}

fn sockets() {
    let (poll, Ok((mut here, mut there))) = (Poll::new(), UnixStream::pair()) else {
        quire_workloads::violated(format_args!("no pair of sockets"))
    };
    poll.add(&here, READY | ROOM | EDGE);
    check!(poll.wait(&here, 0) == ROOM, "a new socket has no room");
    check!(there.write_all(b"ping").is_ok() && poll.wait(&here, 1000) & READY != 0, "no edge of a socket");
    let mut word = [0; 4];
    check!(here.read_exact(&mut word).is_ok() && &word == b"ping", "{word:?} instead of ping");
    check!(there.shutdown(std::net::Shutdown::Write).is_ok(), "no end of writing");
    check!(poll.wait(&here, 1000) & READY != 0, "no edge for the end of what comes");
    drop(there);
    check!(here.read(&mut word).is_ok_and(|n| n == 0), "no end of a socket");
}

/// Flags of receiving and sending, and messages in several parts.
fn messages() {
    let Ok((here, there)) = UnixStream::pair() else { quire_workloads::violated(format_args!("no pair of sockets")) };
    let (a, b) = (here.as_raw_fd(), there.as_raw_fd());
    let mut room = [0u8; 8];
    // SAFETY: the buffer lives through the call and is as long as said.
    let mut receive = |n: usize, flags| (unsafe { libc::recv(b, room.as_mut_ptr().cast(), n, flags) }, room);
    // SAFETY: as above.
    let send = |bytes: &[u8], flags| unsafe { libc::send(a, bytes.as_ptr().cast(), bytes.len(), flags) };
    check!(
        receive(8, libc::MSG_DONTWAIT).0 == -1 && errno() == libc::EAGAIN,
        "a read of nothing does not end with EAGAIN"
    );
    check!(send(b"abcd", 0) == 4 && receive(2, libc::MSG_PEEK).0 == 2, "no look ahead");
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(2));
            check!(send(b"efgh", 0) == 4, "a socket takes nothing");
        });
        let (n, bytes) = receive(8, libc::MSG_WAITALL);
        check!(n == 8 && &bytes == b"abcdefgh", "{n} bytes {bytes:?} instead of all eight");
    });
    let (mut first, mut second) = (*b"mess", *b"age!");
    let part = |bytes: &mut [u8]| libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let mut parts = [part(&mut first), part(&mut second)];
    // SAFETY: all zeros is a message of nothing.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (parts.as_mut_ptr(), parts.len());
    // SAFETY: the message and what it points to live through the calls.
    let sent = unsafe { libc::sendmsg(a, &raw const message, 0) };
    parts.swap(0, 1);
    // SAFETY: as above.
    let received = unsafe { libc::recvmsg(b, &raw mut message, 0) };
    check!(
        (sent, received) == (8, 8) && (&first, &second) == (b"age!", b"mess"),
        "{received} of {sent} bytes of a message"
    );
    drop(there);
    check!(send(b"x", libc::MSG_NOSIGNAL) == -1 && errno() == libc::EPIPE, "a broken pair does not say so");
}

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Sets within sets: five deep, and never one within itself.
fn nested() {
    let counter = eventfd(0, 0);
    let sets: Vec<Poll> = (0..6).map(|_| Poll::new()).collect();
    let try_add = |outer: &Poll, inner: &OwnedFd| {
        let mut event = libc::epoll_event { events: READY, u64: inner.as_raw_fd() as u64 };
        // SAFETY: the event lives through the call.
        match unsafe { libc::epoll_ctl(outer.0.as_raw_fd(), libc::EPOLL_CTL_ADD, inner.as_raw_fd(), &raw mut event) } {
            0 => 0,
            _ => errno(),
        }
    };
    sets[0].add(&counter, READY);
    (1..4).for_each(|n| sets[n].add(&sets[n - 1].0, READY));
    check!(sets[3].wait(&sets[2].0, 0) == 0, "ready for nothing");
    add(&counter, 1);
    check!(sets[3].wait(&sets[2].0, 1000) == READY, "nothing comes through four sets");
    check!(take(&counter) == Some(1) && sets[3].wait(&sets[2].0, 0) == 0, "ready although it was taken");
    // An edge within a set is one of that set, though it was ready before; at any depth.
    sets[3].control(libc::EPOLL_CTL_MOD, &sets[2].0, READY | EDGE);
    for _ in 0..3 {
        add(&counter, 1);
        check!(sets[3].wait(&sets[2].0, 1000) == READY, "an edge within sets is lost");
        check!(sets[3].wait(&sets[2].0, 0) == 0, "an edge within sets comes twice");
    }
    check!(take(&counter) == Some(3), "what was added is not there");
    check!(try_add(&sets[0], &sets[3].0) == libc::ELOOP, "a set within itself");
    // So is an interest that is armed again while its file is ready, and the end of a writer.
    let (Ok((mut reader, mut writer)), inner, outer) = (pipe(), Poll::new(), Poll::new()) else {
        quire_workloads::violated(format_args!("no pipe"))
    };
    inner.add(&reader, READY | ONCE);
    outer.add(&inner.0, READY | EDGE);
    check!(writer.write(b"ab").is_ok() && outer.wait(&inner.0, 1000) == READY, "no edge for bytes");
    check!(inner.wait(&reader, 0) == READY && reader.read(&mut [0; 1]).is_ok(), "no bytes");
    inner.control(libc::EPOLL_CTL_MOD, &reader, READY);
    check!(outer.wait(&inner.0, 1000) == READY, "an interest that was armed again is no edge");
    check!(outer.wait(&inner.0, 0) == 0, "an interest that was armed again has two edges");
    check!(reader.read(&mut [0; 2]).is_ok_and(|n| n == 1) && inner.wait(&reader, 0) == 0, "bytes stay");
    drop(writer);
    check!(outer.wait(&inner.0, 1000) == READY, "nobody hears through a set that the writer is gone");
    let Ok(same) = sets[5].0.try_clone() else { quire_workloads::violated(format_args!("no copy of a descriptor")) };
    check!(try_add(&sets[5], &same) == libc::EINVAL, "a set in itself by another number");
    check!(sets[5].wait(&same, 0) == 0, "a set that is in itself after all");
}

/// A file that is always ready does not hide another one, however few events are asked for.
fn fair() {
    let (poll, busy, other) = (Poll::new(), eventfd(1, 0), eventfd(1, 0));
    poll.add(&busy, READY);
    poll.add(&other, READY);
    let mut seen = [0; 2];
    for _ in 0..6 {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: there is room for one event.
        check!(unsafe { libc::epoll_wait(poll.0.as_raw_fd(), &raw mut event, 1, 1000) } == 1, "no event");
        let from = event.u64;
        seen[usize::from(from == other.as_raw_fd() as u64)] += 1;
    }
    check!(seen == [3, 3], "{seen:?} events of two that are always ready");
}

/// A thread that sleeps in epoll is woken by another one, again and again.
fn wakes() {
    let (poll, counter) = (Poll::new(), eventfd(0, 0));
    poll.add(&counter, READY | EDGE);
    thread::scope(|scope| {
        let waker = scope.spawn(|| {
            for _ in 0..10 {
                add(&counter, 1);
                thread::sleep(Duration::from_micros(300));
            }
            add(&counter, 1 << 32);
        });
        let mut seen = 0;
        while seen >> 32 == 0 {
            check!(poll.wait(&counter, 10_000) == READY, "a sleeper is not woken");
            seen += take(&counter).unwrap_or(0);
        }
        check!(seen == 10 + (1 << 32) && waker.join().is_ok(), "{seen:#x} wake-ups");
    });
}
