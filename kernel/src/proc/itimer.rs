//! The three timers that each process has: of real time (`alarm`, too), of time in user mode, of all processor time.

use super::clock::Clock;
use super::interval;
use super::process::Process;
use super::signal::{SIGALRM, SIGPROF, SIGVTALRM};
use super::thread::current;
use super::timers::{Due, Setting};
use crate::mem::user::UserPtr;
use alloc::sync::Arc;
use linux_raw_sys::general as l;
use quire_arch::UserRegs;
use quire_base::errno::*;
use quire_base::lock::Mutex;
use quire_base::units::{SECOND, alarm_seconds, from_whole_timeval, to_timeval};

/// The ids of a process's three timers, while they are armed.
pub type Places = [Mutex<Option<u64>>; 3];

/// One of the three, by Linux's number.
#[derive(Clone, Copy)]
struct Which(usize);

impl Which {
    fn new(number: usize) -> Result<Self, Errno> {
        if number as u32 <= l::ITIMER_PROF { Ok(Which(number as u32 as usize)) } else { Err(EINVAL) }
    }

    fn signal(self) -> u8 {
        [SIGALRM, SIGVTALRM, SIGPROF][self.0]
    }

    fn clock(self, process: &Arc<Process>) -> Clock {
        match self.0 as u32 {
            l::ITIMER_REAL => Clock::Monotonic,
            l::ITIMER_VIRTUAL => Clock::User(Arc::downgrade(process)),
            _ => Clock::Process(Arc::downgrade(process)),
        }
    }

    /// Sets it to go off after `value` nanoseconds, or not at all; returns what it was set to, and what is left of that.
    fn set(self, process: &Arc<Process>, interval: u64, value: u64) -> (Setting, u64) {
        let clock = self.clock(process);
        let now = clock.now();
        let (mut place, old) = clock.stop(&process.itimers[self.0]);
        if value > 0 {
            let setting = Setting { deadline: now.saturating_add(value), interval };
            *place = Some(clock.arm(setting, Due::Signal(Arc::downgrade(process), self.signal())));
        }
        told(old, now)
    }

    fn look(self, process: &Arc<Process>) -> (Setting, u64) {
        let clock = self.clock(process);
        let setting = (*process.itimers[self.0].lock()).and_then(|id| clock.look(id));
        told(setting, clock.now())
    }
}

/// A setting with what is left of it: never nothing while it is set.
fn told(setting: Option<Setting>, now: u64) -> (Setting, u64) {
    setting.map_or_else(Default::default, |setting| (setting, setting.deadline.saturating_sub(now).max(1000)))
}

/// The process ends: its timers go.
pub fn forget(process: &Arc<Process>) {
    for which in [l::ITIMER_REAL, l::ITIMER_VIRTUAL, l::ITIMER_PROF] {
        Which(which as usize).set(process, 0, 0);
    }
    interval::forget(process);
}

/// Seconds and microseconds, twice: interval, then time left.
fn encode((setting, left): (Setting, u64)) -> [u64; 4] {
    let ([a, b], [c, d]) = (to_timeval(setting.interval), to_timeval(left));
    [a, b, c, d]
}

/// `setitimer`
pub fn setitimer(r: &mut UserRegs) -> SysResult {
    let [is, iu, vs, vu] = if r.a1() == 0 { [0; 4] } else { UserPtr::<[i64; 4]>::new(r.a1()).read()? };
    let (interval, value) = (from_whole_timeval(is, iu)?, from_whole_timeval(vs, vu)?);
    let old = Which::new(r.a0())?.set(current(), interval, value);
    UserPtr::<[u64; 4]>::new(r.a2()).write_opt(encode(old))?;
    Ok(0)
}

/// `getitimer`
pub fn getitimer(r: &mut UserRegs) -> SysResult {
    let now = Which::new(r.a0())?.look(current());
    UserPtr::<[u64; 4]>::new(r.a1()).write(encode(now))?;
    Ok(0)
}

/// `alarm`
pub fn alarm(r: &mut UserRegs) -> SysResult {
    let seconds = u64::from(r.a0() as u32);
    let (_, left) = Which(l::ITIMER_REAL as usize).set(current(), 0, seconds * SECOND);
    Ok(alarm_seconds(left) as usize)
}
