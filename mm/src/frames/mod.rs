//! Physical memory: frames, a metadata word for each, and bitmaps ([`bitmap`]), of which the free frames are one.

pub mod bitmap;

pub use bitmap::{Bitmap, Block};

use crate::slot::Slot;
use crate::sync::{AtomicU64, Ordering::*};

/// A frame: a physical address divided by [`PAGE`](crate::page::PAGE).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frame(pub u32);

impl Frame {
    /// The physical address of its first byte.
    pub const fn addr(self) -> u64 {
        self.0 as u64 * crate::page::PAGE as u64
    }
}

impl core::fmt::Debug for Frame {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "frame:{:#x}", self.0)
    }
}

/// The metadata word of a frame.
///
/// ```text
///  63 ........ 32     | 31 .. 29 | 28     | 27 .. 26 | 25     | 24    | 23 ..... 0
///  slot, next or mask | unused   | linked | role     | object | fresh | references
/// ```
///
/// * *Linked*: the page's content is in the swap slot that the upper half names, and the link holds that slot. Only while no
///   entry maps the page writable: whoever makes it writable breaks the link first. Links are made (`settle`) and
///   broken (`break_link`) by compare-and-swap only. A slot in the upper half without this bit is a mere *note*: the
///   slot may cache the frame, which its own word must confirm.
/// * *Object*: an object owns the page (one of the references) or the table.
/// * The role tells the audit what a frame is: a page (or free), a table, a slab, the kernel's own.
/// * A page's word counts its references: one for each entry (the zero page's entries excepted), one for the object that
///   owns it, one for each temporary user. *Fresh*: a copy-on-write break has published the page and its shootdown is not
///   answered yet; whoever would write waits.
/// * What reads which part: references and *fresh*, faults, forks and sweeps; slot and *linked*, [`link`](crate::link), for swapping
///   (docs/swap.md, section 4); the list, [`retire`](crate::retire); the mask, [`slab`](crate::slab).
/// * A retired table's upper half is the next frame of the list that waits for the grace period.
/// * A slab's upper half is the mask of its free nodes.
#[derive(Debug)]
#[repr(transparent)]
pub struct FrameWord(AtomicU64);

const COUNT: u64 = (1 << 24) - 1;
/// A fresh copy: the bit and the extra reference that keeps others from reusing it in place.
const FRESH: u64 = (1 << 24) + 1;
/// See [`FrameWord`].
const LINKED: u64 = 1 << 28;
const LOWER: u64 = u32::MAX as u64;
/// An object owns the frame.
const OBJECT: u64 = 1 << 25;
/// Above this, a frame refuses new references: far from overflow even if every CPU is one step beyond the check.
const COUNT_LIMIT: u64 = COUNT - 1024;

/// What a frame in use is, for the audit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Role {
    /// A page of some mapping or object, or a free frame.
    Page = 0,
    /// A table.
    Table = 1 << 26,
    /// Nodes.
    Slab = 2 << 26,
    /// The kernel's own: heap, stacks, devices.
    Kernel = 3 << 26,
}

/// Who has references to a page, for a break of copy-on-write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owners {
    /// A break of copy-on-write on this frame is under way.
    Fresh,
    /// One, and no slot is named as having its content.
    One,
    /// Others, or a link.
    Many,
}

/// What is left of a frame after a reference was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Left {
    /// Other references.
    Others,
    /// Nothing: the caller frees it.
    Nothing,
    /// A link to a slot, without references: the caller breaks it, and frees the frame.
    Link,
}

/// What became of a frame that left the swap cache ([`Memory::settle`](crate::Memory::settle)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Settled {
    /// It is mapped, and linked to the slot now: the caller's hold is the link's.
    Linked,
    /// It is mapped or cached elsewhere, and not linked to this slot.
    Dropped,
    /// That was the last reference. If it was linked, the link's hold is the caller's.
    Freed(Option<Slot>),
}

impl Left {
    /// After a reference was dropped from the word `old`.
    #[inline(always)]
    fn of(old: u64) -> Left {
        match old & (COUNT | LINKED) {
            1 => Left::Nothing,
            old if old == 1 | LINKED => Left::Link,
            _ => Left::Others,
        }
    }
}

impl FrameWord {
    /// The word of a frame that nobody uses.
    pub fn new() -> FrameWord {
        FrameWord(AtomicU64::new(0))
    }

