//! What the models of slots share: an area of one slot, a disk that is as late as it can be, two entries.
//!
//! The slots, map, pending bits and transitions are the production code. An entry is one word here, a page is one word of data, and
//! the disk moves the data when its requests are completed.

use loom::sync::Mutex;
use loom::thread::{self, JoinHandle, yield_now};
use quire_mm::Frame;
use quire_mm::sync::{AtomicU64, Ordering::*};
use quire_swapd::fake::Pool;
use quire_swapd::io::IoError;
use quire_swapd::slot::SlotWord;
use quire_swapd::{Disk, Host, Op, Refused, Slot, Swap, Take};
use std::sync::Arc;

/// The slot of all models: the area has just one.
pub const S: Slot = Slot(1);

pub struct LateDisk {
    pool: Arc<Pool>,
    pages: Vec<AtomicU64>,
    /// Reads of this content fail.
    unreadable: u64,
    requests: Mutex<Vec<(Op, Slot, Frame, u64)>>,
}

impl Disk for LateDisk {
    fn submit(&self, op: Op, first: Slot, frames: &[Frame], cookie: u64) -> Result<(), Refused> {
        assert_eq!(frames.len(), 1);
        self.requests.lock().unwrap().push((op, first, frames[0], cookie));
        Ok(())
    }

    fn complete(&self, done: &mut dyn FnMut(u64, Result<(), IoError>)) {
        loop {
            let Some((op, slot, frame, cookie)) = self.requests.lock().unwrap().pop() else { return };
            let (page, data) = (&self.pages[slot.0 as usize], self.pool.data(frame, 0));
            match op {
                Op::Read => data.store(page.load(Relaxed), Relaxed),
                Op::Write => page.store(data.load(Relaxed), Relaxed),
            }
            let failed = op == Op::Read && data.load(Relaxed) == self.unreadable;
            done(cookie, if failed { Err(IoError::Device) } else { Ok(()) });
        }
    }
}

pub type Area = Swap<'static, Arc<Pool>, LateDisk>;

pub struct Rig {
    pub pool: Arc<Pool>,
    pub swap: Box<Area>,
    pub a: AtomicU64,
    pub b: AtomicU64,
    slots: *mut [SlotWord],
    words: *mut [AtomicU64],
}

// SAFETY: the raw pointers only serve the drop.
unsafe impl Send for Rig {}
// SAFETY: as above.
unsafe impl Sync for Rig {}

impl Drop for Rig {
    fn drop(&mut self) {
        // SAFETY: made by `Box::into_raw` in `new`; the area that borrows them is not used any more, and has no drop of its own.
        unsafe {
            drop(Box::from_raw(self.slots));
            drop(Box::from_raw(self.words));
        }
    }
}

/// One slot, some frames, two empty entries.
pub fn rig(frames: usize) -> Arc<Rig> {
    let pool = Pool::new(frames);
    let slots: *mut [SlotWord] = Box::into_raw((0..2).map(|_| SlotWord::new()).collect::<Box<[_]>>());
    let words = Area::words_needed(2);
    let words: *mut [AtomicU64] = Box::into_raw((0..words).map(|_| AtomicU64::new(0)).collect::<Box<[_]>>());
    let disk = LateDisk {
        pool: pool.clone(),
        pages: (0..2).map(|_| AtomicU64::new(0)).collect(),
        unreadable: 666,
        requests: Mutex::new(Vec::new()),
    };
    // SAFETY: freed in `Rig::drop`, after the last use.
    let swap = Swap::new(unsafe { &*slots }, unsafe { &*words }, std::iter::empty(), pool.clone(), disk);
    Arc::new(Rig { pool, swap: Box::new(swap), a: AtomicU64::new(0), b: AtomicU64::new(0), slots, words })
}

pub fn page(f: Frame) -> u64 {
    1 | (f.0 as u64) << 8
}
pub const SWAPPED: u64 = 2 | (S.0 as u64) << 8;
pub fn frame(e: u64) -> Option<Frame> {
    (e & 1 != 0).then_some(Frame((e >> 8) as u32))
}
pub fn cas(e: &AtomicU64, old: u64, new: u64) -> bool {
    e.compare_exchange(old, new, AcqRel, Acquire).is_ok()
}

impl Rig {
    pub fn fresh(&self, content: u64) -> Option<Frame> {
        let f = self.pool.get()?;
        self.pool.data(f, 0).store(content, Relaxed);
        Some(f)
    }

    /// Evicts a page nobody has mapped yet.
    pub fn out(&self, f: Frame) -> bool {
        let Some(s) = self.swap.reserve(0, f) else { return false };
        self.pool.note(f, s);
        self.swap.answered(s);
        true
    }

    pub fn written(&self) {
        self.swap.write_out();
        self.swap.poll();
    }

    /// `entry` names the slot, whose content is on the disk only.
    pub fn on_disk(&self, entry: &AtomicU64, content: u64) {
        let f = self.fresh(content).unwrap();
        assert!(self.out(f));
        self.written();
        entry.store(SWAPPED, Release);
    }

    pub fn drop_frame(&self, f: Frame) {
        if let Some(s) = self.pool.release(f) {
            self.swap.release(s, 1);
        }
    }

    /// Faults `entry` in; `None` when it is empty.
    pub fn fault(&self, entry: &AtomicU64, link: bool) -> Option<Frame> {
        loop {
            let e = entry.load(Acquire);
            if e == 0 {
                return None;
            }
            if let Some(f) = frame(e) {
                return Some(f);
            }
            if let Some(f) = self.fault_from(entry, e, link) {
                return Some(f);
            }
        }
    }

    /// One attempt of a fault that has read `e` in `entry`, a word of the swap area.
    pub fn fault_from(&self, entry: &AtomicU64, e: u64, link: bool) -> Option<Frame> {
        match self.swap.take(S, || entry.load(Acquire) == e) {
            Take::Page { frame: f, .. } => {
                if cas(entry, e, page(f)) {
                    self.swap.installed(S, f, link);
                    return Some(f);
                }
                self.swap.put_back(S, f);
            }
            Take::Read => {
                let _ = self.swap.read(S, &[]);
                self.swap.poll();
            }
            Take::Wait => {
                self.swap.poll();
                yield_now();
            }
            Take::Changed => yield_now(),
            Take::Failed => panic!("a read failed"),
        }
        None
    }

    /// What a program finds in the end.
    pub fn content(&self, entry: &AtomicU64) -> u64 {
        let f = self.fault(entry, false).expect("an entry");
        self.pool.data(f, 0).load(Relaxed)
    }

    /// All entries go; nothing may be left.
    pub fn end(&self) {
        for entry in [&self.a, &self.b] {
            let e = entry.swap(0, AcqRel);
            match frame(e) {
                Some(f) => self.drop_frame(f),
                None if e != 0 => self.swap.release(S, 1),
                None => {}
            }
        }
        self.written();
        let c = self.swap.census();
        assert_eq!((c.free, c.mapped_free, c.holds, c.cached, c.busy), (1, 1, 0, 0, 0), "{c:?}");
    }
}

pub fn with(w: &Arc<Rig>, f: impl FnOnce(&Rig) + 'static) -> JoinHandle<()> {
    let w = w.clone();
    thread::spawn(move || f(&w))
}
