//! The audit: everything counted. References equal mappings, free and used frames are all frames, no table is lost; each entry
//! grants what its segment grants, and shows what its segment shows; each table is there for something.
//!
//! It runs when nothing else does: no thread in any of the spaces, no CPU in mm. The caller provides one counter a frame.

use crate::arena::Arena;
use crate::entry::Word;
use crate::frames::{Frame, Owners, Role};
use crate::list::List;
use crate::machine::Machine;
use crate::memory::Memory;
use crate::page::{ARENA_PAGES, Access, LEVELS, TABLE_BITS};
use crate::segment::Flags;
use crate::space::Space;
use crate::users::Users;

/// What an audit found. All of `lost`, `wrong`, `torn`, `rights`, `foreign`, `bare`, `slots_wrong` must be zero.
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
    /// a reachable table, a page in a slot that is not private, a transit segment at rest, a segment whose object counts other writers
    /// than those that are mapped.
    pub torn: u64,
    /// Entries that grant what their segments do not, or stores to an object's page in a private mapping.
    pub rights: u64,
    /// Entries with a page that is not private and not the one that the segment's object has there, and private pages in shared mappings.
    pub foreign: u64,
    /// Tables without a reason: nothing is mapped in their span, and their arena does not remember it (see `bare`).
    pub bare: u64,
    /// The first frame with a finding.
    pub first: Option<Frame>,
}

impl Report {
    /// Whether nothing is amiss.
    pub fn is_clean(&self) -> bool {
        self.lost == 0
            && self.wrong == 0
            && self.torn == 0
            && self.rights == 0
            && self.foreign == 0
            && self.bare == 0
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
        r.free = self.free_frames();
        for (i, word) in self.machine.frame_words().iter().enumerate() {
            let (f, found) = (Frame(i as u32), counts[i]);
            let free = self.free.has(&self.machine, f);
            match word.role() {
                Role::Slab if !free => r.slabs += 1,
                Role::Kernel if !free => r.kernel += 1,
                Role::Table if !free => {
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
            list.each(0, ARENA_PAGES, &mut |p| {
                r.torn += p.flags.contains(Flags::TRANSIT) as u64;
                true
            });
            Walk { memory: self, arena, list, counts, r }.entry(arena.table.load(), LEVELS, 0);
        }
    }

    /// Frames by state, as far as it can be known while others work: `(total, free)`.
    pub fn frame_counts(&self) -> (u64, u64) {
        (self.total_frames(), self.free_frames().min(self.total_frames()))
    }

    /// Frames by what they are, as it looks now: pages (free ones in caches too), tables, slabs, the kernel's own. For a report when
    /// memory is gone: one look at each frame's word.
    pub fn roles(&self) -> [u64; 4] {
        let mut roles = [0; 4];
        for (i, word) in self.machine.frame_words().iter().enumerate() {
            if !self.free.has(&self.machine, Frame(i as u32)) {
                roles[word.role() as usize >> 26] += 1;
            }
        }
        roles
    }

    /// Whether an audit is asked for: idle CPUs leave the frames alone.
    pub fn is_quiet(&self) -> bool {
        self.free.is_quiet()
    }
}

/// What the audit looks at in an arena, and where it counts.
struct Walk<'w, M: Machine> {
    memory: &'w Memory<M>,
    arena: &'w Arena,
    list: List<'w>,
    counts: &'w mut [u32],
    r: &'w mut Report,
}

impl<M: Machine> Walk<'_, M> {
    /// An entry of `level`, whose first page is `base`, and all below it.
    fn entry(&mut self, w: Word, level: u32, base: u32) {
        self.r.torn += w.is_sealed() as u64;
        if level == 0 {
            return self.page(w, base);
        }
        let Some(table) = w.frame() else { return };
        self.counts[table.0 as usize] |= TABLE;
        let end = base + (1 << (TABLE_BITS * level));
        if level < LEVELS && self.list.is_free(base, end) && !self.arena.bare.any_in(base, end) {
            self.r.bare += 1;
            self.r.blame(table);
        }
        for (entry, i) in self.memory.machine.table(table).iter().zip(0u32..) {
            let w = entry.load();
            if w != Word::empty(0) {
                self.entry(w, level - 1, base + (i << (TABLE_BITS * (level - 1))));
            }
        }
    }

    /// A page's own entry.
    fn page(&mut self, w: Word, page: u32) {
        if w.is_empty() || w.is_sealed() {
            return;
        }
        let (m, part) = (self.memory, self.list.find(page));
        let mut torn = part.is_none();
        if w.is_swapped() {
            self.r.slots += 1;
            torn |= !w.is_swapped_private();
        }
        let (mut rights, mut foreign) = (false, false);
        if let Some(f) = w.frame() {
            let zero = f == m.zero_page();
            self.counts[f.0 as usize] += !zero as u32;
            // Written in place: nobody else has it, and no slot is named as having its content.
            let others = w.is_private() && !w.is_cow() && w.is_present() && m.frame_word(f).owners() != Owners::One;
            torn |= others && w.allows(Access::Write);
        }
        if let Some(p) = part {
            rights = [Access::Read, Access::Write, Access::Exec].iter().any(|&a| w.allows(a) && !p.prot.allows(a));
            let shared = p.flags.contains(Flags::SHARED);
            if w.is_private() {
                foreign = shared;
            } else if let Some(f) = w.frame() {
                // A page of the object that is shown here, at this very place; stores to it go to the object, or are none.
                // SAFETY: the read section keeps the segment's leaf, which holds a reference.
                let object = unsafe { p.object.as_ref() };
                let index = p.offset + (page - p.start) as u64;
                let its = object.and_then(|o| m.object_entry(o, index, false).ok().flatten());
                foreign = its.and_then(|e| e.load().frame()) != Some(f);
                rights |= !shared && w.allows(Access::Write);
            }
        }
        self.r.torn += torn as u64;
        self.r.rights += rights as u64;
        self.r.foreign += foreign as u64;
        if (torn || rights || foreign)
            && let Some(f) = w.frame()
        {
            self.r.blame(f);
        }
    }
}

#[cfg(test)]
mod tests;