    /// A new page with one reference. Release, here and below: pairs with [`FrameWord::try_ref`] of somebody who has read the frame's
    /// former place, and now reads that place again (race 52).
    pub(crate) fn start(&self) {
        self.0.store(1, Release);
    }

    /// A new page with one reference for the entry, fresh, with the extra reference that goes with that.
    pub(crate) fn start_fresh(&self) {
        self.0.store(1 + FRESH, Release);
    }

    /// A new page of an object, with one reference for it and one for the caller.
    pub(crate) fn start_object(&self) {
        self.0.store(2 | OBJECT, Release);
    }

    /// The object is about to give up its reference.
    pub(crate) fn leave_object(&self) {
        self.0.fetch_and(!OBJECT, Relaxed);
    }

    /// A table of an object.
    pub(crate) fn set_object_table(&self) {
        self.0.store(Role::Table as u64 | OBJECT, Relaxed);
    }

    /// Whether an object owns the frame.
    pub(crate) fn is_object(&self) -> bool {
        self.0.load(Relaxed) & OBJECT != 0
    }

    /// Ends the freshness: bit and extra reference in one step. Release: pairs with [`FrameWord::owners`], the answers come
    /// before the first reuse in place.
    /// True if that was the last reference: the page was unmapped meanwhile.
    #[must_use]
    pub(crate) fn end_fresh(&self) -> bool {
        (self.0.fetch_sub(FRESH, AcqRel) - FRESH) & COUNT == 0
    }

    /// A page that is about to be read from `slot` into its cache, with one reference, and a note of the slot.
    pub(crate) fn start_noted(&self, slot: Slot) {
        self.0.store(1 | (slot.0 as u64) << 32, Release);
    }

    /// Who has references, in one look: a copy may stop being fresh at any time, but never becomes fresh again, so `Many` are others' references.
    /// Acquire: pairs with the release of whoever dropped the last but one, so the reads of the page there come before the caller's
    /// writes.
    #[inline]
    pub(crate) fn owners(&self) -> Owners {
        let w = self.0.load(Acquire);
        if w & 1 << 24 != 0 {
            Owners::Fresh
        } else if w & (COUNT | LINKED) == 1 {
            Owners::One
        } else {
            Owners::Many
        }
    }

    /// Whether there is one reference, and nothing but a link to a slot forbids that its owner reuses the page in place.
    pub(crate) fn only_a_link_forbids_reuse(&self) -> bool {
        self.0.load(Acquire) & (COUNT | 1 << 24 | LINKED) == 1 | LINKED
    }

    /// The slot that the frame names, and whether that is a link.
    pub(crate) fn slot(&self) -> Option<(Slot, bool)> {
        let w = self.0.load(Acquire);
        (w >> 32 != 0 && w & Role::Kernel as u64 == 0).then_some((Slot((w >> 32) as u32), w & LINKED != 0))
    }

    /// Changes the word by compare-and-swap; the word as it was, or as it is where `step` has no next one.
    fn update(&self, step: impl Fn(u64) -> Option<u64>) -> Result<u64, u64> {
        let mut now = self.0.load(Acquire);
        loop {
            let Some(next) = step(now) else { return Err(now) };
            match self.0.compare_exchange(now, next, AcqRel, Acquire) {
                Ok(_) => return Ok(now),
                Err(v) => now = v,
            }
        }
    }

    /// Notes that `slot` caches the frame, in whose name the caller has a reference. A link stays.
    pub(crate) fn note(&self, slot: Slot) {
        let _ = self.update(|w| (w & LINKED == 0).then_some(w & LOWER | (slot.0 as u64) << 32));
    }

    /// Breaks a link: its hold of the slot is the caller's.
    #[must_use = "the slot's hold would be lost"]
    pub(crate) fn break_link(&self) -> Option<Slot> {
        let old = self.update(|w| (w & LINKED != 0).then_some(w & LOWER & !LINKED)).ok()?;
        Some(Slot((old >> 32) as u32))
    }

