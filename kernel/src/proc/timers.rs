//! Timers that go off while nobody waits for them: alarm, setitimer, timer_create, timerfd.
//!
//! Each clock has a table of the timers that are armed on it ([`Armed`]). Whoever looks after the clock takes what is due out of the
//! table, and acts outside the lock: for real time a kernel thread that sleeps until the earliest deadline, for a processor clock the
//! threads whose time it counts ([`super::clock`]). Who stops a timer waits for that: afterwards nothing of it comes any more.

use super::interval::Interval;
use super::process::Process;
use super::signal::{SigInfo, send};
use crate::fs::timerfd::TimerFd;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicU64, Ordering};
use quire_base::errno::*;
use quire_base::lock::{Mutex, MutexGuard};
use quire_base::wait::Wait;
use quire_mm::What;
use quire_sched::{self as sched, ThreadRef, timer};
use spin::Once;

/// What happens when a timer goes off.
#[derive(Clone)]
pub enum Due {
    /// A signal for a process: alarm and setitimer.
    Signal(Weak<Process>, u8),
    /// A timer of a program's own.
    Interval(Weak<Interval>),
    /// A descriptor becomes readable. The number, raised under the table's lock together with the next deadline, is how often the
    /// timer has gone off unheard.
    Descriptor(Weak<TimerFd>, Arc<AtomicU64>),
    /// Those who sleep on a processor clock of a process look at it.
    Sleepers(Weak<Process>),
}

/// When a timer goes off.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Setting {
    /// A time of the timer's clock.
    pub deadline: u64,
    /// Nanoseconds between later ones; 0: only once.
    pub interval: u64,
}

struct Table {
    by_id: BTreeMap<u64, (Setting, Due)>,
    by_time: BTreeMap<(u64, u64), ()>,
    /// The timer that somebody acts for; 0: none.
    acting: u64,
}

/// The timers that are armed on one clock.
pub struct Armed(Mutex<Table>);

/// Those of real time.
pub static REAL: Armed = Armed::new();
static THREAD: Once<ThreadRef> = Once::new();
/// The next timer's id: a number used once, whatever the clock.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// Starts the thread that looks after real time.
pub fn start() -> Result<(), Errno> {
    let thread = sched::spawn_kernel("timers", run, 0).map_err(|_| ENOMEM)?;
    THREAD.call_once(|| thread);
    Ok(())
}

impl Default for Armed {
    fn default() -> Self {
        Self::new()
    }
}

impl Armed {
    /// None.
    pub const fn new() -> Self {
        Armed(Mutex::new(Table { by_id: BTreeMap::new(), by_time: BTreeMap::new(), acting: 0 }))
    }

    /// Arms a timer; returns its id. Whoever looks after the clock has to be told.
    pub(super) fn add(&self, setting: Setting, due: Due) -> u64 {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut table = self.0.lock();
        table.by_id.insert(id, (setting, due));
        table.by_time.insert((setting.deadline, id), ());
        id
    }

    /// Disarms a timer; returns what it was set to, if it had not gone off for the last time.
    pub fn disarm(&self, id: u64) -> Option<Setting> {
        let mut table = self.0.lock();
        let (setting, due) = table.by_id.remove(&id)?;
        table.by_time.remove(&(setting.deadline, id));
        drop(table);
        drop(due);
        Some(setting)
    }

    /// Empties the place where a timer's id is kept and disarms it. When this returns, nothing of it comes any more. Gives the locked
    /// place, and what the timer was set to if it had not gone off for the last time. Not for whoever acts for timers.
    pub fn stop<'p>(&self, place: &'p Mutex<Option<u64>>) -> (MutexGuard<'p, Option<u64>>, Option<Setting>) {
        static ACTING: What = What { text: "the end of a timer", show: |n, f| write!(f, "timer {n}") };
        let mut old = None;
        loop {
            let mut armed = place.lock();
            let Some(id) = armed.take() else { return (armed, old) };
            old = self.disarm(id);
            drop(armed);
            let mut wait = Wait::new(&ACTING);
            while self.0.lock().acting == id {
                wait.pause(id);
            }
            // Another thread may have armed it meanwhile.
        }
    }

    /// What a timer is set to.
    pub fn look(&self, id: u64) -> Option<Setting> {
        self.0.lock().by_id.get(&id).map(|(setting, _)| *setting)
    }

    /// How often a repeating timer should have gone off by `now` and has not, because nobody has looked; that is taken as done.
    pub fn catch_up(&self, id: u64, now: u64) -> u64 {
        let mut table = self.0.lock();
        let Some((setting, _)) = table.by_id.get_mut(&id) else { return 0 };
        let old = setting.deadline;
        let Some(count) = now.checked_sub(old).and_then(|late| late.checked_div(setting.interval)).map(|n| n + 1)
        else {
            return 0;
        };
        setting.deadline = old.saturating_add(count.saturating_mul(setting.interval));
        let new = setting.deadline;
        table.by_time.remove(&(old, id));
        table.by_time.insert((new, id), ());
        count
    }

    /// As [`Self::catch_up`], also for a timer that goes off once: that one is disarmed.
    pub fn take_due_of(&self, id: u64, now: u64) -> u64 {
        match self.look(id) {
            Some(setting) if setting.interval == 0 && setting.deadline <= now => u64::from(self.disarm(id).is_some()),
            _ => self.catch_up(id, now),
        }
    }

    /// Acts for all that is due at `now`; returns when something will be. If somebody acts already, that one does it.
    pub(super) fn go_off(&self, now: u64) -> Option<u64> {
        let mut mine = 0;
        loop {
            match self.take_due(now, &mut mine) {
                Ok(what) => act(what),
                Err(next) => return next,
            }
        }
    }

    /// What is due at `now`, or when something will be. `mine` is what the caller took before: that is done with.
    fn take_due(&self, now: u64, mine: &mut u64) -> Result<Due, Option<u64>> {
        let mut table = self.0.lock();
        if table.acting != *mine {
            return Err(Some(now));
        }
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
            match &what {
                Due::Interval(timer) => {
                    if let Some(timer) = timer.upgrade() {
                        timer.goes_off(count);
                    }
                }
                // ordering: Relaxed; each count is taken once, by a swap.
                Due::Descriptor(_, due) => _ = due.fetch_add(count, Ordering::Relaxed),
                Due::Signal(..) | Due::Sleepers(_) => {}
            }
            (table.acting, *mine) = (id, id);
            return Ok(what);
        }
        Err(None)
    }
}

/// Arms a timer of real time; returns its id.
pub fn arm(setting: Setting, due: Due) -> u64 {
    let id = REAL.add(setting, due);
    if let Some(thread) = THREAD.get() {
        thread.unpark();
    }
    id
}

fn run(_: usize) {
    loop {
        let next = REAL.go_off(timer::now_ns());
        // Unparked by a new timer or at the deadline: the table is looked at again either way.
        let _ = sched::park(next);
    }
}

fn act(due: Due) {
    match due {
        Due::Signal(process, signal) => {
            if let Some(process) = process.upgrade() {
                // Merged when one is pending, as on Linux.
                let _ = send::to_process(&process, SigInfo::kernel(signal));
            }
        }
        Due::Interval(timer) => {
            if let Some(timer) = timer.upgrade() {
                timer.expired();
            }
        }
        Due::Descriptor(file, _) => {
            if let Some(file) = file.upgrade() {
                file.expired();
            }
        }
        Due::Sleepers(process) => {
            if let Some(process) = process.upgrade() {
                process.clock.sleepers.wake_all();
            }
        }
    }
}
