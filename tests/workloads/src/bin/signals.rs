//! Signals that threads wait for: ignored ones, one for each of several threads, several timers with one number, from a descriptor;
//! alarms that are taken back; timers set to times that no clock will show; and children whose parent ends before them.

use std::mem::zeroed;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use quire_workloads::process::{Ended, fork, leave};
use quire_workloads::{Budget, check, ok};

fn set_of(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: an empty set is filled in place.
    unsafe {
        let mut set = zeroed();
        libc::sigemptyset(&raw mut set);
        for &signal in signals {
            libc::sigaddset(&raw mut set, signal);
        }
        set
    }
}

fn block(signals: &[i32]) {
    let set = set_of(signals);
    // SAFETY: the set lives through the call.
    check!(unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, null_mut()) } == 0, "sigmask");
}

/// The next of these signals and its value, within some milliseconds.
fn hear(signals: &[i32], milliseconds: i64) -> Option<(i32, usize)> {
    let set = set_of(signals);
    let time = libc::timespec { tv_sec: milliseconds / 1000, tv_nsec: milliseconds % 1000 * 1_000_000 };
    // SAFETY: all zeros are a value of this structure.
    let mut info: libc::siginfo_t = unsafe { zeroed() };
    // SAFETY: all three live through the call.
    let signal = unsafe { libc::sigtimedwait(&raw const set, &raw mut info, &raw const time) };
    // SAFETY: a value is plain bytes, whatever the signal carries.
    (signal > 0).then(|| (signal, unsafe { info.si_value() }.sival_ptr as usize))
}

/// A child's end is heard by who sleeps in sigtimedwait, though SIGCHLD is ignored by default.
fn ends_of_children() {
    for turn in 0..3 {
        let child = fork(|| {
            thread::sleep(Duration::from_millis(20));
            7
        });
        let heard = hear(&[libc::SIGCHLD], 10_000);
        check!(heard.is_some_and(|(signal, _)| signal == libc::SIGCHLD), "nobody hears the end of child {turn}");
        check!(child.wait() == Ended::Exited(7), "another end");
    }
    // Ignored on purpose and blocked: it waits for who asks.
    // SAFETY: no handler is set.
    unsafe { libc::signal(libc::SIGUSR1, libc::SIG_IGN) };
    // SAFETY: sends a signal to this process.
    let send = || unsafe { libc::kill(libc::getpid(), libc::SIGUSR1) };
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(20));
            send();
        });
        check!(hear(&[libc::SIGUSR1], 10_000).is_some(), "an ignored signal is not heard");
    });
    // SAFETY: as above.
    unsafe { libc::signal(libc::SIGUSR1, libc::SIG_DFL) };
}

/// Each of several threads waits for a signal of its own, sent to the process all at once.
fn one_for_each() {
    let first = libc::SIGRTMIN() + 4;
    thread::scope(|scope| {
        for number in first..first + 4 {
            scope.spawn(move || {
                check!(hear(&[number, libc::SIGUSR2], 20_000).is_some_and(|(s, _)| s == number), "not heard: {number}");
            });
        }
        thread::sleep(Duration::from_millis(10));
        for number in first..first + 4 {
            // SAFETY: sends a signal to this process.
            check!(unsafe { libc::kill(libc::getpid(), number) } == 0, "not sent");
        }
    });
}

fn timer(signal: i32, value: usize, first_ns: i64, interval: libc::timespec) -> libc::timer_t {
    // SAFETY: all zeros are a value of this structure.
    let mut event: libc::sigevent = unsafe { zeroed() };
    (event.sigev_notify, event.sigev_signo) = (libc::SIGEV_SIGNAL, signal);
    event.sigev_value.sival_ptr = value as *mut libc::c_void;
    let mut timer = null_mut();
    let first = libc::timespec { tv_sec: 0, tv_nsec: first_ns };
    let setting = libc::itimerspec { it_interval: interval, it_value: first };
    // SAFETY: all live through the calls.
    unsafe {
        check!(libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) == 0, "timer_create");
        check!(libc::timer_settime(timer, 0, &raw const setting, null_mut()) == 0, "timer_settime");
    }
    timer
}

const NEVER: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 0 };

/// Timers that share a number are heard all.
fn shared_number() {
    for signal in [libc::SIGRTMIN() + 9, libc::SIGUSR1] {
        let timers: Vec<_> = (1..=5).map(|value| timer(signal, value, 1_000_000, NEVER)).collect();
        thread::sleep(Duration::from_millis(30));
        let mut values: Vec<_> = (0..5).filter_map(|_| hear(&[signal], 5000).map(|(_, value)| value)).collect();
        values.sort();
        check!(values == [1, 2, 3, 4, 5], "signal {signal}: timers {values:?} were heard");
        // SAFETY: they were made, and nobody uses them any more.
        timers.into_iter().for_each(|t| check!(unsafe { libc::timer_delete(t) } == 0, "timer_delete"));
    }
}

