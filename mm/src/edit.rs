//! Edits: claim, publish, generation, sweep, flush. Each edit is this sequence or a part of it: one that only adds ends with the publish, a
//! discard publishes nothing, a protection that widens sweeps nothing. Edits that leave the segments where they are have their own
//! file, [`crate::inplace`].
//!
//! 1. Claim the range.
//! 2. Publish the new list by compare-and-swap on its root; one read section spans from reading the root to the
//!    compare-and-swap. On failure rebuild from the new root. An edit that replaces a live mapping first publishes the range
//!    as *in transit*.
//! 3. `g = generation + 1`.
//! 4. Sweep.
//! 5. Flush.
//! 6. A replacing edit publishes the final segment. Drop the claim.
//! 7. Where segments went, tables that reach beyond the range may be bare now ([`crate::bare`]).
//!
//! An edit that only adds stops after 2. *A replacement that only adds*: where the range's segments grant nothing, and no entry holds
//! anything (looked at where the range lies in one leaf table), step 2 is all. No fault installs anything there before the publish, for
//! none is granted; the edit that took the rights away was over before this one's claim, so faults with an older list have failed.
//!
//! *Why a sweep leaves nothing behind*: a fault reads the entry first and the list second. If it looked up the old list, its read of the
//! entry precedes the sweep's write (else it would have read, with Acquire, the sweep's `Empty(g)` and with it the new list); so its
//! compare-and-swap comes before the sweep, which then finds the page, or fails.
//!
//! Memory: nodes are taken while the new list is built, before anything is published; a shortage undoes what was built, and
//! the caller tries again outside of the claim. The second publish of a replacing edit cannot fail: without memory it takes
//! nodes that were put aside before ([`crate::publish`]).

use crate::arena::Arena;
use crate::error::EditError;
use crate::list::List;
use crate::machine::Machine;
use crate::page::{PageRange, Prot, TABLE_BITS};
use crate::publish::Reserve;
use crate::segment::{Flags, Part};
use crate::space::Space;
use crate::stats::Counter;
use crate::sweep::Fate;
use crate::walk::index;

/// What a mapping or an unmapping may meet in its range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Over {
    /// Whatever there is.
    All,
    /// Nothing.
    Nothing,
    /// Nothing, and no segment above that would lose its [guard](crate::guard).
    Spaced,
}

impl<M: Machine> Space<M> {
    /// Unmaps a range; holes in it are fine.
    #[inline]
    pub fn unmap(&self, range: PageRange) -> Result<(), EditError> {
        self.memory.stats.add(&self.memory.machine, Counter::Unmap, 1);
        if let Some((arena, lo, hi)) = range.one_arena() {
            return self.arena(arena).map_or(Ok(()), |arena| self.take_out(arena, lo, hi));
        }
        self.unmap_across(range)
    }

    /// As [`Space::unmap`], of a range that spans arenas; on `OutOfFrames` what lies before is unmapped already.
    #[cold]
    fn unmap_across(&self, range: PageRange) -> Result<(), EditError> {
        let claims = self.claim_ranges([range]);
        let gone = range.by_arena().try_for_each(|(index, lo, hi)| {
            let Some(arena) = claims.arena(index) else { return Ok(()) };
            if self.publish(arena, lo, hi, None, |_| Ok(()), None)?.changed {
                self.sweep(arena, lo, hi, Fate::Gone);
            }
            Ok(())
        });
        drop(claims);
        self.left_bare_across(range);
        gone
    }

    /// Unmaps what is in a range of one arena.
    #[inline]
    fn take_out(&self, arena: &Arena, lo: u32, hi: u32) -> Result<(), EditError> {
        let claim = arena.claims.acquire_one(self.memory(), lo, hi);
        let done = self.publish(arena, lo, hi, None, |_| Ok(()), None)?;
        if !done.changed {
            return Ok(());
        }
        self.sweep(arena, lo, hi, Fate::Gone);
        drop(claim);
        if done.may_leave_bare(lo, hi) {
            self.left_bare(arena, lo, hi);
        }
        Ok(())
    }

    /// Maps a part.
    pub(crate) fn put(&self, arena: &Arena, part: &Part, over: Over) -> Result<(), EditError> {
        let (lo, hi) = (part.start, part.end);
        let claim = arena.claims.acquire_one(self.memory(), lo, hi);
        let new = part.with_future(self.future_flags());
        let spaced = |list: List<'_>| self.leaves_guard(arena, list, hi, over);
        // What grants nothing and holds nothing is as good as a hole: a replacement that only adds.
        let mut untouched = None;
        let mut idle = |p: &Part| {
            over == Over::All && p.prot.is_empty() && *untouched.get_or_insert_with(|| self.is_untouched(arena, lo, hi))
        };
        match self.publish(arena, lo, hi, Some(new), spaced, Some(&mut idle)) {
            Ok(_) => Ok(()),
            Err(EditError::Exists) if over == Over::All => {
                drop(claim);
                self.replace(arena, part)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether a part that ends at `hi` may be put into a list, for its segments above: neighbours change under the claim of the range.
    #[inline]
    pub(crate) fn leaves_guard(&self, arena: &Arena, list: List<'_>, hi: u32, over: Over) -> Result<(), EditError> {
        match over == Over::Spaced && self.guarded(arena, list, hi).is_some() {
            true => Err(EditError::Exists),
            false => Ok(()),
        }
    }

    /// Whether no entry of a claimed range holds anything, if that is quickly seen: in one leaf table. So it stays under the claim,
    /// while the range's segments grant nothing.
    fn is_untouched(&self, arena: &Arena, lo: u32, hi: u32) -> bool {
        let (first, last) = (index(lo, 0), index(hi - 1, 0));
        let one = (lo ^ (hi - 1)) >> TABLE_BITS == 0;
        one && arena
            .leaf_claimed(self.memory(), lo)
            .map_or(true, |t| t[first..=last].iter().all(|e| e.load().is_empty()))
    }

    /// As [`Space::put`], over what is mapped there.
    #[cold]
    #[inline(never)]
    fn replace(&self, arena: &Arena, part: &Part) -> Result<(), EditError> {
        let (lo, hi) = (part.start, part.end);
        // Before the claim: whoever is short of memory holds nothing.
        let reserve = Reserve::take(self.memory(), 1)?;
        let _claim = arena.claims.acquire_one(self.memory(), lo, hi);
        let new = part.with_future(self.future_flags());
        let mark = transit(lo, hi, &new);
        self.publish(arena, lo, hi, Some(mark), |_| Ok(()), None)?;
        self.sweep(arena, lo, hi, Fate::Gone);
        self.publish_reserved(arena, lo, hi, Some(new), &reserve)
    }
}

/// The range while it is being replaced: faults wait.
pub(crate) fn transit(start: u32, end: u32, like: &Part) -> Part {
    Part {
        start,
        end,
        prot: Prot::empty(),
        flags: Flags::TRANSIT | Flags::UNMERGED | like.flags & (Flags::SHARED | Flags::GROWS_DOWN),
        object: core::ptr::null(),
        offset: 0,
    }
}
