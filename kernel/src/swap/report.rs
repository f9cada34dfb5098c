//! What swapping tells: /proc/swaps, /proc/meminfo's part, counters under Linux's names.

use super::{area, bring, is_open, open_area, relief};
use crate::mem::memory;
use alloc::string::String;
use core::fmt::Write;
use core::sync::atomic::{AtomicU64, Ordering};
use quire_mm::Counter;

/// Pages of the open area and free ones among them; zeros if none is open.
pub fn pages() -> (u64, u64) {
    let Some(area) = open_area() else { return (0, 0) };
    let usable = area::usable();
    (usable, area.free_slots().min(usable))
}

/// Pages that are in memory and in a slot, or on their way.
pub fn cached() -> u64 {
    open_area().map_or(0, |area| area.census().cached)
}

/// /proc/swaps
pub fn swaps() -> String {
    let mut out = String::from("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n");
    if is_open() {
        let (total, free) = pages();
        let (size, used) = (total * 4, (total - free) * 4);
        let _ = writeln!(out, "/dev/vda                                partition\t{size}\t\t{used}\t\t-2");
    }
    out
}

/// Calls `put` with each counter that Linux has, under Linux's name.
fn linux(mut put: impl FnMut(&str, u64)) {
    let get = |c: &AtomicU64| c.load(Ordering::Relaxed);
    put("pgfault", memory().stats.get(Counter::Fault));
    put("pgmajfault", get(&bring::MAJOR));
    put("allocstall", get(&relief::STALLS));
    put("pgscan", get(&relief::SCANNED));
    put("pgsteal", get(&relief::STOLEN));
    let stats = super::area().map(|area| &area.stats);
    let of = |pick: fn(&quire_swapd::swap::Stats) -> &AtomicU64| stats.map_or(0, |s| get(pick(s)));
    put("pswpin", of(|s| &s.read));
    put("pswpout", of(|s| &s.written));
    put("swap_ra", of(|s| &s.ahead));
    put("swap_ra_hit", of(|s| &s.ahead_hits));
}

/// /proc/vmstat
pub fn vmstat() -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    let _ = writeln!(out, "nr_free_pages {}", memory().free_frames());
    linux(|name, value| _ = writeln!(out, "{name} {value}"));
    out
}

/// Counters as `name value` lines: Linux's, then those of the area, if there ever was one.
pub fn counters(out: &mut String) {
    let mut put = |name: &str, value: u64| _ = writeln!(out, "{name} {value}");
    linux(&mut put);
    let Some(area) = super::area() else { return };
    let get = |c: &AtomicU64| c.load(Ordering::Relaxed);
    put("swap_taken_back", get(&area.stats.taken_back));
    put("swap_read_errors", get(&area.stats.read_errors));
    put("swap_write_errors", get(&area.stats.write_errors));
    let c = area.census();
    put("swap_slots", c.total);
    put("swap_slots_free", c.free);
    put("swap_slots_bad", c.bad);
    put("swap_slots_held", c.holds);
    put("swap_cached", c.cached);
}
