//! swapoff: everything comes back into memory, then the area is closed. If it does not fit, nothing is lost and the area stays open.

use super::above::{each_written, is_dying, next_owner};
use super::area::{ADMIN, usable};
use super::bring::{self, Brought};
use super::daemon::marks;
use super::{Area, OPEN, area, disk, is_open, poll};
use crate::mem::{Space, memory};
use core::sync::atomic::Ordering;
use quire_base::errno::*;
use quire_base::wait::Wait;
use quire_mm::{Back, Page, PageRange, Slot, What};

/// Pages that come back with one read.
const AHEAD: u64 = 32;
/// Rounds over all spaces: each that forks meanwhile may cost another one.
const ROUNDS: u32 = 64;

static UNDER_WAY: What = What { text: "the disk's last answers", show: |n, f| write!(f, "{n} pages under way") };
static EDIT: What = What { text: "an edit or a scan of the space", show: |page, f| write!(f, "page {page:#x}") };

/// Empties and closes the area.
pub fn close() -> Result<(), Errno> {
    let _admin = ADMIN.lock();
    let (true, Some(area)) = (is_open(), area()) else { return Err(EINVAL) };
    // As Linux: what can be seen beforehand not to fit is refused at once.
    let used = usable().saturating_sub(area.free_slots());
    if used + marks().min > memory().free_frames() + area.census().cached {
        return Err(ENOMEM);
    }
    area.set_open(false);
    // ordering: Relaxed; a hint for reclaim, the area's own map refuses.
    OPEN.store(false, Ordering::Relaxed);
    match empty(area) {
        Ok(()) => {
            log::info!("swap: closed");
            Ok(())
        }
        Err(why) => {
            area.set_open(true);
            OPEN.store(true, Ordering::Relaxed);
            Err(why)
        }
    }
}

/// Brings back what the closed area has.
fn empty(area: &Area) -> Result<(), Errno> {
    let mut lost = 0;
    for _ in 0..ROUNDS {
        let mut after = 0;
        while let Some((id, owner)) = next_owner(after) {
            after = id;
            // One that a fork fills has its turn in the next round.
            if let Some(owner) = owner.filter(|owner| owner.space().is_ready()) {
                empty_space(owner.space(), &mut lost)?;
            }
        }
        each_written(0, &mut |_, object| empty_object(object, &mut lost))?;
        memory().break_links(u64::MAX);
        let mut wait = Wait::new(&UNDER_WAY);
        loop {
            let (trimmed, busy) = (area.trim(1 << 16, true), area.census().busy);
            if trimmed == 0 && busy == 0 {
                break;
            }
            // What a dead disk has begun never ends.
            if is_dying() || disk::is_dead() {
                return Err(if is_dying() { EINTR } else { EIO });
            }
            poll();
            wait.pause(busy);
        }
        if area.is_empty() {
            return Ok(());
        }
        // Pages that cannot be read stay where they are.
        if lost != 0 {
            return Err(EIO);
        }
    }
    Err(EBUSY)
}

fn empty_space(space: &Space, lost: &mut u64) -> Result<(), Errno> {
    let mut cursor = Page(0);
    let mut wait = Wait::new(&EDIT);
    loop {
        match space.bring_back(&mut cursor, lost) {
            Back::Done => return Ok(()),
            Back::Busy if is_dying() => return Err(EINTR),
            Back::Busy => {
                poll();
                wait.pause(cursor.0);
            }
            Back::Wait(slot) => {
                wait = Wait::new(&EDIT);
                let mut ahead = [Slot(0); AHEAD as usize];
                let n = PageRange::new(cursor, AHEAD).map_or(0, |near| space.swapped_near(near, &mut ahead));
                come(slot, &ahead[..n])?;
            }
        }
    }
}

fn empty_object(object: &quire_mm::Object, lost: &mut u64) -> Result<(), Errno> {
    let mut next = 0;
    while let Some(index) = memory().next_object_page(object, next) {
        next = index + 1;
        while let Back::Wait(slot) = memory().bring_object_back(object, index, lost) {
            come(slot, &[])?;
        }
    }
    Ok(())
}

fn come(slot: Slot, ahead: &[Slot]) -> Result<(), Errno> {
    // The caller may be killed; nothing is lost then.
    if is_dying() {
        return Err(EINTR);
    }
    // The last frames are for those who need them: a swapoff is no reason to kill anybody.
    if memory().free_frames() < marks().min {
        memory().drain_all(quire_base::cpu::online());
        if memory().free_frames() < marks().min {
            return Err(ENOMEM);
        }
    }
    match bring::read_and_wait(slot, ahead) {
        Brought::Again => Ok(()),
        Brought::Lost => Err(EIO),
        Brought::Dying => Err(ENOMEM),
    }
}
