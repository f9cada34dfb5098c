//! Virtual pages, ranges of them, protections: the numbers that users of this crate speak in.

pub use crate::sizes::{ARENAS, LEVELS, TABLE_BITS};
use bitflags::bitflags;

/// Bytes in a page, and in a frame.
pub const PAGE: usize = 4096;
/// Entries of a table.
pub const ENTRIES: usize = 1 << TABLE_BITS;
/// Binary logarithm of the pages of an arena.
pub const ARENA_BITS: u32 = TABLE_BITS * LEVELS;
/// Pages of an arena (512 GiB with 4 KiB pages).
pub const ARENA_PAGES: u32 = 1 << ARENA_BITS;

/// A virtual page: its address divided by [`PAGE`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Page(pub u64);

impl Page {
    /// The page that contains an address.
    pub const fn containing(addr: u64) -> Page {
        Page(addr / PAGE as u64)
    }

    /// The address of its first byte.
    pub const fn addr(self) -> u64 {
        self.0 * PAGE as u64
    }

    /// The arena that it lies in. Not below [`ARENAS`] for a page outside user space.
    pub const fn arena(self) -> usize {
        (self.0 >> ARENA_BITS) as usize
    }

    /// Its number within its arena.
    pub const fn local(self) -> u32 {
        (self.0 & (ARENA_PAGES as u64 - 1)) as u32
    }

    /// The page with number `local` in arena `arena`.
    pub const fn of(arena: usize, local: u32) -> Page {
        Page(((arena as u64) << ARENA_BITS) + local as u64)
    }
}

impl core::fmt::Debug for Page {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "page:{:#x}", self.addr())
    }
}

/// A run of virtual pages, the end excluded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageRange {
    /// The first page.
    pub start: Page,
    /// The first page behind the range.
    pub end: Page,
}

impl PageRange {
    /// The first page behind user space.
    pub const LIMIT: Page = Page((ARENAS as u64) << ARENA_BITS);

    /// `pages` pages from `start` on; `None` if that leaves user space or is empty.
    pub fn new(start: Page, pages: u64) -> Option<PageRange> {
        let end = Page(start.0.checked_add(pages)?);
        (pages > 0 && end <= Self::LIMIT).then_some(PageRange { start, end })
    }

    /// How many pages it has.
    pub fn pages(&self) -> u64 {
        self.end.0 - self.start.0
    }

    /// As [`PageRange::by_arena`], for a range inside one arena.
    #[inline]
    pub fn one_arena(&self) -> Option<(usize, u32, u32)> {
        let (arena, lo, pages) = (self.start.arena(), self.start.local(), self.pages());
        (pages <= (ARENA_PAGES - lo) as u64).then(|| (arena, lo, lo + pages as u32))
    }

    /// Its parts, arena by arena, as `(arena, first local page, local page behind the last)`.
    pub fn by_arena(self) -> impl Iterator<Item = (usize, u32, u32)> {
        let mut at = self.start;
        core::iter::from_fn(move || {
            if at >= self.end {
                return None;
            }
            let (arena, lo) = (at.arena(), at.local());
            let room = (ARENA_PAGES - lo) as u64;
            let len = room.min(self.end.0 - at.0);
            at = Page(at.0 + len);
            Some((arena, lo, lo + len as u32))
        })
    }

    /// Whether the two share a page.
    pub fn overlaps(&self, other: &PageRange) -> bool {
        self.start < other.end && other.start < self.end
    }
}

bitflags! {
    /// What a segment grants. Nothing at all is Linux's `PROT_NONE`.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Prot: u8 {
        /// Loads.
        const READ = 1;
        /// Stores; on x86 they imply loads.
        const WRITE = 2;
        /// Instruction fetches; on x86 they imply loads.
        const EXEC = 4;
    }
}

/// What an instruction wanted to do with a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Load.
    Read,
    /// Store.
    Write,
    /// Fetch.
    Exec,
}

impl Prot {
    /// Whether a segment with this protection allows `access`.
    pub fn allows(self, access: Access) -> bool {
        match access {
            Access::Read => !self.is_empty(),
            Access::Write => self.contains(Prot::WRITE),
            Access::Exec => self.contains(Prot::EXEC),
        }
    }
}
