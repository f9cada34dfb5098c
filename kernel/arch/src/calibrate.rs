//! How fast the time stamp counter and the APIC's timer run.

use super::boot;
use quire_base::time::{self, Measured};
use quire_drivers::clock::{self, Reference};

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
    let (ns, ticks) = (reference.elapsed_ns(from, to), to.tsc.wrapping_sub(from.tsc));
    time::begin(Measured { start: boot::entry_tsc(), ns, ticks, apic });
    time::set_calendar(clock::calendar());
}
