//! The memory of a process as this layer sees it: the space, the heap's end, where things were put.

use super::oom::Weight;
use super::process::arc;
use super::vm;
use crate::mem::{EditError, Space};
use crate::swap::above::Owner;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use quire_base::errno::{ENOMEM, Errno};
use quire_base::lock::Mutex;
use quire_sched::SleepMutex;

/// The heap that `brk` moves.
#[derive(Clone, Copy, Default)]
pub struct Heap {
    /// Where it begins.
    pub start: u64,
    /// Its current end, not rounded.
    pub end: u64,
}

/// Addresses for /proc and the auxiliary vector.
#[derive(Clone, Copy, Default)]
pub struct Layout {
    /// First and last address of the program's text.
    pub code: (u64, u64),
    /// First and last address of the program's data.
    pub data: (u64, u64),
    /// Stack pointer at the start.
    pub stack_start: u64,
}

/// An address space with its book-keeping; shared by CLONE_VM.
pub struct Memory {
    /// The segments and pages.
    pub space: Arc<Space>,
    /// The heap; held while brk edits the space.
    pub heap: SleepMutex<Heap>,
    /// Held from the look at the limits to the edit, where there are limits: see [`super::account`].
    pub limited: SleepMutex<()>,
    /// Something may be locked: memory that becomes writable may have to be brought in.
    pub uses_locks: AtomicBool,
    /// The commands of membarrier that it has been registered for: as bits, those of the registrations.
    pub barriers: AtomicU32,
    /// Written once by exec.
    pub layout: Layout,
    /// The page at which the next scan for pages to evict begins.
    pub scan_cursor: AtomicU64,
    /// What it weighs where a victim is chosen.
    pub weight: Weight,
    /// Tells private futexes of different spaces apart for ever (an address could be used again).
    pub id: u64,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// All of them, in the order of their making. A leaf lock.
static ALL: Mutex<BTreeMap<u64, Weak<Memory>>> = Mutex::new(BTreeMap::new());

/// The one that was made next after the one with this number; `None` in its place if it is ending. A child is here before it is filled.
pub fn next(after: u64) -> Option<(u64, Option<Arc<Memory>>)> {
    ALL.lock().range(after + 1..).next().map(|(&id, memory)| (id, memory.upgrade()))
}

/// Visits all, in the order of their making, and those that are made meanwhile. Nothing is locked.
pub fn each(mut see: impl FnMut(&Memory)) {
    let mut after = 0;
    while let Some((id, memory)) = next(after) {
        after = id;
        memory.iter().for_each(|memory| see(memory));
    }
}

impl Memory {
    /// Wraps a space that exec has filled, or that a fork is about to fill.
    pub fn new(space: Arc<Space>, heap: Heap, layout: Layout) -> Result<Arc<Self>, Errno> {
        let memory = arc(Memory {
            space,
            heap: SleepMutex::new(heap),
            limited: SleepMutex::new(()),
            uses_locks: AtomicBool::new(false),
            barriers: AtomicU32::new(0),
            layout,
            scan_cursor: AtomicU64::new(0),
            weight: Weight::default(),
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
        })?;
        if !crate::mem::heap_has(1024) {
            return Err(ENOMEM);
        }
        ALL.lock().insert(memory.id, Arc::downgrade(&memory));
        Ok(memory)
    }

    /// A copy-on-write copy for a child.
    #[inline(never)]
    pub fn fork(&self) -> Result<Arc<Self>, Errno> {
        // Held until the segments are copied, so that the child's heap ends where they do.
        let heap = self.heap.lock();
        vm::retry_whole(&self.space, || {
            let space = arc(Space::for_copy()).map_err(|_| EditError::OutOfFrames)?;
            // Known before it is filled: see `quire_mm::cut`.
            let new = Self::new(space, *heap, self.layout).map_err(|_| EditError::OutOfFrames)?;
            new.barriers.store(self.barriers.load(Ordering::Relaxed), Ordering::Relaxed);
            self.space.fork_into(&new.space)?;
            Ok(new)
        })
    }
}

impl Owner for Memory {
    fn space(&self) -> &Arc<Space> {
        &self.space
    }
    fn scan_cursor(&self) -> &AtomicU64 {
        &self.scan_cursor
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        ALL.lock().remove(&self.id);
        // What it showed of shared segments is not counted any more.
        super::shm::collect();
    }
}
