//! The audit: everything counted. References equal mappings, free and used frames are all frames, no table is lost.
//!
//! It runs when nothing else does: no thread in any of the spaces, no CPU in mm. The caller provides one counter a frame.

use crate::entry::Word;
use crate::frames::{Frame, Kind, Owners};
use crate::machine::{CPUS, Machine};
use crate::memory::Memory;
use crate::page::LEVELS;
use crate::segment::Flags;
use crate::space::Space;
use crate::sync::Ordering::*;
use crate::users::Users;

/// What an audit found. All of `lost`, `wrong`, `torn`, `slots_wrong` must be zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Frames that the allocator was given.
    pub total: u64,
    /// Free frames.
    pub free: u64,
    /// Frames of pages.
    pub pages: u64,
    /// Frames of tables.
    pub tables: u64,
    /// Pages and tables of objects (counted above too).
    pub object_frames: u64,
    /// Live objects.
    pub objects: u64,
    /// Frames of nodes.
    pub slabs: u64,
    /// Frames of the kernel.
    pub kernel: u64,
    /// Entries of spaces and objects, and links of frames, that name a swap slot.
    pub slots: u64,
    /// The difference between `slots` and what the swap area's slots are held by.
    pub slots_wrong: u64,
    /// Frames that nobody has: leaked.
    pub lost: u64,
    /// Pages whose count differs from the references found, or free frames with references.
    pub wrong: u64,
    /// Entries that break a rule: a private writable page with other owners, a page outside every segment, a sealed entry in
    /// a reachable table, a transit segment at rest, a segment whose object counts other writers than those that are mapped.
    pub torn: u64,
    /// The first frame with a finding.
    pub first: Option<Frame>,
}

impl Report {
    /// Whether nothing is amiss.
    pub fn is_clean(&self) -> bool {
        self.lost == 0
            && self.wrong == 0
            && self.torn == 0
            && self.slots_wrong == 0
            && self.total == self.free + self.pages + self.tables + self.slabs + self.kernel
    }

    fn blame(&mut self, f: Frame) {
        self.first.get_or_insert(f);
    }
}

/// A mark in the counters: this frame is a table.
const TABLE: u32 = 1 << 31;

