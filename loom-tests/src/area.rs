//! A swap area for the models: the production slots, map and transitions, on a disk of a few pages that moves data as late as it can.

use crate::machine::{Loom, WORDS};
use quire_mm::sync::{AtomicU64, Ordering::*};
use quire_mm::{Frame, Memory};
use quire_swapd::io::IoError;
use quire_swapd::slot::SlotWord;
use quire_swapd::{Disk, Frames, Op, Refused, Slot, Swap, Wake};
use std::cell::RefCell;

/// The area.
pub type Area = Swap<'static, Frames<Loom, Nobody>, LateDisk>;

/// Nobody sleeps in a model: who waits asks again.
pub struct Nobody;

impl Wake for Nobody {
    fn wake(&self, _slot: Slot) {}
}

/// The disk: requests wait until somebody asks for completions.
pub struct LateDisk {
    memory: &'static Memory<Loom>,
    /// Plain memory: loom runs one thread at a time, and what the disk orders it orders by the frames' words.
    pages: RefCell<Vec<[u64; WORDS]>>,
    requests: RefCell<Vec<(Op, Slot, Frame, u64)>>,
}

// SAFETY: loom runs one of its threads at a time, all on one thread of the host; cells are only borrowed between two switches.
unsafe impl Sync for LateDisk {}

impl Disk for LateDisk {
    fn submit(&self, op: Op, first: Slot, frames: &[Frame], cookie: u64) -> Result<(), Refused> {
        assert_eq!(frames.len(), 1, "neighbours in a model");
        if op == Op::Read {
            self.memory.machine.handed_out(frames[0]);
        }
        self.requests.borrow_mut().push((op, first, frames[0], cookie));
        Ok(())
    }

    fn complete(&self, done: &mut dyn FnMut(u64, Result<(), IoError>)) {
        loop {
            let Some((op, slot, frame, cookie)) = self.requests.borrow_mut().pop() else { return };
            for i in 0..WORDS {
                let cell = self.memory.machine.data(frame, i);
                match op {
                    Op::Read => cell.store(self.pages.borrow()[slot.0 as usize][i], Release),
                    Op::Write => {
                        let v = cell.load(Acquire);
                        self.pages.borrow_mut()[slot.0 as usize][i] = v;
                    }
                }
            }
            done(cookie, Ok(()));
        }
    }
}

/// An area and the memory that it borrows.
pub struct Swapping {
    area: *mut Area,
    slots: *mut [SlotWord],
    words: *mut [AtomicU64],
}

impl Swapping {
    /// An area of `slots` slots, the header among them.
    pub fn new(memory: &'static Memory<Loom>, slots: usize) -> Swapping {
        let words: *mut [AtomicU64] =
            Box::into_raw((0..Area::words_needed(slots)).map(|_| AtomicU64::new(0)).collect());
        let slots: *mut [SlotWord] = Box::into_raw((0..slots).map(|_| SlotWord::new()).collect());
        let pages = RefCell::new(vec![[u64::MAX; WORDS]; slots.len()]);
        let disk = LateDisk { memory, pages, requests: RefCell::default() };
        // SAFETY: freed in `drop`, after the area.
        let (s, w) = unsafe { (&*slots, &*words) };
        let area = Swap::new(s, w, std::iter::empty(), Frames::new(memory, Nobody), disk);
        Swapping { area: Box::into_raw(Box::new(area)), slots, words }
    }

    /// The area, for as long as the execution lasts.
    pub fn area(&self) -> &'static Area {
        // SAFETY: freed in `drop`, at the end of the model's closure.
        unsafe { &*self.area }
    }

    /// Until nothing waits and nothing is under way.
    pub fn settle(&self) {
        while self.area().has_pending() || !self.area().disk.requests.borrow().is_empty() {
            self.area().write_out();
            self.area().poll();
        }
    }

    /// At the end of an execution no slot is in use.
    pub fn check_empty(&self) {
        let c = self.area().census();
        assert_eq!((c.free, c.holds, c.cached, c.busy), (c.total, 0, 0, 0), "{c:?}");
        assert_eq!(c.free, c.mapped_free, "{c:?}");
    }
}

impl Drop for Swapping {
    fn drop(&mut self) {
        // SAFETY: made by `new`, dropped once; the machine that refers to the area is dropped next and does not use it.
        unsafe {
            drop(Box::from_raw(self.area));
            drop(Box::from_raw(self.slots));
            drop(Box::from_raw(self.words));
        }
    }
}

/// One round of the disk: what waits is written, what is over ends.
pub fn pump(area: &Area) {
    area.write_out();
    area.poll();
}
