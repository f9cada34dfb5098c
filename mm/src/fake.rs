//! An adversarial machine for host tests: threads are CPUs, with software TLBs that keep every translation as long as they may,
//! poison in every freed frame, and interrupts that arrive late.
//!
//! *What it catches.* A frame or table that is freed while any TLB still leads to it panics at the free. A freed page reads as
//! poison. Accessed and Dirty are set by compare-and-swap behind the software's back, as hardware does.

use crate::entry::{Entry, Table};
use crate::fault::Fault;
use crate::frames::{Block, Frame, FrameWord};
use crate::machine::{CPUS, Machine};
use crate::memory::Memory;
use crate::page::{Access, ENTRIES, LEVELS, PAGE, Page, TABLE_BITS};
use crate::pager::Pager;
use crate::space::Space;
use core::cell::{Cell, RefCell};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*};
use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::vec::Vec;

/// What every freed frame is filled with.
pub const POISON: u64 = 0xdead_f4ee_dead_f4ee;

std::thread_local! {
    static CPU: Cell<usize> = const { Cell::new(0) };
    /// Uses of the machine until this thread stops; 0: it does not.
    static STEPS: Cell<u64> = const { Cell::new(0) };
    static STOP: RefCell<Option<Arc<Stop>>> = const { RefCell::new(None) };
}

/// A place where a CPU stops, in the middle of whatever it does, until it is released.
#[derive(Debug, Default)]
pub struct Stop {
    /// 0 on its way, 1 stopped or through, 2 released.
    state: Mutex<u32>,
    changed: Condvar,
}

impl Stop {
    /// Stops the calling thread at its `n`-th use of the machine from now on (`n` > 0).
    pub fn after(n: u64, stop: &Arc<Stop>) {
        STOP.set(Some(stop.clone()));
        STEPS.set(n);
    }

    /// Ends what [`Stop::after`] began on this thread. True if it did not get that far.
    pub fn disarm() -> bool {
        STEPS.replace(0) != 0
    }

    /// Says that the thread is through, stopped or not.
    pub fn finish(&self) {
        self.set(1);
    }

    /// Waits until the thread stands or is through.
    pub fn wait(&self) {
        self.until(1);
    }

    /// Lets the thread go on.
    pub fn release(&self) {
        self.set(2);
    }

    fn set(&self, to: u32) {
        let mut state = self.state.lock().expect("a stop");
        *state = to.max(*state);
        self.changed.notify_all();
    }

    fn until(&self, least: u32) {
        let mut state = self.state.lock().expect("a stop");
        while *state < least {
            state = self.changed.wait(state).expect("a stop");
        }
    }

    /// One use of the machine by the calling thread.
    #[inline]
    fn step() {
        let left = STEPS.get();
        if left != 0 {
            STEPS.set(left - 1);
            if left == 1 {
                let stop = STOP.take().expect("armed");
                stop.set(1);
                stop.until(2);
            }
        }
    }
}

/// A cached translation.
#[derive(Clone, Copy, Debug)]
struct Cached {
    frame: u32,
    write: bool,
    exec: bool,
    /// Dirty is set in the entry, so stores need no walk.
    dirty: bool,
}

#[derive(Debug, Default)]
struct Tlb {
    top: u32,
    leaves: HashMap<u64, Cached>,
    /// Leaf tables by page number without the lowest table's bits (a paging-structure cache).
    tables: HashMap<u64, u32>,
}

/// The machine.
#[derive(Debug)]
pub struct Fake {
    memory: Memory4k,
    words: Vec<FrameWord>,
    blocks: Vec<Block>,
    slabs: Vec<Block>,
    tlbs: Vec<Mutex<Tlb>>,
    /// How many TLB entries lead to a frame.
    cached: Vec<AtomicU32>,
    interrupts: Vec<AtomicBool>,
    pager: OnceLock<Attached>,
}

/// A swap area.
struct Attached(&'static dyn Pager);

impl core::fmt::Debug for Attached {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("a pager")
    }
}

