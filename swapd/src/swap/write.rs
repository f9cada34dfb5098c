//! Writing out: what waits to be written goes out in runs of neighbours, and what the disk has completed is ended.
//!
//! No write needs memory. A run that fails is tried again page by page, so that only those become bad; a page whose write has
//! failed stays in its frame.

use super::{Host, Swap};
use crate::io::{Disk, IoError, MOST_PAGES, Op, Run};
use crate::slot::Slot;
use quire_mm::Frame;
use quire_mm::sync::Ordering::*;

impl<H: Host, D: Disk> Swap<'_, H, D> {
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

    fn write_ended(&self, slot: Slot, pages: u32, result: Result<(), IoError>) {
        let word = self.slot(slot);
        self.stats.writing.fetch_sub(1, Relaxed);
        match result {
            Ok(()) => {
                self.stats.written.fetch_add(1, Relaxed);
                match word.end_write() {
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
}
