//! A swap area at work: eviction (`evict`), taking back and reading (`bring`), writing out (`write`); here the area itself, the
//! references to its slots, trimming, and what is done with a slot's last reference.
//!
//! The life of an evicted page, and who calls what:
//!
//! ```text
//!  evictor   reserve(frame) -> slot          the slot is leaving, its cached frame is the page's
//!            entry: Page -> Swapped(slot)    (changed meanwhile: unreserve)
//!            .. shootdown of the batch ..
//!            answered(slot)                  the slot may be used; its content waits to be written
//!            write_out()                     neighbours go out together
//!  disk      poll()                          written: the frame is free, or linked if somebody maps it again
//!  fault     take(slot, entry unchanged?)    -> Page: install it copy-on-write, then installed()
//!                                            -> Read: leave the window, read(slot, neighbours), wait, begin again
//! ```
//!
//! *Cached or linked, never both.* While a slot caches a frame, the frame's metadata has a *note* of the slot, which counts for
//! nothing and is believed only if the slot's word names the frame ([`Swap::join`]). When the slot gives a frame up that is
//! mapped elsewhere, the note becomes a *link*, and the hold that the write (or the uncaching) had becomes the link's
//! ([`Host::settle`]). So neither refers to the other in a circle, and what nobody maps and no entry names is gone at once.
//!
//! *Swapped in copy-on-write.* A fault installs a cached frame copy-on-write, whatever it wants to do. It becomes writable by the
//! ordinary reuse in place: one reference, no link. While the slot caches the frame there are two references, so a page that is
//! being written out is copied, never changed; and two entries that name one slot need no further agreement (race 33).

mod bring;
mod evict;
mod write;

use crate::alloc::Map;
use crate::io::Disk;
use crate::pending::Pending;
use crate::slot::{Owed, Seen, Slot, SlotWord, State};
pub use quire_mm::{Settled, Take};
// Counters and hints order nothing, so the model checker need not see them.
use core::sync::atomic::AtomicU64 as Counter;
use quire_mm::sync::{AtomicU64, Ordering::*};
use quire_mm::{Frame, Page};

/// What swapping needs of the memory manager and of the scheduler.
pub trait Host {
    /// A frame with one reference for a page that is read into `slot`'s cache, with a note of the slot; its content is arbitrary.
    fn alloc(&self, slot: Slot) -> Option<Frame>;
    /// One more reference, unless there is none left.
    fn try_ref(&self, frame: Frame) -> bool;
    /// Drops a reference and frees the frame with the last. If it was linked then, its slot: the link's hold is the caller's.
    fn release(&self, frame: Frame) -> Option<Slot>;
    /// Drops the cache's reference to a frame whose content `slot` has on the disk. If others have references and the frame has no
    /// link, links it in the same step.
    fn settle(&self, frame: Frame, slot: Slot) -> Settled;
    /// Whoever waits for this slot may look again.
    fn wake(&self, slot: Slot);
    /// A page that was read ahead has been wanted.
    fn hit(&self, _page: Page) {}
}

/// Why a read was not begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadError {
    /// No frame: reclaim some, begin again.
    OutOfFrames,
    /// The disk takes no more: wait for a completion, begin again.
    Full,
    /// The disk does not answer.
    Dead,
}

/// Counters, under Linux's names where it has one.
#[derive(Debug, Default)]
pub struct Stats {
    /// Pages read (`pswpin`).
    pub read: Counter,
    /// Pages written (`pswpout`).
    pub written: Counter,
    /// Pages whose write is under way.
    pub writing: Counter,
    /// Pages read ahead (`swap_ra`), and those that were wanted (`swap_ra_hit`).
    pub ahead: Counter,
    /// See `ahead`.
    pub ahead_hits: Counter,
    /// Pages that could not be read.
    pub read_errors: Counter,
    /// Pages that could not be written.
    pub write_errors: Counter,
    /// Pages taken back without a read.
    pub taken_back: Counter,
}

/// A snapshot of all slots, for the audit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Census {
    /// Slots of the area, the header's page excepted.
    pub total: u64,
    /// Free ones, by their words.
    pub free: u64,
    /// Free ones, by the map. At rest the same as `free`.
    pub mapped_free: u64,
    /// Slots that must not be used.
    pub bad: u64,
    /// Slots whose content is in a frame only, or on its way to the disk.
    pub unwritten: u64,
    /// Cached frames.
    pub cached: u64,
    /// All holds. At rest, without links: the entries that name a slot.
    pub holds: u64,
    /// Evictions and reads that are not over. At rest zero.
    pub busy: u64,
}

/// One swap area.
#[derive(Debug)]
pub struct Swap<'a, H: Host, D: Disk> {
    slots: &'a [SlotWord],
    map: Map<'a>,
    pending: Pending<'a>,
    /// The memory manager and the scheduler.
    pub host: H,
    /// The device.
    pub disk: D,
    /// Counters.
    pub stats: Stats,
    /// So many pages more go out one by one: a request of many pages has failed, and only its bad pages are to make slots bad.
    careful: Counter,
    /// The same for reads: nothing is read ahead.
    careful_reads: Counter,
    /// Where the next trim begins.
    cursor: Counter,
}

