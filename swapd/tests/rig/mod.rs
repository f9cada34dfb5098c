//! The memory manager, a swap area and an adversarial disk together: CPUs are threads, programs verify every byte they read back.

use quire_mm::fake::{Cpu, Fake, audit, memory};
use quire_mm::sync::{AtomicU64, Ordering::*};
use quire_mm::{Backing, Fault, Flags, Frame, Memory, PAGE, Page, PageError, PageRange, Place, Prot, Report, Space};
use quire_swapd::fake::{FakeDisk, Manners, Pages};
use quire_swapd::policy::{LAST_ROUND, Readahead};
use quire_swapd::slot::SlotWord;
use quire_swapd::{Frames, ReadError, Slot, Swap, Wake};
use std::cell::Cell;
use std::sync::{Arc, Mutex, Weak};

pub const RW: Prot = Prot::READ.union(Prot::WRITE);
pub const RO: Prot = Prot::READ;
pub const NONE: Prot = Prot::empty();
/// Where most tests map.
pub const BASE: u64 = 1 << 20;

pub type S = Arc<Space<Fake>>;
pub type Area = Swap<'static, Frames<Fake, Nobody>, FakeDisk>;

/// Nobody sleeps here: who waits polls.
pub struct Nobody;

thread_local! {
    static AHEAD: Cell<Readahead> = const { Cell::new(Readahead(0)) };
}

impl Wake for Nobody {
    fn wake(&self, _slot: Slot) {}
    fn hit(&self, page: Page) {
        AHEAD.set(AHEAD.get().hit(page.0));
    }
}

