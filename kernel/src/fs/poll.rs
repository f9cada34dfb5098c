//! poll, select and everything that waits for several files at once.
//!
//! All pollers of the machine sleep on one queue, and whoever changes a file's readiness wakes it when somebody is there.
//! Simple and never wrong; with a few hundred pollers the needless wake-ups are cheap.

use super::OpenFile;
use crate::mem::user::{UserPtr, UserSlice, plain};
use crate::mem::user_time as time;
use crate::proc::signal::{self, calls, restart::deadline_after};
use crate::proc::sleep::wait_on;
use crate::proc::thread::user;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering, fence};
use linux_raw_sys::general as l;
use quire_arch::UserRegs;
use quire_base::errno::*;
use quire_base::units::to_timeval;
use quire_sched::{WaitQueue, timer};

static QUEUE: WaitQueue = WaitQueue::new();
static POLLERS: AtomicUsize = AtomicUsize::new(0);

/// Some file's readiness has changed.
#[inline]
pub fn notify() {
    // Pairs with the SeqCst increment of a poller before it looks: one of the two sees the other.
    fence(Ordering::SeqCst);
    if POLLERS.load(Ordering::Relaxed) != 0 {
        QUEUE.wake_all();
    }
}

/// Waits until `ready` answers; it looks at files' `poll`.
pub fn wait<T>(deadline: Option<u64>, ready: impl FnMut() -> Option<T>) -> Result<T, Errno> {
    POLLERS.fetch_add(1, Ordering::SeqCst);
    let result = wait_on(&QUEUE, deadline, ready);
    POLLERS.fetch_sub(1, Ordering::SeqCst);
    result
}

#[repr(C)]
#[derive(Clone, Copy)]
struct PollFd {
    fd: i32,
    events: u16,
    revents: u16,
}
plain!(PollFd);

/// The files behind poll entries, looked up once: the waiting must not depend on what other threads close.
fn files(fds: &[PollFd]) -> Result<Vec<Option<Arc<OpenFile>>>, Errno> {
    let mut out = crate::mem::vec(fds.len())?;
    let table = user().files();
    out.extend(fds.iter().map(|p| if p.fd < 0 { None } else { table.get(p.fd).ok() }));
    Ok(out)
}

fn look(fds: &mut [PollFd], files: &[Option<Arc<OpenFile>>]) -> usize {
    let mut count = 0;
    for (entry, file) in fds.iter_mut().zip(files) {
        let mask = u32::from(entry.events) | l::POLLERR | l::POLLHUP;
        let events = match file {
            Some(file) => file.file.poll() & mask,
            None if entry.fd >= 0 => l::POLLNVAL,
            None => 0,
        };
        entry.revents = events as u16;
        count += usize::from(events != 0);
    }
    count
}

fn poll_until(at: usize, count: usize, deadline: Option<u64>, now: bool) -> SysResult {
    if count as u64 > crate::proc::thread::current().limit(l::RLIMIT_NOFILE) {
        return Err(EINVAL);
    }
    let base = UserPtr::<PollFd>::new(at);
    let mut fds = base.read_vec(count)?;
    let files = files(&fds)?;
    let mut ready = look(&mut fds, &files);
    if ready == 0 && !now {
        let found = wait(deadline, || {
            let n = look(&mut fds, &files);
            (n > 0).then_some(n)
        });
        ready = match found {
            Ok(n) => n,
            Err(e) if e == ETIMEDOUT => 0,
            Err(e) => return Err(e),
        };
    }
    for (index, entry) in fds.iter().enumerate() {
        UserPtr::<u16>::new(base.at(index).addr() + 6).write(entry.revents)?;
    }
    Ok(ready)
}

/// `poll`
pub fn poll(r: &mut UserRegs) -> SysResult {
    let ms = r.a2() as i32;
    let deadline = (ms > 0).then(|| deadline_after(ms as u64 * 1_000_000));
    poll_until(r.a0(), r.a1() as u32 as usize, deadline, ms == 0)
}

/// Runs `act` under another signal mask; an interruption leaves the old one to be restored after the handler.
pub fn with_mask(mask: Option<u64>, act: impl FnOnce() -> SysResult) -> SysResult {
    let Some(mask) = mask else { return act() };
    let before = user().blocked.load(Ordering::Relaxed);
    signal::set_mask(mask);
    let result = act();
    if result == Err(EINTR) {
        user().signals.saved_mask.set(Some(before));
    } else {
        signal::set_mask(before);
    }
    result
}

