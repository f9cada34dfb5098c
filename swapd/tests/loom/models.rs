//! The models. Each says which race it is about, and what must hold.
//!
//! The slots, map, pending bits and transitions are the production code. An entry is one word here, a page is one word of data, and
//! the disk moves the data when its requests are completed: as late as it can.

use loom::sync::Mutex;
use loom::thread::{self, JoinHandle, yield_now};
use quire_mm::Frame;
use quire_mm::sync::{AtomicU64, Ordering::*};
use quire_swapd::fake::Pool;
use quire_swapd::io::IoError;
use quire_swapd::mutant::Mutant;
use quire_swapd::slot::SlotWord;
use quire_swapd::{Disk, Host, Op, Refused, Slot, Swap, Take};
use std::sync::Arc;

pub struct Model {
    pub name: &'static str,
    pub run: fn(),
    pub bound: Option<usize>,
    pub mutants: &'static [Mutant],
}

pub const MODELS: &[Model] = &[
    Model { name: "slot_reuse", run: slot_reuse, bound: Some(3), mutants: &[Mutant::HoldLate] },
    Model {
        name: "strangers_failure",
        run: strangers_failure,
        bound: Some(3),
        mutants: &[Mutant::LookThenHold, Mutant::NoSecondLook],
    },
    Model { name: "stale_hold", run: stale_hold, bound: None, mutants: &[Mutant::HoldFromZero] },
    Model { name: "two_takers", run: two_takers, bound: None, mutants: &[Mutant::BitBeforeFree] },
    Model { name: "two_readers", run: two_readers, bound: Some(3), mutants: &[Mutant::ReadTwice] },
    Model { name: "write_end", run: write_end, bound: None, mutants: &[Mutant::TakeOnce] },
    Model { name: "write_stranger", run: write_stranger, bound: None, mutants: &[Mutant::FreeAtWrite] },
    Model { name: "leaving_take", run: leaving_take, bound: Some(3), mutants: &[Mutant::TakeLeaving] },
    Model { name: "leaving_write", run: leaving_write, bound: None, mutants: &[Mutant::WriteLeaving] },
    Model { name: "link", run: link, bound: None, mutants: &[Mutant::LinkWithoutHold] },
    Model { name: "note", run: note, bound: None, mutants: &[Mutant::TrustNote] },
    Model { name: "trim", run: trim, bound: Some(3), mutants: &[Mutant::UncacheHeld] },
    Model { name: "last_two", run: last_two, bound: None, mutants: &[] },
];

/// The slot of all models: the area has just one.
const S: Slot = Slot(1);

struct LateDisk {
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

type Area = Swap<'static, Arc<Pool>, LateDisk>;

struct World {
    pool: Arc<Pool>,
    swap: Box<Area>,
    a: AtomicU64,
    b: AtomicU64,
    slots: *mut [SlotWord],
    words: *mut [AtomicU64],
}

// SAFETY: the raw pointers only serve the drop.
unsafe impl Send for World {}
// SAFETY: as above.
unsafe impl Sync for World {}

impl Drop for World {
    fn drop(&mut self) {
        // SAFETY: made by `Box::into_raw` in `new`; the area that borrows them is not used any more, and has no drop of its own.
        unsafe {
            drop(Box::from_raw(self.slots));
            drop(Box::from_raw(self.words));
        }
    }
}

/// One slot, some frames, two empty entries.
fn world(frames: usize) -> Arc<World> {
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
    // SAFETY: freed in `World::drop`, after the last use.
    let swap = Swap::new(unsafe { &*slots }, unsafe { &*words }, std::iter::empty(), pool.clone(), disk);
    Arc::new(World { pool, swap: Box::new(swap), a: AtomicU64::new(0), b: AtomicU64::new(0), slots, words })
}

fn page(f: Frame) -> u64 {
    1 | (f.0 as u64) << 8
}
const SWAPPED: u64 = 2 | (S.0 as u64) << 8;
fn frame(e: u64) -> Option<Frame> {
    (e & 1 != 0).then_some(Frame((e >> 8) as u32))
}
fn cas(e: &AtomicU64, old: u64, new: u64) -> bool {
    e.compare_exchange(old, new, AcqRel, Acquire).is_ok()
}

impl World {
    fn fresh(&self, content: u64) -> Option<Frame> {
        let f = self.pool.get()?;
        self.pool.data(f, 0).store(content, Relaxed);
        Some(f)
    }

