//! Swapping in: a fault takes the cached frame back, or has the page read, with its neighbours.
//!
//! Whoever looks at a slot's content holds the slot first and reads the entry again after that (S5); whoever takes a cached frame
//! takes a reference and then reads the slot's word again. A read holds its slots until it has ended.

use super::{Host, ReadError, Swap, Take};
use crate::io::{Disk, IoError, MOST_PAGES, Op, Refused, Run};
use crate::slot::{Slot, SlotWord, State};
use quire_mm::Frame;
use quire_mm::sync::Ordering::*;

impl<H: Host, D: Disk> Swap<'_, H, D> {
    /// The content of a slot that an entry names. `same` reads that entry again: the slot is held by then (S5).
    pub fn take(&self, slot: Slot, same: impl FnOnce() -> bool) -> Take {
        let word = self.slot(slot);
        if word.hold().is_err() {
            return Take::Changed;
        }
        let result = if same() { self.content(word) } else { Take::Changed };
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
        s.state() == State::Clean && s.frame().is_none() && s.leaving() == 0 && s.holds() != 0
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

    pub(super) fn read_ended(&self, slot: Slot, pages: u32, result: Result<(), IoError>) {
        let word = self.slot(slot);
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
}
