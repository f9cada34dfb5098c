//! The sweep: the walk that makes the entries of a range agree with an edit that is published already.
//!
//! * *Pages that go*: the entry of each page becomes `Empty(g)`, whatever it was; where a table is missing, its upper entry does.
//! * *Pages that stay*, with fewer rights: each entry gets those, and changes in any case: its parity flips.
//! * *Pages of an object that go while private copies stay*: copies and swapped pages keep their words, for nothing was taken from
//!   them; everything else becomes `Empty(g)`.
//! * A table that lies wholly in a range whose pages go is detached: its upper entry becomes `Empty(g)`, then each of its own entries
//!   becomes `Sealed`, so that a fault that is inside it begins again. An arena's own table is never detached.
//! * *Alone*: no other CPU that is active in the space has joined the arena, and no scan works there; judged after the publish and a
//!   fence (models `unmap-alone`, `unmap-joining`, `protect-joining`). Then no window is open that has read the old list. So what is
//!   empty stays as it is, words whose rights fit keep their parity, and a detached table is not sealed. A discard always seals: the
//!   segments stay, so no newer list stops a CPU that becomes active, or joins, just now.

use crate::arena::Arena;
use crate::entry::{Entry, Narrowing, Word};
use crate::flush::Flush;
use crate::frames::Frame;
use crate::machine::{GROUP, Machine};
use crate::memory::Memory;
use crate::page::{ENTRIES, LEVELS, Prot, TABLE_BITS};
use crate::space::Space;
use crate::stats::Counter;
use crate::sync::{Ordering::*, fence};
use crate::walk::index;

/// What becomes of the pages in the range.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// They go with their segments.
    Gone,
    /// They go, but their segments stay.
    Emptied,
    /// Those of their object go, but private copies and segments stay.
    Withdrawn,
    /// They stay, with at most the rights of this protection.
    Narrow(Prot),
}

impl<M: Machine> Space<M> {
    /// Steps 3 to 5 of an [edit](crate::edit): a generation of its own, the sweep, the flush.
    #[inline]
    pub(crate) fn sweep(&self, arena: &Arena, lo: u32, hi: u32, fate: Fate) {
        let cause = match fate {
            Fate::Gone => Counter::ShootdownUnmap,
            Fate::Emptied => Counter::ShootdownDiscard,
            Fate::Withdrawn => Counter::ShootdownCut,
            Fate::Narrow(_) => Counter::ShootdownProtect,
        };
        self.sweep_for(cause, arena, lo, hi, fate);
    }

    /// As [`Space::sweep`], for a move or a cut, whose sweeps are those of other edits. `cause` counts its shootdowns.
    pub(crate) fn sweep_for(&self, cause: Counter, arena: &Arena, lo: u32, hi: u32, fate: Fate) {
        // AcqRel: the list was published before; whoever reads `Empty(g)` reads it too.
        let g = arena.generation.fetch_add(1, AcqRel) + 1;
        fence(SeqCst);
        // A scan is like another CPU; none begins before the claim is gone (`scan`, rule 1).
        let scanned = arena.is_scanned();
        let alone = self.alone_in(arena) && !scanned;
        let mut flush = Flush::new(self, arena, cause);
        Sweep::new(self.memory(), &mut flush, fate, g, alone, lo, hi).sweep(arena);
        if scanned {
            flush.everything();
        }
        flush.pay();
    }
}

