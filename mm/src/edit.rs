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
//! An edit that only adds stops after 2. *Why it is right*: a fault reads the entry first and the list second. If it looked up
//! the old list, its read of the entry precedes the sweep's write (else it would have read, with Acquire, the sweep's
//! `Empty(g)` and with it the new list); so its compare-and-swap comes before the sweep, which then finds the page, or fails.
//!
//! Memory: nodes are taken while the new list is built, before anything is published; a shortage undoes what was built, and
//! the caller tries again outside of the claim. The second publish of a replacing edit cannot fail: without memory it takes
//! nodes that were put aside before ([`crate::exchange`]).

use crate::arena::Arena;
use crate::build::{Builder, Change};
use crate::error::EditError;
use crate::exchange::{Exchange, Reserve};
use crate::guard::GUARD;
use crate::list::{List, Node};
use crate::machine::Machine;
use crate::page::{ARENA_PAGES, PageRange, Prot};
use crate::segment::{Flags, Part};
use crate::space::Space;
use crate::splice::{Act, Splice, Spliced};
use crate::stats::Counter;
use crate::sweep::Fate;
use crate::sync::Ordering::*;
use crate::version::Version;

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

/// What came of an edit that one leaf may be enough for.
pub(crate) enum Quick {
    /// It is published.
    Done,
    /// As `Done`, and a table may be bare now.
    Bare,
    /// Another edit was faster: once more, with its list.
    Late,
    /// One leaf is not enough.
    Larger,
    /// Something is mapped there already.
    Occupied,
    /// Nothing is mapped there.
    Free,
    /// Part of it is not mapped.
    Hole,
    /// Nothing would change.
    Same,
    /// A segment of it must stay as it is.
    Refused,
}

impl<M: Machine> Space<M> {
    /// Unmaps a range; holes in it are fine.
    #[inline]
    pub fn unmap(&self, range: PageRange) -> Result<(), EditError> {
        self.memory.stats.add(&self.memory.machine, Counter::Unmap, 1);
        if let Some((arena, lo, hi)) = range.one_arena() {
            return self.arena(arena).map_or(Ok(()), |arena| self.put(arena, lo, hi, &mut Act::Remove, Over::All));
        }
        self.unmap_across(range)
    }

    /// As [`Space::unmap`], of a range that spans arenas; on `OutOfFrames` what lies before is unmapped already.
    #[cold]
    fn unmap_across(&self, range: PageRange) -> Result<(), EditError> {
        let claims = self.claim_ranges([range]);
        let gone = range.by_arena().try_for_each(|(index, lo, hi)| {
            let Some(arena) = self.arena(index) else { return Ok(()) };
            if !arena.list(&self.memory().pin()).is_free(lo, hi) {
                self.publish(arena, lo, hi, &Change::Put(None), None, |_| Ok(()))?;
                self.sweep(arena, lo, hi, Fate::Gone);
            }
            Ok(())
        });
        drop(claims);
        self.left_bare_across(range);
        gone
    }

    /// Maps a part at `lo .. hi`, or unmaps what is there, as `act` says: map, replace and unmap.
    pub(crate) fn put(&self, arena: &Arena, lo: u32, hi: u32, act: &mut Act<'_>, over: Over) -> Result<(), EditError> {
        let claim = arena.claims.acquire_one(self.memory(), lo, hi);
        let asked = if let Act::Insert(part) = act { Some(*part) } else { None };
        if let Act::Insert(part) = act {
            *part = part.with_future(self.future_flags());
        }
        let plain = over != Over::Spaced || !arena.is_guarded() && hi + GUARD <= ARENA_PAGES;
        if plain {
            match self.splice(arena, lo, hi, act)? {
                made @ (Quick::Done | Quick::Bare) if matches!(act, Act::Remove) => {
                    self.sweep(arena, lo, hi, Fate::Gone);
                    drop(claim);
                    if matches!(made, Quick::Bare) {
                        self.left_bare(arena, lo, hi);
                    }
                    return Ok(());
                }
                Quick::Done | Quick::Free => return Ok(()),
                Quick::Occupied if over != Over::All => return Err(EditError::Exists),
                _ => {}
            }
        }
        // What every new segment gets may be something else under the next claim.
        drop(claim);
        self.put_any(arena, lo, hi, asked, over)
    }