#[derive(Debug)]
struct Memory4k(*mut u8);
// SAFETY: raw memory; who may touch which frame is the subject of the tests.
unsafe impl Send for Memory4k {}
// SAFETY: as above.
unsafe impl Sync for Memory4k {}

/// A memory of `frames` frames, ready for use. Lives for ever, as spaces need it to.
pub fn memory(frames: usize) -> &'static Memory<Fake> {
    let blocks = frames.div_ceil(crate::frames::bitmap::BLOCK_BITS);
    let bytes = frames * PAGE;
    let layout = std::alloc::Layout::from_size_align(bytes, PAGE).expect("a layout");
    // SAFETY: not empty.
    let base = unsafe { std::alloc::alloc_zeroed(layout) };
    let fake = Fake {
        memory: Memory4k(base),
        words: (0..frames).map(|_| FrameWord::new()).collect(),
        blocks: (0..blocks).map(|_| Block::new()).collect(),
        slabs: (0..blocks).map(|_| Block::new()).collect(),
        tlbs: (0..CPUS).map(|_| Mutex::default()).collect(),
        cached: (0..frames).map(|_| AtomicU32::new(0)).collect(),
        interrupts: (0..CPUS).map(|_| AtomicBool::new(false)).collect(),
        pager: OnceLock::new(),
    };
    // In place, as the kernel does it: by value it would not fit on the stack of a test without optimisation.
    // SAFETY: not empty; zeroed, of this layout, and never given back.
    let memory: &'static Memory<Fake> = unsafe {
        let at = std::alloc::alloc_zeroed(std::alloc::Layout::new::<Memory<Fake>>()).cast();
        Memory::new_in_zeroed(at, fake)
    };
    // SAFETY: the frames were just made.
    unsafe { memory.add(Frame(0), Frame(frames as u32)) };
    assert!(memory.start(), "no memory for the zero page");
    memory
}

// SAFETY: the numbers come from thread-locals set by `Cpu::new` (one thread a number), the slices never change, frames lie in one
// zeroed allocation, and TLB entries are dropped as asked.
unsafe impl Machine for Fake {
    fn cpu(&self) -> usize {
        Stop::step();
        CPU.get()
    }
    fn frame_words(&self) -> &[FrameWord] {
        Stop::step();
        &self.words
    }
    fn blocks(&self) -> &[Block] {
        Stop::step();
        &self.blocks
    }
    fn slabs(&self) -> &[Block] {
        &self.slabs
    }
    fn page(&self, frame: Frame) -> *mut u8 {
        assert!((frame.0 as usize) < self.words.len());
        // SAFETY: inside the allocation.
        unsafe { self.memory.0.add(frame.0 as usize * PAGE) }
    }
    fn table(&self, frame: Frame) -> &Table {
        Stop::step();
        // SAFETY: a frame is as large and aligned as a table, and every bit pattern is an entry.
        unsafe { &*self.page(frame).cast::<Table>() }
    }
    fn zero(&self, frame: Frame) {
        self.fill(frame, 0);
    }
    fn copy(&self, from: Frame, to: Frame) {
        for i in 0..PAGE / 8 {
            self.cell(to, i).store(self.cell(from, i).load(Relaxed), Relaxed);
        }
    }
    fn invalidate(&self, page: Page) {
        Stop::step();
        let mut tlb = self.tlb();
        if let Some(c) = tlb.leaves.remove(&page.0) {
            self.uncache(c.frame);
        }
        if let Some(t) = tlb.tables.remove(&(page.0 >> TABLE_BITS)) {
            self.uncache(t);
        }
    }
    fn invalidate_all(&self) {
        let mut tlb = self.tlb();
        for (_, c) in tlb.leaves.drain() {
            self.uncache(c.frame);
        }
        for (_, t) in tlb.tables.drain() {
            self.uncache(t);
        }
    }
    fn interrupt(&self, cpu: usize) {
        self.interrupts[cpu].store(true, Release);
    }
    fn relax(&self) {
        std::thread::yield_now();
    }
    fn pause(&self, _since: u64) {
        std::thread::yield_now();
    }
    fn fill_top(&self, _top: Frame) {}
    fn freed(&self, frame: Frame) {
        let n = self.cached[frame.0 as usize].load(Acquire);
        assert!(n == 0, "{frame:?} was freed while {n} TLB entries lead to it");
        self.fill(frame, POISON);
    }
    fn pager(&self) -> Option<&dyn Pager> {
        self.pager.get().map(|a| a.0 as &dyn Pager)
    }
}

