//! epoll over the common poll queue: level- and edge-triggered, one-shot.

use super::stat::Stat;
use super::{File, OpenFile, poll};
use crate::mem::user::{UserPtr, UserSlice};
use crate::mem::user_time as time;
use crate::proc::process::arc;
use crate::proc::signal::calls;
use crate::proc::thread::user;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::ops::Bound;
use linux_raw_sys::general as l;
use quire_arch::UserRegs;
use quire_base::errno::*;
use quire_base::lock::Mutex;
use quire_sched::timer;

struct Interest {
    file: Weak<OpenFile>,
    events: u32,
    data: u64,
    /// What an edge-triggered interest has reported since it last saw the event absent.
    reported: u32,
    /// The file's edges when that was.
    edges: [u64; 2],
    armed: bool,
}

/// A descriptor and the open file behind it.
type Key = (i32, usize);

/// What a program is told.
struct Report {
    key: Key,
    events: u32,
    data: u64,
}

struct Set {
    interests: BTreeMap<Key, Interest>,
    /// The one reported last: the next round begins behind it, so that a busy file does not hide the others.
    last: Key,
    /// How often an interest has come or changed: each may be an edge of the set, for sets around it.
    changes: u64,
}

/// A set of interests.
pub struct Epoll(Mutex<Set>);

/// Most sets, one within the other, as on Linux.
const DEPTH: u32 = 5;
/// Most files that one question about a set with sets in it asks; beyond that the answer is that something may be ready.
const BUDGET: u32 = 20_000;

/// What a file's poll says, at some depth of sets within sets.
fn ask(file: &OpenFile, depth: u32, budget: &mut u32) -> u32 {
    match file.file.as_any().downcast_ref::<Epoll>() {
        Some(inner) if depth < DEPTH && inner.is_ready(depth + 1, budget) => IN,
        Some(_) => 0,
        None => file.file.poll(),
    }
}

const EPOLLET: u32 = 1 << 31;
const EPOLLONESHOT: u32 = 1 << 30;
const IN: u32 = l::POLLIN | l::POLLRDNORM;
const OUT: u32 = l::POLLOUT | l::POLLWRNORM;
const MODIFIERS: u32 = EPOLLET | EPOLLONESHOT | WAKEUP | EXCLUSIVE;
/// EPOLLEXCLUSIVE: not every set need be told. Here all are, which is allowed.
const EXCLUSIVE: u32 = 1 << 28;
/// EPOLLWAKEUP: nothing to do where nothing sleeps.
const WAKEUP: u32 = 1 << 29;
/// What may come with EPOLLEXCLUSIVE.
const EXCLUSIVE_WITH: u32 = EXCLUSIVE | WAKEUP | EPOLLET | l::POLLIN | l::POLLOUT | l::POLLERR | l::POLLHUP;

impl Interest {
    /// The events that have been reported and have not come again since.
    fn stale(&self, edges: [u64; 2]) -> u32 {
        let again = |i: usize, events: u32| if edges[i] == self.edges[i] { 0 } else { events };
        self.reported & !(again(0, IN) | again(1, OUT))
    }
}

impl Epoll {
    /// The first armed interest behind `after`, with its file and events; forgets on the way those whose file is gone.
    fn behind(&self, after: Key) -> Option<(Key, Arc<OpenFile>, u32)> {
        let mut set = self.0.lock();
        let mut after = Bound::Excluded(after);
        loop {
            let (&key, interest) = set.interests.range((after, Bound::Unbounded)).next()?;
            // A reference that is made here is given away: dropped under the lock it might be the last, and close the file.
            let alive = if interest.armed {
                match interest.file.upgrade() {
                    Some(file) => return Some((key, file, interest.events)),
                    None => false,
                }
            } else {
                interest.file.strong_count() > 0
            };
            if !alive {
                set.interests.remove(&key);
            }
            after = Bound::Excluded(key);
        }
    }

    /// Takes up to `most` events. Files are asked outside the lock: their poll may take locks of its own.
    fn collect(&self, most: usize, out: &mut Vec<Report>) {
        let begin = self.0.lock().last;
        let mut at = begin;
        let mut around = false;
        while out.len() < most {
            let found = self.behind(at).filter(|(key, ..)| !around || *key <= begin);
            let Some((key, file, events)) = found else {
                if around {
                    break;
                }
                (around, at) = (true, FIRST);
                continue;
            };
            at = key;
            let edges = || if events & EPOLLET != 0 { file.file.edges() } else { [0; 2] };
            let before = edges();
            let now = ask(&file, 1, &mut { BUDGET }) & (events & !MODIFIERS | l::POLLERR | l::POLLHUP);
            let after = edges();
            let mut set = self.0.lock();
            let Some(interest) = set.interests.get_mut(&key) else { continue };
            let fresh = if events & EPOLLET != 0 { now & !interest.stale(before) } else { now };
            // An edge beside the poll: what it brought is there when the report is read. Without a report it is still to come.
            let seen = |i: usize, events: u32| if fresh & events != 0 { after[i] } else { before[i] };
            (interest.reported, interest.edges) = (now, [seen(0, IN), seen(1, OUT)]);
            if fresh != 0 {
                if events & EPOLLONESHOT != 0 {
                    interest.armed = false;
                }
                out.push(Report { key, events: now, data: interest.data });
                set.last = key;
            }
        }
    }

