//! An address space: 256 arenas, the CPUs' top-level tables, who is active.
//!
//! *Active*: a CPU is active in a space from before it loads that space's top-level table until after it has loaded another.
//! In: set active, fence, load (which drops all translations). Out: load another table, then clear active. A CPU that is not
//! active gets neither a bit nor an interrupt.
//!
//! *Joining*: a CPU's top-level table gets an arena's entry when the CPU first faults there: it sets its bit in the arena's
//! CPU set, fences (SeqCst), and only then writes the entry. An edit sweeps, fences, and reads the set: it sees the CPU, or the
//! CPU's walk sees the swept entries.

use crate::arena::Arena;
use crate::bits::bits;
use crate::blank::Credit;
use crate::cpuset::CpuSet;
use crate::error::EditError;
use crate::frames::Frame;
use crate::machine::{CPUS, Machine, What};
use crate::memory::Memory;
use crate::page::{ARENA_PAGES, ARENAS};
use crate::segment::Flags;
use crate::slow::Slow;
use crate::sync::{AtomicPtr, AtomicU64, Ordering::*, fence};
use core::ptr::null_mut;

/// What one process sees.
#[derive(Debug)]
pub struct Space<M: Machine> {
    pub(crate) memory: &'static Memory<M>,
    pub(crate) arenas: [AtomicPtr<Arena>; ARENAS],
    /// A bit for each arena that may be there, set before its pointer.
    known: [AtomicU64; ARENAS.div_ceil(64)],
    /// Frame of each CPU's top-level table, 0 while it has none.
    pub(crate) tops: [AtomicU64; CPUS],
    pub(crate) active: CpuSet,
    /// Not zero while a fork copies this space: faults for private stores wait.
    pub(crate) forking: AtomicU64,
    /// Faults that a fork lets pass.
    pub(crate) slow: Slow,
    /// How many reads may take a blank page.
    pub(crate) blank: Credit,
    /// 0 while a fork fills it.
    pub(crate) ready: AtomicU64,
    /// What every new segment gets.
    future: AtomicU64,
    /// Not zero if an arena has had more than its equal share of the segments that the space may have.
    crowded: AtomicU64,
}

impl<M: Machine> Space<M> {
    /// An empty space.
    pub fn new(memory: &'static Memory<M>) -> Space<M> {
        Space {
            memory,
            arenas: core::array::from_fn(|_| AtomicPtr::new(null_mut())),
            known: core::array::from_fn(|_| AtomicU64::new(0)),
            tops: core::array::from_fn(|_| AtomicU64::new(0)),
            active: CpuSet::new(),
            forking: AtomicU64::new(0),
            slow: Slow::new(),
            blank: Credit::new(0),
            ready: AtomicU64::new(1),
            future: AtomicU64::new(0),
            crowded: AtomicU64::new(0),
        }
    }

    /// An empty space for [`Space::fork_into`]. Others may know it before it is filled, and leave it alone.
    pub fn for_copy(memory: &'static Memory<M>) -> Space<M> {
        let space = Space::new(memory);
        space.ready.store(0, Relaxed);
        space
    }

    /// Whether it is complete. Of one that a fork fills, others keep their hands off.
    pub fn is_ready(&self) -> bool {
        // Acquire: pairs with the end of the fork, which comes with all that the fork has put in.
        self.ready.load(Acquire) != 0
    }

    /// Every segment that is mapped from now on gets these flags, too (MCL_FUTURE). A mapping reads them under its claim; so whoever edits
    /// all segments afterwards finds each mapping that has not read them, or waits for it.
    pub fn set_future_flags(&self, flags: Flags) {
        self.future.store(flags.bits() as u64, Relaxed);
        // Before the look which arenas there are. Pairs with the fence in `new_arena`: whoever makes one reads these flags, or it is found.
        fence(SeqCst);
    }

    /// What every new segment gets, as an edit reads it under its claims, once. Relaxed: it comes with the claims.
    #[inline]
    pub(crate) fn future_flags(&self) -> Flags {
        Flags::from_bits_truncate(self.future.load(Relaxed) as u16)
    }

