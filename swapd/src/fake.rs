//! A pool of frames and a disk for host tests. The disk is an adversary: it completes in any order and late, moves the data at the
//! last moment or at the first, fails, forgets, and notices who writes outside of the area. Freed frames are poison.

use crate::io::{Disk, IoError, MOST_PAGES, Op, Refused};
use crate::slot::Slot;
use crate::swap::{Host, Settled};
use quire_mm::Frame;
use quire_mm::sync::{AtomicU64, Ordering::*};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::vec::Vec;

/// Words of a page here: enough for a stamp and a sum.
pub const WORDS: usize = if cfg!(loom) { 1 } else { 4 };
/// What freed frames are full of.
pub const POISON: u64 = 0xdead_f4ee_dead_f4ee;
/// What the disk is full of outside of the area.
pub const GUARD: u64 = 0x6a4d_6a4d_6a4d_6a4d;

const COUNT: u64 = (1 << 24) - 1;
const LINKED: u64 = 1 << 24;
const FREEING: u64 = 1 << 25;

/// Frames with what the memory manager keeps of them: references, and a note of a slot or a link to it.
#[derive(Debug)]
pub struct Pool {
    words: Vec<AtomicU64>,
    data: Vec<[AtomicU64; WORDS]>,
    next: core::sync::atomic::AtomicU64,
    /// How often somebody was woken.
    pub woken: core::sync::atomic::AtomicU64,
}

impl Pool {
    /// `n` free frames.
    pub fn new(n: usize) -> Arc<Pool> {
        Arc::new(Pool {
            words: (0..n).map(|_| AtomicU64::new(0)).collect(),
            data: (0..n).map(|_| core::array::from_fn(|_| AtomicU64::new(POISON))).collect(),
            next: core::sync::atomic::AtomicU64::new(0),
            woken: core::sync::atomic::AtomicU64::new(0),
        })
    }

    fn word(&self, f: Frame) -> &AtomicU64 {
        &self.words[f.0 as usize]
    }

    /// A frame with one reference.
    pub fn get(&self) -> Option<Frame> {
        let n = self.words.len();
        // The model checker repeats what it does, so the search must not depend on executions before.
        let from = if cfg!(loom) { 0 } else { self.next.fetch_add(1, Relaxed) as usize };
        (0..n)
            .map(|k| (from + k) % n)
            .find_map(|i| self.words[i].compare_exchange(0, 1, AcqRel, Relaxed).ok().map(|_| Frame(i as u32)))
    }

    /// A word of the frame's page.
    pub fn data(&self, f: Frame, i: usize) -> &AtomicU64 {
        &self.data[f.0 as usize][i]
    }

    /// References of a frame.
    pub fn count(&self, f: Frame) -> u64 {
        self.word(f).load(Acquire) & COUNT
    }

    /// Whether the frame can be written in place by the one who has its only reference.
    pub fn is_alone(&self, f: Frame) -> bool {
        self.word(f).load(Acquire) & (COUNT | LINKED) == 1
    }

    /// The slot that the frame's note or link names, and whether it is a link.
    pub fn slot_of(&self, f: Frame) -> Option<(Slot, bool)> {
        let w = self.word(f).load(Acquire);
        (w >> 32 != 0).then_some((Slot((w >> 32) as u32), w & LINKED != 0))
    }

    fn update(&self, f: Frame, step: impl Fn(u64) -> Option<u64>) -> Result<u64, u64> {
        let mut now = self.word(f).load(Acquire);
        loop {
            let Some(next) = step(now) else { return Err(now) };
            match self.word(f).compare_exchange(now, next, AcqRel, Acquire) {
                Ok(_) => return Ok(now),
                Err(v) => now = v,
            }
        }
    }

    /// Notes that a slot caches the frame.
    pub fn note(&self, f: Frame, slot: Slot) {
        let _ = self.update(f, |w| (w & LINKED == 0).then_some(w & 0xffff_ffff | (slot.0 as u64) << 32));
    }

    /// Breaks a link: its hold is the caller's.
    pub fn break_link(&self, f: Frame) -> Option<Slot> {
        let old = self.update(f, |w| (w & LINKED != 0).then_some(w & COUNT)).ok()?;
        Some(Slot((old >> 32) as u32))
    }