    /// As [`Space::put`], where more than one leaf changes or something is replaced.
    #[cold]
    #[inline(never)]
    fn put_any(&self, arena: &Arena, lo: u32, hi: u32, part: Option<Part>, over: Over) -> Result<(), EditError> {
        let m = self.memory();
        let replace = over == Over::All;
        let looks_free = || {
            let pin = m.pin();
            arena.list(&pin).is_free(lo, hi)
        };
        // The nodes that a replacement must not lack are taken before the claim, where it looks like one.
        let mut reserve = match part.is_some() && replace && !looks_free() {
            true => Some(Reserve::take(m, 1).ok_or(EditError::OutOfFrames)?),
            false => None,
        };
        let claim = arena.claims.acquire_one(m, lo, hi);
        let free = looks_free();
        if !free && part.is_some() && replace && reserve.is_none() {
            // Somebody mapped something meanwhile.
            drop(claim);
            return self.put_any(arena, lo, hi, part, over);
        }
        let part = part.map(|p| p.with_future(self.future_flags()));
        if free {
            // Neighbours may change under the claim of the range.
            let spaced = |list: List<'_>| match over == Over::Spaced && self.guarded(arena, list, hi).is_some() {
                true => Err(EditError::Exists),
                false => Ok(()),
            };
            return match part {
                Some(p) => self.publish(arena, lo, hi, &Change::Put(Some(p)), None, spaced),
                None => Ok(()),
            };
        }
        if !replace {
            return Err(EditError::Exists);
        }
        let mark = part.map(|p| transit(lo, hi, &p));
        self.publish(arena, lo, hi, &Change::Put(mark), None, |_| Ok(()))?;
        self.sweep(arena, lo, hi, Fate::Gone);
        if let Some(p) = part {
            return self.publish(arena, lo, hi, &Change::Put(Some(p)), reserve.as_mut(), |_| Ok(()));
        }
        drop(claim);
        self.left_bare(arena, lo, hi);
        Ok(())
    }

    /// Step 2, where one leaf is enough.
    #[inline]
    pub(crate) fn splice(&self, arena: &Arena, lo: u32, hi: u32, act: &mut Act<'_>) -> Result<Quick, EditError> {
        loop {
            match self.try_splice(arena, lo, hi, act)? {
                Quick::Late => self.memory.serve(),
                made => return Ok(made),
            }
        }
    }

    #[inline(never)]
    fn try_splice(&self, arena: &Arena, lo: u32, hi: u32, act: &mut Act<'_>) -> Result<Quick, EditError> {
        let m = self.memory();
        let pin = m.pin();
        let old = arena.list(&pin).root();
        let mut new = Splice::new(m);
        // SAFETY: the read section keeps the old nodes until the version is gone.
        Ok(match unsafe { new.make(old, lo, hi, act) } {
            Spliced::Made => match self.publish_version(arena, old, &mut new, true)? {
                true if new.is_bare() => Quick::Bare,
                true => Quick::Done,
                false => Quick::Late,
            },
            Spliced::OutOfNodes => return Err(EditError::OutOfFrames),
            Spliced::Larger => Quick::Larger,
            Spliced::Occupied => Quick::Occupied,
            Spliced::Free => Quick::Free,
            Spliced::Hole => Quick::Hole,
            Spliced::Same => Quick::Same,
            Spliced::Refused => Quick::Refused,
        })
    }

    /// Step 2. `check` looks at the root that is going to be replaced. With a reserve it cannot fail for lack of memory: `change`
    /// puts something, or nothing, in the place of a segment that is exactly `lo .. hi`.
    pub(crate) fn publish(
        &self,
        arena: &Arena,
        lo: u32,
        hi: u32,
        change: &Change<'_>,
        mut reserve: Option<&mut Reserve<'_, M>>,
        check: impl Fn(List<'_>) -> Result<(), EditError>,
    ) -> Result<(), EditError> {
        let m = self.memory();
        // An edit that has begun, and has its nodes, is not refused for its number of segments.
        let limited = reserve.is_none();
        loop {
            let pin = m.pin();
            let list = arena.list(&pin);
            check(list)?;
            let mut built = Builder::start(m);
            // SAFETY: the read section keeps the old nodes until the builder is gone.
            let published = match unsafe { built.edit(list.root(), lo, hi, change) } {
                Ok(()) => self.publish_version(arena, list.root(), &mut built, limited)?,
                Err(_) => {
                    drop(built);
                    let reserve = reserve.as_deref_mut().ok_or(EditError::OutOfFrames)?;
                    self.exchange(arena, list.root(), lo, change, reserve)?
                }
            };
            if published {
                return Ok(());
            }
            drop(pin);
            m.serve();
        }
    }

    /// Step 2 without memory. `old` is the root that the caller has read in his read section. False: another edit was faster.
    #[cold]
    fn exchange(
        &self,
        arena: &Arena,
        old: *mut Node,
        lo: u32,
        change: &Change<'_>,
        reserve: &mut Reserve<'_, M>,
    ) -> Result<bool, EditError> {
        // SAFETY: the caller's read section.
        let made = unsafe { Exchange::make(reserve, old, lo, change.put().as_ref()) };
        self.publish_version(arena, old, &mut made.ok_or(EditError::OutOfFrames)?, false)
    }

    /// Replaces the root `old` by a version made from it, inside one read section. False: another edit was faster.
    #[inline]
    fn publish_version(
        &self,
        arena: &Arena,
        old: *mut Node,
        new: &mut impl Version,
        limited: bool,
    ) -> Result<bool, EditError> {
        let m = self.memory();
        let grown = new.grown();
        if grown > 0 && limited && self.has_too_many(arena, grown as u64) {
            return Err(EditError::TooMany);
        }
        new.own();
        // Release publishes the nodes; Acquire because retiring follows.
        if arena.list.compare_exchange(old, new.root(), AcqRel, Acquire).is_ok() {
            // SAFETY: `old` was replaced by this very compare-and-swap.
            unsafe { new.retire_old(old) };
            if grown != 0 {
                arena.segments.fetch_add(grown as u64, Relaxed);
            }
            return Ok(true);
        }
        new.undo();
        m.stats.add(&m.machine, Counter::RetryRoot, 1);
        Ok(false)
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
