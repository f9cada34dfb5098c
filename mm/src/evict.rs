//! Eviction: the entry side of swapping. A scan of page tables with second chance on the Accessed bit; no reverse map.
//!
//! 1. The scan takes the arena's reclaim bit; so no other scan works there, and it has not begun under an edit ([`crate::scan`]).
//! 2. A private page, also a hidden one: the slot is made *leaving*, then `Page -> Swapped(slot)` takes the exact word that was
//!    judged, so an access or store in between makes it fail. A page whose frame names a slot with its content goes there without a
//!    write, together with others that share the frame.
//! 3. An object's page in a shared mapping is only unmapped: `Page -> Empty(g)`, with a generation of the scan's own.
//! 4. One shootdown for a batch. Only after all answers: slots are answered ([`Pager::answered`]), references of frames that were
//!    on a slot already go, and objects are asked to give up what nobody maps any more (`shared`).
//! 5. The bit goes after the last answer. No memory is needed, and nothing waits but for answers, apart from the bit (rules 4 and 5 of
//!    [`crate::scan`]); so there is no circle of waits.

use crate::arena::Arena;
use crate::entry::{Entry, Word};
use crate::frames::Frame;
use crate::machine::{GROUP, Machine, What};
use crate::object::ObjectRef;
use crate::page::{Page, PageRange};
use crate::pager::{Pager, Verdict};
use crate::scan::Reclaim;
use crate::segment::{Flags, Part};
use crate::shootdown::Pages;
use crate::sizes::{EVICT_BATCH as BATCH, TURNS};
use crate::slot::Slot;
use crate::space::Space;
use crate::stats::Counter;
use crate::sync::{Ordering::*, fence};
use crate::walk::{index, next_table};

/// The round in which everything goes, accessed or not.
pub const EVERYTHING: u32 = 3;

/// What a scan did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Evicted {
    /// Pages that left their entries for a slot, or their object.
    pub pages: u64,
    /// Pages of objects that lost one mapping.
    pub unmapped: u64,
    /// Pages that the scan looked at.
    pub looked: u64,
    /// The swap area had no slot for a page that should have gone.
    pub full: bool,
    /// Arenas that were left out, because somebody edits or scans them.
    pub skipped: u64,
}

/// What has left entries and was not answered yet.
struct Batch {
    pages: Pages,
    len: usize,
    list: [Option<Gone>; BATCH],
}

/// One page of a batch.
enum Gone {
    /// To a slot of its own: the frame's reference is the slot's.
    New(Slot),
    /// To a slot that had the content: the entry's reference to the frame is ours.
    Known(Slot, Frame),
    /// Out of a mapping of an object's page.
    Shared(ObjectRef, u64, Frame),
}

impl Batch {
    fn push(&mut self, page: Page, gone: Gone) {
        self.pages.push(page);
        self.list[self.len] = Some(gone);
        self.len += 1;
    }

    fn is_full(&self) -> bool {
        self.len == BATCH
    }
}

/// A scan of one arena.
struct Scan<'a, M: Machine> {
    space: &'a Space<M>,
    arena: &'a Arena,
    pager: &'a dyn Pager,
    batch: Batch,
    round: u32,
    want: u64,
    /// The scan's generation, for entries of objects.
    g: u64,
    done: &'a mut Evicted,
}

impl<M: Machine> Space<M> {
    /// Evicts up to `want` pages, judging them as the pager does in `round`, from `cursor` on and at most once around. The cursor
    /// is where the next scan begins. The caller need not be active in the space, holds a reference to it, and is in no read section.
    pub fn evict(&self, want: u64, round: u32, cursor: &mut Page) -> Evicted {
        let mut done = Evicted::default();
        let start = *cursor;
        let all = PageRange { start, end: PageRange::LIMIT };
        *cursor = self.evict_range(all, want, round, &mut done);
        if *cursor >= PageRange::LIMIT {
            let rest = PageRange { start: Page(0), end: start };
            *cursor = self.evict_range(rest, want, round, &mut done);
        }
        done
    }