    /// How many frames are free.
    pub fn free(&self) -> usize {
        self.words.iter().filter(|w| w.load(Acquire) == 0).count()
    }

    fn poison(&self, f: Frame) {
        self.data[f.0 as usize].iter().for_each(|w| w.store(POISON, Relaxed));
        self.word(f).store(0, Release);
    }
}

impl Host for Arc<Pool> {
    fn alloc(&self, slot: Slot) -> Option<Frame> {
        let f = self.get()?;
        self.note(f, slot);
        Some(f)
    }

    fn try_ref(&self, f: Frame) -> bool {
        self.update(f, |w| (w & COUNT != 0).then_some(w + 1)).is_ok()
    }

    fn release(&self, f: Frame) -> Option<Slot> {
        let step = |w: u64| match w & COUNT {
            0 => None,
            1 => Some(FREEING),
            _ => Some(w - 1),
        };
        let old = self.update(f, step).unwrap_or_else(|w| panic!("{f:?} was released without a reference: {w:#x}"));
        if old & COUNT != 1 {
            return None;
        }
        self.poison(f);
        (old & LINKED != 0).then_some(Slot((old >> 32) as u32))
    }

    fn settle(&self, f: Frame, slot: Slot) -> Settled {
        let step = |w: u64| match w & COUNT {
            0 => None,
            1 => Some(FREEING),
            _ if w & LINKED == 0 => Some((w - 1) & 0xffff_ffff | LINKED | (slot.0 as u64) << 32),
            _ => Some(w - 1),
        };
        let old = self.update(f, step).unwrap_or_else(|w| panic!("{f:?} left a cache without a reference: {w:#x}"));
        let linked = old & LINKED != 0;
        match old & COUNT {
            1 => {
                self.poison(f);
                Settled::Freed(linked.then_some(Slot((old >> 32) as u32)))
            }
            _ if linked => Settled::Dropped,
            _ => Settled::Linked,
        }
    }

    fn wake(&self, _slot: Slot) {
        self.woken.fetch_add(1, Relaxed);
    }
}

/// How the disk misbehaves. Chances are of 256.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manners {
    /// That a request stays for another look.
    pub late: u8,
    /// That a read fails.
    pub read_error: u8,
    /// That a write fails.
    pub write_error: u8,
    /// That a request is given up (the data may have moved).
    pub lost: u8,
    /// Requests in flight at most; 0: 64.
    pub depth: usize,
}

#[derive(Debug)]
struct Request {
    op: Op,
    first: usize,
    frames: [Frame; MOST_PAGES],
    len: usize,
    cookie: u64,
    moved: bool,
}

/// Memory that the disk moves data from and to.
pub trait Pages: Send + Sync {
    /// Words of a page.
    fn words(&self) -> usize;
    /// A word of a frame's page.
    fn word(&self, f: Frame, i: usize) -> &AtomicU64;
}

impl Pages for Arc<Pool> {
    fn words(&self) -> usize {
        WORDS
    }
    fn word(&self, f: Frame, i: usize) -> &AtomicU64 {
        self.data(f, i)
    }
}

#[derive(Debug)]
struct State {
    pages: Vec<Vec<u64>>,
    requests: Vec<Request>,
    manners: Manners,
    dead: bool,
    random: u64,
    bad: Vec<usize>,
}

/// The disk.
pub struct FakeDisk {
    memory: std::boxed::Box<dyn Pages>,
    state: Mutex<State>,
    /// The area: pages 1 to this one.
    last: usize,
    /// Requests so far.
    pub requests: core::sync::atomic::AtomicU64,
}

/// Pages of the disk behind the area.
const BEHIND: usize = 8;

impl core::fmt::Debug for FakeDisk {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("FakeDisk").field("state", &self.state).finish_non_exhaustive()
    }
}

impl FakeDisk {
    /// A disk whose area ends with page `last`.
    pub fn new(pool: &Arc<Pool>, last: usize, manners: Manners, seed: u64) -> FakeDisk {
        FakeDisk::beside(pool.clone(), last, manners, seed)
    }

