//! Waits whose condition may be over before the waiter runs, and threads whose state others change: FIFOs that are opened and closed at
//! once, stops that are taken back, a vfork's parent that is stopped, CPU sets that change while the thread is queued, states in /proc,
//! numbers of threads for processes, shares of one CPU.
//!
//! What is missed shows as a program that stands still (a time limit says where), or as one that runs though it is stopped.

use std::ffi::CString;
use std::fs;
use std::io::{Read, Write};
use std::mem::zeroed;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use quire_workloads::process::fork;
use quire_workloads::{Area, Budget, PAGE, check, ok, violated};

/// Far more than anything here takes, also on a busy host.
const LONG: Duration = Duration::from_secs(60);

/// Waits until `done` says so, or says what stands still.
fn soon(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !done() {
        check!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn sleep(milliseconds: u64) {
    thread::sleep(Duration::from_millis(milliseconds));
}

/// Called in a child, most of which never end by themselves: it ends with the thread that made it, also where that finds a violation.
fn follow(parent: i32) {
    // SAFETY: only numbers.
    let left = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 || libc::getppid() != parent };
    if left {
        quire_workloads::process::leave(1);
    }
}

/// A fork that gives the child's number, for calls that want one. The child ends with status 0, or with this thread.
fn child(work: impl FnOnce()) -> i32 {
    // SAFETY: only a number.
    let parent = unsafe { libc::getpid() };
    // SAFETY: the child does nothing but `work`.
    match unsafe { libc::fork() } {
        0 => {
            follow(parent);
            work();
            quire_workloads::process::leave(0)
        }
        pid => {
            check!(pid > 0, "no process");
            pid
        }
    }
}

fn kill(pid: i32, signal: i32) -> bool {
    // SAFETY: only numbers.
    unsafe { libc::kill(pid, signal) == 0 }
}

fn reap(pid: i32) {
    // SAFETY: no status is wanted.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
}

fn end(pid: i32) {
    check!(kill(pid, libc::SIGKILL), "no such child");
    reap(pid);
}

/// Both sides open, say something if they may, and are gone; neither waits for who was there.
fn fifos(path: &str, rounds: u64) {
    for round in 0..rounds {
        let gone = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let end = Instant::now() + LONG;
                while !gone.load(Ordering::Relaxed) {
                    check!(Instant::now() < end, "round {round}: a FIFO's open does not return");
                    sleep(5);
                }
            });
            let writer = fork(|| {
                let Ok(mut file) = fs::OpenOptions::new().write(true).open(path) else { return 1 };
                i32::from(file.write_all(b"hi").is_err())
            });
            // Sometimes the writer waits, sometimes the reader.
            if round % 2 == 0 {
                sleep(round % 5);
            }
            let mut said = Vec::new();
            let read = fs::File::open(path).and_then(|mut file| file.read_to_end(&mut said));
            check!(read.is_ok() && said == b"hi", "round {round}: read {said:?}");
            writer.expect_success("the writer");
            gone.store(true, Ordering::Relaxed);
        });
    }
    // The writer waits, and its reader does not stay.
    let writer = child(|| check!(fs::OpenOptions::new().write(true).open(path).is_ok(), "the writer cannot open"));
    soon("a writer sleeps, and its readers come and go", || {
        let reader = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
        check!(reader.is_ok(), "a reader that does not wait cannot open");
        drop(reader);
        // SAFETY: no status is wanted.
        unsafe { libc::waitpid(writer, std::ptr::null_mut(), libc::WNOHANG) == writer }
    });
}

/// Whether a counter stands still.
fn stands(count: &AtomicU64) -> bool {
    let before = count.load(Ordering::Relaxed);
    sleep(300);
    count.load(Ordering::Relaxed) == before
}

fn count(area: &Area) -> &AtomicU64 {
    // SAFETY: the page is mapped and only used atomically.
    unsafe { &*(area.address(0) as *const AtomicU64) }
}

fn block(how: i32, signal: i32) {
    // SAFETY: a set of one signal, which lives through the call.
    unsafe {
        let mut set: libc::sigset_t = zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        libc::pthread_sigmask(how, &raw const set, std::ptr::null_mut());
    }
}

