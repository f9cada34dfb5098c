//! The timers that a program makes: once, again and again, at an absolute time, for one thread, unheard.
//!
//! The signals are blocked and fetched by `sigtimedwait`, with all that they carry.

use quire_workloads::{Budget, check, ok};
use std::mem::zeroed;
use std::ptr::{null, null_mut};
use std::time::{Duration, Instant};

const MILLI: i64 = 1_000_000;

/// A timer, deleted on drop.
struct Timer(libc::timer_t);

/// What came with a signal.
struct Heard {
    signal: i32,
    code: i32,
    value: usize,
}

impl Timer {
    fn new(clock: i32, notify: i32, signal: i32, value: usize) -> Timer {
        // SAFETY: all zeros are a value of this structure.
        let mut event: libc::sigevent = unsafe { zeroed() };
        event.sigev_notify = notify;
        event.sigev_signo = signal;
        event.sigev_value.sival_ptr = value as *mut libc::c_void;
        // SAFETY: asks for a number.
        event.sigev_notify_thread_id = unsafe { libc::syscall(libc::SYS_gettid) } as i32;
        let mut timer = null_mut();
        // SAFETY: both live through the call.
        let made = unsafe { libc::timer_create(clock, &raw mut event, &raw mut timer) };
        check!(made == 0, "timer_create {clock} {notify}: {}", std::io::Error::last_os_error());
        Timer(timer)
    }

    fn set(&self, flags: i32, value: i64, interval: i64) {
        let time = |ns: i64| libc::timespec { tv_sec: ns / 1_000_000_000, tv_nsec: ns % 1_000_000_000 };
        let setting = libc::itimerspec { it_interval: time(interval), it_value: time(value) };
        // SAFETY: the setting lives through the call.
        let set = unsafe { libc::timer_settime(self.0, flags, &raw const setting, null_mut()) };
        check!(set == 0, "timer_settime {flags} {value} {interval}");
    }

    /// Nanoseconds left, and the interval.
    fn left(&self) -> (i64, i64) {
        // SAFETY: all zeros are a value of this structure.
        let mut setting: libc::itimerspec = unsafe { zeroed() };
        // SAFETY: it lives through the call.
        check!(unsafe { libc::timer_gettime(self.0, &raw mut setting) } == 0, "timer_gettime");
        let ns = |t: libc::timespec| t.tv_sec * 1_000_000_000 + t.tv_nsec;
        (ns(setting.it_value), ns(setting.it_interval))
    }

    fn overruns(&self) -> i32 {
        // SAFETY: asks for a number.
        unsafe { libc::timer_getoverrun(self.0) }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: it was made, and nobody uses it any more.
        check!(unsafe { libc::timer_delete(self.0) } == 0, "timer_delete");
    }
}

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

/// The next of these signals, within some milliseconds.
fn hear(signals: &[i32], milliseconds: i64) -> Option<Heard> {
    let set = set_of(signals);
    let time = libc::timespec { tv_sec: milliseconds / 1000, tv_nsec: milliseconds % 1000 * MILLI };
    // SAFETY: all zeros are a value of this structure.
    let mut info: libc::siginfo_t = unsafe { zeroed() };
    // SAFETY: all three live through the call.
    let signal = unsafe { libc::sigtimedwait(&raw const set, &raw mut info, &raw const time) };
    // SAFETY: a signal of a timer carries a value.
    (signal > 0).then(|| Heard { signal, code: info.si_code, value: unsafe { info.si_value() }.sival_ptr as usize })
}

fn expect(what: &str, signal: i32, value: usize) {
    match hear(&[signal], 20_000) {
        None => check!(false, "{what}: no signal"),
        Some(h) => check!(
            h.signal == signal && h.code == libc::SI_TIMER && h.value == value,
            "{what}: signal {} code {} value {:#x}",
            h.signal,
            h.code,
            h.value
        ),
    }
}