    /// Drops the swap cache's reference; `slot` has the content on the disk. If others have references, and it is not an
    /// object's (whose mappings write without asking), links it in the same step.
    pub(crate) fn settle(&self, slot: Slot) -> Settled {
        let step = |w: u64| match w & COUNT {
            0 => None,
            1 => Some((w - 1) & LOWER & !LINKED),
            _ if w & (LINKED | OBJECT) == 0 => Some((w - 1) & LOWER | LINKED | (slot.0 as u64) << 32),
            _ => Some(w - 1),
        };
        match self.update(step) {
            Ok(w) if w & COUNT == 1 => Settled::Freed((w & LINKED != 0).then_some(Slot((w >> 32) as u32))),
            Ok(w) if w & (LINKED | OBJECT) == 0 => Settled::Linked,
            Ok(_) => Settled::Dropped,
            Err(w) => panic!("a frame without references left the swap cache: {w:#x}"),
        }
    }

    /// A page becomes an object's: no link is made from then on.
    pub(crate) fn enter_object(&self) {
        self.0.fetch_or(OBJECT, AcqRel);
    }

    /// The number of references.
    pub fn count(&self) -> u64 {
        self.0.load(Acquire) & COUNT
    }

    /// Takes a reference unless there is none left (the frame may be anybody's then) or there are too many. `lost` hears of each
    /// round that another CPU made vain.
    #[must_use]
    #[inline]
    pub(crate) fn try_ref(&self, mut lost: impl FnMut()) -> bool {
        let mut v = self.0.load(Acquire);
        loop {
            let n = v & COUNT;
            if n == 0 || n > COUNT_LIMIT {
                return false;
            }
            match self.0.compare_exchange(v, v + 1, AcqRel, Acquire) {
                Ok(_) => return true,
                Err(now) => {
                    lost();
                    v = now;
                }
            }
        }
    }

    /// Whether it has as many references as it may have, as it looks now.
    #[cold]
    pub(crate) fn is_full(&self) -> bool {
        self.0.load(Acquire) & COUNT > COUNT_LIMIT
    }

    /// Takes one more reference, for a caller who knows that one stays meanwhile; false if there are too many. Relaxed: what makes
    /// the caller know orders its look at the page, and whoever may judge the count sees this step by what the caller does next.
    #[must_use]
    #[inline]
    pub(crate) fn add_ref(&self) -> bool {
        let old = self.0.fetch_add(1, Relaxed);
        debug_assert!(old & COUNT != 0, "a reference was added to a frame without one");
        if old & COUNT > COUNT_LIMIT {
            // There are many others, so this is not the last.
            self.0.fetch_sub(1, Relaxed);
            return false;
        }
        true
    }

    /// Drops a reference. AcqRel: Release orders the caller's use of the page before the free, Acquire lets the one who frees see
    /// all others' uses as past.
    #[must_use]
    #[inline]
    pub(crate) fn unref(&self) -> Left {
        Left::of(self.drop_one())
    }

    /// As [`FrameWord::unref`], for a page that is likely to have others.
    #[must_use]
    #[inline]
    pub(crate) fn unref_shared(&self) -> Left {
        let old = self.drop_one();
        if old & COUNT != 1 { Left::Others } else { Left::of(old) }
    }

    #[inline(always)]
    fn drop_one(&self) -> u64 {
        let old = self.0.fetch_sub(1, AcqRel);
        debug_assert!(old & COUNT != 0, "a frame without references was dropped");
        old
    }

    /// Says what a frame is of which the caller is the only owner, and sets its upper half. Release: as [`FrameWord::start`], for somebody
    /// who finds no reference left.
    pub(crate) fn set(&self, role: Role, upper: u32) {
        self.0.store((upper as u64) << 32 | role as u64, Release);
    }

    /// What the frame is.
    pub(crate) fn role(&self) -> Role {
        match self.0.load(Relaxed) >> 26 & 3 {
            0 => Role::Page,
            1 => Role::Table,
            2 => Role::Slab,
            _ => Role::Kernel,
        }
    }

    /// The upper half: what it says depends on the role.
    pub(crate) fn upper(&self) -> u32 {
        (self.0.load(Relaxed) >> 32) as u32
    }

    /// Adds free nodes to a slab's mask; returns the mask before.
    pub(crate) fn add_nodes(&self, mask: u32) -> u32 {
        (self.0.fetch_or((mask as u64) << 32, AcqRel) >> 32) as u32
    }

    /// Takes all free nodes of a slab.
    pub(crate) fn take_nodes(&self) -> u32 {
        (self.0.swap(Role::Slab as u64, AcqRel) >> 32) as u32
    }
}

impl Default for FrameWord {
    fn default() -> Self {
        Self::new()
    }
}