/// An interval that overflows every clock: the timer goes off once, and everything goes on.
fn for_ever() {
    let ever = libc::timespec { tv_sec: i64::MAX, tv_nsec: 999_999_999 };
    let long = timer(libc::SIGUSR1, 9, 1, ever);
    check!(hear(&[libc::SIGUSR1], 10_000) == Some((libc::SIGUSR1, 9)), "a timer with a long interval");
    check!(hear(&[libc::SIGUSR1], 20).is_none(), "it went off again");
    // SAFETY: it was made, and nobody uses it any more.
    check!(unsafe { libc::timer_delete(long) } == 0, "timer_delete");
    // SAFETY: makes a descriptor; the setting lives through the call; eight bytes fit.
    unsafe {
        let fd = libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC);
        let setting = libc::itimerspec { it_interval: ever, it_value: libc::timespec { tv_sec: 0, tv_nsec: 1 } };
        check!(libc::timerfd_settime(fd, 0, &raw const setting, null_mut()) == 0, "timerfd_settime");
        let mut count = 0u64;
        check!(libc::read(fd, (&raw mut count).cast(), 8) == 8 && count == 1, "a descriptor went off {count} times");
        libc::close(fd);
    }
    let began = Instant::now();
    thread::sleep(Duration::from_millis(5));
    check!(began.elapsed() < Duration::from_secs(10), "a short sleep lasted {:?}", began.elapsed());
}

/// Signals that are read from a descriptor.
fn descriptor() {
    let set = set_of(&[libc::SIGUSR1, libc::SIGUSR2]);
    // SAFETY: the set lives through the call.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    check!(fd >= 0, "no descriptor: {}", std::io::Error::last_os_error());
    // SAFETY: all zeros are a value of this structure.
    let mut records: [libc::signalfd_siginfo; 4] = unsafe { zeroed() };
    // SAFETY: there is room for so many bytes.
    let mut read = |n: usize| unsafe { (libc::read(fd, records.as_mut_ptr().cast(), n * 128), records) };
    let ready = |milliseconds: i32| {
        let mut entry = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry lives through the call.
        unsafe { libc::poll(&raw mut entry, 1, milliseconds) == 1 }
    };
    let me = std::process::id();
    // SAFETY: sends a signal to this process.
    let send = |signal: i32| unsafe { libc::kill(me as i32, signal) };
    check!(!ready(0) && read(1).0 == -1, "something is there");
    check!(send(libc::SIGUSR2) == 0 && send(libc::SIGUSR1) == 0 && ready(1000), "nothing is there");
    let (n, records) = read(4);
    let signals = [records[0].ssi_signo, records[1].ssi_signo].map(|n| n as i32);
    check!(n == 256 && signals == [libc::SIGUSR1, libc::SIGUSR2], "{n} bytes, {signals:?}");
    check!(records[0].ssi_pid == me && records[0].ssi_code == libc::SI_USER, "another sender");
    check!(!ready(0) && read(1).0 == -1, "they are still there");
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(10));
            send(libc::SIGUSR2);
        });
        check!(ready(10_000), "a sleeper in poll is not woken");
    });
    // Another set, and a read that sleeps.
    let other = set_of(&[libc::SIGUSR2]);
    // SAFETY: the set lives through the call; the descriptor is ours.
    unsafe {
        check!(libc::signalfd(fd, &raw const other, 0) == fd, "the set is not replaced");
        check!(libc::fcntl(fd, libc::F_SETFL, 0) == 0, "not blocking");
    }
    check!(read(1).0 == 128, "the signal is gone");
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(10));
            send(libc::SIGUSR1);
            send(libc::SIGUSR2);
        });
        let (n, records) = read(4);
        check!(n == 128 && records[0].ssi_signo == libc::SIGUSR2 as u32, "{n} bytes of {}", records[0].ssi_signo);
    });
    check!(hear(&[libc::SIGUSR1], 10_000).is_some(), "a signal outside of the set is gone");
    // SAFETY: it is ours, and nobody uses it any more.
    unsafe { libc::close(fd) };
}

static RINGS: AtomicU32 = AtomicU32::new(0);

extern "C" fn ring(_: i32) {
    RINGS.fetch_add(1, Ordering::Relaxed);
}

/// After an alarm has been taken back, it does not ring.
fn taken_back() {
    // SAFETY: the handler only counts.
    unsafe { libc::signal(libc::SIGALRM, ring as *const () as libc::sighandler_t) };
    let set = |micros: i64| {
        let value = libc::timeval { tv_sec: 0, tv_usec: micros };
        let setting = libc::itimerval { it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 }, it_value: value };
        // SAFETY: the setting lives through the call.
        check!(unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const setting, null_mut()) } == 0, "setitimer");
    };
    for turn in 0..200 {
        set(turn % 7 * 30 + 1);
        // A moment that is about as long.
        for _ in 0..turn * 5 {
            std::hint::spin_loop();
        }
        set(0);
        let before = RINGS.load(Ordering::Relaxed);
        for _ in 0..2000 {
            std::hint::spin_loop();
        }
        check!(RINGS.load(Ordering::Relaxed) == before, "turn {turn}: an alarm that was taken back rings");
    }
    // SAFETY: restores the default.
    unsafe { libc::signal(libc::SIGALRM, libc::SIG_DFL) };
}

