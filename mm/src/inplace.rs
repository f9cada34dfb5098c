//! Edits in place: the segments of a range get other rights or flags, or lose their contents, and stay where they are.
//!
//! *What may be changed is decided under the claim.* Nobody else changes the segments of a claimed range, so what an edit finds there
//! holds until it is over. A look before the claim is a guess: the mapping may be another one by then (model `protect-decides`). What only
//! the caller knows it says in a [`Check`], which is asked under the claim, too.
//!
//! *What lies before is done.* As on Linux, an edit goes from segment to segment. It ends at the first one that is refused, and some
//! edits end at the first hole; what lies before is changed nevertheless, and the error says why it ended. A range that spans arenas is
//! edited one arena after the other, under claims of all of it: nothing moves past the edit meanwhile.

use crate::arena::Arena;
use crate::error::EditError;
use crate::machine::Machine;
use crate::object::Object;
use crate::page::{ARENA_PAGES, ENTRIES, Page, PageRange, Prot};
use crate::publish::Change;
use crate::segment::{Flags, Part, Seen};
use crate::space::Space;
use crate::stats::Counter;
use crate::sweep::Fate;
use crate::walk::index;

/// The longest range whose pages are made writable ahead of their next stores.
const AHEAD: u32 = 64;

/// Whether an edit may change a segment. It runs under the claim and inside a read section, perhaps more than once: it only looks.
pub type Check<'a> = &'a dyn Fn(&Seen) -> bool;

/// Whether an edit takes a segment with these flags, which shows an object or does not; as [`Check`].
pub type Takes<'a> = &'a dyn Fn(Flags, bool) -> bool;

/// What an edit does at a hole in its range.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holes {
    /// It ends there.
    End,
    /// It goes on behind it, and says at the end that there was one.
    Skip,
}

impl<M: Machine> Space<M> {
    /// Gives a range another protection, as far as it is mapped and may have it.
    pub fn protect(&self, range: PageRange, prot: Prot) -> Result<(), EditError> {
        self.protect_checked(range, prot, None)
    }

    /// As [`Space::protect`], as far as `check` allows it.
    pub fn protect_checked(&self, range: PageRange, prot: Prot, check: Option<Check<'_>>) -> Result<(), EditError> {
        let m = self.memory();
        m.stats.add(&m.machine, Counter::Protect, 1);
        let may = |p: &Part, arena: &Arena, lo: u32, hi: u32| match check {
            _ if prot.contains(Prot::WRITE) && p.flags.contains(Flags::READ_ONLY) => Err(EditError::ReadOnly),
            Some(check) if !check(&p.seen(arena.index, lo, hi)) => Err(EditError::Refused),
            _ => Ok(()),
        };
        self.each_part(range, Holes::End, |arena, lo, hi| {
            let (mut narrows, mut widens) = (false, false);
            let (hi, end) = self.change_each(arena, lo, hi, Holes::End, |p| {
                may(p, arena, lo, hi)?;
                narrows |= !prot.contains(p.prot);
                widens |= p.prot != prot;
                Ok((prot, p.flags))
            });
            if hi == lo {
                return end;
            }
            if narrows {
                self.sweep(arena, lo, hi, Fate::Narrow(prot));
            } else if widens && prot.contains(Prot::WRITE) {
                self.widen_ahead(arena, lo, hi, prot);
            }
            end
        })
    }

    /// Drops the contents of a range: anonymous memory reads as zeros again, a private mapping as its object. Holes are skipped.
    pub fn discard(&self, range: PageRange) -> Result<(), EditError> {
        self.discard_such(range, &|_, _| true)
    }

    /// As [`Space::discard`], up to the first segment that `takes` refuses (`Refused`).
    pub fn discard_such(&self, range: PageRange, takes: Takes<'_>) -> Result<(), EditError> {
        let m = self.memory();
        m.stats.add(&m.machine, Counter::Discard, 1);
        self.each_part(range, Holes::Skip, |arena, lo, hi| {
            let (to, end) = self.reach(arena, lo, hi, Holes::Skip, |p| taken(takes, p));
            if to > lo {
                self.sweep(arena, lo, to, Fate::Emptied);
            }
            end
        })
    }

