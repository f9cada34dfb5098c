//! An arena: one top-level entry's share of an address space, with everything that edits and faults in it need. Two arenas share
//! no cache line, so threads that work in different ones do not meet.

use crate::bare::Bare;
use crate::claims::Claims;
use crate::cpuset::CpuSet;
use crate::entry::{Entry, Table, Word};
use crate::frames::slab::{NODE, NodePlace};
use crate::list::{List, Node};
use crate::machine::Machine;
use crate::memory::Memory;
use crate::page::{ENTRIES, LEVELS, TABLE_BITS};
use crate::rcu::Pin;
use crate::sync::{AtomicPtr, AtomicU64, Ordering::*};

/// 512 GiB of an address space. Lives as long as the space.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct Arena {
    /// The published segment list; replaced by compare-and-swap.
    pub list: AtomicPtr<Node>,
    /// The arena's own table, installed by the first fault and never detached (race 32): CPUs' top-level tables point to it.
    pub table: Entry,
    /// Raised by every edit that takes something away; tags the entries that its sweep empties.
    pub generation: AtomicU64,
    /// 1 while a scan works in the arena; see [`crate::evict`].
    pub reclaim: AtomicU64,
    /// Scans in a row that found a claim; see [`crate::evict`].
    pub vain: AtomicU64,
    /// CPUs whose top-level tables point to the arena's table.
    pub cpus: CpuSet,
    /// Segments in the list.
    pub segments: AtomicU64,
    /// Leaf spans whose tables may be bare.
    pub bare: Bare,
    /// Not 0: there has been a segment that grows down; see [`crate::grow`].
    pub guarded: AtomicU64,
    /// Which of the 256 it is.
    pub index: usize,
    pub place: NodePlace,
    pub claims: Claims,
}

const _: () = assert!(size_of::<Arena>() <= NODE);

impl Arena {
    /// A new arena, or `None` without memory.
    pub fn new<M: Machine>(memory: &Memory<M>, index: usize) -> Option<*mut Arena> {
        let (at, place) = memory.alloc_node()?;
        debug_assert!(size_of::<Arena>() <= NODE);
        let at = at.cast::<Arena>();
        // SAFETY: a fresh node, large and aligned enough.
        unsafe {
            at.write(Arena {
                list: AtomicPtr::new(core::ptr::null_mut()),
                table: Entry::new(Word::empty(0)),
                generation: AtomicU64::new(0),
                reclaim: AtomicU64::new(0),
                vain: AtomicU64::new(0),
                cpus: CpuSet::new(),
                segments: AtomicU64::new(0),
                bare: Bare::new(),
                guarded: AtomicU64::new(0),
                index,
                place,
                claims: Claims::new(),
            });
        }
        Some(at)
    }

    /// The list as it is now, for as long as the read section lasts. Acquire: its nodes come with it.
    pub fn list<'p, M: Machine>(&self, _pin: &'p Pin<'_, M>) -> List<'p> {
        // SAFETY: loaded with Acquire inside the section.
        unsafe { List::new(self.list.load(Acquire)) }
    }

    /// The entry of a page, or the upper entry in whose place there is no table; with its word and level (0: the page's own).
    /// The read section keeps the tables.
    #[inline]
    pub fn walk<'p, M: Machine>(
        &'p self,
        memory: &'p Memory<M>,
        _pin: &'p Pin<'_, M>,
        page: u32,
    ) -> (&'p Entry, Word, u32) {
        let mut entry = &self.table;
        let mut level = LEVELS;
        loop {
            let e = entry.load();
            if level == 0 || !e.is_present() {
                return (entry, e, level);
            }
            level -= 1;
            entry = &memory.machine.table(e.page_frame())[index(page, level)];
        }
    }
}

impl Arena {
    /// The leaf table that holds a page's entry, or the level at which its upper entry has no table.
    pub fn leaf<'p, M: Machine>(
        &'p self,
        memory: &'p Memory<M>,
        _pin: &'p Pin<'_, M>,
        page: u32,
    ) -> Result<&'p Table, u32> {
        self.descend(memory, page)
    }

    /// As [`Arena::leaf`], under a claim over the page: only an edit that covers all of a table detaches it.
    pub fn leaf_claimed<'c, M: Machine>(&'c self, memory: &'c Memory<M>, page: u32) -> Result<&'c Table, u32> {
        self.descend(memory, page)
    }

    #[inline(always)]
    fn descend<'p, M: Machine>(&'p self, memory: &'p Memory<M>, page: u32) -> Result<&'p Table, u32> {
        let mut entry = &self.table;
        for level in (0..LEVELS).rev() {
            let e = entry.load();
            if !e.is_present() {
                return Err(level + 1);
            }
            let table = memory.machine.table(e.page_frame());
            if level == 0 {
                return Ok(table);
            }
            entry = &table[index(page, level)];
        }
        Err(LEVELS)
    }
}

/// The index of a page's entry in its table of `level`.
#[inline]
pub(crate) fn index(page: u32, level: u32) -> usize {
    (page >> (TABLE_BITS * level)) as usize & (ENTRIES - 1)
}