fn once_and_again() {
    let timer = Timer::new(libc::CLOCK_MONOTONIC, libc::SIGEV_SIGNAL, libc::SIGUSR1, 0x1234_5678_9abc);
    check!(timer.left() == (0, 0), "a new timer is set");
    timer.set(0, 100_000 * MILLI, 7 * MILLI);
    let (left, interval) = timer.left();
    check!(left > 50_000 * MILLI && left <= 100_000 * MILLI && interval == 7 * MILLI, "{left} left, each {interval}");
    let began = Instant::now();
    timer.set(0, 20 * MILLI, 0);
    expect("once", libc::SIGUSR1, 0x1234_5678_9abc);
    check!(began.elapsed() >= Duration::from_millis(20), "too early: {:?}", began.elapsed());
    check!(timer.left() == (0, 0), "still set after it went off");
    timer.set(0, 5 * MILLI, 5 * MILLI);
    (0..3).for_each(|_| expect("again", libc::SIGUSR1, 0x1234_5678_9abc));
    timer.set(0, 0, 0);
    while hear(&[libc::SIGUSR1], 0).is_some() {}
    check!(hear(&[libc::SIGUSR1], 30).is_none(), "a signal of a stopped timer");
}

fn absolute() {
    let timer = Timer::new(libc::CLOCK_REALTIME, libc::SIGEV_SIGNAL, libc::SIGUSR2, 2);
    // In the past: at once.
    timer.set(libc::TIMER_ABSTIME, 1_000 * MILLI, 0);
    expect("the past", libc::SIGUSR2, 2);
}

fn of_one_thread() {
    let real = libc::SIGRTMIN() + 3;
    let timer = Timer::new(libc::CLOCK_MONOTONIC, libc::SIGEV_THREAD_ID, real, 3);
    timer.set(0, MILLI, 0);
    expect("for this thread", real, 3);
    // Another thread's timer is not heard here.
    let other = std::thread::spawn(move || {
        let timer = Timer::new(libc::CLOCK_MONOTONIC, libc::SIGEV_THREAD_ID, real, 4);
        timer.set(0, MILLI, 0);
        expect("for the other thread", real, 4);
    });
    check!(other.join().is_ok(), "the other thread ended badly");
    check!(hear(&[real], 0).is_none(), "another thread's signal");
}

fn unheard() {
    let timer = Timer::new(libc::CLOCK_MONOTONIC, libc::SIGEV_SIGNAL, libc::SIGUSR1, 5);
    timer.set(0, MILLI, MILLI);
    std::thread::sleep(Duration::from_millis(60));
    expect("unheard", libc::SIGUSR1, 5);
    check!(timer.overruns() > 5, "only {} overruns", timer.overruns());
    drop(timer);
    while hear(&[libc::SIGUSR1], 0).is_some() {}
    let silent = Timer::new(libc::CLOCK_MONOTONIC, libc::SIGEV_NONE, 0, 6);
    silent.set(0, MILLI, 0);
    std::thread::sleep(Duration::from_millis(10));
    check!(silent.left() == (0, 0), "a silent timer did not end");
}

fn main() {
    let all = set_of(&[libc::SIGUSR1, libc::SIGUSR2, libc::SIGRTMIN() + 3]);
    // SAFETY: the set lives through the call.
    check!(unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, null_mut()) } == 0, "sigmask");
    let mut none = null_mut();
    // SAFETY: both live through the call.
    let wrong = unsafe { libc::timer_create(99, null_mut(), &raw mut none) };
    check!(wrong == -1, "a clock that does not exist");
    // SAFETY: no timer has this number, and nothing is read.
    check!(unsafe { libc::syscall(libc::SYS_timer_settime, 77, 0, null::<u8>(), null::<u8>()) } == -1, "no such timer");
    for _ in Budget::from_arguments(20).rounds() {
        once_and_again();
        absolute();
        of_one_thread();
        unheard();
    }
    ok();
}
