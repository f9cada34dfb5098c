//! Timers that go off while nobody waits for them: alarm, setitimer, timerfd.
//!
//! One kernel thread sleeps until the earliest deadline, takes what is due out of the table, and acts outside the lock. Who
//! stops a timer waits for that: afterwards nothing of it comes any more.

use super::interval::{self, Interval};
use super::process::Process;
use super::signal::{SIGALRM, SigInfo, send};
use super::thread::current;
use crate::arch::UserRegs;
use crate::debug::lock::{Mutex, MutexGuard};
use crate::debug::stall::Wait;
use crate::fs::timerfd::TimerFd;
use crate::mem::user::UserPtr;
use crate::sched::{self, ThreadRef, timer};
use crate::sys::Args;
use crate::sys::errno::*;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use quire_mm::What;
use spin::Once;

/// What happens when a timer goes off.
#[derive(Clone)]
pub enum Due {
    /// SIGALRM for a process.
    Alarm(Weak<Process>),
    /// A timer of a program's own.
    Interval(Weak<Interval>),
    /// A descriptor becomes readable.
    Descriptor(Weak<TimerFd>),
}

/// When a timer goes off.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Setting {
    /// A `now_ns` value.
    pub deadline: u64,
    /// Nanoseconds between later ones; 0: only once.
    pub interval: u64,
}

struct Table {
    next: u64,
    by_id: BTreeMap<u64, (Setting, Due)>,
    by_time: BTreeMap<(u64, u64), ()>,
    /// The timer that the thread acts for; 0: none.
    acting: u64,
}

static TABLE: Mutex<Table> = Mutex::new(Table { next: 1, by_id: BTreeMap::new(), by_time: BTreeMap::new(), acting: 0 });
static THREAD: Once<ThreadRef> = Once::new();

/// Starts the thread.
pub fn start() -> Result<(), Errno> {
    let thread = sched::spawn_kernel("timers", run, 0).map_err(|_| ENOMEM)?;
    THREAD.call_once(|| thread);
    Ok(())
}

/// Arms a timer; returns its id.
pub fn arm(setting: Setting, due: Due) -> u64 {
    let id = {
        let mut table = TABLE.lock();
        let id = table.next;
        table.next += 1;
        table.by_id.insert(id, (setting, due));
        table.by_time.insert((setting.deadline, id), ());
        id
    };
    if let Some(thread) = THREAD.get() {
        thread.unpark();
    }
    id
}

/// Disarms a timer; returns what it was set to, if it had not gone off for the last time.
pub fn disarm(id: u64) -> Option<Setting> {
    let mut table = TABLE.lock();
    let (setting, due) = table.by_id.remove(&id)?;
    table.by_time.remove(&(setting.deadline, id));
    drop(table);
    drop(due);
    Some(setting)
}

/// Empties the place where a timer's id is kept and disarms it. When this returns, nothing of it comes any more. Gives the locked
/// place, and what the timer was set to if it had not gone off for the last time. Not for the thread behind the timers.
pub fn stop(place: &Mutex<Option<u64>>) -> (MutexGuard<'_, Option<u64>>, Option<Setting>) {
    static ACTING: What = What { text: "the end of a timer", show: |n, f| write!(f, "timer {n}") };
    let mut old = None;
    loop {
        let mut armed = place.lock();
        let Some(id) = armed.take() else { return (armed, old) };
        old = disarm(id);
        drop(armed);
        let mut wait = Wait::new(&ACTING);
        while TABLE.lock().acting == id {
            wait.pause(id);
        }
        // Another thread may have armed it meanwhile.
    }
}

/// What a timer is set to.
pub fn look(id: u64) -> Option<Setting> {
    TABLE.lock().by_id.get(&id).map(|(setting, _)| *setting)
}

/// How often a repeating timer should have gone off by now and has not, because its thread has not run; that is taken as done.
pub fn catch_up(id: u64) -> u64 {
    let now = timer::now_ns();
    let mut table = TABLE.lock();
    let Some((setting, _)) = table.by_id.get_mut(&id) else { return 0 };
    let old = setting.deadline;
    let Some(count) = now.checked_sub(old).and_then(|late| late.checked_div(setting.interval)).map(|n| n + 1) else {
        return 0;
    };
    setting.deadline = old.saturating_add(count.saturating_mul(setting.interval));
    let new = setting.deadline;
    table.by_time.remove(&(old, id));
    table.by_time.insert((new, id), ());
    count
}