/// A stop that was taken back does not stop, however close the two come; a stop stays, whoever of the threads hears of it.
fn stops(rounds: u64) {
    let area = Area::shared(1);
    let running = count(&area);
    let spinner = child(|| {
        thread::spawn(|| {
            loop {
                thread::yield_now();
            }
        });
        loop {
            running.fetch_add(1, Ordering::Relaxed);
        }
    });
    for round in 0..rounds {
        check!(kill(spinner, libc::SIGTSTP), "no stop");
        // About as long as the signal is on its way.
        for _ in 0..round * 37 % 2000 {
            std::hint::spin_loop();
        }
        check!(kill(spinner, libc::SIGCONT), "no continuation");
        let before = running.load(Ordering::Relaxed);
        soon("a process that was continued stands still", || running.load(Ordering::Relaxed) != before);
    }
    check!(kill(spinner, libc::SIGSTOP), "no stop");
    soon("a stopped process runs", || stands(running));
    end(spinner);
}

/// What a vfork's child does: says that it is there, and waits to be let go.
extern "C" fn linger(words: *mut libc::c_void) -> i32 {
    // SAFETY: only a number. Its parent waits for it in the call that made it, so it is there.
    follow(unsafe { libc::getppid() });
    // SAFETY: two words of a mapped page, used atomically.
    let [there, free] = unsafe { &*words.cast::<[AtomicU64; 2]>() };
    there.store(1, Ordering::Relaxed);
    while free.load(Ordering::Relaxed) == 0 {
        // SAFETY: only a number.
        unsafe { libc::usleep(1000) };
    }
    0
}

/// The parent of a vfork sleeps for its child; that its process was stopped meanwhile, it must notice afterwards.
fn stopped_in_vfork() {
    let area = Area::shared(2);
    let running = count(&area);
    let words = area.address(1) as *mut [AtomicU64; 2];
    // SAFETY: two words of a mapped page, used atomically.
    let [there, free] = unsafe { &*words };
    let parent = child(|| {
        thread::spawn(|| {
            loop {
                sleep(1000);
            }
        });
        // The other thread takes it.
        block(libc::SIG_BLOCK, libc::SIGTSTP);
        let stack = Area::new(16);
        let top = (stack.address(0) + 16 * PAGE) as *mut libc::c_void;
        // SAFETY: the stack is nobody else's, and the child does nothing but `linger`.
        let made =
            unsafe { libc::clone(linger, top, libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD, words.cast()) };
        check!(made > 0, "no vfork");
        loop {
            running.fetch_add(1, Ordering::Relaxed);
        }
    });
    soon("no child of a vfork", || there.load(Ordering::Relaxed) == 1);
    check!(kill(parent, libc::SIGTSTP), "no stop");
    sleep(100);
    free.store(1, Ordering::Relaxed);
    sleep(200);
    check!(stands(running), "a thread of a stopped process runs");
    check!(kill(parent, libc::SIGCONT), "no continuation");
    soon("it was continued and stands still", || running.load(Ordering::Relaxed) > 0);
    end(parent);
}

fn cpus() -> Vec<usize> {
    // SAFETY: the set is filled in place.
    unsafe {
        let mut set: libc::cpu_set_t = zeroed();
        libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set);
        (0..64).filter(|&cpu| libc::CPU_ISSET(cpu, &set)).collect()
    }
}

