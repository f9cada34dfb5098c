//! Units of time: nanoseconds from and to what programs pass.

use crate::errno::{EINVAL, Errno};

/// Nanoseconds of a second.
pub const SECOND: u64 = 1_000_000_000;
/// Nanoseconds of a clock tick of `times` and /proc (AT_CLKTCK is 100).
pub const TICK: u64 = 10_000_000;

/// Nanoseconds of a `timespec`; as many as there are, where it is later than that.
pub fn from_timespec(seconds: i64, nanoseconds: i64) -> Result<u64, Errno> {
    if seconds < 0 || !(0..SECOND as i64).contains(&nanoseconds) {
        return Err(EINVAL);
    }
    Ok((seconds as u64).saturating_mul(SECOND).saturating_add(nanoseconds as u64))
}

/// A `timespec` of so many nanoseconds.
pub fn to_timespec(ns: u64) -> [i64; 2] {
    [(ns / SECOND) as i64, (ns % SECOND) as i64]
}

/// Nanoseconds of a `timeval` whose microseconds may be more than a second.
pub fn from_timeval(seconds: i64, micros: i64) -> Result<u64, Errno> {
    if seconds < 0 || micros < 0 {
        return Err(EINVAL);
    }
    Ok((seconds as u64).saturating_mul(SECOND).saturating_add((micros as u64).saturating_mul(1000)))
}

/// As [`from_timeval`], where they may not.
pub fn from_whole_timeval(seconds: i64, micros: i64) -> Result<u64, Errno> {
    if micros < 1_000_000 { from_timeval(seconds, micros) } else { Err(EINVAL) }
}

/// A `timeval` of so many nanoseconds.
pub fn to_timeval(ns: u64) -> [u64; 2] {
    [ns / SECOND, ns % SECOND / 1000]
}

/// What `alarm` tells of a time that is left: the nearest second, but never none.
pub fn alarm_seconds(left: u64) -> u64 {
    let whole = left / SECOND + u64::from(left % SECOND >= SECOND / 2);
    if left > 0 { whole.max(1) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timespec_has_less_than_a_second_of_nanoseconds() {
        assert_eq!(from_timespec(2, 5), Ok(2 * SECOND + 5));
        assert_eq!(from_timespec(0, 999_999_999), Ok(SECOND - 1));
        for (seconds, nanoseconds) in [(-1, 0), (0, -1), (0, 1_000_000_000), (i64::MIN, i64::MIN)] {
            assert_eq!(from_timespec(seconds, nanoseconds), Err(EINVAL));
        }
        assert_eq!(from_timespec(i64::MAX, 0), Ok(u64::MAX), "as late as can be");
        assert_eq!(from_timespec((u64::MAX / SECOND) as i64, 999_999_999), Ok(u64::MAX));
    }

    #[test]
    fn a_timespec_comes_back() {
        for ns in [0, 1, SECOND - 1, SECOND, 7 * SECOND + 13, u64::MAX] {
            let [seconds, nanoseconds] = to_timespec(ns);
            assert_eq!(from_timespec(seconds, nanoseconds), Ok(ns));
        }
    }

    #[test]
    fn some_calls_take_more_than_a_second_of_microseconds() {
        assert_eq!(from_timeval(1, 2_500_000), Ok(3 * SECOND + SECOND / 2));
        assert_eq!(from_whole_timeval(1, 2_500_000), Err(EINVAL));
        assert_eq!(from_whole_timeval(1, 999_999), Ok(2 * SECOND - 1000));
        assert_eq!([from_timeval(-1, 0), from_timeval(0, -1), from_whole_timeval(0, -1)], [Err(EINVAL); 3]);
        assert_eq!(from_timeval(0, i64::MAX), Ok(u64::MAX));
        assert_eq!(to_timeval(3 * SECOND + 1999), [3, 1]);
    }

    #[test]
    fn an_alarm_that_is_set_never_tells_0() {
        let half = SECOND / 2;
        assert_eq!([0, 1, half, SECOND + half - 1, SECOND + half].map(alarm_seconds), [0, 1, 1, 1, 2]);
    }
}