impl Fake {
    fn tlb(&self) -> std::sync::MutexGuard<'_, Tlb> {
        self.tlbs[CPU.get()].lock().expect("a TLB")
    }

    /// Attaches a swap area, once.
    pub fn attach(&self, pager: &'static dyn Pager) {
        assert!(self.pager.set(Attached(pager)).is_ok(), "a second swap area");
    }

    /// The calling CPU drops its translations, as hardware may at any time.
    pub fn forget(&self) {
        self.invalidate_all();
    }

    /// Word `i` of a frame.
    pub fn cell(&self, frame: Frame, i: usize) -> &AtomicU64 {
        // SAFETY: word `i` of the frame; all accesses to frames are atomic words (tables included).
        unsafe { &*self.page(frame).cast::<AtomicU64>().add(i) }
    }

    fn fill(&self, frame: Frame, v: u64) {
        (0..PAGE / 8).for_each(|i| self.cell(frame, i).store(v, Relaxed));
    }

    fn uncache(&self, frame: u32) {
        self.cached[frame as usize].fetch_sub(1, Release);
    }

    /// The hardware's look at an entry.
    fn raw<'a>(&self, entry: &'a Entry) -> &'a AtomicU64 {
        // SAFETY: an entry is one atomic word.
        unsafe { &*core::ptr::from_ref(entry).cast::<AtomicU64>() }
    }

    /// Walks as hardware does; caches what it finds. `None`: page fault.
    fn walk(&self, page: Page, access: Access) -> Option<Frame> {
        let mut tlb = self.tlb();
        if let Some(c) = tlb.leaves.get(&page.0) {
            let ok = match access {
                Access::Read => true,
                Access::Write => c.write && c.dirty,
                Access::Exec => c.exec,
            };
            if ok {
                return Some(Frame(c.frame));
            }
        }
        let key = page.0 >> TABLE_BITS;
        let table = match tlb.tables.get(&key) {
            Some(&t) => Frame(t),
            None => {
                let mut t = Frame(tlb.top);
                for level in (1..=LEVELS).rev() {
                    let i = (page.0 >> (TABLE_BITS * level)) as usize & (ENTRIES - 1);
                    t = self.table(t)[i].load().frame().filter(|_| self.table(t)[i].load().is_present())?;
                }
                self.cached[t.0 as usize].fetch_add(1, AcqRel);
                tlb.tables.insert(key, t.0);
                t
            }
        };
        let entry = &self.table(table)[page.0 as usize & (ENTRIES - 1)];
        loop {
            let w = entry.load();
            if !w.allows(access) {
                return None;
            }
            let mut bits = w.bits() | 1 << 5;
            if access == Access::Write {
                bits |= 1 << 6;
            }
            if bits != w.bits() && self.raw(entry).compare_exchange(w.bits(), bits, AcqRel, Relaxed).is_err() {
                continue;
            }
            let frame = w.frame()?;
            let c = Cached {
                frame: frame.0,
                write: w.allows(Access::Write),
                exec: w.allows(Access::Exec),
                dirty: bits & 1 << 6 != 0,
            };
            self.cached[frame.0 as usize].fetch_add(1, AcqRel);
            if let Some(old) = tlb.leaves.insert(page.0, c) {
                self.uncache(old.frame);
            }
            return Some(frame);
        }
    }
}

/// A CPU: the thread that made it.
#[derive(Debug)]
pub struct Cpu {
    /// The memory it works with.
    pub memory: &'static Memory<Fake>,
    space: Option<Arc<Space<Fake>>>,
    ticks: u32,
}

