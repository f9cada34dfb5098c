//! Threads that are programs and evictors at once, on a small area and few frames, with a disk that is late, forgets and fails.
//! Every page carries its stamp; a slot that is lost, shared, stale or a stranger's shows as a wrong stamp, a failed assertion in
//! a transition, or a count that is not zero in the end.
//!
//! What stands for the memory manager is as small as can be: an entry is a word with a parity and a serial number, a shootdown
//! waits until no thread is inside the access that it was in (as answers do), and each thread's entries are an arena with a
//! reclaim bit.

use quire_mm::Frame;
use quire_mm::sync::{AtomicU64, Ordering::*, fence};
use quire_swapd::fake::{FakeDisk, Manners, POISON, Pool};
use quire_swapd::policy::Readahead;
use quire_swapd::slot::SlotWord;
use quire_swapd::{Host, Slot, Swap, Take};
use std::sync::Arc;

type Area<'a> = Swap<'a, Arc<Pool>, FakeDisk>;

// Entry: bits 0-1 kind, 2 copy-on-write, 3 parity, 8.. value.
const EMPTY: u64 = 0;
const PAGE: u64 = 1;
const SWAPPED: u64 = 2;
const KIND: u64 = 3;
const COW: u64 = 4;
const PARITY: u64 = 8;

fn page(f: Frame, bits: u64) -> u64 {
    PAGE | bits | (f.0 as u64) << 8
}
fn swapped(s: Slot, e: u64) -> u64 {
    SWAPPED | e & PARITY | (s.0 as u64) << 8
}
fn frame(e: u64) -> Frame {
    Frame((e >> 8) as u32)
}
fn slot(e: u64) -> Slot {
    Slot((e >> 8) as u32)
}
fn cas(e: &AtomicU64, old: u64, new: u64) -> bool {
    e.compare_exchange(old, new, AcqRel, Acquire).is_ok()
}

struct Rng(u64);
impl Rng {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 16) % n as u64) as usize
    }
}

struct World<'a> {
    pool: Arc<Pool>,
    swap: Area<'a>,
    entries: Vec<Vec<AtomicU64>>,
    reclaim: Vec<AtomicU64>,
    /// Odd while the thread uses translations.
    inside: Vec<AtomicU64>,
    /// Words of entries on their way to another program (fork), with their stamps.
    mail: Vec<std::sync::Mutex<Vec<(u64, u64)>>>,
    /// Failed reads are expected.
    lossy: bool,
}

struct Thread<'w, 'a> {
    w: &'w World<'a>,
    me: usize,
    rng: Rng,
    stamps: Vec<u64>,
    next: u64,
    ops: u64,
    lost: u64,
    ahead: Readahead,
}

impl<'w, 'a> Thread<'w, 'a> {
    /// The answers of all other threads, serving as one that has none of their translations.
    fn shoot(&self) {
        fence(SeqCst);
        for (t, cell) in self.w.inside.iter().enumerate() {
            let then = cell.load(SeqCst);
            while t != self.me && then & 1 == 1 && cell.load(SeqCst) == then {
                std::thread::yield_now();
            }
        }
    }

    fn enter(&self) {
        self.w.inside[self.me].fetch_add(1, SeqCst);
        fence(SeqCst);
    }

    fn leave(&self) {
        self.w.inside[self.me].fetch_add(1, SeqCst);
    }

    fn drop_frame(&mut self, f: Frame) {
        if let Some(s) = self.w.pool.release(f) {
            self.w.swap.release(s, 1);
            self.ops += 1;
        }
    }

    fn new_frame(&mut self) -> Frame {
        loop {
            if let Some(f) = self.w.pool.get() {
                return f;
            }
            self.evict(8);
            self.w.swap.trim(64, true);
            self.pump();
            std::thread::yield_now();
        }
    }

    fn pump(&mut self) {
        self.w.swap.write_out();
        self.w.swap.poll();
    }

