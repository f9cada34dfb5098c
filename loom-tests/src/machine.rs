//! The machine that the models run on: a handful of frames, CPUs that are loom's threads, and hardware that does its worst.
//!
//! * *TLB*: each CPU keeps every translation, and every upper entry on the way, until it is told to drop it. The walk reads the
//!   entries as the hardware does, from the CPU's own top-level table.
//! * *Interrupts* are a flag that the target looks at between two instructions of its script ([`Loom::poll`]); before that it
//!   goes on with what it has cached. A CPU whose script is over is *away*: interrupts are served in its name by whoever sends.
//! * *Freed frames* are poison. Whoever frees one while a TLB leads to it fails the model, and so does everybody whose access to
//!   its words has not happened before the free (loom's `with_mut` knows): a missing answer, a weak ordering, a short grace period.

use crate::area::Area;
use loom::thread::yield_now;
use quire_mm::entry::{Entry, Table, Word};
use quire_mm::frames::{Block, FrameWord};
use quire_mm::page::{ARENA_BITS, ENTRIES, TABLE_BITS};
use quire_mm::sync::{AtomicU64, Ordering::*};
use quire_mm::{CPUS, Frame, Machine, Memory, PAGE, Page, Pager, Slot};
use std::cell::{Cell, RefCell};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};

/// Words of data in a page.
pub const WORDS: usize = 2;
/// All pages of all arenas.
const PAGES: usize = quire_mm::page::ARENAS << ARENA_BITS;
/// Most frames of a machine.
const FRAMES: usize = 40;

