//! Which space gives pages next: one process after the other, each from where its last scan ended.

use super::relief;
use crate::fs::regular::each_written;
use crate::mem::memory;
use crate::proc::tree;
use crate::proc::{Memory, process::Process};
use alloc::sync::Arc;
use core::ops::Bound;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use quire_mm::{ObjectRef, Page};
use quire_swapd::daemon::Reclaim;

/// Pages that one process gives before the next one is asked.
const TURN: u64 = 64;
/// The process that was asked last.
static LAST: AtomicU32 = AtomicU32::new(0);

/// The page tables of all processes.
pub struct Scan;

impl Reclaim for Scan {
    fn free_frames(&self) -> u64 {
        memory().free_frames()
    }

    fn evict(&self, want: u64, round: u32) -> u64 {
        // ordering: Relaxed; two scans may begin at the same process.
        let first = LAST.load(Ordering::Relaxed);
        let (mut after, mut wrapped, mut gone) = (first, false, 0);
        while gone < want {
            let Some(process) = next(after) else {
                if wrapped {
                    break;
                }
                (after, wrapped) = (0, true);
                continue;
            };
            if wrapped && process.pid > first {
                break;
            }
            after = process.pid;
            LAST.store(after, Ordering::Relaxed);
            let shared = process.memory.lock().clone();
            let Some(shared) = shared else { continue };
            gone += from_one(&shared, (want - gone).min(TURN), round);
            if wrapped && after == first {
                break;
            }
        }
        if gone < want {
            gone += from_files(want - gone);
        }
        gone
    }
}

/// The process with the next higher number.
fn next(after: u32) -> Option<Arc<Process>> {
    let range = (Bound::Excluded(after), Bound::Unbounded);
    tree::lock().processes.range(range).next().map(|(_, p)| p.clone())
}

fn from_one(shared: &Arc<Memory>, want: u64, round: u32) -> u64 {
    // ordering: Relaxed; a place to begin, no more.
    let mut cursor = Page(shared.scan_cursor.load(Ordering::Relaxed));
    let done = shared.space.evict(want, round, &mut cursor);
    shared.scan_cursor.store(cursor.0, Ordering::Relaxed);
    relief::scanned(&done);
    done.pages
}

/// Pages of files that nobody maps: memfds that are read and written only.
fn from_files(want: u64) -> u64 {
    static FILE: AtomicU64 = AtomicU64::new(0);
    static PAGE: AtomicU64 = AtomicU64::new(0);
    let mut gone = 0;
    // ordering: Relaxed; places to begin, no more.
    let first = FILE.load(Ordering::Relaxed);
    let mut see = |ino: u64, object: &ObjectRef| {
        let mut cursor = if FILE.swap(ino, Ordering::Relaxed) == ino { PAGE.load(Ordering::Relaxed) } else { 0 };
        gone += memory().evict_object(object, want - gone, &mut cursor);
        PAGE.store(cursor, Ordering::Relaxed);
        if gone >= want { Err(()) } else { Ok(()) }
    };
    // The file that gave last is asked again first; then all others.
    if each_written(first.saturating_sub(1), &mut see).is_ok() && first != 0 {
        let _ = each_written(0, &mut see);
    }
    gone
}
