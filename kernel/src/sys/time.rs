//! Clocks and sleeping.

use crate::mem::user::UserPtr;
use crate::mem::user_time::{from_realtime, read_timespec, store_timespec};
use crate::proc::clock::Clock;
use crate::proc::signal::restart::deadline_after;
use crate::proc::sleep::sleep_until;
use crate::proc::thread::current;
use linux_raw_sys::general as l;
use quire_arch::UserRegs;
use quire_base::errno::*;
use quire_base::units::{SECOND, to_timeval};
use quire_sched::{self as sched, timer};

fn read_clock(id: i32) -> Result<u64, Errno> {
    Ok(match id as u32 {
        _ if id < 0 => Clock::of_cpu(id, true)?.now(),
        l::CLOCK_REALTIME | l::CLOCK_REALTIME_COARSE | l::CLOCK_TAI => timer::realtime_ns(),
        l::CLOCK_MONOTONIC | l::CLOCK_MONOTONIC_RAW | l::CLOCK_MONOTONIC_COARSE | l::CLOCK_BOOTTIME => timer::now_ns(),
        l::CLOCK_PROCESS_CPUTIME_ID => current().usage().total(),
        l::CLOCK_THREAD_CPUTIME_ID => sched::current().usage().total(),
        _ => return Err(EINVAL),
    })
}

/// `clock_gettime`
pub fn clock_gettime(r: &mut UserRegs) -> SysResult {
    let ns = read_clock(r.a0() as i32)?;
    store_timespec(r.a1(), ns)?;
    Ok(0)
}

/// `clock_getres`
pub fn clock_getres(r: &mut UserRegs) -> SysResult {
    let id = r.a0() as i32;
    read_clock(id)?;
    // The third kind of processor clock is the exact one.
    let by_ticks = id < 0 && id & 3 != 2;
    let coarse = by_ticks || matches!(id as u32, l::CLOCK_REALTIME_COARSE | l::CLOCK_MONOTONIC_COARSE);
    if r.a1() != 0 {
        store_timespec(r.a1(), if coarse { 4_000_000 } else { 1 })?;
    }
    Ok(0)
}

/// `clock_settime`: of the clocks that can be set at all, one is the machine's, and the others count.
pub fn clock_settime(r: &mut UserRegs) -> SysResult {
    let id = r.a0() as i32;
    if id > 0 {
        return Err(EINVAL);
    }
    let [seconds, nanoseconds] = UserPtr::<[i64; 2]>::new(r.a1()).read()?;
    if id < 0 {
        Clock::of_cpu(id, false)?;
    } else {
        check_time(seconds, nanoseconds)?;
    }
    Err(EPERM)
}

/// Whether a clock can be set to this: as on Linux, it must be able to count on for thirty years.
fn check_time(seconds: i64, nanoseconds: i64) -> Result<(), Errno> {
    const LAST: i64 = i64::MAX / SECOND as i64 - 30 * 365 * 24 * 3600;
    let fits = (0..LAST).contains(&seconds) && (0..SECOND as i64).contains(&nanoseconds);
    if fits { Ok(()) } else { Err(EINVAL) }
}

/// `settimeofday`: the clock is the machine's.
pub fn settimeofday(r: &mut UserRegs) -> SysResult {
    let mut to = None;
    if r.a0() != 0 {
        let [seconds, micros] = UserPtr::<[i64; 2]>::new(r.a0()).read()?;
        if !(0..1_000_000).contains(&micros) {
            return Err(EINVAL);
        }
        to = Some((seconds, micros * 1000));
    }
    if r.a1() != 0 {
        UserPtr::<[u32; 2]>::new(r.a1()).read()?;
    }
    to.map_or(Ok(()), |(seconds, nanoseconds)| check_time(seconds, nanoseconds))?;
    Err(EPERM)
}

/// What only the machine's owner could.
pub fn not_permitted(_: &mut UserRegs) -> SysResult {
    Err(EPERM)
}

/// Sleeps for `ns`; an interruption stores what is left.
fn sleep_for(ns: u64, left_at: usize) -> SysResult {
    let deadline = deadline_after(ns);
    let result = sleep_until(Some(deadline));
    if result.is_err() && left_at != 0 {
        store_timespec(left_at, deadline.saturating_sub(timer::now_ns()))?;
    }
    result.map(|()| 0)
}

/// `nanosleep`
pub fn nanosleep(r: &mut UserRegs) -> SysResult {
    sleep_for(read_timespec(r.a0())?, r.a1())
}

/// `clock_nanosleep`
pub fn clock_nanosleep(r: &mut UserRegs) -> SysResult {
    let (id, absolute) = (r.a0() as i32, r.a1() as u32 & l::TIMER_ABSTIME != 0);
    // Nobody sleeps until he himself has run.
    if id as u32 == l::CLOCK_THREAD_CPUTIME_ID {
        return Err(EOPNOTSUPP);
    }
    let clock = Clock::to_wait_for(id)?;
    let time = read_timespec(r.a2())?;
    match clock {
        Clock::Monotonic | Clock::Realtime if !absolute => sleep_for(time, r.a3()),
        Clock::Monotonic => sleep_until(Some(time)).map(|()| 0),
        Clock::Realtime => sleep_until(Some(from_realtime(time))).map(|()| 0),
        clock => clock.sleep(time, absolute).map(|()| 0).or_else(|(why, left)| {
            if why == EINTR && !absolute && r.a3() != 0 {
                store_timespec(r.a3(), left)?;
            }
            Err(why)
        }),
    }
}

/// `gettimeofday`
pub fn gettimeofday(r: &mut UserRegs) -> SysResult {
    let now = timer::realtime_ns();
    if r.a0() != 0 {
        UserPtr::<[u64; 2]>::new(r.a0()).write(to_timeval(now))?;
    }
    if r.a1() != 0 {
        UserPtr::<[u32; 2]>::new(r.a1()).write([0, 0])?;
    }
    Ok(0)
}

/// `time`
pub fn time(r: &mut UserRegs) -> SysResult {
    let seconds = timer::realtime_ns() / SECOND;
    UserPtr::<u64>::new(r.a0()).write_opt(seconds)?;
    Ok(seconds as usize)
}
