//! The timers that a program makes for itself: timer_create and its kind.
//!
//! A timer's signal is sent when it goes off, unless one with the same number waits for the program still: then that
//! counts as an overrun.

use super::clock::Clock;
use super::process::{Process, arc};
use super::signal::{Detail, MAX, Pending, Place, SIGALRM, SigInfo, code, send};
use super::thread::{current, of};
use super::timers::{Due, Setting};
use super::tree;
use crate::mem::user::UserPtr;
use crate::mem::user_time as time;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicU64, Ordering};
use linux_raw_sys::general as l;
use quire_arch::UserRegs;
use quire_base::errno::*;
use quire_base::lock::Mutex;
use quire_sched::Thread;

/// The timers of a process by their ids.
pub type Timers = BTreeMap<i32, Arc<Interval>>;

/// The most overruns that are told (Linux's DELAYTIMER_MAX).
const OVERRUNS: u64 = i32::MAX as u64;

/// Who gets the signal.
enum Target {
    /// Nobody: the timer can only be asked.
    Nobody,
    Process(Weak<Process>),
    Thread(Weak<Thread>),
}

/// A timer of a program.
pub struct Interval {
    id: i32,
    target: Target,
    signal: u8,
    value: u64,
    clock: Clock,
    state: Mutex<State>,
    /// How often it has gone off without anybody having heard: raised under the timers' lock, together with the next deadline.
    due: AtomicU64,
    /// Of its signal, from the beginning: so it can always be sent.
    _place: Place,
}

#[derive(Default)]
struct State {
    /// Its number among all armed timers.
    armed: Option<u64>,
    /// How often it has gone off since its signal was sent.
    since: u64,
    /// The same, when the program took the signal.
    told: u64,
}

impl Interval {
    /// It goes off `count` times; [`Self::expired`] follows.
    pub(super) fn goes_off(&self, count: u64) {
        // ordering: Relaxed; each count is taken once, by a swap.
        self.due.fetch_add(count, Ordering::Relaxed);
    }

    /// It has gone off: its signal is sent, unless it has been stopped or whoever took the signal before has counted this.
    pub(super) fn expired(&self) {
        // Found before the lock is taken, so dropped after it: that may be the last reference.
        let (process, thread) = match &self.target {
            Target::Nobody => return,
            Target::Process(process) => (process.upgrade(), None),
            Target::Thread(thread) => (None, thread.upgrade()),
        };
        // Held while the signal is sent: a timer that was stopped sends none.
        let mut state = self.state.lock();
        let count = self.due.swap(0, Ordering::Relaxed);
        if count == 0 || state.armed.is_none() {
            return;
        }
        let info = SigInfo {
            signal: self.signal,
            errno: 0,
            code: code::TIMER,
            detail: Detail::Queued { pid: self.id as u32, uid: 0, value: self.value },
        };
        let waits = |pending: &Mutex<Pending>| pending.lock().has_timer(self.signal, self.id);
        let sent = match (&process, &thread) {
            (Some(process), _) => !waits(&process.pending) && send::to_process(process, info).is_ok(),
            (_, Some(thread)) => !waits(&of(thread).pending) && send::to_thread(thread, info).is_ok(),
            _ => return,
        };
        // A signal that waits, or cannot be queued, makes this an overrun. What is there already belongs to the next who takes one: he
        // may have one in his hand.
        state.since = state.since.saturating_add(count - u64::from(sent));
    }

    /// Its signal is taken: how many overruns there were. The clock tells, for the thread behind the timers may be late.
    fn taken(&self) -> u64 {
        let mut state = self.state.lock();
        let missed = state.armed.map_or(0, |id| self.clock.catch_up(id)) + self.due.swap(0, Ordering::Relaxed);
        state.told = core::mem::take(&mut state.since).saturating_add(missed).min(OVERRUNS);
        state.told
    }
}

/// The program takes a timer's signal: fills in the overruns.
pub(super) fn taken(process: &Process, info: &mut SigInfo) {
    let Detail::Queued { pid: id, uid: overruns, .. } = &mut info.detail else { return };
    if info.code == code::TIMER {
        let timer = process.intervals.lock().get(&(*id as i32)).cloned();
        *overruns = timer.map_or(0, |timer| timer.taken()) as u32;
    }
}

/// The process ends or runs another program: its timers go.
pub fn forget(process: &Process) {
    let all = core::mem::take(&mut *process.intervals.lock());
    all.values().for_each(|timer| {
        stop(timer);
    });
}

fn stop(timer: &Interval) -> Option<Setting> {
    timer.state.lock().armed.take().and_then(|id| timer.clock.disarm(id))
}

fn with(id: usize) -> Result<Arc<Interval>, Errno> {
    current().intervals.lock().get(&(id as i32)).cloned().ok_or(EINVAL)
}