    /// Accesses entry `i` as its program.
    fn access(&mut self, i: usize, write: bool) {
        let w = self.w;
        let entry = &w.entries[self.me][i];
        loop {
            self.enter();
            let e = entry.load(Acquire);
            match e & KIND {
                PAGE if !write || e & COW == 0 => {
                    let f = frame(e);
                    assert_eq!(w.pool.data(f, 0).load(Relaxed), self.stamps[i], "entry {i} of {}: {e:#x}", self.me);
                    if write {
                        self.next += 1;
                        self.stamps[i] = self.next << 8 | self.me as u64;
                        w.pool.data(f, 1).store(!self.stamps[i], Relaxed);
                        w.pool.data(f, 0).store(self.stamps[i], Relaxed);
                    } else {
                        assert_eq!(w.pool.data(f, 1).load(Relaxed), !self.stamps[i]);
                    }
                    return self.leave();
                }
                _ => {}
            }
            self.leave();
            match e & KIND {
                EMPTY => {
                    let f = self.new_frame();
                    self.next += 1;
                    let stamp = self.next << 8 | self.me as u64;
                    w.pool.data(f, 0).store(stamp, Relaxed);
                    w.pool.data(f, 1).store(!stamp, Relaxed);
                    assert!(cas(entry, e, page(f, e & PARITY)));
                    self.stamps[i] = stamp;
                }
                PAGE => self.break_cow(entry, e),
                _ => self.swap_in(i, e, write),
            }
        }
    }

    fn break_cow(&mut self, entry: &AtomicU64, e: u64) {
        let w = self.w;
        let f = frame(e);
        // The look at the frame and the compare-and-swap belong to one window (its parity proves the count).
        if let Some(s) = (w.pool.count(f) == 1).then(|| w.pool.break_link(f)).flatten() {
            w.swap.release(s, 1);
            self.ops += 1;
        }
        if w.pool.is_alone(f) {
            cas(entry, e, e & !COW);
            return;
        }
        let copy = self.new_frame();
        // A reference keeps the page while we wait for frames and copy.
        if !w.pool.try_ref(f) {
            return self.drop_frame(copy);
        }
        if entry.load(Acquire) == e {
            for i in 0..2 {
                w.pool.data(copy, i).store(w.pool.data(f, i).load(Relaxed), Relaxed);
            }
            if cas(entry, e, page(copy, e & PARITY)) {
                self.drop_frame(f);
                return self.drop_frame(f);
            }
        }
        self.drop_frame(f);
        self.drop_frame(copy);
    }

    fn swap_in(&mut self, i: usize, e: u64, write: bool) {
        let w = self.w;
        let entry = &w.entries[self.me][i];
        let s = slot(e);
        self.ops += 1;
        match w.swap.take(s, || entry.load(Acquire) == e) {
            Take::Page { frame: f, ahead } => {
                if ahead {
                    self.ahead = self.ahead.hit(i as u64);
                }
                self.ops += 1;
                if cas(entry, e, page(f, e & PARITY | COW)) {
                    w.swap.installed(s, f, !write);
                } else {
                    w.swap.put_back(s, f);
                }
            }
            Take::Changed => {}
            Take::Wait => {
                self.pump();
                std::thread::yield_now();
            }
            Take::Read => {
                let (range, next) = self.ahead.read(i as u64);
                self.ahead = next;
                let near: Vec<Slot> = range
                    .filter(|&k| k != i as u64 && k < w.entries[self.me].len() as u64)
                    .map(|k| w.entries[self.me][k as usize].load(Acquire))
                    .filter(|e| e & KIND == SWAPPED)
                    .map(slot)
                    .collect();
                self.ops += 1;
                if w.swap.read(s, &near).is_err() {
                    self.evict(4);
                    w.swap.trim(64, true);
                }
                self.pump();
            }
            Take::Failed => {
                assert!(w.lossy, "a read failed");
                // SIGBUS: this program gives the page up.
                if cas(entry, e, EMPTY | e & PARITY) {
                    self.lost += 1;
                    w.swap.release(s, 1);
                }
            }
        }
    }

    fn unmap(&mut self, i: usize) {
        let w = self.w;
        let e = w.entries[self.me][i].load(Acquire) & PARITY;
        let was = w.entries[self.me][i].swap(e ^ PARITY, AcqRel);
        self.give_up(was);
    }

    fn give_up(&mut self, was: u64) {
        match was & KIND {
            PAGE => self.drop_frame(frame(was)),
            SWAPPED => {
                self.w.swap.release(slot(was), 1);
                self.ops += 1;
            }
            _ => {}
        }
    }

