//! A segment: a run of pages with one protection and one backing.

use crate::object::{Object, ObjectRef};
use crate::page::{Page, PageRange, Prot};
use bitflags::bitflags;

bitflags! {
    /// What else a segment is. SHARED, TRANSIT, DONTFORK, WIPEONFORK, GROWS_DOWN, LOCKED and UNMERGED mean something in this crate; the
    /// others are its user's labels.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Flags: u16 {
        /// An object's pages are written through, not copied.
        const SHARED = 1;
        /// An edit replaces this range: faults wait.
        const TRANSIT = 2;
        /// Not in a child (MADV_DONTFORK).
        const DONTFORK = 4;
        /// Zeros in a child (MADV_WIPEONFORK).
        const WIPEONFORK = 8;
        /// It never becomes writable: a shared view of what was opened for reading, or is closed to writers.
        const READ_ONLY = 16;
        /// Its pages are not evicted. A child's are not locked.
        const LOCKED = 32;
        /// Grows towards lower addresses.
        const GROWS_DOWN = 1 << 8;
        /// A private view of a file that has nothing but zeros (/dev/zero): the file is still named.
        const OF_ZEROS = 1 << 7;
        /// Not charged when mapped (MAP_NORESERVE).
        const NORESERVE = 1 << 9;
        /// The initial stack.
        const STACK = 1 << 11;
        /// The heap that `brk` moves.
        const HEAP = 1 << 12;
        /// Never merged with a neighbour.
        const UNMERGED = 1 << 13;
        /// With LOCKED: pages stay once they have been touched (MLOCK_ONFAULT).
        const ON_FAULT = 1 << 15;
        /// Both flags of a locked segment.
        const LOCKS = Self::LOCKED.bits() | Self::ON_FAULT.bits();
    }
}

/// What a mapping shows.
#[derive(Clone, Debug)]
pub enum Backing {
    /// Zeros at first, private.
    Anonymous,
    /// An object's pages from page `offset` on: the pages themselves (`shared`), or copies on write.
    Object {
        /// The object.
        object: ObjectRef,
        /// The object's page that the first page of the segment shows.
        offset: u64,
        /// Whether stores go to the object.
        shared: bool,
    },
}

/// A segment as users of this crate see it.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Where it is.
    pub range: PageRange,
    /// What it grants.
    pub prot: Prot,
    /// What else it is.
    pub flags: Flags,
    /// What it shows.
    pub backing: Backing,
}

impl Segment {
    /// Whether `next` only continues it.
    pub(crate) fn continues_with(&self, next: &Segment) -> bool {
        let backings = match (&self.backing, &next.backing) {
            (Backing::Anonymous, Backing::Anonymous) => true,
            (Backing::Object { object: a, offset: from, .. }, Backing::Object { object: b, offset: to, .. }) => {
                core::ptr::eq(&raw const **a, &raw const **b) && from + self.range.pages() == *to
            }
            _ => false,
        };
        self.range.end == next.range.start
            && self.prot == next.prot
            && self.flags == next.flags
            && !self.flags.contains(Flags::UNMERGED)
            && backings
    }
}

/// A segment as the check of an edit sees it, under the edit's claim.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// What of it lies in the edit's range.
    pub range: PageRange,
    /// Where it begins.
    pub start: Page,
    /// What it grants.
    pub prot: Prot,
    /// What else it is.
    pub flags: Flags,
}

/// A segment inside a list: the part of it that lies in one arena, 32 bytes. Its leaf in the list holds a reference to the object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub start: u32,
    pub end: u32,
    pub prot: Prot,
    pub flags: Flags,
    pub object: *const Object,
    /// The object's page at `start`.
    pub offset: u64,
}

impl Part {
    /// The part of it inside `lo .. hi`.
    pub fn clip(&self, lo: u32, hi: u32) -> Part {
        let start = self.start.max(lo);
        let skipped = if self.object.is_null() { 0 } else { (start - self.start) as u64 };
        Part { start, end: self.end.min(hi), offset: self.offset + skipped, ..*self }
    }

    /// Whether `next` only continues it.
    pub fn joins(&self, next: &Part) -> bool {
        self.end == next.start
            && self.prot == next.prot
            && self.flags == next.flags
            && !self.flags.contains(Flags::UNMERGED)
            && self.object == next.object
            && (self.object.is_null() || self.offset + (self.end - self.start) as u64 == next.offset)
    }

    /// As an edit of `lo .. hi` in the arena `index` shows it to its check.
    pub fn seen(&self, index: usize, lo: u32, hi: u32) -> Seen {
        let part = (self.start.max(lo), self.end.min(hi));
        Seen {
            range: PageRange { start: Page::of(index, part.0), end: Page(Page::of(index, 0).0 + part.1 as u64) },
            start: Page::of(index, self.start),
            prot: self.prot,
            flags: self.flags,
        }
    }

    /// Whether stores through it reach the object, now or once it is protected otherwise: its object counts it as a writer.
    pub fn writes(&self) -> bool {
        self.flags & (Flags::SHARED | Flags::READ_ONLY) == Flags::SHARED
    }

    /// As it is mapped while new segments get the flags `future`. What a child finds wiped is not locked (MAP_DROPPABLE).
    #[inline]
    pub fn with_future(self, future: Flags) -> Part {
        if self.flags.contains(Flags::WIPEONFORK) { self } else { Part { flags: self.flags | future, ..self } }
    }

    /// Keeps the object as the segment's leaf does, for an edit between the leaf that shows it and the next one.
    pub fn hold(self) -> Option<Hold> {
        (!self.object.is_null()).then(|| {
            // SAFETY: the leaf that the caller has read the part from counts for it, and its claim or read section keeps that.
            unsafe { (*self.object).users.add(self.writes()) };
            Hold(self)
        })
    }

    /// What `lo .. hi` in arena `index` shows, if this is what the first page of `range` shows, and all of it is one segment.
    pub fn shown_at(&self, range: PageRange, index: usize, lo: u32, hi: u32) -> Part {
        let before = Page::of(index, lo).0 - range.start.0;
        let offset = self.offset + if self.object.is_null() { 0 } else { before };
        Part { start: lo, end: hi, offset, ..*self }
    }

    /// Whether both show the same, wherever they are.
    pub fn same(&self, other: &Part) -> bool {
        let offsets = self.object.is_null() || self.offset == other.offset;
        self.prot == other.prot && self.flags == other.flags && self.object == other.object && offsets
    }

    /// As users see it. The caller is inside a read section.
    pub fn to_segment(self, arena: usize) -> Segment {
        let start = Page::of(arena, self.start);
        Segment {
            range: PageRange { start, end: Page(start.0 + (self.end - self.start) as u64) },
            prot: self.prot,
            flags: self.flags,
            backing: match self.object.is_null() {
                true => Backing::Anonymous,
                false => Backing::Object {
                    // SAFETY: the leaf that this part was read from holds a reference, and the caller's read section keeps the
                    // leaf.
                    object: unsafe { ObjectRef::another(self.object) },
                    offset: self.offset,
                    shared: self.flags.contains(Flags::SHARED),
                },
            },
        }
    }
}

/// What counts for a segment's object as its leaf would.
#[must_use]
pub(crate) struct Hold(Part);

impl Drop for Hold {
    fn drop(&mut self) {
        // SAFETY: `Part::hold` has counted it, once.
        unsafe { crate::object::drop_reference(self.0.object, self.0.writes()) };
    }
}