    /// The memory it takes its frames from.
    pub fn memory(&self) -> &'static Memory<M> {
        self.memory
    }

    /// The arena with this index, if anything was ever mapped there.
    #[inline]
    pub(crate) fn arena(&self, index: usize) -> Option<&Arena> {
        // Acquire: the arena's initial state comes with the pointer. SAFETY: arenas live as long as the space.
        unsafe { self.arenas.get(index)?.load(Acquire).as_ref() }
    }

    /// The arena with this index, made if necessary.
    #[inline]
    pub(crate) fn arena_or_new(&self, index: usize) -> Result<&Arena, EditError> {
        match self.arena(index) {
            Some(arena) => Ok(arena),
            None => self.new_arena(index),
        }
    }

    #[cold]
    #[inline(never)]
    fn new_arena(&self, index: usize) -> Result<&Arena, EditError> {
        if index >= ARENAS {
            return Err(EditError::Invalid);
        }
        static FORK: What = What { text: "the end of a fork, to map in arena", show: |n, f| write!(f, "{n}") };
        let new = Arena::new(self.memory, index).ok_or(EditError::OutOfFrames)?;
        // A fork that has begun does not have this arena among its claims: nobody may edit here before it has ended. So the arena is born
        // with a claim, which others who find it await. SAFETY: it lives as long as the space, but for the loser's, which goes below.
        let claim = unsafe { &*new }.claims.acquire_one(self.memory, 0, ARENA_PAGES);
        // Relaxed: the Release below publishes it with the arena, so whoever finds the arena finds the bit (`each_arena`).
        self.known[index / 64].fetch_or(1 << (index % 64), Relaxed);
        // Release publishes the arena. The loser frees its own.
        let wins = self.arenas[index].compare_exchange(null_mut(), new, AcqRel, Acquire).is_ok();
        // Before the look at the flag of a fork, and before the caller reads what every new segment gets: pairs with the fences in `fork_into`
        // and `set_future_flags`.
        fence(SeqCst);
        if wins {
            let mut since = 0;
            while self.is_forking() {
                since = self.memory.pause(&FORK, index as u64, since);
            }
            drop(claim);
        } else {
            drop(claim);
            // SAFETY: nobody has seen it.
            unsafe { self.free_arena(new) };
        }
        self.arena(index).ok_or(EditError::OutOfFrames)
    }

    /// How many segments it has: those of all arenas. Exact while nobody edits.
    pub fn segments(&self) -> u64 {
        // Relaxed: a count that decides how many more there may be, and orders nothing.
        self.each_arena().map(|arena| arena.segments.load(Relaxed)).sum()
    }

    /// Whether an edit that adds `grown` segments to an arena would make too many. Two edits at once, in different arenas, may each
    /// find room for the last one: then there is one more.
    pub(crate) fn has_too_many(&self, arena: &Arena, grown: u64) -> bool {
        let most = self.memory.most_segments().min(crate::list::MOST);
        // As long as no arena has more than its equal share there is room. Relaxed: as the counts; an arena beside this one that
        // gets more at this moment is an edit at once.
        if (arena.segments.load(Relaxed) + grown) * ARENAS as u64 > most {
            self.crowded.store(1, Relaxed);
        }
        self.crowded.load(Relaxed) != 0 && self.segments() + grown > most
    }

    /// Whether a move is refused, as on Linux, because it might make too many segments in the end: `more` of them, and what it splits.
    pub(crate) fn has_no_room_to_move(&self, more: u64) -> bool {
        self.segments() + more + 3 >= self.memory.most_segments().min(crate::list::MOST)
    }

    /// A child of `parent` has as many segments.
    pub(crate) fn inherit_crowd(&self, parent: &Space<M>) {
        self.crowded.store(parent.crowded.load(Relaxed), Relaxed);
    }

    /// All arenas, in ascending order.
    pub(crate) fn each_arena(&self) -> impl Iterator<Item = &Arena> {
        self.known_arenas().filter_map(|i| self.arena(i))
    }

    /// The arenas that may be there. Acquire: whoever has seen one of them by its pointer, or by what was done to it, sees its bit.
    pub(crate) fn known_arenas(&self) -> impl Iterator<Item = usize> {
        let words = self.known.iter().zip(0..);
        words.flat_map(|(word, n)| bits(word.load(Acquire)).map(move |i| n * 64 + i))
    }

    /// Whether no other CPU is active here: *alone*, to a fork. The caller fences first, after whatever a CPU that comes later must
    /// see.
    #[inline]
    pub(crate) fn alone(&self) -> bool {
        self.others() == 0
    }

    /// The other CPUs that are active here. The caller has fenced.
    #[inline]
    pub(crate) fn others(&self) -> u64 {
        self.active.bits() & !(1 << self.memory.machine.cpu())
    }

    /// Whether no other CPU that is active here has joined the arena: *alone*, to an edit, if no scan works there either
    /// ([`Arena::is_scanned`]). None has a window open with a list of the arena that was read before the caller's fence: a window joins
    /// before that, and joining fences between the CPU's bit and its look at the list.
    #[inline]
    pub(crate) fn alone_in(&self, arena: &Arena) -> bool {
        self.others_in(arena) == 0
    }

    /// The other CPUs that may have translations of pages in `arena`. The caller has fenced.
    #[inline]
    pub(crate) fn others_in(&self, arena: &Arena) -> u64 {
        self.others() & arena.cpus.bits()
    }

    /// Whether a fork holds private stores up. Relaxed: it awaits the open windows after it has set the flag, so a window that
    /// begins later sees it.
    pub(crate) fn is_forking(&self) -> bool {
        self.forking.load(Relaxed) != 0
    }

    /// Whether `cpu` has a top-level table here, so that [`Space::activate`] cannot fail there.
    pub fn has_top(&self, cpu: usize) -> bool {
        self.tops[cpu].load(Acquire) != 0
    }

    /// Makes the top-level table of `cpu`, which may be another one, if it has none. False: no memory. The machine puts the
    /// kernel's half into a new table ([`Machine::fill_top`]).
    pub fn prepare(&self, cpu: usize) -> bool {
        if self.has_top(cpu) {
            return true;
        }
        let Some(f) = self.memory.new_table() else { return false };
        self.memory.machine.fill_top(f);
        // Release: whoever finds the table finds it filled. The CPU itself may be faster.
        if self.tops[cpu].compare_exchange(0, f.0 as u64, AcqRel, Acquire).is_err() {
            self.memory.free(f);
        }
        true
    }

    /// Makes the calling CPU active, and only then lets `load` load its top-level table. False: no memory.
    pub fn activate(&self, load: impl FnOnce(Frame)) -> bool {
        let cpu = self.memory.machine.cpu();
        if !self.prepare(cpu) {
            return false;
        }
        let top = self.tops[cpu].load(Acquire);
        self.active.add(cpu);
        // Pairs with the fence between a sweep and its look at the set.
        fence(SeqCst);
        load(Frame(top as u32));
        true
    }

    /// The calling CPU has loaded another top-level table.
    pub fn deactivate(&self) {
        self.active.remove(self.memory.machine.cpu());
    }

    /// Joins the calling CPU to an arena, if it has not joined. False: no memory for the arena's table.
    #[inline]
    pub(crate) fn join(&self, arena: &Arena) -> bool {
        let cpu = self.memory.machine.cpu();
        let top = Frame(self.tops[cpu].load(Relaxed) as u32);
        debug_assert!(top.0 != 0, "a fault on a CPU that is not active");
        let entry = &self.memory.machine.table(top)[arena.index];
        entry.load().is_present() || self.join_now(arena, cpu, top)
    }

    #[cold]
    fn join_now(&self, arena: &Arena, cpu: usize, top: Frame) -> bool {
        let mut e = arena.table.load();
        while !e.is_present() {
            let Some(t) = self.memory.new_table() else { return false };
            if arena.table.install_table(e, t).is_err() {
                self.memory.free(t);
                self.memory.stats.add(&self.memory.machine, crate::stats::Counter::RetryTable, 1);
            }
            e = arena.table.load();
        }
        self.memory.stats.add(&self.memory.machine, crate::stats::Counter::Join, 1);
        arena.cpus.add(cpu);
        fence(SeqCst);
        self.memory.machine.table(top)[arena.index].init(e);
        true
    }

    /// The frames of the CPUs' top-level tables. For the audit.
    pub(crate) fn top_frames(&self) -> impl Iterator<Item = Frame> {
        self.tops.iter().map(|t| Frame(t.load(Acquire) as u32)).filter(|f| f.0 != 0)
    }

    /// Gives an arena's memory back.
    ///
    /// # Safety
    ///
    /// Nobody else has it, and its list and table are gone.
    pub(crate) unsafe fn free_arena(&self, arena: *mut Arena) {
        // SAFETY: the caller is the only one who has it.
        unsafe {
            let place = (*arena).place;
            core::ptr::drop_in_place(arena);
            self.memory.free_node(place);
        }
    }
}