impl<M: Machine> Memory<M> {
    /// Counts everything. `spaces` are all live spaces; `counts` has one zero for each frame word.
    ///
    /// Idle CPUs must be told to leave the frames alone ([`Memory::set_quiet`]), and all caches drained
    /// ([`Memory::drain_all`]), by the caller; no read or write of the swap area is under way.
    pub fn audit<'s>(&self, spaces: impl Iterator<Item = &'s Space<M>> + Clone, counts: &mut [u32]) -> Report {
        let mut r = Report { total: self.total_frames(), objects: self.object_count(), ..Report::default() };
        counts[self.zero_page().0 as usize] += 1;
        self.count_writers(spaces.clone(), &mut r);
        for space in spaces {
            self.count_space(space, counts, &mut r);
        }
        r.slots += self.object_slots();
        let holds = self.machine.pager().map_or(0, |p| p.count(&mut |f| counts[f.0 as usize] += 1));
        // SAFETY: the lengths of caches that are at rest.
        let cached: u64 = (0..CPUS).map(|c| unsafe { self.caches.peek(c) }.len() as u64).sum();
        r.free = self.free.count(self.machine.blocks()) + cached;
        for (i, word) in self.machine.words().iter().enumerate() {
            let (f, found) = (Frame(i as u32), counts[i]);
            let free = self.free.is_set(self.machine.blocks(), i);
            match word.kind() {
                Kind::Slab if !free => r.slabs += 1,
                Kind::Kernel if !free => r.kernel += 1,
                Kind::Table if !free => {
                    r.tables += 1;
                    if word.is_object() {
                        r.object_frames += 1;
                    } else if found & TABLE == 0 {
                        r.lost += 1;
                        r.blame(f);
                    }
                }
                _ if found == 0 && !word.is_object() => {}
                _ => {
                    r.pages += 1;
                    r.object_frames += word.is_object() as u64;
                    r.slots += word.slot().is_some_and(|(_, linked)| linked) as u64;
                    let found = found + word.is_object() as u32;
                    let zero = f == self.zero_page();
                    if free || (!zero && word.count() != found as u64) {
                        r.wrong += 1;
                        r.blame(f);
                    }
                }
            }
        }
        r.slots_wrong = r.slots.abs_diff(holds);
        let known = r.free + r.pages + r.tables + r.slabs + r.kernel;
        r.lost += r.total.saturating_sub(known);
        r
    }

    /// An object's writers are the segments that write it. Each takes its own off; what is left then should be nothing; each gives its own
    /// back.
    fn count_writers<'s>(&self, spaces: impl Iterator<Item = &'s Space<M>> + Clone, r: &mut Report)
    where
        M: 's,
    {
        let each = |see: &mut dyn FnMut(&Users)| {
            for arena in spaces.clone().flat_map(Space::each_arena) {
                arena.list(&self.pin()).each(0, crate::page::ARENA_PAGES, &mut |p| {
                    if p.writes() && !p.object.is_null() {
                        // SAFETY: nothing runs, so the leaf that was just read holds a reference.
                        see(unsafe { &(*p.object).users });
                    }
                    true
                });
            }
        };
        each(&mut |users| users.written());
        each(&mut |users| r.torn += (users.writers() != 0) as u64);
        each(&mut |users| users.restore());
    }

    fn count_space(&self, space: &Space<M>, counts: &mut [u32], r: &mut Report) {
        for top in space.top_frames() {
            counts[top.0 as usize] |= TABLE;
        }
        for arena in space.each_arena() {
            let pin = self.pin();
            let list = arena.list(&pin);
            list.each(0, crate::page::ARENA_PAGES, &mut |p| {
                r.torn += p.flags.contains(Flags::TRANSIT) as u64;
                true
            });
            self.count_entry(arena.table.load(), LEVELS, 0, counts, r, &mut |page| list.find(page).is_some());
        }
    }

    fn count_entry(
        &self,
        w: Word,
        level: u32,
        base: u32,
        counts: &mut [u32],
        r: &mut Report,
        mapped: &mut dyn FnMut(u32) -> bool,
    ) {
        r.torn += w.is_sealed() as u64;
        if level == 0 && w.is_swapped() {
            r.slots += 1;
            r.torn += !mapped(base) as u64;
        }
        let Some(f) = w.frame() else { return };
        if level == 0 {
            let zero = f == self.zero_page();
            counts[f.0 as usize] += !zero as u32;
            // Written in place: nobody else has it, and no slot is named as having its content.
            let shared = w.is_private() && !w.is_cow() && w.is_present() && self.word(f).owners() != Owners::One;
            if !mapped(base) || (shared && w.allows(crate::page::Access::Write)) {
                r.torn += 1;
                r.blame(f);
            }
            return;
        }
        counts[f.0 as usize] |= TABLE;
        for (i, e) in self.machine.table(f).iter().enumerate() {
            let page = base + ((i as u32) << (crate::page::TABLE_BITS * (level - 1)));
            let w = e.load();
            if w != Word::empty(0) {
                self.count_entry(w, level - 1, page, counts, r, mapped);
            }
        }
    }

    /// Frames by state, as far as it can be known while others work: `(total, free)`.
    pub fn frame_counts(&self) -> (u64, u64) {
        (self.total_frames(), self.free_frames().min(self.total_frames()))
    }

    /// Frames by what they are, as it looks now: pages (free ones in caches too), tables, slabs, the kernel's own. For a report when
    /// memory is gone: one look at each frame's word.
    pub fn kinds(&self) -> [u64; 4] {
        let mut kinds = [0; 4];
        for (i, word) in self.machine.words().iter().enumerate() {
            if !self.free.is_set(self.machine.blocks(), i) {
                kinds[word.kind() as usize >> 26] += 1;
            }
        }
        kinds
    }

    /// Whether an audit is asked for: idle CPUs leave the frames alone.
    pub fn is_quiet(&self) -> bool {
        self.quiet.load(Relaxed) != 0
    }
}
