//! Which space gives pages next: one after the other, however many processes share it, each from where its last scan ended.

use super::above::{Owner, each_written, next_owner};
use super::relief;
use crate::mem::memory;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use quire_base::errno::EINTR;
use quire_base::wait::Wait;
use quire_mm::{ObjectRef, Page, What};
use quire_swapd::daemon::Reclaim;

/// Links that go at once when the area is full: as many slots, if nobody else holds them.
const LINKS: u64 = 256;
/// Pages that one space gives before the next one is asked.
const TURN: u64 = 64;
/// The space that was asked last.
static LAST: AtomicU64 = AtomicU64::new(0);

/// The page tables of all spaces.
pub struct Scan;

impl Reclaim for Scan {
    fn free_frames(&self) -> u64 {
        memory().free_frames()
    }

    fn evict(&self, want: u64, round: u32) -> u64 {
        let Some(_busy) = Busy::begin() else { return 0 };
        // ordering: Relaxed; two scans may begin at the same space.
        let first = LAST.load(Ordering::Relaxed);
        let (mut after, mut wrapped, mut gone) = (first, false, 0);
        while gone < want {
            let Some((id, owner)) = next_owner(after) else {
                if wrapped {
                    break;
                }
                (after, wrapped) = (0, true);
                continue;
            };
            if wrapped && id > first {
                break;
            }
            after = id;
            LAST.store(after, Ordering::Relaxed);
            if let Some(owner) = owner.filter(|owner| owner.space().is_ready()) {
                gone += from_one(&*owner, (want - gone).min(TURN), round);
            }
        }
        if gone < want {
            gone += from_files(want - gone);
        }
        gone
    }
}

/// The area is full: slots that only remember that the disk has a page of memory, too, are of more use for others. True: some
/// are free now.
fn break_links() -> bool {
    memory().break_links(LINKS);
    super::open_area().is_some_and(|area| area.free_hint() != 0)
}

fn from_one(owner: &dyn Owner, want: u64, round: u32) -> u64 {
    // ordering: Relaxed; a place to begin, no more.
    let mut cursor = Page(owner.scan_cursor().load(Ordering::Relaxed));
    let mut done = owner.space().evict(want, round, &mut cursor);
    if done.full && break_links() {
        relief::scanned(&done);
        done = owner.space().evict(want, round, &mut cursor);
    }
    owner.scan_cursor().store(cursor.0, Ordering::Relaxed);
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
        if gone >= want { Err(EINTR) } else { Ok(()) }
    };
    // The file that gave last is asked again first; then all others.
    if each_written(first.saturating_sub(1), &mut see).is_ok() && first != 0 {
        let _ = each_written(0, &mut see);
    }
    gone
}

/// Scans under way, which hold processes and their memory.
static BUSY: AtomicU64 = AtomicU64::new(0);
/// Someone counts everything: no scan begins.
static QUIET: AtomicBool = AtomicBool::new(false);

/// A scan.
struct Busy;

impl Busy {
    fn begin() -> Option<Busy> {
        // ordering: SeqCst here and in `quiet`: one writes BUSY and reads QUIET, the other the other way round.
        BUSY.fetch_add(1, Ordering::SeqCst);
        let busy = Busy;
        (!QUIET.load(Ordering::SeqCst)).then_some(busy)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        BUSY.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Ends all scans and lets none begin, or lets them begin again.
pub fn quiet(on: bool) {
    QUIET.store(on, Ordering::SeqCst);
    static SCANS: What = What { text: "the end of all scans", show: |n, f| write!(f, "{n} left") };
    let mut wait = Wait::new(&SCANS);
    while on && BUSY.load(Ordering::SeqCst) != 0 {
        wait.pause(BUSY.load(Ordering::SeqCst));
    }
}