    /// Sets and clears flags of the segments in a range, up to the first that `takes` refuses (`Refused`). Holes are skipped, and told
    /// of in the end (`NotMapped`).
    pub fn set_flags(&self, range: PageRange, set: Flags, clear: Flags, takes: Takes<'_>) -> Result<(), EditError> {
        self.change_flags(range, set, clear, Holes::Skip, takes)
    }

    /// As [`Space::set_flags`], up to the first hole (`NotMapped`).
    pub fn set_flags_to_hole(&self, range: PageRange, set: Flags, clear: Flags) -> Result<(), EditError> {
        self.change_flags(range, set, clear, Holes::End, &|_, _| true)
    }

    fn change_flags(
        &self,
        range: PageRange,
        set: Flags,
        clear: Flags,
        holes: Holes,
        takes: Takes<'_>,
    ) -> Result<(), EditError> {
        self.each_part(range, holes, |arena, lo, hi| {
            let mut same = true;
            let (_, end) = self.change_each(arena, lo, hi, holes, |p| {
                taken(takes, p)?;
                let flags = (p.flags - clear) | set;
                same &= flags == p.flags;
                Ok((p.prot, flags))
            });
            if !same && set.contains(Flags::LOCKED) {
                // A scan that has read the older list still evicts.
                self.wait_for_scans(core::iter::once(arena));
            }
            end
        })
    }

    /// Unlocks what is mapped in a range that the caller has claimed. What cannot be unlocked for want of memory stays locked.
    #[cold]
    pub(crate) fn unlock_claimed(&self, range: PageRange) {
        for (index, lo, hi) in range.by_arena() {
            if let Some(arena) = self.arena(index) {
                let unlocked = |p: &Part| Ok((p.prot, p.flags - Flags::LOCKS));
                let _ = self.change_each(arena, lo, hi, Holes::Skip, unlocked);
            }
        }
    }

    /// Unmaps what is left in a range of a view of an object that showed all of it from the range's start on. `found`: there was
    /// something, and it is gone.
    pub fn unmap_view(&self, range: PageRange, object: &Object, found: &mut bool) -> Result<(), EditError> {
        let m = self.memory();
        for (index, lo, hi) in range.by_arena() {
            let Some(arena) = self.arena(index) else { continue };
            let first = Page::of(index, 0).0.wrapping_sub(range.start.0);
            let next = |from: u32| {
                let pin = m.pin();
                let mut next = None;
                arena.list(&pin).each(from, hi, &mut |p| {
                    if core::ptr::eq(p.object, object) && p.offset == first.wrapping_add(p.start as u64) {
                        next = Some((p.start.max(lo), p.end.min(hi)));
                    }
                    next.is_none()
                });
                next
            };
            let mut at = lo;
            loop {
                let claim = arena.claims.acquire_one(m, lo, hi);
                let Some((from, to)) = next(at) else { break };
                self.publish(arena, from, to, None, |_| Ok(()), None)?;
                self.sweep(arena, from, to, Fate::Gone);
                drop(claim);
                self.left_bare(arena, from, to);
                (*found, at) = (true, to);
            }
        }
        Ok(())
    }

    /// Waits until the edits are over that are under way now. The caller holds no claim, and is in no read section.
    pub fn await_edits(&self) {
        self.each_arena().for_each(|arena| arena.claims.wait_for(self.memory(), 0, ARENA_PAGES));
    }

