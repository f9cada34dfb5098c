//! The time stamp counter as the monotonic clock. The machine measures it once at boot; until then no time passes.

use core::arch::x86_64::_rdtsc;
use core::sync::atomic::{AtomicU64, Ordering};

/// Nanoseconds per tick, as a fraction of 2^32.
static MULTIPLIER: AtomicU64 = AtomicU64::new(0);
/// The counter at boot.
static START: AtomicU64 = AtomicU64::new(0);
/// APIC timer ticks per millisecond.
static APIC_PER_MS: AtomicU64 = AtomicU64::new(0);
/// Nanoseconds from 1970 to boot.
static EPOCH: AtomicU64 = AtomicU64::new(0);

/// The time stamp counter.
#[inline]
pub fn tsc() -> u64 {
    // SAFETY: the counter is readable in the kernel.
    unsafe { _rdtsc() }
}

/// Nanoseconds since the first instruction of the kernel. 0 until [`begin`].
#[inline]
pub fn now_ns() -> u64 {
    at_ns(tsc())
}

/// As [`now_ns`], of a moment at which the counter was read.
#[inline]
pub fn at_ns(tsc: u64) -> u64 {
    // ordering: Relaxed; the values are written before other CPUs and threads run and never again.
    let ticks = tsc.wrapping_sub(START.load(Ordering::Relaxed));
    // A CPU whose counter lags behind the boot CPU's at boot must not see a huge time.
    length_ns(if ticks > 1 << 63 { 0 } else { ticks })
}

/// Nanoseconds of so many ticks of the counter.
#[inline]
pub fn length_ns(ticks: u64) -> u64 {
    // ordering: Relaxed; as above.
    ((ticks as u128 * MULTIPLIER.load(Ordering::Relaxed) as u128) >> 32) as u64
}

/// Nanoseconds since 1970.
pub fn realtime_ns() -> u64 {
    // ordering: Relaxed; as above.
    EPOCH.load(Ordering::Relaxed) + now_ns()
}

/// APIC timer ticks for `ns` nanoseconds, at least 1.
#[inline]
pub fn apic_ticks(ns: u64) -> u32 {
    // ordering: Relaxed; as above.
    let ticks = (ns.min(1_000_000_000) as u128 * APIC_PER_MS.load(Ordering::Relaxed) as u128) / 1_000_000;
    (ticks as u64).clamp(1, u32::MAX as u64) as u32
}

/// What the machine has measured over a while.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// The counter at boot.
    pub start: u64,
    /// The while, in nanoseconds.
    pub ns: u64,
    /// Ticks of the counter in it.
    pub ticks: u64,
    /// Ticks of the APIC timer in it.
    pub apic: u32,
}

/// From now on time passes. Called once, by the boot CPU.
pub fn begin(measured: Measured) {
    let Measured { start, ns, ticks, apic } = measured;
    let ns = ns.max(1);
    // ordering: Relaxed; nobody else runs yet.
    START.store(start, Ordering::Relaxed);
    MULTIPLIER.store(((ns as u128) << 32).wrapping_div(ticks.max(1) as u128) as u64, Ordering::Relaxed);
    APIC_PER_MS.store((apic as u64 * 1_000_000 / ns).max(1), Ordering::Relaxed);
}

/// It is now so many seconds after the beginning of 1970.
pub fn set_calendar(seconds: u64) {
    // ordering: Relaxed; as above.
    EPOCH.store((seconds * 1_000_000_000).saturating_sub(now_ns()), Ordering::Relaxed);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const START: u64 = 1 << 40;

    /// The clock of all tests: 2.5 ticks a nanosecond, from a moment that is long past.
    pub(crate) fn begin_test() {
        begin(Measured { start: START, ns: 10_000_000, ticks: 25_000_000, apic: 625_000 });
    }

    #[test]
    fn ticks_become_nanoseconds() {
        begin_test();
        assert!(length_ns(2_500_000_000).abs_diff(1_000_000_000) <= 1);
        // A hundred years, to a millionth.
        let years = 100 * 365 * 86_400 * 1_000_000_000;
        assert!(length_ns(years / 2 * 5).abs_diff(years) < years / 1_000_000);
        assert_eq!(at_ns(START), 0);
        assert_eq!(at_ns(START - 1000), 0, "a counter that lags behind the boot CPU's");
    }

    #[test]
    fn the_timer_counts_at_least_one_tick_and_at_most_a_second() {
        begin_test();
        assert_eq!(
            [0, 1, 16, 1_000_000, 1_000_000_000, u64::MAX].map(apic_ticks),
            [1, 1, 1, 62_500, 62_500_000, 62_500_000]
        );
    }

    #[test]
    fn the_calendar_counts_on() {
        begin_test();
        set_calendar(1_800_000_000);
        let now = realtime_ns();
        assert!((1_800_000_000_000_000_000..1_800_000_600_000_000_000).contains(&now), "{now}");
    }
}