    /// Evicts all pages of a range that may go (MADV_PAGEOUT).
    pub fn page_out(&self, range: PageRange) -> Evicted {
        let mut done = Evicted::default();
        self.evict_range(range, u64::MAX, EVERYTHING, &mut done);
        done
    }

    /// Makes the pages of a range the first to go (MADV_COLD).
    pub fn cool(&self, range: PageRange) {
        self.each_entry(range, &mut |_, entry| {
            let e = entry.load();
            if e.frame().is_some() {
                // A lost race leaves it warm.
                let _ = entry.grow_old(e, 3);
            }
        });
    }

    /// The page behind the last one that was looked at.
    fn evict_range(&self, range: PageRange, want: u64, round: u32, done: &mut Evicted) -> Page {
        let Some(pager) = self.memory().machine.pager() else { return range.end };
        for (i, lo, hi) in range.by_arena() {
            let Some(arena) = self.arena(i) else { continue };
            let bit = arena.try_reclaim(self.memory()).or_else(|| self.reclaim_in_turn(arena, round));
            let Some(_bit) = bit else {
                done.skipped += 1;
                continue;
            };
            // AcqRel: as for a sweep; whoever reads `Empty(g)` reads a list not older than the one the scan read.
            let g = arena.generation.fetch_add(1, AcqRel) + 1;
            let batch = Batch { pages: Pages::none(), len: 0, list: [const { None }; BATCH] };
            let at = Scan { space: self, arena, pager, batch, round, want, g, done }.scan(lo, hi);
            if at < hi {
                return Page::of(i, at);
            }
        }
        range.end
    }

    /// In the last round nothing is left out: whoever finds nothing then takes it that there is nothing, and a victim is chosen. So
    /// others' scans are waited for, which end by themselves, and edits ([`crate::scan`], rule 5).
    fn reclaim_in_turn<'a>(&self, arena: &'a Arena, round: u32) -> Option<Reclaim<'a>> {
        static TURN: What = What { text: "its turn to scan an arena", show: |i, f| write!(f, "arena {i}") };
        let mut since = 0;
        for _ in 0..if round < EVERYTHING { 0 } else { TURNS } {
            since = self.memory().pause(&TURN, arena.index as u64, since);
            if let Some(bit) = arena.try_reclaim(self.memory()) {
                return Some(bit);
            }
        }
        None
    }
}

