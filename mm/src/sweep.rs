//! The sweep: the walk that makes the entries of a range agree with an edit that is published already.
//!
//! * Every entry of the range that exists becomes `Empty(g)`, at the highest level that is absent, or gets the narrower
//!   protection; one that stays is always changed, its parity flips.
//! * A table wholly inside a range that goes is detached: its upper entry becomes `Empty(g)`, then each of its own entries
//!   becomes `Sealed`, so that a fault that is inside it begins again. An arena's own table is never detached.
//! * *Alone* (no other CPU is active in the space; read after the publish and a fence, model `editalone`): no window with the
//!   old list can be open, so absent entries stay, unchanged entries keep their parity, and nothing is sealed.

use crate::arena::{Arena, index};
use crate::entry::{Changed, Entry, Narrowing, Word};
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
    /// They stay, with at most the rights of this protection.
    Narrow(Prot),
}

/// One sweep.
pub(crate) struct Sweep<'f, 'a, M: Machine> {
    memory: &'a Memory<M>,
    flush: &'f mut Flush<'a, M>,
    fate: Fate,
    narrowing: Narrowing,
    /// The edit's generation.
    g: u64,
    alone: bool,
    lo: u32,
    hi: u32,
}

impl<'f, 'a, M: Machine> Sweep<'f, 'a, M> {
    /// A sweep of `lo .. hi` with generation `g`; `alone` as the module says.
    #[inline]
    pub fn new(
        memory: &'a Memory<M>,
        flush: &'f mut Flush<'a, M>,
        fate: Fate,
        g: u64,
        alone: bool,
        lo: u32,
        hi: u32,
    ) -> Self {
        let prot = match fate {
            Fate::Gone => Prot::empty(),
            Fate::Narrow(prot) => prot,
        };
        let narrowing = Narrowing::new(prot, !alone && !mutant(Mutant::NoParityFlip));
        Sweep { memory, flush, fate, narrowing, g, alone, lo, hi }
    }

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
            let at = base + first as u32 * below;
            let entries = &entries[first..=last];
            if level == 1 {
                self.leaves(entries, at);
            } else {
                for (entry, i) in entries.iter().zip(0..) {
                    self.entry(entry, level - 1, at + i * below);
                }
            }
            self.memory.serve();
            return;
        }
    }

    /// Sweeps neighbouring entries of a leaf table, the first of which is for page `at`.
    #[inline]
    fn leaves(&mut self, entries: &[Entry], at: u32) {
        match self.fate {
            Fate::Gone => entries.iter().zip(at..).for_each(|(entry, page)| {
                self.leaf(entry, |this, entry, _| {
                    let was = entry.take(this.g);
                    this.gone(was, page);
                    Ok(())
                });
            }),
            Fate::Narrow(_) => entries.iter().zip(at..).for_each(|(entry, page)| {
                self.leaf(entry, |this, entry, e| {
                    if entry.narrow(e, &this.narrowing)? != e {
                        this.flush.page(page);
                    }
                    Ok(())
                });
            }),
        }
    }

    /// Sweeps one entry; `full` deals with one that is not empty.
    #[inline(always)]
    fn leaf(&mut self, entry: &Entry, full: impl Fn(&mut Self, &Entry, Word) -> Result<(), Changed>) {
        loop {
            let e = entry.load();
            let swept = match e.is_empty() {
                true if self.alone => Ok(()),
                true => entry.empty(e, self.g),
                false => full(self, entry, e),
            };
            if swept.is_ok() {
                return;
            }
            self.memory.stats.add(&self.memory.machine, Counter::RetrySweep, 1);
        }
    }

    #[inline]
    fn gone(&mut self, was: Word, page: u32) {
        if let Some(f) = was.frame() {
            self.flush.page(page);
            self.flush.frame(f);
        } else if was.is_swapped() {
            // An eviction whose answers are not in holds the slot itself, and its scan makes this flush a full one (race 34).
            self.memory.release_slot(was);
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
