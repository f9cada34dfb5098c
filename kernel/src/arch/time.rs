//! The time stamp counter as the monotonic clock.

use core::sync::atomic::{AtomicU64, Ordering};
use quire_drivers::clock::{self, Reference};
use x86::time::rdtsc;

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
    unsafe { rdtsc() }
}

/// Nanoseconds since the first instruction of the kernel. 0 until [`calibrate`].
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

/// Measures the counter and this CPU's APIC timer (`timer_left` after it was started with all ones) for 10 ms, and
/// reads the calendar.
pub fn calibrate(pm_timer: Option<u16>, start_timer: impl FnOnce(), timer_left: impl FnOnce() -> u32) {
    let reference = pm_timer.map_or(Reference::Pit, Reference::PmTimer);
    reference.start();
    start_timer();
    let from = reference.sample();
    let mut to = reference.sample();
    while reference.elapsed_ns(from, to) < 10_000_000 {
        to = reference.sample();
    }
    let apic = u32::MAX - timer_left();
    let ns = reference.elapsed_ns(from, to).max(1);
    let ticks = to.tsc.wrapping_sub(from.tsc).max(1);
    // ordering: Relaxed; nobody else runs yet.
    START.store(super::boot::entry_tsc(), Ordering::Relaxed);
    MULTIPLIER.store(((ns as u128) << 32).wrapping_div(ticks as u128) as u64, Ordering::Relaxed);
    APIC_PER_MS.store((apic as u64 * 1_000_000 / ns).max(1), Ordering::Relaxed);
    EPOCH.store((clock::calendar() * 1_000_000_000).saturating_sub(now_ns()), Ordering::Relaxed);
}