struct Ram(&'static Memory<Fake>);

impl Pages for Ram {
    fn words(&self) -> usize {
        PAGE / 8
    }
    fn word(&self, f: Frame, i: usize) -> &AtomicU64 {
        self.0.machine.cell(f, i)
    }
}

/// Everything that a test works with.
pub struct Rig {
    pub memory: &'static Memory<Fake>,
    pub swap: &'static Area,
    spaces: Mutex<Vec<Weak<Space<Fake>>>>,
    cursor: AtomicU64,
}

impl Rig {
    /// `frames` frames and a swap area of `slots` slots (one of which is the header).
    pub fn new(frames: usize, slots: usize, manners: Manners) -> Rig {
        let memory = memory(frames);
        let words: &'static [SlotWord] = Vec::leak((0..slots).map(|_| SlotWord::new()).collect());
        let map: &'static [AtomicU64] = Vec::leak((0..Area::words_needed(slots)).map(|_| AtomicU64::new(0)).collect());
        let disk = FakeDisk::beside(Ram(memory), slots - 1, manners, 0x51ee_d001);
        let swap: &'static Area =
            Box::leak(Box::new(Swap::new(words, map, std::iter::empty(), Frames::new(memory, Nobody), disk)));
        memory.machine.attach(swap);
        Rig { memory, swap, spaces: Mutex::default(), cursor: AtomicU64::new(1) }
    }

    /// A space that reclaim sees.
    pub fn space(&self) -> S {
        self.adopt(Space::new(self.memory))
    }

    /// Shows a space to reclaim.
    pub fn adopt(&self, space: Space<Fake>) -> S {
        let space = Arc::new(space);
        self.spaces.lock().unwrap().push(Arc::downgrade(&space));
        space
    }

    fn live(&self) -> Vec<S> {
        let mut spaces = self.spaces.lock().unwrap();
        spaces.retain(|s| s.strong_count() != 0);
        spaces.iter().filter_map(Weak::upgrade).collect()
    }

    /// Ends what the disk has completed, sends what waits.
    pub fn pump(&self) {
        self.swap.write_out();
        self.swap.poll();
    }

    /// Makes some frames free; the calling CPU waits for nothing.
    pub fn reclaim(&self, cpu: &mut Cpu, want: u64) -> u64 {
        let mut gone = self.swap.trim(64, false);
        let n = self.cursor.fetch_add(1, Relaxed);
        for space in self.live() {
            for round in 0..=LAST_ROUND {
                if gone >= want {
                    break;
                }
                // Anywhere: races like it, and the tests' programs live near BASE and in the home arenas.
                let mut cursor = Page(if n & 1 == 0 { BASE + n % 512 } else { 0 });
                gone += space.evict(want - gone, round, &mut cursor).pages;
                cpu.poll();
            }
            drop_space(cpu, space);
        }
        self.swap.trim(64, gone < want);
        self.pump();
        cpu.memory.drain_here();
        gone
    }

    /// What the kernel does for a fault that cannot go on by itself. False: the page is lost.
    pub fn resolve(&self, cpu: &mut Cpu, page: Page, fault: Fault) -> bool {
        match fault {
            Fault::SwapIn(slot) => {
                if self.swap.wants_read(slot) {
                    let (range, next) = AHEAD.get().read(page.0);
                    AHEAD.set(next);
                    let mut near = [Slot(0); 32];
                    let n = PageRange::new(Page(range.start), range.end - range.start)
                        .map_or(0, |r| cpu.space().clone().swapped_near(r, &mut near));
                    match self.swap.read(slot, &near[..n]) {
                        Ok(()) => {}
                        Err(ReadError::OutOfFrames) => _ = self.reclaim(cpu, 16),
                        Err(_) => {}
                    }
                }
                self.pump();
                cpu.poll();
                std::thread::yield_now();
                true
            }
            Fault::OutOfFrames => {
                self.reclaim(cpu, 32);
                cpu.poll();
                std::thread::yield_now();
                true
            }
            _ => false,
        }
    }

    /// Loads a space, with a frame for its top-level table.
    pub fn enter(&self, cpu: &mut Cpu, space: &S) {
        while self.memory.free_frames() < 8 {
            self.reclaim(cpu, 16);
        }
        cpu.enter(space);
    }

    /// A load by a program.
    pub fn read(&self, cpu: &mut Cpu, addr: u64) -> Result<u64, Fault> {
        loop {
            match cpu.read(addr) {
                Ok(v) => return Ok(v),
                Err(fault) if self.resolve(cpu, Page::containing(addr), fault) => {}
                Err(fault) => return Err(fault),
            }
        }
    }

    /// A store by a program.
    pub fn write(&self, cpu: &mut Cpu, addr: u64, v: u64) -> Result<(), Fault> {
        loop {
            match cpu.write(addr, v) {
                Ok(()) => return Ok(()),
                Err(fault) if self.resolve(cpu, Page::containing(addr), fault) => {}
                Err(fault) => return Err(fault),
            }
        }
    }

    /// Stamps a page in several places.
    pub fn stamp(&self, cpu: &mut Cpu, page: u64, v: u64) {
        for i in [0, 77, 511] {
            self.write(cpu, Page(page).addr() + i * 8, v ^ i << 48).unwrap();
        }
    }

    /// The stamp of a page, the same in all places.
    pub fn check(&self, cpu: &mut Cpu, page: u64) -> Result<u64, Fault> {
        let first = self.read(cpu, Page(page).addr())?;
        for i in [77, 511] {
            assert_eq!(
                self.read(cpu, Page(page).addr() + i * 8)?,
                if first == 0 { 0 } else { first ^ i << 48 },
                "a torn page"
            );
        }
        Ok(first)
    }

    /// Does an edit, with memory made for it if need be.
    pub fn edit<R>(&self, cpu: &mut Cpu, mut edit: impl FnMut(&Space<Fake>) -> Result<R, quire_mm::EditError>) -> R {
        loop {
            let space = cpu.space().clone();
            match edit(&space) {
                Ok(r) => return r,
                Err(quire_mm::EditError::OutOfFrames) => _ = self.reclaim(cpu, 32),
                Err(e) => panic!("{e:?}"),
            }
            cpu.poll();
        }
    }

    /// Holds a page of an object, for the kernel.
    pub fn object_word(&self, cpu: &mut Cpu, object: &quire_mm::Object, index: u64, write: Option<u64>) -> u64 {
        loop {
            match self.memory.object_page(object, index) {
                Ok(f) => {
                    let cell = self.memory.machine.cell(f, 0);
                    write.into_iter().for_each(|v| cell.store(v, Relaxed));
                    let v = cell.load(Relaxed);
                    if let Some(slot) = self.memory.release_frame(f) {
                        self.swap.release(slot, 1);
                    }
                    return v;
                }
                Err(PageError::SwapIn(slot)) => _ = self.resolve(cpu, Page(0), Fault::SwapIn(slot)),
                Err(PageError::OutOfFrames) => _ = self.reclaim(cpu, 16),
                Err(e) => panic!("{e:?}"),
            }
        }
    }

    /// All CPUs are gone: the audit with the spaces alive, and with them gone; then no slot and no frame may be in use.
    pub fn end(self, spaces: Vec<S>) {
        while self.swap.has_pending() || self.swap.disk.in_flight() != 0 {
            self.pump();
        }
        let alive: Vec<&Space<Fake>> = spaces.iter().map(|s| &**s).collect();
        let r = audit(self.memory, &alive);
        eprintln!("{} pages, {} slots, {} of {} frames free; {}", r.pages, r.slots, r.free, r.total, self.figures());
        drop(alive);
        drop(spaces);
        while self.swap.has_pending() || self.swap.disk.in_flight() != 0 {
            self.pump();
        }
        let r: Report = audit(self.memory, &[]);
        assert_eq!((r.tables, r.slabs, r.pages, r.objects, r.slots), (0, 0, 1, 0, 0), "{r:?}");
        let c = self.swap.census();
        assert_eq!((c.free + c.bad, c.holds, c.cached, c.busy), (c.total, 0, 0, 0), "{c:?}");
        assert_eq!(c.free, c.mapped_free, "{c:?}");
        self.swap.disk.check_guards();
    }

    fn figures(&self) -> String {
        let s = &self.swap.stats;
        let n = |c: &std::sync::atomic::AtomicU64| c.load(Relaxed);
        format!(
            "{} out, {} in, {} back, {} ahead, {} hits",
            n(&s.written),
            n(&s.read),
            n(&s.taken_back),
            n(&s.ahead),
            n(&s.ahead_hits)
        )
    }
}

/// Drops a reference to a space which may be the last one: its end serves shootdowns as the CPU that drops it.
pub fn drop_space(cpu: &mut Cpu, space: S) {
    cpu.poll();
    drop(space);
}

/// Maps anonymous pages at a fixed place.
pub fn fixed(rig: &Rig, cpu: &mut Cpu, page: u64, pages: u64, prot: Prot) {
    rig.edit(cpu, |s| s.map(Place::Fixed(Page(page)), pages, prot, &Backing::Anonymous, Flags::empty()));
}

pub fn range(page: u64, pages: u64) -> PageRange {
    PageRange::new(Page(page), pages).unwrap()
}

pub struct Random(pub u64);
impl Random {
    pub fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % below
    }
}
