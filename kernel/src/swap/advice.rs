//! What programs say about their pages: cold, out, soon needed.

use super::above::is_dying;
use super::{area, open_area, relief};
use crate::mem::Space;
use quire_mm::{Page, PageRange, Slot};
use quire_swapd::policy::MOST_AHEAD;

/// MADV_PAGEOUT: the pages go out now. Their writes are under way when this returns, not done.
pub fn page_out(space: &Space, range: PageRange) {
    let Some(area) = open_area() else { return };
    relief::scanned(&space.page_out(range));
    area.write_out();
}

/// MADV_COLD: the pages are the first to go.
pub fn cool(space: &Space, range: PageRange) {
    if open_area().is_some() {
        space.cool(range);
    }
}

/// MADV_WILLNEED: reads what is swapped, and does not wait.
pub fn will_need(space: &Space, range: PageRange) {
    let Some(area) = area() else { return };
    let piece = MOST_AHEAD as u64 + 1;
    let mut rest = range;
    // Programs may name a range of terabytes: what is not there is passed over, and what is may take long.
    while let Some(first) = space.first_kept(rest) {
        let mut slots = [Slot(0); MOST_AHEAD as usize + 1];
        let pages = piece.min(rest.end.0 - first.0);
        let n = PageRange::new(first, pages).map_or(0, |r| space.swapped_near(r, &mut slots));
        // Only a hint: a full disk or few frames end it.
        if n != 0 && area.read(slots[0], &slots[1..n]).is_err() {
            return;
        }
        let next = Page(first.0 + pages);
        let Some(behind) = PageRange::new(next, rest.end.0 - next.0) else { return };
        rest = behind;
        quire_arch::interrupt_window();
        if is_dying() {
            return;
        }
    }
}