fn run(_: usize) {
    loop {
        let now = timer::now_ns();
        let next = loop {
            match take_due(now) {
                Ok((what, count)) => act(what, count),
                Err(next) => break next,
            }
        };
        // Unparked by a new timer or at the deadline: the table is looked at again either way.
        let _ = sched::park(next);
    }
}

/// What is due at `now` and how many times, or when something will be. What was taken before is done with.
fn take_due(now: u64) -> Result<(Due, u64), Option<u64>> {
    let mut table = TABLE.lock();
    table.acting = 0;
    while let Some((&(deadline, id), ())) = table.by_time.first_key_value() {
        if deadline > now {
            return Err(Some(deadline));
        }
        table.by_time.remove(&(deadline, id));
        let Some((mut setting, what)) = table.by_id.remove(&id) else { continue };
        let mut count = 1;
        // An interval of zero: once only.
        if let Some(missed) = (now - deadline).checked_div(setting.interval) {
            count += missed;
            setting.deadline = deadline.saturating_add(count.saturating_mul(setting.interval));
            table.by_id.insert(id, (setting, what.clone()));
            table.by_time.insert((setting.deadline, id), ());
        }
        if let Due::Interval(timer) = &what
            && let Some(timer) = timer.upgrade()
        {
            timer.goes_off(count);
        }
        table.acting = id;
        return Ok((what, count));
    }
    Err(None)
}

fn act(due: Due, count: u64) {
    match due {
        Due::Alarm(process) => {
            if let Some(process) = process.upgrade() {
                // Merged when one is pending, as on Linux.
                let _ = send::to_process(&process, SigInfo::kernel(SIGALRM));
            }
        }
        Due::Interval(timer) => {
            if let Some(timer) = timer.upgrade() {
                timer.expired();
            }
        }
        Due::Descriptor(file) => {
            if let Some(file) = file.upgrade() {
                file.expired(count);
            }
        }
    }
}

/// Sets the process's real-time timer; returns the old setting.
fn set_real(process: &Arc<Process>, new: Option<Setting>) -> Option<Setting> {
    let (mut slot, old) = stop(&process.real_timer);
    *slot = new.map(|setting| arm(setting, Due::Alarm(Arc::downgrade(process))));
    old
}

/// The process ends: its timers go.
pub fn forget(process: &Arc<Process>) {
    set_real(process, None);
    interval::forget(process);
}

/// Seconds and microseconds, twice: interval, then time left.
fn encode(setting: Option<Setting>) -> [u64; 4] {
    let setting = setting.unwrap_or_default();
    // A timer that is set never shows nothing left.
    let left = if setting.deadline == 0 { 0 } else { setting.deadline.saturating_sub(timer::now_ns()).max(1000) };
    let split = |ns: u64| [ns / 1_000_000_000, ns % 1_000_000_000 / 1000];
    let ([a, b], [c, d]) = (split(setting.interval), split(left));
    [a, b, c, d]
}

fn micros(seconds: i64, micros: i64) -> Result<u64, Errno> {
    if seconds < 0 || !(0..1_000_000).contains(&micros) {
        return Err(EINVAL);
    }
    Ok((seconds as u64).saturating_mul(1_000_000_000).saturating_add(micros as u64 * 1000))
}

/// `setitimer`: the real-time timer.
pub fn setitimer(r: &mut UserRegs) -> SysResult {
    if r.a0() as u32 != 0 {
        return Err(EINVAL);
    }
    let [is, iu, vs, vu] = if r.a1() == 0 { [0; 4] } else { UserPtr::<[i64; 4]>::new(r.a1()).read()? };
    let (interval, value) = (micros(is, iu)?, micros(vs, vu)?);
    let new = (value > 0).then(|| Setting { deadline: timer::now_ns().saturating_add(value), interval });
    let old = set_real(current(), new);
    UserPtr::<[u64; 4]>::new(r.a2()).write_opt(encode(old))?;
    Ok(0)
}

/// `getitimer`
pub fn getitimer(r: &mut UserRegs) -> SysResult {
    if r.a0() as u32 != 0 {
        return Err(EINVAL);
    }
    let setting = (*current().real_timer.lock()).and_then(look);
    UserPtr::<[u64; 4]>::new(r.a1()).write(encode(setting))?;
    Ok(0)
}

/// `alarm`
pub fn alarm(r: &mut UserRegs) -> SysResult {
    let seconds = u64::from(r.a0() as u32);
    let now = timer::now_ns();
    let new = (seconds > 0).then(|| Setting { deadline: now + seconds * 1_000_000_000, interval: 0 });
    let old = set_real(current(), new);
    Ok(old.map_or(0, |s| s.deadline.saturating_sub(now).div_ceil(1_000_000_000) as usize))
}
