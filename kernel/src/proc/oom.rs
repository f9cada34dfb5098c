//! When memory is gone: the largest process ends, with all that share its space.

use super::process::{Ended, Process};
use super::signal::SIGKILL;
use super::{Memory, exit, info_name, tree};
use alloc::sync::Arc;
use log::warn;

/// Ends the process with the most resident pages. False: there is none.
pub fn end_largest() -> bool {
    let mut largest: Option<(u64, Arc<Process>, Arc<Memory>)> = None;
    let all = tree::living(|_, _| true);
    for process in &all {
        let memory = process.memory.lock().clone();
        let Some(memory) = memory else { continue };
        let size = memory.space.resident();
        if largest.as_ref().is_none_or(|(s, ..)| size > *s) {
            largest = Some((size, process.clone(), memory));
        }
    }
    let Some((size, victim, memory)) = largest else { return false };
    warn!("out of memory: ending process {} ({}), {} KiB resident", victim.pid, info_name(&victim), size * 4);
    for process in all {
        let shares = process.memory.lock().as_ref().is_some_and(|m| Arc::ptr_eq(m, &memory));
        if shares {
            exit::end_process(&process, Ended::Killed(SIGKILL));
        }
    }
    true
}
