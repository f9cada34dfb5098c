//! The sweep: the walk that makes the entries of a range agree with an edit that is published already.
//!
//! * Every entry of the range that exists becomes `Empty(g)`, at the highest level that is absent, or gets the narrower
//!   protection; one that stays is always changed, its parity flips.
//! * A table wholly inside a range that goes is detached: its upper entry becomes `Empty(g)`, then each of its own entries
//!   becomes `Sealed`, so that a fault that is inside it begins again. An arena's own table is never detached.
//! * *Alone* (no other CPU is active in the space; read after the publish and a fence, model `editalone`): no window with the
//!   old list can be open, so absent entries stay, unchanged entries keep their parity, and nothing is sealed.

use crate::arena::{Arena, index};
use crate::entry::{Entry, Word};
use crate::flush::Flush;
use crate::frames::Frame;
use crate::machine::Machine;
use crate::memory::Memory;
use crate::page::{LEVELS, Prot, TABLE_BITS};
use crate::stats::Counter;
use crate::sync::{Mutant, mutant};

/// What becomes of the pages in the range.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// They go.
    Gone,
    /// They stay, with at most these rights.
    Narrow(Prot),
}

/// One sweep.
pub(crate) struct Sweep<'f, 'a, M: Machine> {
    pub memory: &'a Memory<M>,
    pub flush: &'f mut Flush<'a, M>,
    pub fate: Fate,
    /// The edit's generation.
    pub g: u64,
    pub alone: bool,
    pub lo: u32,
    pub hi: u32,
}

impl<'a, M: Machine> Sweep<'_, 'a, M> {
    /// Sweeps the range in `arena`. The caller holds the claim; serves shootdowns between tables, so it must not be pinned.
    pub fn run(mut self, arena: &'a Arena) {
        if mutant(Mutant::EmptyZero) {
            self.g = 0;
        }
        self.entry(&arena.table, LEVELS, 0);
    }

    /// Sweeps the part of the range below `entry`, whose first page is `base`.
    fn entry(&mut self, entry: &'a Entry, level: u32, base: u32) {
        let span = 1u32 << (TABLE_BITS * level);
        loop {
            let e = entry.load();
            let Some(table) = e.frame() else {
                if self.alone || mutant(Mutant::SkipAbsent) || entry.empty(e, self.g).is_ok() {
                    return;
                }
                self.memory.stats.add(&self.memory.machine, Counter::RetrySweep, 1);
                continue;
            };
            if level < LEVELS && self.fate == Fate::Gone && self.lo <= base && base + span <= self.hi {
                // Faults never change a table's upper entry, and the claim keeps other sweeps out.
                let was = entry.take(self.g);
                debug_assert!(was == e);
                self.detach(table, level - 1, base);
                return;
            }
            let entries = self.memory.machine.table(table);
            let below = span / entries.len() as u32;
            let first = if self.lo > base { index(self.lo, level - 1) } else { 0 };
            let last = if self.hi < base + span { index(self.hi - 1, level - 1) } else { entries.len() - 1 };
            for (i, entry) in entries.iter().enumerate().take(last + 1).skip(first) {
                let at = base + i as u32 * below;
                if level == 1 {
                    self.leaf(entry, at);
                } else {
                    self.entry(entry, level - 1, at);
                }
            }
            self.memory.serve();
            return;
        }
    }

    #[inline]
    fn leaf(&mut self, entry: &Entry, page: u32) {
        loop {
            let e = entry.load();
            if e.is_empty() {
                if self.alone || entry.empty(e, self.g).is_ok() {
                    return;
                }
                continue;
            }
            match self.fate {
                Fate::Gone => {
                    let was = entry.take(self.g);
                    return self.gone(was, page);
                }
                Fate::Narrow(prot) => {
                    let flip = !self.alone && !mutant(Mutant::NoParityFlip);
                    match entry.narrow(e, prot, flip) {
                        Ok(now) if now == e => return,
                        Ok(_) => return self.flush.page(page),
                        Err(_) => {}
                    }
                }
            }
            self.memory.stats.add(&self.memory.machine, Counter::RetrySweep, 1);
        }
    }

    #[inline]
    fn gone(&mut self, was: Word, page: u32) {
        if let Some(f) = was.frame() {
            self.flush.page(page);
            self.flush.frame(f);
        }
    }

    /// Empties a table of `level` that is no longer reachable, and the tables below it.
    fn detach(&mut self, table: Frame, level: u32, base: u32) {
        let entries = self.memory.machine.table(table);
        let below = 1u32 << (TABLE_BITS * level);
        for (i, entry) in entries.iter().enumerate() {
            let was = if self.alone || mutant(Mutant::NoSeal) { entry.load() } else { entry.seal() };
            let at = base + i as u32 * below;
            match was.frame() {
                Some(f) if level > 0 => self.detach(f, level - 1, at),
                _ => self.gone(was, at),
            }
        }
        self.memory.serve();
        self.flush.table(table);
    }
}