    /// Reports that could not be delivered are to come again.
    fn give_back(&self, reports: &[Report]) {
        let mut set = self.0.lock();
        for report in reports {
            if let Some(interest) = set.interests.get_mut(&report.key) {
                (interest.armed, interest.reported) = (true, 0);
            }
        }
    }

    fn is_ready(&self, depth: u32, budget: &mut u32) -> bool {
        let mut at = FIRST;
        while let Some((key, file, events)) = self.behind(at) {
            at = key;
            if *budget == 0 {
                return true;
            }
            *budget -= 1;
            if ask(&file, depth, budget) & (events & !MODIFIERS | l::POLLERR | l::POLLHUP) != 0 {
                return true;
            }
        }
        false
    }

    /// What differs whenever one of the files here has had an edge that it is asked for: such a one is an edge of the set, for sets around
    /// it. It differs, too, when other files are asked; a needless event does no harm.
    fn edges_within(&self, depth: u32, budget: &mut u32) -> u64 {
        let (mut at, mut sum) = (FIRST, 0u64);
        let mut mix = |number: u64| sum = (sum ^ number).wrapping_mul(0x100_0000_01b3).rotate_left(29);
        mix(self.0.lock().changes);
        while let Some((key, file, events)) = self.behind(at) {
            at = key;
            if *budget == 0 {
                // There may be some behind this.
                mix(timer::now_ns());
                break;
            }
            *budget -= 1;
            let [read, written] = match file.file.as_any().downcast_ref::<Epoll>() {
                Some(inner) if depth < DEPTH => [inner.edges_within(depth + 1, budget), 0],
                Some(_) => [0; 2],
                None => file.file.edges(),
            };
            mix(key.0 as u64);
            mix(if events & IN != 0 { read } else { 0 });
            mix(if events & OUT != 0 { written } else { 0 });
        }
        sum
    }

    /// Whether `other` can be found in this set or in one within it; also if sets are nested too deep to know.
    fn leads_to(&self, other: &Epoll, depth: u32, budget: &mut u32) -> bool {
        let mut at = FIRST;
        core::ptr::eq(self, other) || depth == DEPTH || {
            while let Some((key, file, _)) = self.behind(at) {
                at = key;
                if *budget == 0 {
                    return true;
                }
                *budget -= 1;
                if let Some(inner) = file.file.as_any().downcast_ref::<Epoll>()
                    && inner.leads_to(other, depth + 1, budget)
                {
                    return true;
                }
            }
            false
        }
    }
}

/// Before every descriptor.
const FIRST: Key = (-1, 0);