fn bind(tid: i32, cpu: usize) {
    // SAFETY: the set lives through the call.
    let done = unsafe {
        let mut set: libc::cpu_set_t = zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(tid, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    check!(done == 0, "sched_setaffinity");
}

/// A thread that waits in a CPU's queue, behind others that stay there, is sent to another CPU: it runs there, though that one has no
/// reason to look around.
fn sent_away(rounds: u64) {
    let cpus = cpus();
    let (first, last) = (cpus[0], cpus[cpus.len() - 1]);
    let area = Area::shared(1);
    let turns = count(&area);
    let others: Vec<i32> = [first, first, first, last]
        .map(|cpu| {
            child(|| {
                bind(0, cpu);
                loop {
                    std::hint::spin_loop();
                }
            })
        })
        .to_vec();
    let one = child(|| {
        bind(0, first);
        loop {
            turns.fetch_add(1, Ordering::Relaxed);
        }
    });
    for round in 0..rounds {
        bind(one, if round % 2 == 0 { last } else { first });
        let before = turns.load(Ordering::Relaxed);
        soon("a thread that was sent to another CPU does not run", || turns.load(Ordering::Relaxed) != before);
    }
    end(one);
    others.into_iter().for_each(end);
}

/// The letter of /proc/PID/stat.
fn state(pid: i32) -> char {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    text.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap_or('?')
}

fn states() {
    let spins = child(|| {
        loop {
            std::hint::spin_loop();
        }
    });
    let sleeps = child(|| {
        loop {
            sleep(10_000);
        }
    });
    let is = |pid: i32, letter: char| soon(&format!("no {letter} in /proc"), || state(pid) == letter);
    is(spins, 'R');
    is(sleeps, 'S');
    check!((0..20).all(|_| state(spins) == 'R'), "a process that runs is shown asleep");
    check!(kill(spins, libc::SIGSTOP), "no stop");
    is(spins, 'T');
    check!(kill(spins, libc::SIGCONT), "no continuation");
    is(spins, 'R');
    check!(kill(sleeps, libc::SIGKILL), "no end");
    is(sleeps, 'Z');
    reap(sleeps);
    end(spins);
}

/// A thread's number stands for its process.
fn numbers_of_threads() {
    static TID: AtomicI32 = AtomicI32::new(0);
    static HEARD: AtomicU64 = AtomicU64::new(0);
    extern "C" fn hear(_: i32) {
        HEARD.fetch_add(1, Ordering::Relaxed);
    }
    let sleeper = child(|| {
        // SAFETY: the handler only counts.
        unsafe { libc::signal(libc::SIGUSR1, hear as *const () as libc::sighandler_t) };
        thread::spawn(|| {
            // SAFETY: asks for a number.
            TID.store(unsafe { libc::gettid() }, Ordering::Relaxed);
            loop {
                sleep(1000);
            }
        });
        soon("no thread", || TID.load(Ordering::Relaxed) != 0);
        let tid = TID.load(Ordering::Relaxed);
        check!(kill(tid, 0) && kill(tid, libc::SIGUSR1), "kill does not know a thread's number");
        soon("a signal to a thread's number is lost", || HEARD.load(Ordering::Relaxed) == 1);
        // SAFETY: only numbers.
        unsafe {
            check!(libc::getpgid(tid) == libc::getpgid(0), "getpgid of a thread's number");
            check!(libc::getsid(tid) == libc::getsid(0), "getsid of a thread's number");
            check!(libc::setpgid(tid, 0) == -1, "setpgid of a thread's number");
            let refused = std::io::Error::last_os_error().raw_os_error();
            check!(refused == Some(libc::EINVAL), "setpgid of a thread's number: {refused:?}");
        }
    });
    let mut status = 0;
    // SAFETY: the status is writable.
    check!(unsafe { libc::waitpid(sleeper, &raw mut status, 0) } == sleeper && status == 0, "status {status:#x}");
}

/// Who is nicer gets less, and who is less nice gets more.
fn shares() {
    let area = Area::shared(1);
    let cpu = cpus()[0];
    // SAFETY: words of a mapped page, used atomically.
    let used = |i: usize| unsafe { &*(area.address(0) as *const AtomicU64).add(i) };
    let children: Vec<i32> = [0, 10]
        .into_iter()
        .enumerate()
        .map(|(i, nice)| {
            let used = used(i);
            child(move || {
                bind(0, cpu);
                // SAFETY: only numbers, and a time that is written in place.
                unsafe {
                    libc::setpriority(libc::PRIO_PROCESS, 0, nice);
                    let mut time: libc::timespec = zeroed();
                    loop {
                        libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time);
                        used.store(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    let both = || [used(0).load(Ordering::Relaxed), used(1).load(Ordering::Relaxed)];
    soon("they do not begin", || both().iter().all(|&ns| ns > 0));
    let before = both();
    soon("they do not run", || both()[0] - before[0] > 1_000_000_000);
    let [normal, nicer] = [both()[0] - before[0], both()[1] - before[1]];
    check!(nicer * 4 < normal, "nice 10 gets {nicer} ns beside {normal} ns");
    soon("who is nice gets nothing", || both()[1] > before[1]);
    children.into_iter().for_each(end);
}

fn main() {
    let path = format!("/tmp/waits-{}", std::process::id());
    let Ok(name) = CString::new(path.clone()) else { violated(format_args!("no name")) };
    // SAFETY: the name ends with zero.
    check!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) } == 0, "no FIFO");
    for _ in Budget::from_arguments(4).rounds() {
        fifos(&path, 20);
        stops(400);
        stopped_in_vfork();
        sent_away(12);
        states();
        numbers_of_threads();
        shares();
    }
    check!(fs::remove_file(&path).is_ok(), "the FIFO does not go");
    ok();
}