/// The last events of the execution under way, for a failed run (`--trace`).
pub static TRACE: Mutex<Vec<(usize, &'static str, u64)>> = Mutex::new(Vec::new());
/// Whether events are kept.
pub static TRACING: AtomicBool = AtomicBool::new(false);

/// Keeps an event.
pub fn note(what: &'static str, value: u64) {
    if TRACING.load(std::sync::atomic::Ordering::Relaxed) {
        let mut t = TRACE.lock().unwrap_or_else(PoisonError::into_inner);
        t.push((CPU.with(|c| c.get()), what, value));
        if t.len() > 4000 {
            t.drain(..2000);
        }
    }
}

/// Waits of one CPU in one execution after which nothing branches off.
const MOST_WAITS: u32 = 6;
const INTERRUPT: u64 = 1;
const AWAY: u64 = 2;

loom::thread_local! {
    static CPU: Cell<usize> = Cell::new(0);
}

/// Runs `f` as CPU `cpu`.
pub fn on<R>(cpu: usize, f: impl FnOnce() -> R) -> R {
    let before = CPU.with(|c| c.replace(cpu));
    let r = f();
    CPU.with(|c| c.set(before));
    r
}

/// What one CPU has cached.
#[derive(Default)]
struct Tlb {
    top: Option<Frame>,
    /// The arena's table, by arena; the leaf table, by its number.
    upper: [Option<Frame>; quire_mm::page::ARENAS],
    tables: [Option<Frame>; PAGES >> TABLE_BITS],
    pages: [Option<Word>; PAGES],
}

impl Tlb {
    fn leads_to(&self, f: Frame) -> bool {
        let tables = self.upper.iter().chain(&self.tables).flatten().any(|&t| t == f);
        tables || self.top == Some(f) || self.pages.iter().flatten().any(|w| w.frame() == Some(f))
    }
}

/// The machine.
pub struct Loom {
    words: Vec<FrameWord>,
    blocks: Vec<Block>,
    slabs: Vec<Block>,
    tables: Vec<Table>,
    data: Vec<[AtomicU64; WORDS]>,
    /// Freed and not handed out again, as far as the machine is told.
    freed: Vec<Cell<bool>>,
    tlbs: [RefCell<Tlb>; CPUS],
    /// Touched by whoever drops translations and by whoever frees a frame: loom orders only what meets in a word of its own.
    drops: [AtomicU64; CPUS],
    lines: [AtomicU64; CPUS],
    waits: [Cell<u32>; CPUS],
    memory: Cell<*const Memory<Loom>>,
    /// The swap area, where a model has one.
    area: Cell<Option<&'static Area>>,
}

// SAFETY: loom runs one of its threads at a time, all on one thread of the host; cells are only borrowed between two switches.
unsafe impl Sync for Loom {}

impl Loom {
    /// A machine with `frames` frames.
    pub fn new(frames: usize) -> Loom {
        assert!(frames <= FRAMES);
        let blocks = frames.div_ceil(quire_mm::frames::bitmap::BLOCK_BITS);
        Loom {
            words: (0..frames).map(|_| FrameWord::new()).collect(),
            blocks: (0..blocks).map(|_| Block::new()).collect(),
            slabs: (0..blocks).map(|_| Block::new()).collect(),
            tables: (0..frames).map(|_| std::array::from_fn(|_| Entry::new(Word::empty(0)))).collect(),
            data: (0..frames).map(|_| std::array::from_fn(|_| AtomicU64::new(0))).collect(),
            freed: (0..frames).map(|_| Cell::new(false)).collect(),
            tlbs: Default::default(),
            drops: std::array::from_fn(|_| AtomicU64::new(0)),
            lines: std::array::from_fn(|_| AtomicU64::new(AWAY)),
            waits: Default::default(),
            memory: Cell::new(std::ptr::null()),
            area: Cell::new(None),
        }
    }

    /// Gives way to the other threads. Two CPUs that wait could give way to each other for ever while a third one stands still: when
    /// one has waited often, the rest of the execution runs fairly, and nothing branches off it.
    fn give_way(&self) {
        let waits = &self.waits[self.cpu()];
        waits.set(waits.get() + 1);
        if waits.get() > MOST_WAITS {
            loom::skip_branch();
        }
        yield_now();
    }

    /// Tells the machine what serves its interrupts.
    pub fn connect(&self, memory: *const Memory<Loom>) {
        self.memory.set(memory);
    }

    /// Gives the machine a swap area.
    pub fn attach(&self, area: &'static Area) {
        self.area.set(Some(area));
    }

    /// The swap area.
    pub fn area(&self) -> &'static Area {
        self.area.get().expect("a model with a swap area")
    }

    /// What the kernel does when a fault needs a slot's content: begins to read it, lets the disk work, gives way.
    pub fn bring(&self, slot: Slot) {
        let area = self.area();
        if area.wants_read(slot) {
            let _ = area.read(slot, &[]);
        }
        area.poll();
        if area.is_busy(slot) {
            self.pause(0);
        }
    }

    fn serve(&self) {
        // SAFETY: `connect` was given a memory that lives as long as its machine.
        unsafe { (*self.memory.get()).serve() };
    }

    /// The calling CPU begins its script.
    pub fn begin(&self) {
        self.lines[self.cpu()].fetch_and(!AWAY, AcqRel);
    }

    /// Between two instructions: takes an interrupt if there is one.
    pub fn poll(&self) {
        if self.lines[self.cpu()].fetch_and(!INTERRUPT, AcqRel) & INTERRUPT != 0 {
            self.serve();
        }
    }

    /// The calling CPU's script is over.
    pub fn end(&self) {
        note("end of the script", 0);
        if self.lines[self.cpu()].fetch_or(AWAY, AcqRel) & INTERRUPT != 0 {
            self.serve();
        }
    }

    /// Loads a top-level table, or the kernel's: all translations go.
    pub fn load(&self, top: Option<Frame>) {
        self.drops[self.cpu()].fetch_or(0, AcqRel);
        *self.tlbs[self.cpu()].borrow_mut() = Tlb { top, ..Tlb::default() };
    }

    fn check(&self, f: Frame, what: &str) {
        assert!(!self.freed[f.0 as usize].get(), "{what} {f:?} was freed");
    }

    /// The hardware's walk to `page` for a load or store: the frame, or a page fault.
    pub fn translate(&self, page: Page, write: bool) -> Option<Frame> {
        let tlb = &self.tlbs[self.cpu()];
        let grants = |w: Word| w.allows(if write { quire_mm::Access::Write } else { quire_mm::Access::Read });
        let at = page.0 as usize;
        let cached = tlb.borrow().pages[at];
        if let Some(w) = cached.filter(|&w| grants(w)) {
            let f = w.frame()?;
            self.check(f, "a translation's frame");
            return Some(f);
        }
        // A translation that does not suffice is looked up again, as x86 may.
        tlb.borrow_mut().pages[at] = None;
        let leaf = at >> TABLE_BITS;
        let known = tlb.borrow().tables[leaf];
        let table = match known {
            Some(t) => t,
            None => {
                let known = tlb.borrow().upper[page.arena()];
                let upper = match known {
                    Some(t) => t,
                    None => {
                        let top = tlb.borrow().top.expect("user code on a CPU without a space");
                        self.check(top, "the loaded top-level table");
                        let t = self.tables[top.0 as usize][page.arena()].load().frame()?;
                        tlb.borrow_mut().upper[page.arena()] = Some(t);
                        t
                    }
                };
                self.check(upper, "an arena's table");
                let w = self.tables[upper.0 as usize][page.local() as usize >> TABLE_BITS].load();
                let t = w.is_present().then_some(w.frame()?)?;
                tlb.borrow_mut().tables[leaf] = Some(t);
                t
            }
        };
        self.check(table, "a table under the hardware's walk");
        let w = self.tables[table.0 as usize][at & (ENTRIES - 1)].load();
        if !grants(w) {
            return None;
        }
        note("walk", w.bits());
        tlb.borrow_mut().pages[at] = Some(w);
        let f = w.frame()?;
        self.check(f, "a page under the hardware's walk");
        Some(f)
    }

    /// Whether the calling CPU has a translation of `page`.
    pub fn has_cached(&self, page: Page) -> bool {
        self.tlbs[self.cpu()].borrow().pages[page.0 as usize].is_some()
    }

    /// The frame is somebody's again, to be filled by a device.
    pub fn handed_out(&self, f: Frame) {
        self.freed[f.0 as usize].set(false);
    }

    /// A word of a page's data. x86 orders loads and stores as Acquire and Release.
    pub fn data(&self, f: Frame, i: usize) -> &AtomicU64 {
        &self.data[f.0 as usize][i]
    }
}

