//! A swap area at work: eviction, taking back, reading, writing out, trimming.
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

use crate::alloc::Map;
use crate::io::{Disk, IoError, MOST_PAGES, Op, Refused, Run};
use crate::mutant::{Mutant, mutant};
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
    /// So many pages more go out one by one: a request of many pages has failed, and only the bad ones shall be marked.
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

    // Eviction.

    /// A slot for the page in `frame`, whose entry is about to name it. The entry's reference to the frame becomes the slot's.
    /// `None`: the area is full or closed.
    pub fn reserve(&self, cpu: usize, frame: Frame) -> Option<Slot> {
        let slot = self.map.take(cpu)?;
        if let Err(seen) = self.slot(slot).claim(frame) {
            panic!("{slot:?} was given out although it is {seen:?}");
        }
        Some(slot)
    }

    /// The entry had changed: the slot is not needed, the frame stays where it is.
    pub fn unreserve(&self, slot: Slot) {
        match self.slot(slot).unclaim() {
            // A shared object's page was put back: whoever met the slot waits.
            Ok(owed) => {
                self.pay(slot, owed);
                self.host.wake(slot);
            }
            Err(seen) => panic!("{slot:?} was not reserved: {seen:?}"),
        }
    }

    /// A further eviction of the page in `frame` to the slot that its note or link names, without a write. `is_linked` looks at
    /// the frame's metadata again. False: the slot is another page's by now, or cannot be used; the page needs a slot of its own.
    /// Ends with [`Swap::answered`], or with [`Swap::stay`] if the entry had changed. The frame's reference stays the entry's.
    pub fn join(&self, slot: Slot, frame: Frame, is_linked: impl FnOnce() -> bool) -> bool {
        if self.map.is_closed() {
            return false;
        }
        let Ok(seen) = self.slot(slot).leave() else { return false };
        if seen.frame() == Some(frame) || is_linked() || mutant(Mutant::TrustNote) {
            return true;
        }
        self.stay(slot);
        false
    }

    /// Undoes [`Swap::join`].
    pub fn stay(&self, slot: Slot) {
        let owed = self.slot(slot).stay();
        self.pay(slot, owed);
        self.host.wake(slot);
        self.host.wake(slot);
    }

    /// All CPUs have answered the eviction to `slot`.
    pub fn answered(&self, slot: Slot) {
        let owed = self.slot(slot).answered();
        self.pay(slot, owed);
        self.host.wake(slot);
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
        let word = self.slot(slot);
        if mutant(Mutant::BitBeforeFree) && word.look().holds() == n {
            self.map.give(slot);
            let owed = word.release(n);
            return self.pay(slot, Owed { freed: false, ..owed });
        }
        let owed = word.release(n);
        self.pay(slot, owed);
    }

    // Swapping in.

    /// The content of a slot that an entry names. `same` reads that entry again: the slot is held by then (S5).
    pub fn take(&self, slot: Slot, same: impl FnOnce() -> bool) -> Take {
        let word = self.slot(slot);
        if mutant(Mutant::HoldLate) {
            let early = self.content(word);
            return match early {
                Take::Page { frame, .. } if word.hold().is_err() => {
                    self.drop_frame(frame);
                    Take::Changed
                }
                other => other,
            };
        }
        let first = mutant(Mutant::LookThenHold);
        let mut same = Some(same);
        let mut still = || mutant(Mutant::NoSecondLook) || same.take().is_none_or(|s| s());
        if first && !still() {
            return Take::Changed;
        }
        if word.hold().is_err() {
            return Take::Changed;
        }
        let result = if first || still() { self.content(word) } else { Take::Changed };
        if !matches!(result, Take::Page { .. }) {
            self.release(slot, 1);
        }
        result
    }

    fn content(&self, word: &SlotWord) -> Take {
        let seen = word.look();
        if seen.must_wait() {
            return Take::Wait;
        }
        if let Some(frame) = seen.frame() {
            if !self.host.try_ref(frame) {
                return Take::Changed;
            }
            if mutant(Mutant::TakeOnce) {
                return Take::Page { frame, ahead: false };
            }
            let Ok(taken) = word.still_caches(frame) else {
                self.drop_frame(frame);
                return Take::Changed;
            };
            self.stats.taken_back.fetch_add(1, Relaxed);
            self.stats.ahead_hits.fetch_add(taken.ahead as u64, Relaxed);
            return Take::Page { frame, ahead: taken.ahead };
        }
        match seen.state() {
            State::Clean if seen.is_failed() => {
                word.forgive();
                Take::Failed
            }
            State::Clean => Take::Read,
            // An eviction that did not happen: the entry does not name this slot.
            _ => Take::Changed,
        }
    }

    /// The entry shows the frame now, copy-on-write. `link`: nobody is about to write to it, so that it is worth while to remember
    /// that the disk has its content.
    pub fn installed(&self, slot: Slot, frame: Frame, link: bool) {
        let word = self.slot(slot);
        if link && !self.is_crowded() {
            let seen = word.look();
            // Other entries would have to read it again.
            if seen.holds() == 2 && seen.frame() == Some(frame) {
                self.uncache(slot);
            }
        }
        // The entry's hold and the look's.
        self.release(slot, 2);
    }

    /// The entry had changed: the frame is not needed.
    pub fn put_back(&self, slot: Slot, frame: Frame) {
        self.drop_frame(frame);
        self.release(slot, 1);
    }

    /// Begins to read `slot`, and with it those of `ahead` that lie on the disk only. Neighbours on the disk share a request. The
    /// completion wakes whoever waits. It is no error that another thread reads it already.
    pub fn read(&self, slot: Slot, ahead: &[Slot]) -> Result<(), ReadError> {
        let mut list = [(Slot(0), Frame(0)); MOST_PAGES];
        let mut n = 0;
        if self.wants_read(slot) {
            let frame = self.host.alloc(slot).ok_or(ReadError::OutOfFrames)?;
            if self.begin_read(slot, frame, false) {
                list[n] = (slot, frame);
                n += 1;
            }
        }
        let careful = self.careful_reads.load(Relaxed);
        if careful != 0 {
            // Lost counts do not matter: it is a number of tries.
            self.careful_reads.store(careful - 1, Relaxed);
        }
        for &s in if careful != 0 { &[] } else { ahead } {
            if n == MOST_PAGES || !self.wants_read(s) {
                continue;
            }
            let Some(frame) = self.host.alloc(s) else { break };
            if self.begin_read(s, frame, true) {
                self.stats.ahead.fetch_add(1, Relaxed);
                list[n] = (s, frame);
                n += 1;
            }
        }
        list[..n].sort_unstable_by_key(|&(s, _)| s);
        let mut result = Ok(());
        let mut at = 0;
        while at < n {
            let mut frames = [Frame(0); MOST_PAGES];
            let mut len = 0;
            while at + len < n && list[at + len].0.0 == list[at].0.0 + len as u32 {
                frames[len] = list[at + len].1;
                len += 1;
            }
            let run = Run { op: Op::Read, first: list[at].0, pages: len as u32 };
            if let Err(refused) = self.disk.submit(Op::Read, run.first, &frames[..len], run.cookie()) {
                for s in run.slots() {
                    let owed = self.slot(s).cancel_read();
                    self.pay(s, owed);
                    self.host.wake(s);
                    if s == slot {
                        result = Err(if refused == Refused::Full { ReadError::Full } else { ReadError::Dead });
                    }
                }
            }
            at += len;
        }
        self.disk.kick();
        result
    }

    /// Whether somebody has to read the slot before its content can be had: a hint, for readahead and for whoever waits.
    pub fn wants_read(&self, slot: Slot) -> bool {
        let Some(word) = self.slots.get(slot.0 as usize) else { return false };
        let s = word.look();
        let absent = s.state() == State::Clean && s.frame().is_none() && s.leaving() == 0 && s.holds() != 0;
        absent || (s.state() == State::Reading && mutant(Mutant::ReadTwice))
    }

    /// Whether a waiter for this slot should still wait.
    pub fn is_busy(&self, slot: Slot) -> bool {
        self.slot(slot).look().must_wait()
    }

    fn begin_read(&self, slot: Slot, frame: Frame, ahead: bool) -> bool {
        let begun = self.slot(slot).begin_read(frame, ahead).is_ok();
        if !begun {
            self.drop_frame(frame);
        }
        begun
    }

    // Writing out.

    /// Sends what waits to be written, until the disk takes no more. Returns how many pages went out.
    pub fn write_out(&self) -> u64 {
        let mut sent = 0;
        while let Some((first, mask)) = self.pending.take() {
            let mut rest = mask;
            while rest != 0 {
                let most = if self.careful.load(Relaxed) != 0 { 1 } else { MOST_PAGES };
                let mut frames = [Frame(0); MOST_PAGES];
                let at = Slot(first.0 + rest.trailing_zeros());
                let mut len = 0;
                while len < most && rest >> (at.0 - first.0) as usize >> len & 1 != 0 {
                    rest &= !(1 << ((at.0 - first.0) as usize + len));
                    // Taken back and freed, or leaving once more: not ours to write.
                    let Ok(frame) = self.slot(Slot(at.0 + len as u32)).begin_write() else { break };
                    frames[len] = frame;
                    len += 1;
                }
                if len == 0 {
                    continue;
                }
                let run = Run { op: Op::Write, first: at, pages: len as u32 };
                self.stats.writing.fetch_add(len as u64, Relaxed);
                if self.disk.submit(Op::Write, at, &frames[..len], run.cookie()).is_err() {
                    self.stats.writing.fetch_sub(len as u64, Relaxed);
                    for s in run.slots() {
                        let owed = self.slot(s).put_off_write();
                        self.pay(s, owed);
                    }
                    (0..64).filter(|i| rest >> i & 1 != 0).for_each(|i| self.pending.add(Slot(first.0 + i)));
                    self.disk.kick();
                    return sent;
                }
                if mutant(Mutant::FreeAtWrite) {
                    frames[..len].iter().for_each(|&f| self.drop_frame(f));
                }
                if most == 1 {
                    // Lost counts do not matter: it is a number of tries.
                    self.careful.store(self.careful.load(Relaxed).saturating_sub(1), Relaxed);
                }
                sent += len as u64;
            }
        }
        self.disk.kick();
        sent
    }

    /// Whether pages wait to be written.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Ends what the disk has completed. Returns how many requests.
    pub fn poll(&self) -> u64 {
        let mut n = 0;
        self.disk.complete(&mut |cookie, result| {
            n += 1;
            self.ended(Run::of(cookie), result);
        });
        n
    }

    fn ended(&self, run: Run, result: Result<(), IoError>) {
        for slot in run.slots() {
            match run.op {
                Op::Write => self.write_ended(slot, run.pages, result),
                Op::Read => self.read_ended(slot, run.pages, result),
            }
            self.host.wake(slot);
        }
    }

    fn read_ended(&self, slot: Slot, pages: u32, result: Result<(), IoError>) {
        let word = self.slot(slot);
        let result = if mutant(Mutant::ReadErrorIsDone) { Ok(()) } else { result };
        let owed = match result {
            Ok(()) => {
                self.stats.read.fetch_add(1, Relaxed);
                word.end_read(true)
            }
            // One of the pages is to blame: whoever wants one reads it by itself.
            Err(_) if pages > 1 => {
                self.careful_reads.store(2 * MOST_PAGES as u64, Relaxed);
                word.cancel_read()
            }
            Err(_) => {
                self.stats.read_errors.fetch_add(1, Relaxed);
                word.end_read(false)
            }
        };
        self.pay(slot, owed);
    }

    fn write_ended(&self, slot: Slot, pages: u32, result: Result<(), IoError>) {
        let word = self.slot(slot);
        self.stats.writing.fetch_sub(1, Relaxed);
        let result = if mutant(Mutant::WriteErrorIsDone) { Ok(()) } else { result };
        match result {
            Ok(()) => {
                self.stats.written.fetch_add(1, Relaxed);
                match word.end_write() {
                    Ok(_) if mutant(Mutant::FreeAtWrite) => self.release(slot, 1),
                    Ok(frame) => self.settle(slot, frame),
                    Err(seen) => panic!("{slot:?} was written although it is {seen:?}"),
                }
            }
            // One of the pages is to blame: each once more by itself.
            Err(IoError::Device) if pages > 1 => {
                self.careful.store(2 * MOST_PAGES as u64, Relaxed);
                let owed = word.put_off_write();
                self.pay(slot, owed);
            }
            Err(IoError::Device) => {
                self.stats.write_errors.fetch_add(1, Relaxed);
                let owed = word.fail_write();
                self.pay(slot, owed);
            }
            Err(IoError::Lost) => {
                let owed = word.put_off_write();
                self.pay(slot, owed);
            }
        }
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
            Settled::Linked if !mutant(Mutant::LinkWithoutHold) => return,
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