    /// Calls `edit` for each arena's part of a range, under claims of all of it, until it fails; an arena without any segment is a hole.
    fn each_part(
        &self,
        range: PageRange,
        holes: Holes,
        mut edit: impl FnMut(&Arena, u32, u32) -> Result<(), EditError>,
    ) -> Result<(), EditError> {
        if let Some((index, lo, hi)) = range.one_arena() {
            let arena = self.arena(index).ok_or(EditError::NotMapped)?;
            let _claim = arena.claims.acquire_one(self.memory(), lo, hi);
            return edit(arena, lo, hi);
        }
        let claims = self.claim_ranges([range]);
        let mut end = Ok(());
        for (index, lo, hi) in range.by_arena() {
            match claims.arena(index).map_or(Err(EditError::NotMapped), |arena| edit(arena, lo, hi)) {
                Ok(()) => {}
                Err(EditError::NotMapped) if holes == Holes::Skip => end = Err(EditError::NotMapped),
                ends => return ends,
            }
        }
        end
    }

    /// How far an edit of `lo .. hi` goes, and why it ends there. Under the claim it stays so.
    fn reach(
        &self,
        arena: &Arena,
        lo: u32,
        hi: u32,
        holes: Holes,
        mut may: impl FnMut(&Part) -> Result<(), EditError>,
    ) -> (u32, Result<(), EditError>) {
        self.change_each(arena, lo, hi, holes, |p| may(p).map(|()| (p.prot, p.flags)))
    }

    /// Publishes other rights and flags of each segment in `lo .. hi`, one after the other: those that `change` says. Returns as
    /// [`Space::reach`].
    fn change_each(
        &self,
        arena: &Arena,
        lo: u32,
        hi: u32,
        holes: Holes,
        mut change: impl FnMut(&Part) -> Result<(Prot, Flags), EditError>,
    ) -> (u32, Result<(), EditError>) {
        let (mut at, mut hole) = (lo, false);
        while at < hi {
            // Where the next segment begins and ends, as far as it lies in the range.
            let mut found = None;
            let changed = self.publish_change(arena, |list| {
                let reached = |p: &&Part| p.start < hi && (p.start <= at || holes == Holes::Skip);
                let Some(p) = list.at_or_above(at).filter(reached) else { return Ok(None) };
                let (start, end) = (p.start.max(lo), p.end.min(hi));
                found = Some((start, end));
                let (prot, flags) = change(p)?;
                let other = (prot, flags) != (p.prot, p.flags);
                Ok(other.then(|| Change { lo: start, hi: end, new: Some(Part { prot, flags, ..p.clip(lo, hi) }) }))
            });
            let Some((start, end)) = found else {
                hole = true;
                break;
            };
            hole |= start > at;
            if let Err(why) = changed {
                return (start, Err(why));
            }
            at = end;
            // There may be many, and others wait for answers.
            self.memory().serve();
        }
        match hole {
            false => (hi, Ok(())),
            true => (if holes == Holes::Skip { hi } else { at }, Err(EditError::NotMapped)),
        }
    }

    /// After a wider protection: grants the right to store where pages are in memory and not shared, so that the next stores
    /// need no faults. Under the claim the range keeps `prot` and its tables, and no fork begins; so there is no list to be looked
    /// at. Nothing depends on it.
    #[inline]
    fn widen_ahead(&self, arena: &Arena, lo: u32, hi: u32, prot: Prot) {
        let m = self.memory();
        if hi - lo > AHEAD || self.active.bits() & 1 << m.machine.cpu() == 0 {
            return;
        }
        let mut page = lo;
        while page < hi {
            let end = (page | (ENTRIES as u32 - 1)).saturating_add(1).min(hi);
            if let Ok(table) = arena.leaf_claimed(m, page) {
                let mut at = Page::of(arena.index, page);
                for entry in &table[index(page, 0)..][..(end - page) as usize] {
                    let e = entry.load();
                    // A lost race leaves the page to its next fault.
                    if e.awaits_store() && entry.grant_store(e, prot).is_ok() {
                        m.machine.invalidate(at);
                    }
                    at.0 += 1;
                }
            }
            page = end;
        }
    }
}

fn taken(takes: Takes<'_>, p: &Part) -> Result<(), EditError> {
    if takes(p.flags, !p.object.is_null()) { Ok(()) } else { Err(EditError::Refused) }
}
