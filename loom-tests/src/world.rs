//! What the models share: a memory and a space of one execution, CPUs as threads, user code with the hardware's walk, the audit.

use crate::area::{Area, Swapping};
pub use crate::machine::on;
use crate::machine::{Loom, WORDS, note};
use loom::thread::{self, JoinHandle};
use quire_mm::sync::{AtomicU64, Ordering::*};
use quire_mm::{Access, Backing, CPUS, Fault, Flags, Frame, Machine, Memory, Page, PageRange, Place, Prot, Space};
use std::sync::Arc;

pub const R: Prot = Prot::READ;
pub const RW: Prot = Prot::READ.union(Prot::WRITE);
pub const NONE: Prot = Prot::empty();

/// The memory of one execution. Dropped at its end, after everything that was borrowed from it.
pub struct World(*mut Memory<Loom>, Option<Swapping>);

impl World {
    /// A memory of `frames` frames, the zero page made, all CPUs with free frames and nodes of their own so that the threads of a
    /// model do not meet in the bitmap.
    pub fn new(frames: usize) -> World {
        let w = World::bare(frames);
        for cpu in 0..CPUS {
            on(cpu, || w.memory().stock(3, 4));
        }
        w
    }

    /// As [`World::new`], with a swap area of `slots` slots.
    pub fn swapping(frames: usize, slots: usize) -> World {
        let mut w = World::new(frames);
        let area = Swapping::new(w.memory(), slots);
        w.memory().machine.attach(area.area());
        w.1 = Some(area);
        w
    }

    /// The swap area.
    pub fn area(&self) -> &'static Area {
        self.memory().machine.area()
    }

    /// A memory with nothing in the caches.
    pub fn bare(frames: usize) -> World {
        let memory = Box::new(Memory::new(Loom::new(frames)));
        memory.machine.connect(&raw const *memory);
        // SAFETY: the frames are the machine's own.
        unsafe { memory.add(Frame(1), Frame(frames as u32)) };
        assert!(memory.start());
        World(Box::into_raw(memory), None)
    }

    /// The memory, for as long as the execution lasts: the models join their threads before the world goes.
    pub fn memory(&self) -> &'static Memory<Loom> {
        // SAFETY: freed in `drop`, at the end of the model's closure.
        unsafe { &*self.0 }
    }

    /// A space with nothing in it.
    pub fn space(&self) -> Scene {
        Scene { memory: self.memory(), space: Box::into_raw(Box::new(Space::new(self.memory()))) }
    }

    /// Nothing may be amiss at the end of an execution. `spaces` are those that still live.
    pub fn audit(&self, spaces: &[&Space<Loom>]) {
        let m = self.memory();
        for cpu in 0..CPUS {
            on(cpu, || (0..3).for_each(|_| m.collect()));
        }
        let mut counts = vec![0; m.machine.frame_words().len()];
        let report = m.audit(spaces.iter().copied(), &mut counts);
        assert!(report.is_clean(), "{report:?}");
    }
}

impl World {
    /// The calling CPU drops its translations, as hardware may at any time.
    pub fn forget(&self) {
        self.memory().machine.invalidate_all();
    }

    /// The end of an execution whose threads have been joined: the audit with the spaces alive, and after them.
    pub fn end(self, spaces: &[Scene]) {
        let settle = || self.1.iter().for_each(|s| on(0, || s.settle()));
        let live: Vec<&Space<Loom>> = spaces.iter().map(|s| &**s).collect();
        settle();
        self.audit(&live);
        spaces.iter().for_each(|s| s.close());
        settle();
        self.audit(&[]);
        self.1.iter().for_each(Swapping::check_empty);
    }
}

/// A word that the scripts pass notes by.
pub fn flag() -> Arc<AtomicU64> {
    Arc::new(AtomicU64::new(0))
}

