//! What all address spaces share: frames, grace periods, shootdown, the zero page, counters.

use crate::frames::{Frame, FrameWord, Role};
use crate::free::Free;
use crate::machine::Machine;
use crate::rcu::{Pin, Rcu};
use crate::shootdown::Shootdown;
use crate::slab::{NodePlace, Slabs};
use crate::stats::{Counter, Stats};
use crate::sync::{AtomicU64, Ordering::*};

/// Linux's default of `vm.max_map_count`.
pub const MOST_SEGMENTS: u64 = 65_530;

/// The memory of one machine. The kernel has one; each host test makes its own.
#[derive(Debug)]
pub struct Memory<M: Machine> {
    /// The machine itself.
    pub machine: M,
    /// Counters.
    pub stats: Stats,
    pub(crate) free: Free,
    pub(crate) slabs: Slabs,
    pub(crate) rcu: Rcu,
    pub(crate) shootdown: Shootdown,
    zero: AtomicU64,
    /// Live objects.
    pub(crate) objects: AtomicU64,
    /// How many segments a space may have.
    most_segments: core::sync::atomic::AtomicU64,
    /// Number of the next object; no decision hangs on its order, so the model checker need not see it.
    pub(crate) object_number: core::sync::atomic::AtomicU64,
    /// Spaces whose pages are being given back. A hint that orders nothing, so the model checker need not see it.
    pub(crate) clearing: core::sync::atomic::AtomicU64,
    /// Entries of objects that name swap slots.
    pub(crate) object_slots: AtomicU64,
    /// Frames that are linked to slots, and the frame at which the next search for them begins.
    pub(crate) links: AtomicU64,
    pub(crate) link_cursor: AtomicU64,
}

impl<M: Machine> Memory<M> {
    /// No memory yet: [`Memory::add`] gives it some, then [`Memory::start`] makes it ready.
    pub fn new(machine: M) -> Memory<M> {
        Memory {
            machine,
            stats: Stats::new(),
            free: Free::new(),
            slabs: Slabs::new(),
            rcu: Rcu::new(),
            shootdown: Shootdown::new(),
            zero: AtomicU64::new(0),
            objects: AtomicU64::new(0),
            most_segments: core::sync::atomic::AtomicU64::new(MOST_SEGMENTS),
            object_number: core::sync::atomic::AtomicU64::new(0),
            clearing: core::sync::atomic::AtomicU64::new(0),
            object_slots: AtomicU64::new(0),
            links: AtomicU64::new(0),
            link_cursor: AtomicU64::new(0),
        }
    }