    /// Shares entry `i` with a new one of this program or of another.
    fn fork(&mut self, i: usize) {
        let w = self.w;
        let entry = &w.entries[self.me][i];
        let to = self.rng.below(w.mail.len());
        if w.mail[to].lock().unwrap().len() > 1 {
            return;
        }
        let child = loop {
            let e = entry.load(Acquire);
            match e & KIND {
                PAGE => {
                    if !w.pool.try_ref(frame(e)) {
                        continue;
                    }
                    let shared = e | COW;
                    if cas(entry, e, shared ^ PARITY) {
                        break shared;
                    }
                    self.drop_frame(frame(e));
                }
                SWAPPED => {
                    self.ops += 1;
                    if !w.swap.hold(slot(e)) {
                        continue;
                    }
                    if cas(entry, e, e ^ PARITY) {
                        break e;
                    }
                    w.swap.release(slot(e), 1);
                }
                _ => return,
            }
        };
        w.mail[to].lock().unwrap().push((child, self.stamps[i]));
    }

    fn receive(&mut self) {
        let Some((word, stamp)) = self.w.mail[self.me].lock().unwrap().pop() else { return };
        let i = self.rng.below(self.stamps.len());
        self.unmap(i);
        let now = self.w.entries[self.me][i].load(Acquire);
        // Nobody fills an empty entry but its program.
        assert!(cas(&self.w.entries[self.me][i], now, word & !PARITY | now & PARITY));
        self.stamps[i] = stamp;
    }

    /// Evicts up to `n` pages of one arena.
    fn evict(&mut self, n: usize) {
        let w = self.w;
        let arena = self.rng.below(w.entries.len());
        if w.reclaim[arena].swap(1, AcqRel) != 0 {
            return;
        }
        let from = self.rng.below(w.entries[arena].len());
        let mut slots = Vec::new();
        let mut frames = Vec::new();
        for k in 0..w.entries[arena].len() {
            if slots.len() == n {
                break;
            }
            let entry = &w.entries[arena][(from + k) % w.entries[arena].len()];
            let e = entry.load(Acquire);
            if e & KIND != PAGE {
                continue;
            }
            let f = frame(e);
            self.ops += 2;
            let linked = |s| w.pool.slot_of(f) == Some((s, true));
            // A writable page has no slot.
            let known = w.pool.slot_of(f).filter(|_| e & COW != 0);
            if let Some((s, _)) = known
                && w.swap.join(s, f, || linked(s))
            {
                if cas(entry, e, swapped(s, e)) {
                    slots.push(s);
                    frames.push(f);
                } else {
                    w.swap.stay(s);
                }
                continue;
            }
            if known.is_some_and(|(_, link)| link) {
                continue;
            }
            let Some(s) = w.swap.reserve(self.me, f) else { break };
            if cas(entry, e, swapped(s, e)) {
                w.pool.note(f, s);
                slots.push(s);
            } else {
                w.swap.unreserve(s);
            }
        }
        self.shoot();
        slots.iter().for_each(|&s| w.swap.answered(s));
        frames.iter().for_each(|&f| self.drop_frame(f));
        w.reclaim[arena].store(0, Release);
        self.ops += slots.len() as u64;
        w.swap.write_out();
    }

    fn run(&mut self, ops: u64) {
        while self.ops < ops {
            let i = self.rng.below(self.stamps.len());
            match self.rng.below(100) {
                0..40 => self.access(i, false),
                40..60 => self.access(i, true),
                // A run of neighbours.
                60..70 => (i..(i + 8).min(self.stamps.len())).for_each(|i| self.access(i, false)),
                70..74 => self.unmap(i),
                74..80 => self.fork(i),
                80..86 => self.receive(),
                86..94 => self.evict(16),
                94..96 => _ = self.w.swap.trim(32, false),
                _ => self.pump(),
            }
        }
    }
}