/// `timer_create`
pub fn create(r: &mut UserRegs) -> SysResult {
    let clock = Clock::to_wait_for(r.a0() as i32)?;
    let process = current();
    let mut target = Target::Process(Arc::downgrade(process));
    let (mut signal, mut value) = (u32::from(SIGALRM), None);
    if r.a1() != 0 {
        // Value, signal and kind, thread.
        let [given, what, who] = UserPtr::<[u64; 3]>::new(r.a1()).read()?;
        (signal, value) = (what as u32, Some(given));
        match (what >> 32) as u32 {
            // A thread for it is the library's affair.
            l::SIGEV_SIGNAL | l::SIGEV_THREAD => {}
            l::SIGEV_NONE => target = Target::Nobody,
            l::SIGEV_THREAD_ID => {
                let thread = tree::thread(who as u32).filter(|t| Arc::ptr_eq(&of(t).process, process)).ok_or(EINVAL)?;
                target = Target::Thread(Arc::downgrade(&thread));
            }
            _ => return Err(EINVAL),
        }
    }
    if !matches!(target, Target::Nobody) && !(1..=MAX as u32).contains(&signal) {
        return Err(EINVAL);
    }
    let place = Place::take(process.limit(l::RLIMIT_SIGPENDING)).ok_or(EAGAIN)?;
    let mut all = process.intervals.lock();
    let id = all.last_key_value().map_or(Some(0), |(last, _)| last.checked_add(1));
    let id = id.or_else(|| (0..i32::MAX).find(|id| !all.contains_key(id))).ok_or(EAGAIN)?;
    let timer = arc(Interval {
        id,
        target,
        signal: signal as u8,
        value: value.unwrap_or(id as u64),
        clock,
        state: Mutex::new(State::default()),
        due: AtomicU64::new(0),
        _place: place,
    })?;
    all.insert(id, timer);
    drop(all);
    if let Err(error) = UserPtr::<i32>::new(r.a2()).write(id) {
        process.intervals.lock().remove(&id);
        return Err(error);
    }
    Ok(0)
}

/// `timer_settime`
pub fn settime(r: &mut UserRegs) -> SysResult {
    if r.a2() == 0 {
        return Err(EINVAL);
    }
    let timer = with(r.a0())?;
    let (interval, value) = time::read_setting(r.a2())?;
    let deadline = match (r.a1() as u32 & l::TIMER_ABSTIME != 0, timer.clock.is_realtime()) {
        (true, true) => time::from_realtime(value),
        (true, false) => value,
        _ => timer.clock.now().saturating_add(value),
    };
    let old = {
        let mut state = timer.state.lock();
        let old = state.armed.take().and_then(|id| timer.clock.disarm(id));
        *state = State::default();
        timer.due.store(0, Ordering::Relaxed);
        if value > 0 {
            let id = timer.clock.arm(Setting { deadline, interval }, Due::Interval(Arc::downgrade(&timer)));
            state.armed = Some(id);
            timer.goes_off(timer.clock.take_due_of(id));
        }
        old
    };
    // Acts for what was due already, if nobody else has: the signal is there when this returns.
    timer.expired();
    if r.a3() != 0 {
        store(r.a3(), old, &timer)?;
    }
    Ok(0)
}

/// `timer_gettime`
pub fn gettime(r: &mut UserRegs) -> SysResult {
    let timer = with(r.a0())?;
    let setting = timer.state.lock().armed.and_then(|id| timer.clock.look(id));
    store(r.a1(), setting, &timer)?;
    Ok(0)
}

fn store(at: usize, setting: Option<Setting>, timer: &Interval) -> Result<(), Errno> {
    time::store_timespec(at, setting.map_or(0, |s| s.interval))?;
    time::store_timespec(at + 16, setting.map_or(0, |s| left(s, timer.clock.now(), timer)))
}

/// Nanoseconds until it goes off next, by the clock: the thread behind the timers may be late. As on Linux, a timer that tells
/// somebody never shows nothing left while it is set.
fn left(setting: Setting, now: u64, timer: &Interval) -> u64 {
    let late = now.saturating_sub(setting.deadline);
    match late.checked_rem(setting.interval) {
        _ if late == 0 => (setting.deadline - now).max(1),
        Some(since) => setting.interval - since,
        None => u64::from(!matches!(timer.target, Target::Nobody)),
    }
}

/// `timer_getoverrun`
pub fn getoverrun(r: &mut UserRegs) -> SysResult {
    Ok(with(r.a0())?.state.lock().told as usize)
}

/// `timer_delete`
pub fn delete(r: &mut UserRegs) -> SysResult {
    let timer = current().intervals.lock().remove(&(r.a0() as i32)).ok_or(EINVAL)?;
    stop(&timer);
    Ok(0)
}
