//! What programs say about their pages: cold, out, soon needed.

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
    let mut at = range.start.0;
    while at < range.end.0 {
        let mut slots = [Slot(0); MOST_AHEAD as usize + 1];
        let pages = piece.min(range.end.0 - at);
        let n = PageRange::new(Page(at), pages).map_or(0, |r| space.swapped_near(r, &mut slots));
        // Only a hint: a full disk or few frames end it.
        if n != 0 && area.read(slots[0], &slots[1..n]).is_err() {
            return;
        }
        at += pages;
    }
}
