//! The frame allocator and the segment list of `quire-mm` on the host, beside `buddy_system_allocator`,
//! `crossbeam-skiplist` and `RwLock<BTreeMap>`, with one and two threads: `./run.sh bench --host`.
//!
//! A figure is the time of one operation of one thread while the others do the same. What is compared differs in what
//! it does: an edit of `quire-mm` claims its range, publishes a version that readers may hold, and sweeps page tables.

#![allow(missing_docs, reason = "criterion's macros make public functions without any")]

use buddy_system_allocator::LockedFrameAllocator;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use crossbeam_skiplist::SkipMap;
use quire_mm::entry::Table;
use quire_mm::frames::{Block, Frame, FrameWord};
use quire_mm::{Backing, CPUS, Flags, Machine, Memory, PAGE, Page, PageRange, Place, Prot, Space};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::ops::Bound::Included;
use std::sync::{Barrier, RwLock};
use std::time::{Duration, Instant};

const FRAMES: usize = 1 << 16;
/// Frames that are taken before they are given back, in the order in which they came.
const BATCH: usize = 64;
/// Segments of the index: pages `BASE + 2 * i`.
const SEGMENTS: u64 = 10_000;
const BASE: u64 = 1 << 20;
const RW: Prot = Prot::READ.union(Prot::WRITE);

thread_local! {
    static CPU: Cell<usize> = const { Cell::new(0) };
}

/// A machine of plain memory. Threads are CPUs; nobody has translations, so nobody is interrupted.
struct Plain {
    base: *mut u8,
    words: Vec<FrameWord>,
    blocks: Vec<Block>,
    slabs: Vec<Block>,
}

// SAFETY: raw memory that only the memory manager uses, by its own rules.
unsafe impl Sync for Plain {}

// SAFETY: one thread has one number, set by `together` before it works; the slices never change; frames lie in one allocation.
unsafe impl Machine for Plain {
    fn cpu(&self) -> usize {
        CPU.get()
    }
    fn frame_words(&self) -> &[FrameWord] {
        &self.words
    }
    fn blocks(&self) -> &[Block] {
        &self.blocks
    }
    fn slabs(&self) -> &[Block] {
        &self.slabs
    }
    fn page(&self, frame: Frame) -> *mut u8 {
        // SAFETY: the memory manager asks for frames that it was given.
        unsafe { self.base.add(frame.0 as usize * PAGE) }
    }
    fn table(&self, frame: Frame) -> &Table {
        // SAFETY: a frame is as large and aligned as a table, and every bit pattern is an entry.
        unsafe { &*self.page(frame).cast::<Table>() }
    }
    fn zero(&self, frame: Frame) {
        // SAFETY: the caller owns the frame.
        unsafe { self.page(frame).write_bytes(0, PAGE) };
    }
    fn copy(&self, from: Frame, to: Frame) {
        // SAFETY: the caller owns both frames, which differ.
        unsafe { self.page(from).copy_to_nonoverlapping(self.page(to), PAGE) };
    }
    fn invalidate(&self, _page: Page) {}
    fn invalidate_all(&self) {}
    fn interrupt(&self, _cpu: usize) {
        unreachable!("nobody entered a space")
    }
    fn relax(&self) {
        std::hint::spin_loop();
    }
    fn pause(&self, _since: u64) {
        std::thread::yield_now();
    }
    fn fill_top(&self, _top: Frame) {}
}

fn memory() -> &'static Memory<Plain> {
    let layout = std::alloc::Layout::from_size_align(FRAMES * PAGE, PAGE).expect("a layout");
    let blocks = FRAMES.div_ceil(quire_mm::frames::bitmap::BLOCK_BITS);
    let plain = Plain {
        // SAFETY: not empty.
        base: unsafe { std::alloc::alloc_zeroed(layout) },
        words: (0..FRAMES).map(|_| FrameWord::new()).collect(),
        blocks: (0..blocks).map(|_| Block::new()).collect(),
        slabs: (0..blocks).map(|_| Block::new()).collect(),
    };
    // SAFETY: not empty; zeroed, of this layout, and never given back. The frames were just made.
    unsafe {
        let at = std::alloc::alloc_zeroed(std::alloc::Layout::new::<Memory<Plain>>()).cast();
        let memory: &'static Memory<Plain> = Memory::new_in_zeroed(at, plain);
        memory.add(Frame(0), Frame(FRAMES as u32));
        assert!(memory.start(), "no memory for the zero page");
        memory
    }
}

