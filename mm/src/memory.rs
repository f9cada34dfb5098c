//! What all address spaces share: frames, grace periods, shootdown, the zero page, counters.

use crate::frames::slab::NodeCache;
use crate::frames::{Bitmap, Frame, FrameWord, Left, cache::Cache};
use crate::machine::Machine;
use crate::percpu::PerCpu;
use crate::rcu::Rcu;
use crate::shootdown::Shootdown;
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
    pub(crate) free: Bitmap,
    pub(crate) slabs: Bitmap,
    pub(crate) caches: PerCpu<Cache>,
    pub(crate) nodes: PerCpu<NodeCache>,
    pub(crate) rcu: Rcu,
    pub(crate) shootdown: Shootdown,
    /// While not zero, idle CPUs leave the frames alone.
    pub(crate) quiet: AtomicU64,
    zero: AtomicU64,
    total: AtomicU64,
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
            free: Bitmap::new(),
            slabs: Bitmap::new(),
            caches: PerCpu::new(Cache::new),
            nodes: PerCpu::new(NodeCache::new),
            rcu: Rcu::new(),
            shootdown: Shootdown::new(),
            quiet: AtomicU64::new(0),
            zero: AtomicU64::new(0),
            total: AtomicU64::new(0),
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
            self.free.put(self.machine.blocks(), i as usize);
            self.total.fetch_add(1, Relaxed);
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
        self.total.load(Relaxed)
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
        self.quiet.store(on as u64, Release);
    }

    /// The metadata word of a frame.
    #[inline]
    pub(crate) fn frame_word(&self, f: Frame) -> &FrameWord {
        &self.machine.frame_words()[f.0 as usize]
    }

    /// A reference to a page's frame, unless it has none left or too many.
    #[must_use]
    #[inline]
    pub fn try_ref(&self, f: Frame) -> bool {
        self.frame_word(f).try_ref(|| self.stats.add(&self.machine, Counter::RetryReference, 1))
    }

    /// Calls `see` with the name and the sum of every counter.
    pub fn each_counter(&self, mut see: impl FnMut(&str, u64)) {
        Counter::ALL.iter().for_each(|&(counter, name)| see(name, self.stats.get(counter)));
        see("retries_frame_bitmap", self.free.retries());
        see("retries_slab_bitmap", self.slabs.retries());
    }

    /// A zeroed page with one reference.
    pub(crate) fn new_page(&self) -> Option<Frame> {
        let f = self.alloc_zeroed()?;
        self.frame_word(f).start();
        Some(f)
    }

    /// Drops a reference to a page's frame and frees it with the last one. The zero page is not counted.
    #[inline]
    pub(crate) fn release(&self, f: Frame) {
        if f != self.zero_page() {
            self.free_left(f, self.frame_word(f).unref());
        }
    }

    /// Frees a frame of which a reference was dropped, and this is left.
    #[inline(always)]
    pub(crate) fn free_left(&self, f: Frame, left: Left) {
        match left {
            Left::Others => {}
            Left::Nothing => self.free(f),
            Left::Link => self.free_linked(f),
        }
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