/// Bytes for the frames that hold nodes. The models run one after the other, so one pool serves them all.
fn bytes() -> *mut u8 {
    use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};
    static POOL: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
    let at = POOL.load(Relaxed);
    if !at.is_null() {
        return at;
    }
    let layout = std::alloc::Layout::from_size_align(FRAMES * PAGE, PAGE).expect("a layout");
    // SAFETY: not empty.
    let at = unsafe { std::alloc::alloc_zeroed(layout) };
    POOL.store(at, Relaxed);
    at
}

// SAFETY: one loom thread is one CPU, and `on` lends a CPU's number only while nobody else has it. The slices never change.
// `page` and `table` are different memory, which is stricter than one: nobody uses a frame as both. Invalidation empties the
// software TLB. Interrupts are served at the target's next `poll`, or at once if its script is over.
unsafe impl Machine for Loom {
    fn cpu(&self) -> usize {
        CPU.with(|c| c.get())
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
        // SAFETY: inside the pool.
        unsafe { bytes().add(frame.0 as usize * PAGE) }
    }
    fn table(&self, frame: Frame) -> &Table {
        assert!(frame.0 != 0, "an entry of a freed table was followed");
        self.check(frame, "a table that software reads");
        &self.tables[frame.0 as usize]
    }
    fn zero(&self, frame: Frame) {
        self.freed[frame.0 as usize].set(false);
        self.table(frame).iter().for_each(|e| e.init(Word::empty(0)));
        self.data[frame.0 as usize].iter().for_each(|w| w.store(0, Release));
    }
    fn copy(&self, from: Frame, to: Frame) {
        note("copy to", to.0 as u64);
        self.check(from, "the source of a copy");
        self.freed[to.0 as usize].set(false);
        for i in 0..WORDS {
            self.data(to, i).store(self.data(from, i).load(Acquire), Release);
        }
    }
    fn invalidate(&self, page: Page) {
        note("invalidate", page.0);
        self.drops[self.cpu()].fetch_or(0, AcqRel);
        let mut tlb = self.tlbs[self.cpu()].borrow_mut();
        tlb.pages[page.0 as usize] = None;
        tlb.upper = Default::default();
        tlb.tables = Default::default();
    }
    fn invalidate_all(&self) {
        let top = self.tlbs[self.cpu()].borrow().top;
        self.load(top);
    }
    fn interrupt(&self, cpu: usize) {
        note("interrupt", cpu as u64);
        if self.lines[cpu].fetch_or(INTERRUPT, AcqRel) & AWAY != 0 {
            on(cpu, || self.poll());
        }
    }
    fn relax(&self) {
        note("relax", 0);
        self.give_way();
    }
    fn pause(&self, _since: u64) {
        note("pause", 0);
        self.poll();
        self.give_way();
    }
    fn fill_top(&self, _top: Frame) {}
    fn pager(&self) -> Option<&dyn Pager> {
        self.area.get().map(|a| a as &dyn Pager)
    }
    fn freed(&self, frame: Frame) {
        note("free", frame.0 as u64);
        for (cpu, tlb) in self.tlbs.iter().enumerate() {
            if cpu != self.cpu() {
                self.drops[cpu].load(Relaxed);
            }
            assert!(!tlb.borrow().leads_to(frame), "{frame:?} was freed while CPU {cpu} has a translation to it");
        }
        self.freed[frame.0 as usize].set(true);
        self.tables[frame.0 as usize].iter().for_each(|e| e.end());
        self.data[frame.0 as usize].iter().for_each(|w| w.end(u64::MAX));
    }
}