/// Runs `work(thread, rounds)` on so many threads at once; the time from the common start to the last end.
fn together(threads: usize, rounds: u64, work: &(impl Fn(usize, u64) + Sync)) -> Duration {
    let ready = Barrier::new(threads + 1);
    assert!(threads < CPUS);
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads)
            .map(|id| {
                let ready = &ready;
                scope.spawn(move || {
                    CPU.set(id + 1);
                    ready.wait();
                    work(id, rounds);
                })
            })
            .collect();
        ready.wait();
        let start = Instant::now();
        all.into_iter().for_each(|thread| thread.join().expect("a thread"));
        start.elapsed()
    })
}

/// One line for each number of threads.
fn measure(c: &mut Criterion, group: &str, name: &str, work: impl Fn(usize, u64) + Sync) {
    let mut group = c.benchmark_group(group);
    group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    for threads in [1, 2] {
        group.bench_function(BenchmarkId::new(name, threads), |b| {
            b.iter_custom(|rounds| together(threads, rounds, &work));
        });
    }
    group.finish();
}

/// Takes [`BATCH`] frames and gives them back, as often as makes `rounds` pairs.
fn in_batches(rounds: u64, mut take: impl FnMut() -> usize, mut give: impl FnMut(usize)) {
    let mut held = Vec::with_capacity(BATCH);
    let mut left = rounds;
    while left > 0 {
        let n = left.min(BATCH as u64);
        (0..n).for_each(|_| held.push(black_box(take())));
        held.drain(..).for_each(&mut give);
        left -= n;
    }
}

fn frames(c: &mut Criterion) {
    let m = memory();
    measure(c, "frame: take and give back", "quire-mm", |_, rounds| {
        in_batches(rounds, || m.alloc().expect("a frame").0 as usize, |f| m.free(Frame(f as u32)));
    });
    let buddy = LockedFrameAllocator::<32>::new();
    buddy.lock().add_frame(0, FRAMES);
    measure(c, "frame: take and give back", "buddy_system_allocator", |_, rounds| {
        in_batches(rounds, || buddy.lock().alloc(1).expect("a frame"), |f| buddy.lock().dealloc(f, 1));
    });
}

/// A page of a segment, differing from round to round.
fn some(id: usize, round: u64) -> u64 {
    BASE + 2 * ((round.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ id as u64) % SEGMENTS)
}

/// A place between two segments, of this thread's own half.
fn gap(id: usize, round: u64) -> u64 {
    BASE + 1 + 2 * (round.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (SEGMENTS / 2) + id as u64 * SEGMENTS / 2)
}

fn segments(c: &mut Criterion) {
    let space = Space::new(memory());
    let map = |page| {
        // Other rights than its neighbours': nothing merges.
        let prot = if page % 2 == BASE % 2 { RW } else { Prot::READ };
        space.map(Place::Fixed(Page(page)), 1, prot, &Backing::Anonymous, Flags::empty()).expect("a mapping");
    };
    let unmap = |page| space.unmap(PageRange::new(Page(page), 1).expect("a range")).expect("an unmap");
    let skip = SkipMap::new();
    let tree = RwLock::new(BTreeMap::new());
    for page in (0..SEGMENTS).map(|i| BASE + 2 * i) {
        map(page);
        skip.insert(page, page + 1);
        tree.write().expect("a tree").insert(page, page + 1);
    }
    let find = "segment: find one of 10,000";
    measure(c, find, "quire-mm", |id, rounds| {
        (0..rounds).for_each(|r| assert!(space.find(Page(some(id, r))).is_some()));
    });
    measure(c, find, "crossbeam-skiplist", |id, rounds| {
        (0..rounds).for_each(|r| assert!(skip.upper_bound(Included(&some(id, r))).is_some()));
    });
    measure(c, find, "RwLock<BTreeMap>", |id, rounds| {
        (0..rounds).for_each(|r| assert!(tree.read().expect("a tree").range(..=some(id, r)).next_back().is_some()));
    });
    let edit = "segment: add and remove one among 10,000";
    measure(c, edit, "quire-mm", |id, rounds| {
        (0..rounds).for_each(|r| {
            map(gap(id, r));
            unmap(gap(id, r));
        });
    });
    measure(c, edit, "crossbeam-skiplist", |id, rounds| {
        (0..rounds).for_each(|r| {
            skip.insert(gap(id, r), 0);
            assert!(skip.remove(&gap(id, r)).is_some());
        });
    });
    measure(c, edit, "RwLock<BTreeMap>", |id, rounds| {
        (0..rounds).for_each(|r| {
            tree.write().expect("a tree").insert(gap(id, r), 0);
            assert!(tree.write().expect("a tree").remove(&gap(id, r)).is_some());
        });
    });
}

criterion_group!(benches, frames, segments);
criterion_main!(benches);
