//! What swapping tells: /proc/swaps, /proc/meminfo's part, counters under Linux's names.

use super::{area, bring, is_open, open_area, relief};
use crate::mem::memory;
use alloc::string::String;
use core::fmt::Write;
use core::sync::atomic::Ordering;
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

/// Counters as `name value` lines; nothing if there never was an area.
pub fn counters(out: &mut String) {
    let get = |c: &core::sync::atomic::AtomicU64| c.load(Ordering::Relaxed);
    let mut put = |name: &str, value: u64| _ = writeln!(out, "{name} {value}");
    put("pgfault", memory().stats.get(Counter::Fault));
    put("pgmajfault", get(&bring::MAJOR));
    let Some(area) = super::area() else { return };
    let s = &area.stats;
    put("pswpin", get(&s.read));
    put("pswpout", get(&s.written));
    put("allocstall", get(&relief::STALLS));
    put("pgscan", get(&relief::SCANNED));
    put("pgsteal", get(&relief::STOLEN));
    put("swap_ra", get(&s.ahead));
    put("swap_ra_hit", get(&s.ahead_hits));
    put("swap_taken_back", get(&s.taken_back));
    put("swap_read_errors", get(&s.read_errors));
    put("swap_write_errors", get(&s.write_errors));
    let c = area.census();
    put("swap_slots", c.total);
    put("swap_slots_free", c.free);
    put("swap_slots_bad", c.bad);
    put("swap_slots_held", c.holds);
    put("swap_cached", c.cached);
}