/// A fork whose end is told by `signal`, or by none.
fn clone_with(signal: i32, work: impl FnOnce() -> i32) -> i32 {
    // SAFETY: a fork by another name: no stack, no shared memory; the child does nothing but `work`.
    match unsafe { libc::syscall(libc::SYS_clone, libc::c_long::from(signal), 0, 0, 0, 0) } {
        0 => leave(work()),
        pid => {
            check!(pid > 0, "clone with signal {signal}");
            pid as i32
        }
    }
}

/// Waits for any child, of the ordinary kind unless the options say otherwise: its number and its status, or -1.
fn any_child(options: i32) -> (i32, i32) {
    let mut status = 0;
    // SAFETY: the status is writable.
    (unsafe { libc::waitpid(-1, &raw mut status, options) }, status)
}

fn sleep_until(mut done: impl FnMut() -> bool) {
    while !done() {
        thread::sleep(Duration::from_millis(1));
    }
}

/// Whoever inherits a child waits for it as for any other, however its parent wanted to be told, and whether it has ended already.
fn inherited() {
    let numbers = quire_workloads::Area::shared(1);
    // SAFETY: a word of a mapped page, used atomically.
    let number = unsafe { &*(numbers.address(0) as *const AtomicU32) };
    for (signal, ended, ignored) in
        [(0, false, false), (libc::SIGUSR2, true, false), (libc::SIGCHLD, true, true), (0, true, true)]
    {
        // SAFETY: no handler is set.
        unsafe { libc::signal(libc::SIGCHLD, if ignored { libc::SIG_IGN } else { libc::SIG_DFL }) };
        let middle = fork(|| {
            // SAFETY: no handler is set, and only numbers.
            let me = unsafe {
                libc::signal(libc::SIGCHLD, libc::SIG_DFL);
                libc::getpid()
            };
            let child = clone_with(signal, || {
                // SAFETY: only a number.
                sleep_until(|| ended || unsafe { libc::getppid() } != me);
                7
            });
            number.store(child as u32, Ordering::Relaxed);
            // SAFETY: the structure is written in place.
            let dead = |options| unsafe {
                let mut info: libc::siginfo_t = zeroed();
                libc::waitid(libc::P_PID, child as u32, &raw mut info, options | libc::WEXITED | libc::WNOWAIT) == 0
            };
            i32::from(ended && !dead(libc::__WALL))
        });
        let pid = middle.pid();
        if ignored {
            // Nobody is waited for, and what was inherited is gone with the rest.
            check!(any_child(0).0 == -1, "a child that nobody wanted is there");
        } else {
            check!(any_child(0) == (pid, 0), "the one between");
            let wanted = (number.load(Ordering::Relaxed) as i32, 7 << 8);
            let found = any_child(0);
            check!(found == wanted, "inherited, signal {signal}: {found:?} instead of {wanted:?}");
        }
    }
    // SAFETY: no handler is set.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    let _ = hear(&[libc::SIGCHLD, libc::SIGUSR2], 0);
}

/// A child may ask for a signal at its parent's end; a child of its own does not ask.
fn end_of_parent() {
    let pipe = quire_workloads::process::Pipe::new();
    let middle = fork(|| {
        fork(|| {
            let mut signal = 0;
            // SAFETY: numbers, and a number that is written in place.
            let set = unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) == 0
                    && libc::prctl(libc::PR_GET_PDEATHSIG, &raw mut signal) == 0
                    && libc::prctl(libc::PR_SET_PDEATHSIG, 65) == -1
            };
            check!(set && signal == libc::SIGTERM, "PR_SET_PDEATHSIG, then {signal}");
            fork(|| {
                // SAFETY: a number that is written in place.
                unsafe { libc::prctl(libc::PR_GET_PDEATHSIG, &raw mut signal) };
                signal
            })
            .expect_success("a child's child");
            pipe.send(1);
            thread::sleep(Duration::from_secs(60));
            0
        });
        i32::from(!pipe.wait_for_byte())
    });
    middle.expect_success("the one between");
    let (_, status) = any_child(0);
    let _ = hear(&[libc::SIGCHLD], 0);
    check!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGTERM, "at its parent's end: {status:#x}");
}

fn main() {
    let first = libc::SIGRTMIN() + 4;
    block(&[libc::SIGCHLD, libc::SIGUSR1, libc::SIGUSR2, first, first + 1, first + 2, first + 3, first + 5]);
    // SAFETY: no signal has this number.
    check!(unsafe { libc::sigaction(65, null(), null_mut()) } == -1, "signal 65");
    // SAFETY: numbers.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
    for _ in Budget::from_arguments(3).rounds() {
        ends_of_children();
        one_for_each();
        shared_number();
        for_ever();
        taken_back();
        descriptor();
        inherited();
        end_of_parent();
    }
    ok();
}