    /// Evicts a page nobody has mapped yet.
    fn out(&self, f: Frame) -> bool {
        let Some(s) = self.swap.reserve(0, f) else { return false };
        self.pool.note(f, s);
        self.swap.answered(s);
        true
    }

    fn written(&self) {
        self.swap.write_out();
        self.swap.poll();
    }

    /// `entry` names the slot, whose content is on the disk only.
    fn on_disk(&self, entry: &AtomicU64, content: u64) {
        let f = self.fresh(content).unwrap();
        assert!(self.out(f));
        self.written();
        entry.store(SWAPPED, Release);
    }

    fn drop_frame(&self, f: Frame) {
        if let Some(s) = self.pool.release(f) {
            self.swap.release(s, 1);
        }
    }

    /// Faults `entry` in; `None` when it is empty.
    fn fault(&self, entry: &AtomicU64, link: bool) -> Option<Frame> {
        loop {
            let e = entry.load(Acquire);
            if e == 0 {
                return None;
            }
            if let Some(f) = frame(e) {
                return Some(f);
            }
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
        }
    }

    /// What a program finds in the end.
    fn content(&self, entry: &AtomicU64) -> u64 {
        let f = self.fault(entry, false).expect("an entry");
        self.pool.data(f, 0).load(Relaxed)
    }