impl File for Epoll {
    fn refuses(&self, _: bool) -> bool {
        true
    }
    fn stays(&self) -> bool {
        true
    }
    fn stat(&self) -> Stat {
        Stat { ino: 901, mode: 0o600, nlink: 1, ..Stat::default() }
    }
    fn held(&self, _: bool) -> u64 {
        let interests = self.0.lock().interests.len();
        (interests * 2 * size_of::<(Key, Interest)>()) as u64
    }
    fn edges(&self) -> [u64; 2] {
        [self.edges_within(1, &mut { BUDGET }), 0]
    }
    fn poll(&self) -> u32 {
        if self.is_ready(1, &mut { BUDGET }) { l::POLLIN | l::POLLRDNORM } else { 0 }
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// `epoll_create1`
pub fn create1(r: &mut UserRegs) -> SysResult {
    create(r.a0() as u32)
}
/// `epoll_create`
pub fn create_old(r: &mut UserRegs) -> SysResult {
    if r.a0() as i32 <= 0 {
        return Err(EINVAL);
    }
    create(0)
}
fn create(flags: u32) -> SysResult {
    if flags & !l::O_CLOEXEC != 0 {
        return Err(EINVAL);
    }
    let file = OpenFile::new(
        arc(Epoll(Mutex::new(Set { interests: BTreeMap::new(), last: FIRST, changes: 0 })))?,
        l::O_RDWR,
        b"anon_inode:[eventpoll]",
        None,
    )?;
    user().files().add(file, flags != 0)
}

/// Bytes of Linux's `struct epoll_event`, which is packed.
const EVENT: usize = 12;

fn with<T>(fd: i32, act: impl FnOnce(&Epoll) -> Result<T, Errno>) -> Result<T, Errno> {
    let file = user().files().get(fd)?;
    act(file.file.as_any().downcast_ref::<Epoll>().ok_or(EINVAL)?)
}

/// `epoll_ctl`
pub fn ctl(r: &mut UserRegs) -> SysResult {
    let (epfd, op, fd, at) = (r.a0() as i32, r.a1() as u32, r.a2() as i32, r.a3());
    let file = user().files().get(fd)?;
    let (events, data) = if op == l::EPOLL_CTL_DEL {
        (0, 0)
    } else {
        (UserPtr::<u32>::new(at).read()?, UserPtr::<u64>::new(at + 4).read()?)
    };
    if !file.file.can_wait() {
        return Err(EPERM);
    }
    let inner = file.file.as_any().downcast_ref::<Epoll>();
    let refused = match op {
        l::EPOLL_CTL_ADD => inner.is_some() || events & !EXCLUSIVE_WITH != 0,
        l::EPOLL_CTL_MOD => true,
        _ => false,
    };
    if events & EXCLUSIVE != 0 && refused {
        return Err(EINVAL);
    }
    let key = (fd, Arc::as_ptr(&file) as usize);
    with(epfd, |epoll| {
        if inner.is_some_and(|inner| core::ptr::eq(inner, epoll)) {
            return Err(EINVAL);
        }
        if op == l::EPOLL_CTL_ADD && inner.is_some_and(|inner| inner.leads_to(epoll, 1, &mut { BUDGET })) {
            return Err(ELOOP);
        }
        // A set may be as large as programs like, and the heap is not.
        if op == l::EPOLL_CTL_ADD && !crate::mem::heap_has(size_of::<Interest>() * 16) {
            return Err(ENOMEM);
        }
        let mut locked = epoll.0.lock();
        let Set { interests: set, changes, .. } = &mut *locked;
        match op {
            l::EPOLL_CTL_ADD => {
                // The number may have been that of files which are gone.
                let dead = |(key, i): (&Key, &Interest)| (i.file.strong_count() == 0).then_some(*key);
                while let Some(key) = set.range((fd, 0)..=(fd, usize::MAX)).find_map(dead) {
                    set.remove(&key);
                }
                if set.contains_key(&key) {
                    return Err(EEXIST);
                }
                let interest =
                    Interest { file: Arc::downgrade(&file), events, data, reported: 0, edges: [0; 2], armed: true };
                set.insert(key, interest);
                *changes += 1;
            }
            l::EPOLL_CTL_MOD => {
                let interest = set.get_mut(&key).ok_or(ENOENT)?;
                if interest.events & EXCLUSIVE != 0 {
                    return Err(EINVAL);
                }
                (interest.events, interest.data, interest.reported, interest.armed) = (events, data, 0, true);
                *changes += 1;
            }
            l::EPOLL_CTL_DEL => {
                set.remove(&key).ok_or(ENOENT)?;
            }
            _ => return Err(EINVAL),
        }
        Ok(())
    })?;
    poll::notify();
    Ok(0)
}

fn wait(epfd: i32, at: usize, most: i32, deadline: Option<u64>, now: bool) -> SysResult {
    with(epfd, |epoll| {
        if most <= 0 || most as usize > i32::MAX as usize / EVENT {
            return Err(EINVAL);
        }
        UserSlice::new(at, most as usize * EVENT)?;
        let most = (most as usize).min(1024);
        let mut out = Vec::new();
        epoll.collect(most, &mut out);
        if out.is_empty() && !now {
            let found = poll::wait(deadline, || {
                epoll.collect(most, &mut out);
                (!out.is_empty()).then_some(())
            });
            match found {
                Err(e) if e != ETIMEDOUT => return Err(e),
                _ => {}
            }
        }
        let put = |i: usize, report: &Report| {
            UserPtr::<u32>::new(at + i * EVENT).write(report.events)?;
            UserPtr::<u64>::new(at + i * EVENT + 4).write(report.data)
        };
        match out.iter().enumerate().find_map(|(i, report)| put(i, report).err().map(|why| (i, why))) {
            None => Ok(out.len()),
            Some((told, why)) => {
                epoll.give_back(&out[told..]);
                if told > 0 { Ok(told) } else { Err(why) }
            }
        }
    })
}

/// `epoll_wait`
pub fn epoll_wait(r: &mut UserRegs) -> SysResult {
    let ms = r.a3() as i32;
    let deadline = (ms > 0).then(|| timer::now_ns() + ms as u64 * 1_000_000);
    wait(r.a0() as i32, r.a1(), r.a2() as i32, deadline, ms == 0)
}

/// `epoll_pwait`
pub fn epoll_pwait(r: &mut UserRegs) -> SysResult {
    let mask = if r.a4() == 0 { None } else { Some(calls::read_mask(r.a4(), r.a5())?) };
    poll::with_mask(mask, || epoll_wait(r))
}

/// `epoll_pwait2`
pub fn epoll_pwait2(r: &mut UserRegs) -> SysResult {
    let mask = if r.a4() == 0 { None } else { Some(calls::read_mask(r.a4(), r.a5())?) };
    let timeout = time::read_timeout(r.a3())?;
    let deadline = timeout.map(|ns| timer::now_ns().saturating_add(ns));
    poll::with_mask(mask, || wait(r.a0() as i32, r.a1(), r.a2() as i32, deadline, timeout == Some(0)))
}