/// One sweep.
pub(crate) struct Sweep<'f, 'a, M: Machine> {
    memory: &'a Memory<M>,
    flush: &'f mut Flush<'a, M>,
    fate: Fate,
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
        Sweep { memory, flush, fate, g, alone, lo, hi }
    }

    /// Sweeps the range in `arena`. The caller holds the claim; serves shootdowns between tables, so it must not be pinned.
    pub fn sweep(mut self, arena: &'a Arena) {
        if !self.in_one_leaf(arena) {
            self.below(&arena.table, LEVELS, 0);
        }
    }

    /// The common case: the range is a part of one leaf table. False: another case, nothing done.
    ///
    /// The table stays while the claim is held: only an edit that covers all of it detaches it.
    #[inline]
    fn in_one_leaf(&mut self, arena: &'a Arena) -> bool {
        if (self.lo ^ (self.hi - 1)) >> TABLE_BITS != 0 || self.hi - self.lo == ENTRIES as u32 {
            return false;
        }
        let mut entry = &arena.table;
        let mut table = &[][..];
        for level in (0..LEVELS).rev() {
            // Alone, what is absent stays as it is.
            let e = entry.load();
            if !e.is_present() {
                return self.alone;
            }
            table = self.memory.machine.table(e.page_frame());
            entry = &table[index(self.lo, level)];
        }
        let first = index(self.lo, 0);
        self.leaf_entries(&table[first..first + (self.hi - self.lo) as usize], self.lo);
        self.memory.serve();
        true
    }

    /// Sweeps the part of the range below `entry`, whose first page is `base`.
    fn below(&mut self, entry: &'a Entry, level: u32, base: u32) {
        let span = 1u32 << (TABLE_BITS * level);
        loop {
            let e = entry.load();
            let Some(table) = e.frame() else {
                if self.alone || entry.stamp(e, self.g).is_ok() {
                    return;
                }
                self.retry();
                continue;
            };
            if level < LEVELS && self.takes_all() && self.lo <= base && base + span <= self.hi {
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
                self.leaf_entries(entries, at);
            } else {
                for (entry, i) in entries.iter().zip(0..) {
                    self.below(entry, level - 1, at + i * below);
                }
            }
            self.memory.serve();
            return;
        }
    }

    /// Whether nothing of the range stays.
    #[inline]
    fn takes_all(&self) -> bool {
        matches!(self.fate, Fate::Gone | Fate::Emptied)
    }

    /// Sweeps neighbouring entries of a leaf table, the first of which is for page `at`.
    #[inline(never)]
    fn leaf_entries(&mut self, entries: &[Entry], at: u32) {
        match self.fate {
            Fate::Gone | Fate::Emptied => self.each(entries, at, |sweep, entry, _, page| {
                let was = entry.take(sweep.g);
                sweep.gone(was, page);
                true
            }),
            // A private copy may come into the place of the page meanwhile, so it goes by compare-and-swap.
            Fate::Withdrawn => self.each(entries, at, |sweep, entry, e, page| {
                if e.is_private() || e.is_swapped() {
                    return true;
                }
                let taken = entry.unmap(e, sweep.g).is_ok();
                if taken {
                    sweep.gone(e, page);
                }
                taken
            }),
            Fate::Narrow(prot) => {
                let narrowing = Narrowing::new(prot, !self.alone);
                let mut changed = false;
                self.each(entries, at, |_, entry, e, _| {
                    let now = narrowing.of(e);
                    changed |= now != e;
                    now == e || entry.narrow(e, now).is_ok()
                });
                if changed {
                    // Where some did not change, their translations go without need.
                    self.flush.pages(at, entries.len());
                }
            }
        }
    }

    /// Makes what becomes of each entry: of what is empty here, of everything else by `sweep`, which is asked again as long as it says
    /// false: then the entry has changed meanwhile.
    #[inline(always)]
    fn each(&mut self, entries: &[Entry], at: u32, mut sweep: impl FnMut(&mut Self, &Entry, Word, u32) -> bool) {
        for (i, group) in entries.chunks(GROUP).enumerate() {
            // Alone, what is empty stays as it is.
            let empty = self.alone && group[0].load().is_empty();
            if empty && group.try_into().is_ok_and(|group| self.memory.machine.are_empty(group)) {
                continue;
            }
            for (entry, page) in group.iter().zip(at + (i * GROUP) as u32..) {
                loop {
                    let e = entry.load();
                    let done = match e.is_empty() {
                        true => self.alone || entry.stamp(e, self.g).is_ok(),
                        false => sweep(self, entry, e, page),
                    };
                    if done {
                        break;
                    }
                    self.retry();
                }
            }
        }
    }

    #[cold]
    fn retry(&self) {
        self.memory.stats.add(&self.memory.machine, Counter::RetrySweep, 1);
    }

    #[inline]
    fn gone(&mut self, was: Word, page: u32) {
        if let Some(f) = was.frame() {
            self.flush.page(page);
            self.flush.frame(f);
        } else if was.is_swapped() {
            // A fault that has read it must be over before a move brings one like it here (rule E4). An eviction whose answers are not
            // in holds the slot itself, and its scan makes this flush a full one (race 34).
            self.flush.page(page);
            self.memory.release_slot(was);
        }
    }

    /// Empties a table of `level` that is no longer reachable, and the tables below it.
    fn detach(&mut self, table: Frame, level: u32, base: u32) {
        let entries = self.memory.machine.table(table);
        let below = 1u32 << (TABLE_BITS * level);
        let unsealed = self.alone && self.fate == Fate::Gone;
        for (i, entry) in entries.iter().enumerate() {
            let was = if unsealed { entry.load() } else { entry.seal() };
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
