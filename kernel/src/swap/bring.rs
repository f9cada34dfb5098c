//! A fault that needs what a slot has: read it with its neighbours, wait, fault again.

use super::above::{gives_up, is_dying};
use super::daemon::marks;
use super::shortage::wait_for_frames;
use super::{Area, area, disk, host, poll};
use crate::mem::{Space, memory};
use core::sync::atomic::{AtomicU64, Ordering};
use quire_base::wait::Wait;
use quire_mm::{Page, PageRange, Slot, What};
use quire_sched::{self as sched, timer};
use quire_swapd::ReadError;
use quire_swapd::policy::{MOST_AHEAD, Pressure, Readahead};

/// How long to wait before looking whether the disk lives and the thread shall.
const LOOK: u64 = 50_000_000;

/// Faults that had to read.
pub static MAJOR: AtomicU64 = AtomicU64::new(0);

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Brought {
    /// Fault again.
    Again,
    /// The disk has failed for good (SIGBUS).
    Lost,
    /// The thread is being killed, or there is no memory for it: give up.
    Dying,
}

/// Brings the content of `slot`, which the entry of `page` in `space` names, into memory, with what lies near.
pub fn bring(space: &Space, page: Page, slot: Slot) -> Brought {
    let mut ahead = [Slot(0); MOST_AHEAD as usize];
    let wanted = area().is_some_and(|area| area.wants_read(slot));
    if wanted {
        sched::current().count_major_fault();
    }
    let n = if wanted { neighbours(space, page, &mut ahead) } else { 0 };
    read_and_wait(slot, &ahead[..n])
}

/// Brings the content of `slot` into memory, or waits for what is under way with it; reads those of `ahead` with it.
pub fn read_and_wait(slot: Slot, ahead: &[Slot]) -> Brought {
    let Some(area) = area() else { return Brought::Lost };
    static PLACE: What = What { text: "a place in the disk's queue", show: |slot, f| write!(f, "slot {slot}") };
    let mut wait_place = Wait::new(&PLACE);
    while area.wants_read(slot) {
        match area.read(slot, ahead) {
            Ok(()) => {
                MAJOR.fetch_add(1, Ordering::Relaxed);
                break;
            }
            Err(ReadError::OutOfFrames) if wait_for_frames() && !is_dying() => {}
            Err(ReadError::OutOfFrames) => return Brought::Dying,
            Err(ReadError::Full) => {
                // Interrupts bring completions.
                wait_place.pause(slot.0.into());
                poll();
            }
            Err(ReadError::Dead) => {}
        }
        if gives_up() {
            return Brought::Dying;
        }
        if disk::is_dead() {
            return Brought::Lost;
        }
    }
    wait(area, slot)
}

fn wait(area: &Area, slot: Slot) -> Brought {
    while host::queue(slot).wait(Some(timer::now_ns() + LOOK), false, || (!area.is_busy(slot)).then_some(())).is_err() {
        if gives_up() {
            return Brought::Dying;
        }
        poll();
        if disk::is_dead() {
            return Brought::Lost;
        }
    }
    Brought::Again
}

/// The slots to read together with that of `page`: its neighbours in the space, more of them the better the last guesses were.
fn neighbours(space: &Space, page: Page, out: &mut [Slot]) -> usize {
    let word = &sched::current().readahead;
    // ordering: Relaxed; the thread's own.
    let (range, next) = Readahead(word.load(Ordering::Relaxed)).read(page.0);
    word.store(next.0, Ordering::Relaxed);
    // What is read ahead must not take the frames that are needed now.
    if marks().pressure(memory().free_frames()) == Pressure::Direct {
        return 0;
    }
    PageRange::new(Page(range.start), range.end - range.start).map_or(0, |range| space.swapped_near(range, out))
}
