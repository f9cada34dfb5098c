//! The audit of a machine at rest: every frame accounted for.

use crate::mem::{Space, memory};
use alloc::sync::Arc;
use alloc::vec::Vec;
use quire_base::cpu;
use quire_mm::{Machine, Report};

/// Audits all of memory while `spaces` are the only ones alive and nobody runs in them. `Err`: no memory for the counters.
pub fn audit(spaces: &[Arc<Space>]) -> Result<Report, ()> {
    let m = memory();
    let mut counts: Vec<u32> = Vec::new();
    counts.try_reserve_exact(m.machine.frame_words().len()).map_err(|_| ())?;
    counts.resize(m.machine.frame_words().len(), 0);
    crate::swap::daemon::settle();
    m.set_quiet(true);
    // Twice: what the first round retires needs another grace period.
    for _ in 0..3 {
        m.drain_all(cpu::online());
    }
    let mut report = m.audit(spaces.iter().map(|s| &***s), &mut counts);
    if crate::swap::disk::is_dead() {
        // What a dead disk was asked for stays its own: a hold, and a frame that the slots account for.
        let flying = crate::swap::area().map_or(0, |area| area.census().busy);
        report.slots_wrong = report.slots_wrong.abs_diff(flying);
    }
    m.set_quiet(false);
    crate::swap::daemon::unsettle();
    Ok(report)
}