    /// As [`Memory::new`], in place: for machines whose stack is too small for it.
    ///
    /// # Safety
    ///
    /// `at` points to zeroed memory for a `Memory<M>`, aligned, the caller's for ever.
    pub unsafe fn new_in_zeroed(at: *mut Memory<M>, machine: M) -> &'static Memory<M> {
        // SAFETY: zero bytes are what every part starts as (counters and bits zero, stacks empty, pointers null), apart from
        // the machine, the epoch and the limit, which are written here.
        unsafe {
            (&raw mut (*at).machine).write(machine);
            (*at).rcu.start();
            (*at).set_most_segments(MOST_SEGMENTS);
            &*at
        }
    }

    /// Gives frames `first .. end` to the allocator. Frame 0 stays out: zero means "none" in several places.
    ///
    /// # Safety
    ///
    /// Nobody else uses these frames, now or later, and each is given once.
    pub unsafe fn add(&self, first: Frame, end: Frame) {
        for i in first.0.max(1)..end.0 {
            self.free.add(&self.machine, Frame(i));
        }
    }

    /// Makes the zero page. False: no memory.
    pub fn start(&self) -> bool {
        let Some(f) = self.alloc_zeroed() else { return false };
        self.frame_word(f).start();
        self.zero.store(f.0 as u64, Release);
        true
    }

    /// The one page that all untouched anonymous memory reads. Its references are not counted.
    #[inline]
    pub fn zero_page(&self) -> Frame {
        Frame(self.zero.load(Relaxed) as u32)
    }

    /// How many segments a space may have: at first [`MOST_SEGMENTS`].
    #[inline]
    pub fn most_segments(&self) -> u64 {
        // ordering: Relaxed, here and below; a number by itself.
        self.most_segments.load(core::sync::atomic::Ordering::Relaxed)
    }

    /// Sets that limit. A space that has more keeps them.
    pub fn set_most_segments(&self, most: u64) {
        self.most_segments.store(most, core::sync::atomic::Ordering::Relaxed);
    }

    /// How many frames the allocator was given.
    pub fn total_frames(&self) -> u64 {
        self.free.total()
    }

    /// How many spaces are giving their pages back, about: their frames are free soon.
    pub fn clearing(&self) -> u64 {
        // ordering: Relaxed; a hint for those who look for memory.
        self.clearing.load(core::sync::atomic::Ordering::Relaxed)
    }

    /// Says so from now on, until it is dropped.
    pub fn about_to_clear(&self) -> Clearing<'_> {
        self.clearing.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
        Clearing(&self.clearing)
    }

    /// Keeps idle CPUs from moving frames about, for an exact count; `false` ends it.
    pub fn set_quiet(&self, on: bool) {
        self.free.set_quiet(on);
    }

    /// The metadata word of a frame.
    #[inline]
    pub(crate) fn frame_word(&self, f: Frame) -> &FrameWord {
        self.machine.frame_word(f)
    }

    /// Calls `see` with the name and the sum of every counter.
    pub fn each_counter(&self, mut see: impl FnMut(&str, u64)) {
        Counter::ALL.iter().for_each(|&(counter, name)| see(name, self.stats.get(counter)));
        see("retries_frame_bitmap", self.free.retries());
        see("retries_slab_bitmap", self.slabs.retries());
    }

    /// A frame whose content is arbitrary and whose word is nobody's. `None`: no memory but in other CPUs' caches.
    #[inline]
    pub fn alloc(&self) -> Option<Frame> {
        self.free.take(&self.machine)
    }

    /// A frame full of zeros.
    #[inline]
    pub fn alloc_zeroed(&self) -> Option<Frame> {
        self.free.take_zeroed(&self.machine)
    }

    /// Gives a frame back. The caller is its only user, and no CPU has a translation to it.
    #[inline]
    pub fn free(&self, f: Frame) {
        self.free.put(&self.machine, f);
    }

    /// `n` neighbouring frames for kernel memory, content arbitrary: within 64, or in whole blocks. Given back one by one with
    /// [`Memory::free`].
    pub fn alloc_run(&self, n: usize) -> Option<Frame> {
        let first = self.free.take_run(&self.machine, n)?;
        (first.0..first.0 + n as u32).for_each(|i| self.frame_word(Frame(i)).set(Role::Kernel, 0));
        Some(first)
    }

    /// One frame for the kernel's own use, content arbitrary. Given back with [`Memory::free`].
    pub fn alloc_kernel(&self) -> Option<Frame> {
        let f = self.alloc()?;
        self.frame_word(f).set(Role::Kernel, 0);
        Some(f)
    }

    /// A zeroed frame for a table.
    pub(crate) fn new_table(&self) -> Option<Frame> {
        let t = self.alloc_zeroed()?;
        self.frame_word(t).set(Role::Table, 0);
        Some(t)
    }

    /// Zeroes one frame for later, on an idle CPU. False when there is enough, nothing to zero, or an audit is near.
    pub fn zero_ahead(&self) -> bool {
        self.free.zero_ahead(&self.machine, &self.stats)
    }

    /// Puts all frames of this CPU's caches back into the bitmap.
    pub fn drain_cache(&self) {
        self.free.drain(&self.machine);
    }

    /// Free frames, those in caches included, as far as it can be known while others work.
    pub fn free_frames(&self) -> u64 {
        self.free.count(&self.machine)
    }

    /// Memory for a node: [`NODE`](crate::slab::NODE) bytes, aligned to them, content arbitrary.
    #[inline]
    pub fn alloc_node(&self) -> Option<(*mut u8, NodePlace)> {
        self.slabs.take(&self.machine, &self.free)
    }

    /// Gives a node back.
    ///
    /// # Safety
    ///
    /// It came from [`Memory::alloc_node`], nobody uses it any more, and it is given back once.
    #[inline]
    pub unsafe fn free_node(&self, place: NodePlace) {
        // SAFETY: this function's contract.
        unsafe { self.slabs.put(&self.machine, &self.free, place) };
    }

    /// Gives all free nodes of this CPU back to their frames.
    pub fn drain_nodes(&self) {
        self.slabs.drain(&self.machine, &self.free);
    }

    /// Begins a read section. Sections nest.
    #[inline]
    pub fn pin(&self) -> Pin<'_, M> {
        self.rcu.pin(&self.machine)
    }

    /// Whether the calling CPU is inside a read section: it must not wait then.
    pub fn is_pinned(&self) -> bool {
        self.rcu.is_pinned(&self.machine)
    }
}

/// A space gives its pages back, or is about to.
#[must_use]
#[derive(Debug)]
pub struct Clearing<'a>(&'a core::sync::atomic::AtomicU64);

impl Drop for Clearing<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, core::sync::atomic::Ordering::Relaxed);
    }
}
