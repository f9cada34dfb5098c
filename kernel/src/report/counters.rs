//! The kernel's counters as `name value` lines: for `--stats`, and for programs in /proc/quire.

use crate::mem::memory;
use alloc::string::String;
use core::fmt::Write;
use quire_arch::stack;
use quire_mm::Report;
use quire_sched as sched;

/// All counters as they are now. Their sums are exact only when nothing else runs.
pub fn text() -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    memory().each_counter(|name, value| _ = writeln!(out, "{name} {value}"));
    sched::poll::each_counter(|name, value| _ = writeln!(out, "{name} {value}"));
    crate::swap::report::counters(&mut out);
    out
}

/// Frames by state, as an audit found them.
pub fn frames(report: &Report) -> String {
    let mut out = String::new();
    for (name, value) in [
        ("frames_total", report.total),
        ("frames_free", report.free),
        ("frames_pages", report.pages),
        ("frames_tables", report.tables),
        ("frames_objects", report.object_frames),
        ("frames_slabs", report.slabs),
        ("frames_kernel", report.kernel),
        ("objects", report.objects),
        ("kernel_stack_peak_bytes", stack::peak()),
    ] {
        let _ = writeln!(out, "{name} {value}");
    }
    out
}