impl Drop for World {
    fn drop(&mut self) {
        // The area, which refers to the memory, goes first, and is not used any more.
        self.1.take();
        // SAFETY: made by `bare`, dropped once.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

/// A space, and the CPUs in it.
#[derive(Clone, Copy)]
pub struct Scene {
    memory: &'static Memory<Loom>,
    space: *mut Space<Loom>,
}

impl std::ops::Deref for Scene {
    type Target = Space<Loom>;
    fn deref(&self) -> &Space<Loom> {
        // SAFETY: freed by `close` only, when the model's threads have been joined.
        unsafe { &*self.space }
    }
}

impl Scene {
    /// Holds another space, as fork returns it.
    pub fn holding(space: Space<Loom>) -> Scene {
        Scene { memory: space.memory(), space: Box::into_raw(Box::new(space)) }
    }

    /// Maps anonymous pages at a fixed place.
    pub fn map(&self, page: u64, pages: u64, prot: Prot) {
        let at = Place::Fixed(Page(page));
        assert!(Space::map(self, at, pages, prot, &Backing::Anonymous, Flags::empty()).is_ok());
    }

    pub fn range(page: u64, pages: u64) -> PageRange {
        PageRange::new(Page(page), pages).expect("a range inside the arenas")
    }

    /// Unmaps pages.
    pub fn unmap(&self, page: u64, pages: u64) {
        assert!(Space::unmap(self, Scene::range(page, pages)).is_ok());
    }

    /// Protects pages.
    pub fn protect(&self, page: u64, pages: u64, prot: Prot) {
        assert!(Space::protect(self, Scene::range(page, pages), prot).is_ok());
    }

    /// Forks.
    pub fn fork(&self) -> Scene {
        Scene::holding(Space::fork(self).expect("frames for a fork"))
    }

    /// The calling CPU begins to run in the space.
    pub fn enter(&self) {
        let active = self.activate(|top| {
            self.memory.machine.load(Some(top));
            // The hardware may walk ahead.
            self.memory.machine.translate(Page(0), false);
        });
        assert!(active, "no frame for a top-level table");
    }

    /// Whether the calling CPU runs in it.
    pub fn is_here(&self) -> bool {
        self.has_top(self.memory.machine.cpu()) && self.is_active(self.memory.machine.cpu())
    }

    /// The calling CPU leaves it.
    pub fn leave(&self) {
        self.memory.machine.load(None);
        self.deactivate();
    }

    /// An instruction that loads word `i` of a page, with the faults that it takes.
    pub fn read(&self, page: u64, i: usize) -> Result<u64, Fault> {
        let f = self.touch(page, false)?;
        Ok(self.memory.machine.data(f, i).load(Acquire))
    }

    /// An instruction that stores to word `i` of a page.
    pub fn write(&self, page: u64, i: usize, v: u64) -> Result<(), Fault> {
        let f = self.touch(page, true)?;
        self.memory.machine.data(f, i).store(v, Release);
        Ok(())
    }

    fn touch(&self, page: u64, write: bool) -> Result<Frame, Fault> {
        let access = if write { Access::Write } else { Access::Read };
        loop {
            self.memory.machine.poll();
            if let Some(f) = self.memory.machine.translate(Page(page), write) {
                return Ok(f);
            }
            let fault = self.fault(Page(page), access);
            note("fault", matches!(fault, Fault::Done) as u64);
            match fault {
                Fault::Done => {}
                Fault::SwapIn(slot) => self.memory.machine.bring(slot),
                refused => return Err(refused),
            }
        }
    }

    /// A load through what the CPU has cached or can walk to, without a fault.
    pub fn peek(&self, page: u64, i: usize) -> Option<u64> {
        self.memory.machine.poll();
        let f = self.memory.machine.translate(Page(page), false)?;
        Some(self.memory.machine.data(f, i).load(Acquire))
    }

    /// A store as [`Scene::peek`]: whether it happened.
    pub fn poke(&self, page: u64, i: usize, v: u64) -> bool {
        self.memory.machine.poll();
        let f = self.memory.machine.translate(Page(page), true);
        f.into_iter().for_each(|f| self.memory.machine.data(f, i).store(v, Release));
        f.is_some()
    }

    /// The space's end: all CPUs leave, everything is freed.
    pub fn close(self) {
        for cpu in 0..CPUS {
            on(cpu, || {
                if self.is_here() {
                    self.leave();
                }
            });
        }
        // SAFETY: made by `holding` or `World::space`, closed once, all threads joined.
        drop(unsafe { Box::from_raw(self.space) });
    }
}

/// Starts `f` as a thread on CPU `cpu`; after it the CPU is away. CPU 0 is the main thread's from the first start on, until its
/// script is over.
pub fn spawn<T: 'static>(w: &World, cpu: usize, f: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
    let m = w.memory();
    on(0, || m.machine.begin());
    on(cpu, || m.machine.begin());
    thread::spawn(move || {
        on(cpu, || {
            let r = f();
            m.machine.end();
            r
        })
    })
}

/// Runs `f` as a script of the main thread on CPU 0, which is away afterwards. After the last [`spawn`].
pub fn script<T>(w: &World, f: impl FnOnce() -> T) -> T {
    let r = f();
    w.memory().machine.end();
    r
}

const _: () = assert!(WORDS == 2);