impl<'a, H: Host, D: Disk> Swap<'a, H, D> {
    /// An area of slots `1 .. slots.len()`, all free but the `bad` ones. `words` are zeroed words, as many as
    /// [`Swap::words_needed`] says.
    pub fn new(
        slots: &'a [SlotWord],
        words: &'a [AtomicU64],
        bad: impl Iterator<Item = u32>,
        host: H,
        disk: D,
    ) -> Swap<'a, H, D> {
        let (clusters, groups) = crate::pending::words(slots.len());
        let (free, rest) = words.split_at(clusters);
        let (waiting, rest) = rest.split_at(clusters);
        let (groups, hands) = rest.split_at(groups);
        let swap = Swap {
            slots,
            map: Map::new(free, &hands[..crate::alloc::HANDS]),
            pending: Pending::new(waiting, groups),
            host,
            disk,
            stats: Stats::default(),
            careful: Counter::new(0),
            careful_reads: Counter::new(0),
            cursor: Counter::new(0),
        };
        if let Some(header) = slots.first() {
            header.forbid();
        }
        bad.filter_map(|i| slots.get(i as usize)).for_each(SlotWord::forbid);
        for (i, slot) in slots.iter().enumerate() {
            if slot.look().state() == State::Free {
                swap.map.give(Slot(i as u32));
            }
        }
        swap
    }

    /// Words that [`Swap::new`] needs beside the slots'.
    pub const fn words_needed(slots: usize) -> usize {
        let (clusters, groups) = crate::pending::words(slots);
        2 * clusters + groups + crate::alloc::HANDS
    }

    /// The word of a slot.
    pub fn slot(&self, slot: Slot) -> &SlotWord {
        &self.slots[slot.0 as usize]
    }

    // References by entries: fork, unmap, exit.

    /// One more entry is about to name the slot, which one already does. False: it does not, any more (look at the entry again), or
    /// there are too many.
    #[must_use]
    pub fn hold(&self, slot: Slot) -> bool {
        self.slot(slot).hold().is_ok()
    }

    /// `n` entries, links or looks fewer.
    pub fn release(&self, slot: Slot, n: u64) {
        let owed = self.slot(slot).release(n);
        self.pay(slot, owed);
    }

    // Trimming.

    /// Looks at `budget` slots for cached frames that nobody has taken since the last look, and drops them: readahead that
    /// missed, pages that only swapped entries name. `now`: without a second chance. Returns how many were dropped.
    pub fn trim(&self, budget: usize, now: bool) -> u64 {
        let n = self.slots.len();
        let from = self.cursor.fetch_add(budget as u64, Relaxed) as usize;
        let mut dropped = 0;
        for k in 0..budget.min(n) {
            let slot = Slot(((from + k) % n) as u32);
            if self.slot(slot).grow_old() || now {
                dropped += self.uncache(slot) as u64;
            }
        }
        dropped
    }

    fn uncache(&self, slot: Slot) -> bool {
        let Ok(frame) = self.slot(slot).uncache() else { return false };
        self.settle(slot, frame);
        true
    }

    /// The slot does not cache the frame any more, the caller has its reference and one hold: both go to a link, or away.
    fn settle(&self, slot: Slot, frame: Frame) {
        match self.host.settle(frame, slot) {
            Settled::Linked => return,
            Settled::Freed(Some(other)) => self.release(other, 1),
            _ => {}
        }
        self.release(slot, 1);
    }

    fn drop_frame(&self, frame: Frame) {
        if let Some(slot) = self.host.release(frame) {
            self.release(slot, 1);
        }
    }

    fn pay(&self, slot: Slot, owed: Owed) {
        if let Some(frame) = owed.frame {
            self.drop_frame(frame);
        }
        if owed.freed {
            self.map.give(slot);
        }
        if owed.write {
            self.pending.add(slot);
        }
    }

    // The area as a whole.

    /// Whether new pages go out to this area. `false` begins a swapoff.
    pub fn set_open(&self, open: bool) {
        self.map.close(!open);
    }

    /// About how many slots are free; exact at rest. Walks the map.
    pub fn free_slots(&self) -> u64 {
        self.map.free()
    }

    /// About how many slots are free, by one load.
    pub fn free_hint(&self) -> u64 {
        self.map.free_hint()
    }

    /// Whether more than half of the area is in use: then a page that is in memory does not keep its slot.
    fn is_crowded(&self) -> bool {
        self.map.free_hint() < self.slots.len() as u64 / 2
    }

    /// Whether no slot is in use: a closed area may go.
    pub fn is_empty(&self) -> bool {
        self.slots.iter().all(|s| matches!(s.look().state(), State::Free | State::Bad) && s.look().holds() == 0)
    }

    /// Calls `see` with each slot's word.
    pub fn each(&self, mut see: impl FnMut(Seen)) {
        self.slots.iter().for_each(|s| see(s.look()));
    }

    /// Counts all slots. Exact at rest.
    pub fn census(&self) -> Census {
        let mut c = Census { mapped_free: self.map.free(), ..Census::default() };
        for s in self.slots.iter().skip(1) {
            let s = s.look();
            c.total += 1;
            c.free += (s.state() == State::Free) as u64;
            c.bad += (s.state() == State::Bad) as u64;
            c.unwritten += matches!(s.state(), State::Claimed | State::Held | State::Writing) as u64;
            c.cached += s.frame().is_some() as u64;
            c.holds += s.holds();
            c.busy += (s.leaving() != 0 || matches!(s.state(), State::Reading | State::Writing)) as u64;
        }
        c
    }
}