/// What is left of a relative time-out, written back as Linux does.
fn store_left(at: usize, deadline: Option<u64>) -> Result<(), Errno> {
    if let Some(deadline) = deadline {
        time::store_timespec(at, deadline.saturating_sub(timer::now_ns()))?;
    }
    Ok(())
}

/// `ppoll`
pub fn ppoll(r: &mut UserRegs) -> SysResult {
    let timeout = time::read_timeout(r.a2())?;
    let deadline = timeout.map(deadline_after);
    let mask = if r.a3() == 0 { None } else { Some(calls::read_mask(r.a3(), r.a4())?) };
    let (at, count, timeout_at) = (r.a0(), r.a1() as u32 as usize, r.a2());
    let result = with_mask(mask, || poll_until(at, count, deadline, timeout == Some(0)));
    // Linux ignores a time-out that cannot be written back.
    let _ = store_left(timeout_at, deadline);
    result
}

const IN: u32 = l::POLLIN | l::POLLRDNORM | l::POLLHUP | l::POLLERR;
const OUT: u32 = l::POLLOUT | l::POLLWRNORM | l::POLLERR;
const EXCEPT: u32 = l::POLLPRI;

fn select_until(n: usize, sets: [usize; 3], deadline: Option<u64>, now: bool) -> SysResult {
    let n = usize::try_from(n as i32).map_err(|_| EINVAL)?;
    let table = user().files();
    // As on Linux, what lies behind the table is not looked at.
    let n = n.min(table.room());
    let bytes = n.div_ceil(64) * 8;
    let mut wanted = [const { Vec::new() }; 3];
    for (set, at) in wanted.iter_mut().zip(sets) {
        if at != 0 {
            *set = UserPtr::<u64>::new(at).read_vec(bytes / 8)?;
        }
    }
    let of = |fd: usize| wanted.each_ref().map(|set| set.get(fd / 64).is_some_and(|w| w >> (fd % 64) & 1 != 0));
    let all = || (0..n).map(|fd| (fd, of(fd))).filter(|(_, asked)| asked.contains(&true));
    let mut files = crate::mem::vec(all().count())?;
    for (fd, asked) in all() {
        files.push((fd, asked, table.get_any(fd as i32)?));
    }
    // From here on they hold the answer.
    let mut out = wanted;
    let mut look = || {
        out.iter_mut().for_each(|set| set.fill(0));
        let mut count = 0;
        for (fd, asked, file) in &files {
            // One that only names its file is none, of which select says in each set that it is ready, as Linux does.
            let events = if file.flags() & l::O_PATH == 0 { file.file.poll() } else { l::POLLNVAL };
            for (i, mask) in [IN, OUT, EXCEPT].into_iter().enumerate() {
                if asked[i] && events & (mask | l::POLLNVAL) != 0 {
                    out[i][fd / 64] |= 1 << (fd % 64);
                    count += 1;
                }
            }
        }
        count
    };
    let mut ready = look();
    if ready == 0 && !now {
        ready = match wait(deadline, || Some(look()).filter(|n| *n > 0)) {
            Ok(n) => n,
            Err(e) if e == ETIMEDOUT => 0,
            Err(e) => return Err(e),
        };
    }
    for (set, at) in out.iter().zip(sets) {
        if at != 0 {
            for (i, word) in set.iter().enumerate() {
                UserSlice::new(at + i * 8, 8)?.copy_out(&word.to_ne_bytes())?;
            }
        }
    }
    Ok(ready)
}

/// `select`
pub fn select(r: &mut UserRegs) -> SysResult {
    let timeout = time::read_timeval(r.a4())?;
    let deadline = timeout.map(deadline_after);
    let result = select_until(r.a0(), [r.a1(), r.a2(), r.a3()], deadline, timeout == Some(0));
    if let Some(deadline) = deadline {
        let left = deadline.saturating_sub(timer::now_ns());
        // Linux ignores a time-out that cannot be written back.
        let _ = UserPtr::<[u64; 2]>::new(r.a4()).write(to_timeval(left));
    }
    result
}

/// `pselect6`
pub fn pselect6(r: &mut UserRegs) -> SysResult {
    let timeout = time::read_timeout(r.a4())?;
    let deadline = timeout.map(deadline_after);
    let mask = if r.a5() == 0 {
        None
    } else {
        let [at, size] = UserPtr::<[usize; 2]>::new(r.a5()).read()?;
        if at == 0 { None } else { Some(calls::read_mask(at, size)?) }
    };
    let (n, sets, timeout_at) = (r.a0(), [r.a1(), r.a2(), r.a3()], r.a4());
    let result = with_mask(mask, || select_until(n, sets, deadline, timeout == Some(0)));
    // As for ppoll.
    let _ = store_left(timeout_at, deadline);
    result
}
