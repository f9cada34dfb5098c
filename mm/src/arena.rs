//! An arena: one top-level entry's share of an address space, with everything that edits and faults in it need. Two arenas share
//! no cache line, so threads that work in different ones do not meet.

use crate::claims::Claims;
use crate::cpuset::CpuSet;
use crate::entry::{Entry, Word};
use crate::list::{List, Node};
use crate::machine::Machine;
use crate::memory::Memory;
use crate::rcu::Pin;
use crate::slab::{NODE, NodePlace};
use crate::spans::Spans;
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
    /// 1 while a scan works in the arena; see [`crate::scan`].
    pub reclaim: AtomicU64,
    /// Scans in a row that found a claim; see [`crate::scan`].
    pub vain: AtomicU64,
    /// CPUs whose top-level tables point to the arena's table.
    pub cpus: CpuSet,
    /// Segments in the list.
    pub segments: AtomicU64,
    /// Leaf spans whose tables may be bare.
    pub bare: Spans,
    /// Not 0: there has been a segment that grows down; see [`crate::guard`].
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
                bare: Spans::new(),
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
}