impl<M: Machine> Scan<'_, M> {
    /// Scans `lo .. hi`; the page behind the last one that was looked at.
    fn scan(mut self, lo: u32, hi: u32) -> u32 {
        let m = self.space.memory();
        let mut page = lo;
        while page < hi && !self.is_enough() {
            let pin = m.pin();
            let Some(p) = self.arena.list(&pin).at_or_above(page) else {
                page = hi;
                break;
            };
            page = page.max(p.start);
            let end = p.end.min(hi);
            if p.flags.intersects(Flags::TRANSIT | Flags::LOCKED) {
                page = end.max(page);
                continue;
            }
            match self.arena.leaf(m, &pin, page) {
                Ok(table) => {
                    let next = next_table(page, None, end);
                    while page < next && !self.is_enough() && !self.batch.is_full() {
                        let rest = &table[index(page, 0)..];
                        match rest.first_chunk::<GROUP>() {
                            Some(group) if rest[0].load().is_empty() && m.machine.are_empty(group) => {
                                page = next.min(page + GROUP as u32);
                            }
                            _ => {
                                self.entry(&rest[0], p, page);
                                page += 1;
                            }
                        }
                    }
                }
                Err(missing) => page = next_table(page, Some(missing), end),
            }
            drop(pin);
            if self.batch.is_full() {
                self.answer();
            }
            m.serve();
        }
        self.answer();
        page.min(hi)
    }

    fn is_enough(&self) -> bool {
        self.done.full || self.done.pages + self.batch.len as u64 >= self.want
    }

    fn entry(&mut self, entry: &Entry, p: &Part, page: u32) {
        let m = self.space.memory();
        let e = entry.load();
        let Some(f) = e.frame() else { return };
        let shared = !e.is_private() && e.is_present() && p.flags.contains(Flags::SHARED) && !p.object.is_null();
        if f == m.zero_page() || !(e.is_private() || shared) {
            return;
        }
        self.done.looked += 1;
        if let Verdict::Keep(age) = self.pager.judge(e.is_accessed(), e.age(), self.round) {
            // A lost race is an access.
            let _ = entry.grow_old(e, age);
            m.stats.add(&m.machine, Counter::EvictKept, 1);
            return;
        }
        let here = Page::of(self.arena.index, page);
        if shared {
            if entry.unmap(e, self.g).is_ok() {
                // SAFETY: the caller's read section keeps the segment's leaf, which holds a reference.
                let object = unsafe { ObjectRef::another(p.object) };
                self.batch.push(here, Gone::Shared(object, p.offset + (page - p.start) as u64, f));
            }
        } else if let Some(gone) = self.private(entry, e, f) {
            self.batch.push(here, gone);
        }
    }

    /// Rule 2. `None`: the page stays.
    fn private(&mut self, entry: &Entry, e: Word, f: Frame) -> Option<Gone> {
        let m = self.space.memory();
        let word = m.frame_word(f);
        // What may be written in place has no slot with its content.
        if let Some((slot, linked)) = word.slot().filter(|_| e.is_cow()) {
            if self.pager.join(slot, f, &mut || word.slot() == Some((slot, true))) {
                if entry.evict(e, slot).is_ok() {
                    return Some(Gone::Known(slot, f));
                }
                self.pager.stay(slot);
                return None;
            }
            if linked {
                // The slot is being read, or has gone bad: cached or linked, never both.
                return None;
            }
        }
        let Some(slot) = self.pager.reserve(m.machine.cpu(), f) else {
            self.done.full = true;
            return None;
        };
        if entry.evict(e, slot).is_err() {
            self.pager.unreserve(slot);
            return None;
        }
        // The slot is held until it is answered, and holds the frame.
        word.note(slot);
        Some(Gone::New(slot))
    }

    /// Rule 4.
    fn answer(&mut self) {
        let m = self.space.memory();
        if self.batch.len == 0 {
            return;
        }
        // Pairs with the fences of joining and activation.
        fence(SeqCst);
        let others = self.space.others_in(self.arena);
        if others != 0 {
            m.shoot(Counter::ShootdownEvict, others, &self.batch.pages);
        }
        self.batch.pages.invalidate_here(&m.machine);
        for gone in self.batch.list[..self.batch.len].iter_mut().filter_map(Option::take) {
            match gone {
                Gone::New(slot) => {
                    self.pager.answered(slot);
                    self.done.pages += 1;
                }
                Gone::Known(slot, f) => {
                    self.pager.answered(slot);
                    m.release(f);
                    self.done.pages += 1;
                }
                Gone::Shared(object, index, f) => {
                    m.release(f);
                    self.done.unmapped += 1;
                    match m.give_up(self.pager, &object, index) {
                        Ok(went) => self.done.pages += went as u64,
                        Err(()) => self.done.full = true,
                    }
                }
            }
        }
        m.stats.add(&m.machine, Counter::Evict, self.batch.len as u64);
        self.batch.pages.clear();
        self.batch.len = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Cpu, memory};

    /// Two scans that each left out what the other had took that for others' progress, for ever. The last round leaves nothing out.
    #[test]
    fn the_last_round_waits_for_its_turn() {
        let m = memory(100);
        let _cpu = Cpu::new(m, 0);
        let space = &*std::boxed::Box::leak(std::boxed::Box::new(Space::new(m)));
        let arena = space.arena_or_new(0).expect("a node");
        let scan = arena.try_reclaim(m).expect("nobody edits or scans");
        assert!(space.reclaim_in_turn(arena, EVERYTHING - 1).is_none(), "a gentle scan waited");
        let other = std::thread::spawn(move || {
            let _cpu = Cpu::new(m, 1);
            space.reclaim_in_turn(space.arena(0).expect("an arena"), EVERYTHING).is_some()
        });
        std::thread::sleep(std::time::Duration::from_millis(20));
        drop(scan);
        assert!(other.join().expect("no panic"), "the last round has left an arena out");
    }
}