fn stress(threads: usize, ops: u64, slots: usize, frames: usize, manners: Manners, spoiled: &[u32]) {
    let words: Vec<SlotWord> = (0..slots).map(|_| SlotWord::new()).collect();
    let map: Vec<AtomicU64> = (0..Area::words_needed(slots)).map(|_| AtomicU64::new(0)).collect();
    let pool = Pool::new(frames);
    let disk = FakeDisk::new(&pool, slots - 1, manners, 0x1234_5678_9abc);
    spoiled.iter().for_each(|&s| disk.spoil(Slot(s)));
    let pages = (slots + frames) / threads / 2;
    let world = World {
        swap: Swap::new(&words, &map, [3, 3].into_iter(), pool.clone(), disk),
        pool,
        entries: (0..threads).map(|_| (0..pages).map(|_| AtomicU64::new(EMPTY)).collect()).collect(),
        reclaim: (0..threads).map(|_| AtomicU64::new(0)).collect(),
        inside: (0..threads).map(|_| AtomicU64::new(0)).collect(),
        mail: (0..threads).map(|_| Default::default()).collect(),
        lossy: manners.read_error != 0 || manners.lost != 0 || !spoiled.is_empty(),
    };
    let (total, lost) = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads)
            .map(|me| {
                let world = &world;
                scope.spawn(move || {
                    let rng = Rng(0x9e37_79b9_7f4a_7c15u64.wrapping_mul(me as u64 + 1));
                    let stamps = vec![0; pages];
                    let ahead = Readahead::default();
                    let mut t = Thread { w: world, me, rng, stamps, next: 0, ops: 0, lost: 0, ahead };
                    t.run(ops / threads as u64);
                    (t.ops, t.lost)
                })
            })
            .collect();
        handles.into_iter().map(|h| h.join().unwrap()).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    });
    // The end of all programs.
    let mut last = Thread {
        w: &world,
        me: 0,
        rng: Rng(1),
        stamps: Vec::new(),
        next: 0,
        ops: 0,
        lost: 0,
        ahead: Readahead::default(),
    };
    let left: Vec<u64> = world.entries.iter().flatten().map(|e| e.swap(0, AcqRel)).collect();
    left.into_iter().for_each(|e| last.give_up(e));
    let mail: Vec<u64> = world.mail.iter().flat_map(|m| std::mem::take(&mut *m.lock().unwrap())).map(|m| m.0).collect();
    mail.into_iter().for_each(|e| last.give_up(e));
    while world.swap.has_pending() || world.swap.disk.in_flight() != 0 {
        last.pump();
    }
    let c = world.swap.census();
    let s = &world.swap.stats;
    eprintln!(
        "{total} operations, {} pages out, {} in, {} back, {} ahead, {} of them wanted, {lost} lost, {} bad slots",
        s.written.load(Relaxed),
        s.read.load(Relaxed),
        s.taken_back.load(Relaxed),
        s.ahead.load(Relaxed),
        s.ahead_hits.load(Relaxed),
        c.bad
    );
    assert_eq!((c.free + c.bad, c.holds, c.cached, c.busy, c.unwritten), (c.total, 0, 0, 0, 0), "{c:?}");
    assert_eq!(c.free, c.mapped_free);
    assert!(c.bad >= 1);
    assert_eq!(world.pool.free(), frames, "frames leaked");
    world.swap.disk.check_guards();
    assert!((0..frames as u32).all(|f| world.pool.data(Frame(f), 0).load(Relaxed) == POISON));
}

fn ops(default: u64) -> u64 {
    std::env::var("SWAP_OPS").ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

#[test]
fn a_roomy_area() {
    stress(4, ops(400_000), 2048, 256, Manners { late: 128, ..Manners::default() }, &[]);
}

#[test]
fn a_few_dozen_slots() {
    stress(4, ops(200_000), 40, 64, Manners { late: 200, ..Manners::default() }, &[]);
}

#[test]
fn a_slow_disk_of_depth_one() {
    stress(3, ops(100_000), 256, 96, Manners { late: 200, depth: 1, ..Manners::default() }, &[]);
}

#[test]
fn a_disk_that_fails_and_forgets() {
    let manners = Manners { late: 128, read_error: 4, lost: 4, ..Manners::default() };
    stress(4, ops(200_000), 512, 128, manners, &[9, 77, 78, 200]);
}

/// 10^7 slot operations: `cargo test --release -- --ignored`.
#[test]
#[ignore = "a minute"]
fn ten_million_operations() {
    stress(4, ops(10_000_000), 1024, 256, Manners { late: 100, ..Manners::default() }, &[]);
}
