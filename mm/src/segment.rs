//! A segment: a run of pages with one protection and one backing.

use crate::object::{Object, ObjectRef};
use crate::page::{Page, PageRange, Prot};
use bitflags::bitflags;

bitflags! {
    /// What else a segment is. The upper half is the user's of this crate (labels for maps); the lower half means something here.
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
        /// Grows towards lower addresses.
        const GROWS_DOWN = 1 << 8;
        /// Not charged when mapped (MAP_NORESERVE).
        const NORESERVE = 1 << 9;
        /// Locked in memory.
        const LOCKED = 1 << 10;
        /// The initial stack.
        const STACK = 1 << 11;
        /// The heap that `brk` moves.
        const HEAP = 1 << 12;
        /// Never merged with a neighbour.
        const ALONE = 1 << 13;
        /// A shared view of a file that was opened for reading: it never becomes writable.
        const READ_ONLY = 1 << 14;
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

/// A segment inside a list: one arena's part, 32 bytes. Its leaf holds a reference to the object.
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
            && !self.flags.contains(Flags::ALONE)
            && self.object == next.object
            && (self.object.is_null() || self.offset + (self.end - self.start) as u64 == next.offset)
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
