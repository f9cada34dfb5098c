//! Times in a program's memory.

use super::user::{UserPtr, plain};
use quire_base::errno::Errno;
use quire_base::{time, units};

/// Linux's `timespec`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}
plain!(Timespec);

/// A `timespec`, in nanoseconds.
pub fn read_timespec(at: usize) -> Result<u64, Errno> {
    let t = UserPtr::<Timespec>::new(at).read()?;
    units::from_timespec(t.seconds, t.nanoseconds)
}

/// A time-out that may be absent (NULL), in nanoseconds.
pub fn read_timeout(at: usize) -> Result<Option<u64>, Errno> {
    if at == 0 { Ok(None) } else { read_timespec(at).map(Some) }
}

/// An `itimerspec`: interval and value.
pub fn read_setting(at: usize) -> Result<(u64, u64), Errno> {
    // Both halves can be read, or none is.
    UserPtr::<[u64; 4]>::new(at).read()?;
    Ok((read_timespec(at)?, read_timespec(at + 16)?))
}

/// A `timeval` that may be absent, in nanoseconds.
pub fn read_timeval(at: usize) -> Result<Option<u64>, Errno> {
    if at == 0 {
        return Ok(None);
    }
    let [seconds, micros] = UserPtr::<[i64; 2]>::new(at).read()?;
    units::from_timeval(seconds, micros).map(Some)
}

/// Stores nanoseconds as a `timespec`.
pub fn store_timespec(at: usize, ns: u64) -> Result<(), Errno> {
    let [seconds, nanoseconds] = units::to_timespec(ns);
    UserPtr::<Timespec>::new(at).write(Timespec { seconds, nanoseconds })
}

/// A point of the real-time clock as one of the monotonic clock.
pub fn from_realtime(at: u64) -> u64 {
    at.saturating_sub(time::realtime_ns().saturating_sub(time::now_ns()))
}