    /// All entries go; nothing may be left.
    fn end(&self) {
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

fn with(w: &Arc<World>, f: impl FnOnce(&World) + 'static) -> JoinHandle<()> {
    let w = w.clone();
    thread::spawn(move || f(&w))
}

/// Race 22. One slot; a fault that reads from the disk, and the slot's next lives: the page is swapped in and written by
/// another thread, a stranger's page goes out and in, the page goes out again. Neither stale nor foreign data.
fn slot_reuse() {
    let w = world(3);
    w.on_disk(&w.a, 7);
    let shared = w.clone();
    let t = thread::spawn(move || {
        let w = &*shared;
        let Some(f) = w.fault(&w.a, false) else { return 7 };
        if !w.pool.is_alone(f) {
            return 7;
        }
        // Alone, and nothing is known of another user: the program writes.
        w.pool.data(f, 0).store(8, Relaxed);
        if let Some(g) = w.fresh(9) {
            // The stranger's page goes before it was written.
            if w.out(g) {
                w.swap.release(S, 1);
            } else {
                w.drop_frame(g);
            }
        }
        if let Some(s) = w.swap.reserve(0, f) {
            if cas(&w.a, page(f), SWAPPED) {
                w.swap.answered(s);
                w.written();
            } else {
                w.swap.unreserve(s);
            }
        }
        8
    });
    w.fault(&w.a, false);
    let want = t.join().unwrap();
    assert_eq!(w.content(&w.a), want, "stale or foreign data");
    w.end();
    assert_eq!(w.pool.free(), 3);
}

/// A fault looks at the slot of an entry that is unmapped; a stranger takes the slot, and its read fails. The fault is not told so.
fn strangers_failure() {
    let w = world(2);
    w.on_disk(&w.a, 7);
    let t = with(&w, |w| {
        assert_eq!(w.a.swap(0, AcqRel), SWAPPED);
        w.swap.release(S, 1);
        let g = w.fresh(666).unwrap();
        if !w.out(g) {
            return w.drop_frame(g);
        }
        w.written();
        w.b.store(SWAPPED, Release);
        let _ = w.swap.read(S, &[]);
        w.swap.poll();
    });
    let e = w.a.load(Acquire);
    if e == SWAPPED {
        let taken = w.swap.take(S, || w.a.load(Acquire) == e);
        assert_ne!(taken, Take::Failed, "a stranger's failure");
        if let Take::Page { frame, .. } = taken {
            w.swap.put_back(S, frame);
        }
    }
    t.join().unwrap();
    w.end();
}

/// Race 22. A fault holds the slot of an entry that is unmapped, and a stranger takes the slot.
fn stale_hold() {
    let w = world(3);
    w.on_disk(&w.a, 7);
    let t = with(&w, |w| {
        let e = w.a.swap(0, AcqRel);
        assert_eq!(e, SWAPPED);
        w.swap.release(S, 1);
        let g = w.fresh(9).unwrap();
        if w.out(g) {
            w.b.store(SWAPPED, Release);
        } else {
            w.drop_frame(g);
        }
    });
    match w.swap.take(S, || w.a.load(Acquire) == SWAPPED) {
        Take::Page { frame, .. } => {
            assert_eq!(w.pool.data(frame, 0).load(Relaxed), 7);
            w.swap.put_back(S, frame);
        }
        Take::Changed | Take::Read => {}
        other => panic!("{other:?}"),
    }
    t.join().unwrap();
    w.end();
}

/// Two evictors and one slot that is being freed: nobody gets it before it is free, and one at most.
fn two_takers() {
    let w = world(3);
    w.on_disk(&w.a, 7);
    let g = w.fresh(9).unwrap();
    let t = with(&w, move |w| {
        if w.out(g) {
            w.b.store(SWAPPED, Release);
        } else {
            w.drop_frame(g);
        }
    });
    assert_eq!(w.a.swap(0, AcqRel), SWAPPED);
    w.swap.release(S, 1);
    let f = w.fresh(8).unwrap();
    if w.out(f) {
        w.a.store(SWAPPED, Release);
    } else {
        w.drop_frame(f);
    }
    t.join().unwrap();
    assert!(w.a.load(Acquire) == 0 || w.b.load(Acquire) == 0, "one slot for two pages");
    w.end();
}

/// Race 22. Two faulters of one slot, whose page two entries name: one read, one frame, both see the content.
fn two_readers() {
    let w = world(2);
    w.on_disk(&w.a, 7);
    assert!(w.swap.hold(S));
    w.b.store(SWAPPED, Release);
    let t = with(&w, |w| assert_eq!(w.content(&w.b), 7));
    assert_eq!(w.content(&w.a), 7);
    t.join().unwrap();
    let (a, b) = (frame(w.a.load(Acquire)).unwrap(), frame(w.b.load(Acquire)).unwrap());
    assert!(a != b || w.pool.count(a) == 2, "a shared frame with a wrong count");
    w.end();
    assert_eq!(w.pool.free(), 2);
}

/// Race 36. A cached frame is taken back as its write ends, and a stranger gets the frame: it is never mapped.
fn write_end() {
    let w = world(1);
    let f = w.fresh(7).unwrap();
    assert!(w.out(f));
    w.a.store(SWAPPED, Release);
    w.swap.write_out();
    let t = with(&w, |w| {
        w.swap.poll();
        if let Some(g) = w.fresh(99) {
            w.b.store(page(g), Release);
        }
    });
    if let Take::Page { frame, .. } = w.swap.take(S, || true) {
        assert_eq!(w.pool.data(frame, 0).load(Relaxed), 7, "a stranger's frame");
        w.swap.put_back(S, frame);
    }
    t.join().unwrap();
    w.end();
    assert_eq!(w.pool.free(), 1);
}

/// Race 23. A page goes out while a stranger looks for a frame: the disk gets the page.
fn write_stranger() {
    let w = world(1);
    let f = w.fresh(7).unwrap();
    assert!(w.out(f));
    w.a.store(SWAPPED, Release);
    let t = with(&w, |w| {
        if let Some(g) = w.fresh(99) {
            w.drop_frame(g);
        }
    });
    w.written();
    t.join().unwrap();
    assert_eq!(w.content(&w.a), 7);
    w.end();
}

/// An eviction whose page another CPU still writes to, until it has answered.
fn evict_while_written(w: &World, f: Frame) {
    let s = w.swap.reserve(0, f).unwrap();
    w.pool.note(f, s);
    assert!(cas(&w.a, page(f), SWAPPED));
    // The other CPU's store through its old translation, then its answer.
    w.pool.data(f, 0).store(1, Relaxed);
    w.swap.answered(s);
}

/// Race 31. A fault meets the slot before the evictor's answers: it waits, and the last store is in what it gets.
fn leaving_take() {
    let w = world(2);
    let f = w.fresh(0).unwrap();
    w.a.store(page(f), Release);
    let t = with(&w, move |w| evict_while_written(w, f));
    let e = w.a.load(Acquire);
    if e == SWAPPED {
        loop {
            match w.swap.take(S, || true) {
                Take::Page { frame, .. } => {
                    assert_eq!(w.pool.data(frame, 0).load(Relaxed), 1, "lost write");
                    w.swap.put_back(S, frame);
                    break;
                }
                _ => yield_now(),
            }
        }
    }
    t.join().unwrap();
    assert_eq!(w.content(&w.a), 1);
    w.end();
}

/// Race 23. A write-out that another thread begins, with a bit of the slot's life before: not before the answers.
fn leaving_write() {
    let w = world(2);
    let old = w.fresh(5).unwrap();
    assert!(w.out(old));
    w.swap.release(S, 1);
    // The slot is free, its bit says that it waits to be written.
    let f = w.fresh(0).unwrap();
    w.a.store(page(f), Release);
    let t = with(&w, move |w| evict_while_written(w, f));
    w.written();
    t.join().unwrap();
    w.written();
    assert_eq!(w.content(&w.a), 1, "lost write");
    w.end();
}

/// Race 55. A page that was mapped again during its write goes once more, by its link, while a stranger wants the slot.
fn link() {
    let w = world(2);
    let f = w.fresh(7).unwrap();
    assert!(w.out(f));
    w.a.store(SWAPPED, Release);
    w.swap.write_out();
    assert_eq!(w.fault(&w.a, true), Some(f));
    let t = with(&w, |w| {
        let g = w.fresh(9).unwrap();
        if w.out(g) {
            w.b.store(SWAPPED, Release);
        } else {
            w.drop_frame(g);
        }
    });
    w.swap.poll();
    if let Some((s, true)) = w.pool.slot_of(f)
        && w.swap.join(s, f, || w.pool.slot_of(f) == Some((s, true)))
    {
        assert!(cas(&w.a, page(f), SWAPPED));
        w.swap.answered(s);
        w.drop_frame(f);
    }
    t.join().unwrap();
    w.written();
    assert_eq!(w.content(&w.a), 7, "a stranger's page");
    w.end();
    assert_eq!(w.pool.free(), 2);
}

/// Race 55. A frame with an old note of the slot is evicted, while a stranger takes the slot.
fn note() {
    let w = world(2);
    let f = w.fresh(7).unwrap();
    w.pool.note(f, S);
    w.a.store(page(f), Release);
    let t = with(&w, |w| {
        let g = w.fresh(9).unwrap();
        if w.out(g) {
            w.b.store(SWAPPED, Release);
        } else {
            w.drop_frame(g);
        }
    });
    if w.swap.join(S, f, || false) {
        if cas(&w.a, page(f), SWAPPED) {
            w.swap.answered(S);
            w.drop_frame(f);
        } else {
            w.swap.stay(S);
        }
    }
    t.join().unwrap();
    assert_eq!(w.content(&w.a), 7, "a stranger's page");
    w.end();
}

/// A trim meets an eviction at each of its steps, and the fault that takes the page back.
fn trim() {
    let w = world(2);
    let f = w.fresh(7).unwrap();
    w.a.store(page(f), Release);
    let t = with(&w, |w| {
        w.swap.trim(2, true);
    });
    let s = w.swap.reserve(0, f).unwrap();
    w.pool.note(f, s);
    assert!(cas(&w.a, page(f), SWAPPED));
    w.swap.answered(s);
    w.written();
    assert_eq!(w.content(&w.a), 7, "a page was dropped before it was written");
    t.join().unwrap();
    w.end();
    assert_eq!(w.pool.free(), 2);
}

/// Two entries of one slot: one is unmapped while the other one is faulted in and linked. Nothing is left, nothing lost.
fn last_two() {
    let w = world(2);
    w.on_disk(&w.a, 7);
    assert!(w.swap.hold(S));
    w.b.store(SWAPPED, Release);
    let t = with(&w, |w| {
        assert_eq!(w.b.swap(0, AcqRel), SWAPPED);
        w.swap.release(S, 1);
    });
    let f = w.fault(&w.a, true).unwrap();
    assert_eq!(w.pool.data(f, 0).load(Relaxed), 7);
    t.join().unwrap();
    w.end();
    assert_eq!(w.pool.free(), 2);
}