    /// A disk beside any memory.
    pub fn beside(memory: impl Pages + 'static, last: usize, manners: Manners, seed: u64) -> FakeDisk {
        let state = State {
            pages: std::vec![std::vec![GUARD; memory.words()]; last + 1 + BEHIND],
            requests: Vec::new(),
            manners,
            dead: false,
            random: seed | 1,
            bad: Vec::new(),
        };
        let memory = std::boxed::Box::new(memory);
        FakeDisk { memory, state: Mutex::new(state), last, requests: core::sync::atomic::AtomicU64::new(0) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes its manners.
    pub fn set_manners(&self, manners: Manners) {
        self.state().manners = manners;
    }

    /// A page that can be neither read nor written from now on.
    pub fn spoil(&self, slot: Slot) {
        self.state().bad.push(slot.0 as usize);
    }

    /// It answers nothing any more, and takes nothing; or again.
    pub fn set_dead(&self, dead: bool) {
        self.state().dead = dead;
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> usize {
        self.state().requests.len()
    }

    /// Panics if anything outside of the area was written.
    pub fn check_guards(&self) {
        let s = self.state();
        let outside = s.pages[..1].iter().chain(&s.pages[self.last + 1..]);
        assert!(outside.flatten().all(|&w| w == GUARD), "the disk was written outside of the area");
    }
}

fn random(x: &mut u64) -> u64 {
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    *x >> 11
}

impl FakeDisk {
    fn transfer(&self, pages: &mut [Vec<u64>], r: &Request) {
        for (i, &f) in r.frames[..r.len].iter().enumerate() {
            for (w, word) in pages[r.first + i].iter_mut().enumerate() {
                let cell = self.memory.word(f, w);
                match r.op {
                    Op::Read => cell.store(*word, Relaxed),
                    Op::Write => *word = cell.load(Relaxed),
                }
            }
        }
    }
}

impl Disk for FakeDisk {
    fn submit(&self, op: Op, first: Slot, frames: &[Frame], cookie: u64) -> Result<(), Refused> {
        let mut guard = self.state();
        let s = &mut *guard;
        assert!(!frames.is_empty() && frames.len() <= MOST_PAGES);
        assert!(first.0 >= 1 && first.0 as usize + frames.len() <= self.last + 1, "a request outside of the area");
        if s.dead {
            return Err(Refused::Dead);
        }
        let depth = if s.manners.depth == 0 { 64 } else { s.manners.depth };
        if s.requests.len() >= depth {
            return Err(Refused::Full);
        }
        let mut all = [Frame(0); MOST_PAGES];
        all[..frames.len()].copy_from_slice(frames);
        let mut r = Request { op, first: first.0 as usize, frames: all, len: frames.len(), cookie, moved: false };
        if random(&mut s.random) & 1 == 0 {
            self.transfer(&mut s.pages, &r);
            r.moved = true;
        }
        s.requests.push(r);
        self.requests.fetch_add(1, Relaxed);
        Ok(())
    }

    fn complete(&self, done: &mut dyn FnMut(u64, Result<(), IoError>)) {
        let mut over = Vec::new();
        {
            let mut guard = self.state();
            let s = &mut *guard;
            if s.dead {
                return;
            }
            let mut i = 0;
            while i < s.requests.len() {
                if random(&mut s.random) & 255 < s.manners.late as u64 {
                    i += 1;
                    continue;
                }
                let r = s.requests.swap_remove(i);
                let chance = random(&mut s.random) & 255;
                let m = s.manners;
                let bad = (r.first..r.first + r.len).any(|p| s.bad.contains(&p));
                let (error, lost) = (if r.op == Op::Read { m.read_error } else { m.write_error }, m.lost);
                let result = if bad || chance < error as u64 {
                    Err(IoError::Device)
                } else if chance >= 256 - lost as u64 {
                    Err(IoError::Lost)
                } else {
                    Ok(())
                };
                // A write that fails may have come half way; a read may have left anything.
                if !r.moved && (result.is_ok() || random(&mut s.random) & 1 == 0) {
                    self.transfer(&mut s.pages, &r);
                }
                over.push((r.cookie, result));
            }
        }
        // Last submitted, first completed, as far as chance has left an order.
        over.into_iter().rev().for_each(|(cookie, result)| done(cookie, result));
    }
}