impl Cpu {
    /// Makes the calling thread CPU number `id`. No other thread may have the same number at the same time.
    pub fn new(memory: &'static Memory<Fake>, id: usize) -> Cpu {
        assert!(id < CPUS);
        CPU.set(id);
        Cpu { memory, space: None, ticks: 0 }
    }

    /// Loads a space.
    pub fn enter(&mut self, space: &Arc<Space<Fake>>) {
        // Short of frames, a kernel would leave the thread where it has a table; here it waits.
        while !space.activate(|top| self.load(top.0)) {
            std::thread::yield_now();
        }
        if let Some(old) = self.space.replace(space.clone()) {
            old.deactivate();
        }
    }

    /// Loads the kernel's table, which maps no user page.
    pub fn leave(&mut self) {
        self.load(0);
        if let Some(old) = self.space.take() {
            old.deactivate();
        }
    }

    fn load(&self, top: u32) {
        self.memory.machine.invalidate_all();
        self.memory.machine.tlb().top = top;
    }

    /// The space that is loaded.
    pub fn space(&self) -> &Arc<Space<Fake>> {
        self.space.as_ref().expect("a space is loaded")
    }

    /// Lets interrupts in.
    pub fn poll(&self) {
        if self.memory.machine.interrupts[CPU.get()].swap(false, AcqRel) {
            self.memory.serve();
        }
    }

    /// The memory word of a user address, through the TLB, faulting as programs do.
    fn word(&mut self, addr: u64, access: Access) -> Result<&AtomicU64, Fault> {
        // Interrupts come between instructions, and not before every one.
        self.ticks = self.ticks.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if self.ticks >> 30 == 0 {
            self.poll();
        }
        let page = Page::containing(addr);
        loop {
            if let Some(f) = self.memory.machine.walk(page, access) {
                return Ok(self.memory.machine.cell(f, (addr as usize % PAGE) / 8));
            }
            self.poll();
            match self.space().fault(page, access) {
                Fault::Done => {}
                other => return Err(other),
            }
        }
    }

    /// Loads a word.
    pub fn read(&mut self, addr: u64) -> Result<u64, Fault> {
        self.word(addr, Access::Read).map(|w| w.load(Acquire))
    }

    /// Stores a word.
    pub fn write(&mut self, addr: u64, v: u64) -> Result<(), Fault> {
        self.word(addr, Access::Write).map(|w| w.store(v, Release))
    }

    /// Adds to a word, locked.
    pub fn add(&mut self, addr: u64, v: u64) -> Result<u64, Fault> {
        self.word(addr, Access::Write).map(|w| w.fetch_add(v, AcqRel))
    }

    /// Fetches an instruction.
    pub fn exec(&mut self, addr: u64) -> Result<(), Fault> {
        self.word(addr, Access::Exec).map(|_| ())
    }

    /// Waits for something another CPU does, interrupts open.
    pub fn wait_until(&mut self, mut ready: impl FnMut() -> bool) {
        while !ready() {
            self.poll();
            std::thread::yield_now();
        }
    }
}

impl Drop for Cpu {
    fn drop(&mut self) {
        self.leave();
        // A CPU stopped in a read section holds the grace period up. It must end: nobody looks into this CPU's bags later.
        while self.memory.has_retired() {
            self.poll();
            std::thread::yield_now();
            self.memory.collect();
        }
        self.memory.drain_here();
        // Requests that were on their way when we left.
        self.memory.serve();
    }
}

/// Runs the audit when all CPUs are gone, with the calling thread as CPU 0, and panics unless it is clean.
pub fn audit(memory: &'static Memory<Fake>, spaces: &[&Space<Fake>]) -> crate::Report {
    CPU.set(0);
    memory.drain_here();
    memory.drain_here();
    let mut counts = std::vec![0; memory.machine.frame_words().len()];
    let report = memory.audit(spaces.iter().copied(), &mut counts);
    assert!(report.is_clean(), "{report:?}");
    report
}
