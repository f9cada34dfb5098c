//! One step after the other: the life of a slot, the map, clusters, errors, trimming.

use quire_mm::Frame;
use quire_mm::sync::{AtomicU64, Ordering::*};
use quire_swapd::fake::{FakeDisk, Manners, Pool};
use quire_swapd::slot::{SlotWord, State};
use quire_swapd::{Host, ReadError, Slot, Swap, Take};
use std::sync::Arc;

type Area = Swap<'static, Arc<Pool>, FakeDisk>;

fn area(slots: usize, frames: usize, manners: Manners) -> (Arc<Pool>, Area) {
    let pool = Pool::new(frames);
    let words: &'static [SlotWord] = Vec::leak((0..slots).map(|_| SlotWord::new()).collect());
    let map: &'static [AtomicU64] = Vec::leak((0..Area::words_needed(slots)).map(|_| AtomicU64::new(0)).collect());
    let disk = FakeDisk::new(&pool, slots - 1, manners, 7);
    let swap = Swap::new(words, map, std::iter::empty(), pool.clone(), disk);
    (pool, swap)
}

fn page(pool: &Pool, stamp: u64) -> Frame {
    let f = pool.get().unwrap();
    pool.data(f, 0).store(stamp, Relaxed);
    f
}

/// Evicts a page with one reference, which an entry has; the entry names the slot now.
fn evict(pool: &Pool, swap: &Area, f: Frame) -> Slot {
    let slot = swap.reserve(0, f).unwrap();
    pool.note(f, slot);
    swap.answered(slot);
    slot
}

fn fault(swap: &Area, slot: Slot, link: bool) -> Result<Frame, Take> {
    for _ in 0..10_000 {
        match swap.take(slot, || true) {
            Take::Page { frame, .. } => {
                swap.installed(slot, frame, link);
                return Ok(frame);
            }
            Take::Read => swap.read(slot, &[]).unwrap(),
            Take::Wait => _ = swap.poll(),
            other => return Err(other),
        }
    }
    panic!("no end");
}

fn clean(pool: &Pool, swap: &Area) {
    while swap.has_pending() || swap.disk.in_flight() != 0 {
        swap.write_out();
        swap.poll();
    }
    let c = swap.census();
    assert_eq!((c.free + c.bad, c.holds, c.cached, c.busy, c.unwritten), (c.total, 0, 0, 0, 0), "{c:?}");
    assert_eq!(c.free, c.mapped_free);
    swap.disk.check_guards();
    let _ = pool;
}

#[test]
fn a_page_goes_out_and_comes_back() {
    let (pool, swap) = area(64, 8, Manners::default());
    let f = page(&pool, 42);
    let slot = evict(&pool, &swap, f);
    assert_eq!(swap.slot(slot).look().state(), State::Held);
    assert_eq!(swap.write_out(), 1);
    assert_eq!(swap.slot(slot).look().state(), State::Writing);
    swap.poll();
    assert_eq!((swap.slot(slot).look().state(), swap.slot(slot).look().frame()), (State::Clean, None));
    assert_eq!(pool.free(), 8, "the frame is free when its write is done");
    let g = fault(&swap, slot, true).unwrap();
    assert_eq!(pool.data(g, 0).load(Relaxed), 42);
    assert_eq!(pool.slot_of(g), Some((slot, true)), "read for reading: linked");
    assert!(!pool.is_alone(g));
    // The second time it goes without a write.
    let written = swap.stats.written.load(Relaxed);
    assert!(swap.join(slot, g, || pool.slot_of(g) == Some((slot, true))));
    swap.answered(slot);
    assert_eq!(swap.host.release(g), Some(slot));
    swap.release(slot, 1);
    assert_eq!(swap.write_out(), 0);
    assert_eq!(swap.stats.written.load(Relaxed), written);
    // And comes back to be written.
    let h = fault(&swap, slot, false).unwrap();
    assert_eq!(pool.data(h, 0).load(Relaxed), 42);
    assert!(pool.is_alone(h));
    assert_eq!(swap.slot(slot).look().state(), State::Free);
    assert_eq!(pool.release(h), None);
    clean(&pool, &swap);
    assert_eq!(pool.free(), 8);
}

#[test]
fn a_page_is_taken_back_before_during_and_after_its_write() {
    let (pool, swap) = area(64, 8, Manners::default());
    for when in 0..3 {
        let f = page(&pool, when);
        let slot = evict(&pool, &swap, f);
        if when >= 1 {
            swap.write_out();
        }
        let Take::Page { frame, .. } = swap.take(slot, || true) else { panic!("not cached") };
        assert_eq!(frame, f);
        if when == 2 {
            swap.poll();
            assert_eq!(pool.slot_of(f), Some((slot, true)), "mapped again when its write ended: linked");
        }
        swap.installed(slot, f, true);
        swap.poll();
        assert_eq!(pool.is_alone(f), when == 0, "a page that was not written has no slot any more");
        if let Some(slot) = pool.break_link(f) {
            swap.release(slot, 1);
        }
        assert!(pool.is_alone(f));
        assert_eq!(pool.release(f), None);
        clean(&pool, &swap);
    }
}

#[test]
fn nobody_takes_or_writes_while_an_eviction_is_leaving() {
    let (pool, swap) = area(64, 8, Manners::default());
    let f = page(&pool, 1);
    let slot = swap.reserve(0, f).unwrap();
    pool.note(f, slot);
    assert_eq!(swap.take(slot, || true), Take::Wait);
    assert_eq!(swap.write_out(), 0);
    swap.answered(slot);
    // A second mapper of the frame is evicted too.
    assert!(pool.try_ref(f));
    assert!(swap.join(slot, f, || false));
    assert_eq!(swap.take(slot, || true), Take::Wait);
    assert_eq!(swap.write_out(), 0, "leaving once more");
    swap.answered(slot);
    assert_eq!(pool.release(f), None);
    assert_eq!(swap.write_out(), 1);
    // The entry had changed.
    let g = page(&pool, 2);
    let other = swap.reserve(0, g).unwrap();
    swap.unreserve(other);
    assert_eq!(pool.count(g), 1);
    pool.release(g);
    swap.release(slot, 2);
    clean(&pool, &swap);
}

#[test]
fn a_note_is_believed_only_if_the_slot_names_the_frame() {
    let (pool, swap) = area(64, 8, Manners::default());
    let f = page(&pool, 1);
    let slot = evict(&pool, &swap, f);
    let a = fault(&swap, slot, false).unwrap();
    assert_eq!(a, f);
    assert_eq!(pool.slot_of(f), Some((slot, false)), "a stale note");
    assert!(!swap.join(slot, f, || false));
    let g = page(&pool, 2);
    let again = loop {
        let s = evict(&pool, &swap, g);
        if s == slot {
            break s;
        }
        // Not the same slot again: one cluster is handed out in order.
        fault(&swap, s, false).unwrap();
    };
    assert!(!swap.join(slot, f, || false), "the slot is another page's");
    assert!(swap.join(again, g, || false));
    swap.stay(again);
    pool.release(f);
    swap.release(again, 1);
    clean(&pool, &swap);
}

#[test]
fn neighbours_share_requests() {
    let (pool, swap) = area(4096, 512, Manners::default());
    let slots: Vec<Slot> = (0..256).map(|i| evict(&pool, &swap, page(&pool, i))).collect();
    assert_eq!(swap.write_out(), 256);
    let requests = swap.disk.requests.load(Relaxed);
    assert!(requests <= 9, "{requests} requests for 256 pages");
    swap.poll();
    assert_eq!(pool.free(), 512);
    // Read ahead: the same.
    swap.read(slots[40], &slots[41..72]).unwrap();
    assert!(swap.disk.requests.load(Relaxed) - requests <= 3);
    assert!(swap.is_busy(slots[40]));
    swap.poll();
    for (i, &s) in slots[40..72].iter().enumerate() {
        let Take::Page { frame, ahead } = swap.take(s, || true) else { panic!("not read ahead") };
        assert_eq!((pool.data(frame, 0).load(Relaxed), ahead), (40 + i as u64, i != 0));
        swap.installed(s, frame, false);
        pool.release(frame);
    }
    assert_eq!(swap.stats.ahead_hits.load(Relaxed), 31);
    slots[..40].iter().chain(&slots[72..]).for_each(|&s| swap.release(s, 1));
    clean(&pool, &swap);
}

#[test]
fn what_nobody_takes_is_trimmed() {
    let (pool, swap) = area(256, 128, Manners::default());
    let slots: Vec<Slot> = (0..32).map(|i| evict(&pool, &swap, page(&pool, i))).collect();
    swap.write_out();
    swap.poll();
    swap.read(slots[0], &slots[1..]).unwrap();
    swap.poll();
    assert_eq!(swap.census().cached, 32);
    assert_eq!(swap.trim(256, false), 0, "the first look only marks");
    let f = fault(&swap, slots[3], true).unwrap();
    assert_eq!(swap.trim(256, false), 31);
    assert_eq!(pool.count(f), 1);
    assert_eq!(swap.census().cached, 0);
    assert_eq!(swap.host.release(f), Some(slots[3]));
    swap.release(slots[3], 1);
    slots.iter().enumerate().filter(|(i, _)| *i != 3).for_each(|(_, &s)| swap.release(s, 1));
    clean(&pool, &swap);
    assert_eq!(pool.free(), 128);
}

#[test]
fn the_area_is_full_only_when_nobody_has_a_slot() {
    let (pool, swap) = area(100, 200, Manners::default());
    let mut slots = Vec::new();
    for i in 0..99 {
        // Each CPU has a cluster at hand, and takes from others' hands in the end.
        let f = page(&pool, i);
        let s = swap.reserve(i as usize % 4, f).expect("a free slot");
        swap.answered(s);
        slots.push(s);
    }
    slots.sort();
    slots.dedup();
    assert_eq!((slots.len(), slots[0].0, slots[98].0), (99, 1, 99));
    let f = page(&pool, 99);
    assert_eq!(swap.reserve(0, f), None);
    swap.release(slots.pop().unwrap(), 1);
    assert_eq!(swap.reserve(1, f), Some(Slot(99)));
    swap.answered(Slot(99));
    swap.set_open(false);
    swap.release(Slot(99), 1);
    let f = page(&pool, 0);
    assert_eq!(swap.reserve(0, f), None, "closed");
    assert!(!swap.is_empty());
    slots.iter().for_each(|&s| swap.release(s, 1));
    assert!(swap.is_empty());
    clean(&pool, &swap);
}

#[test]
fn bad_pages_of_the_header_are_never_given_out() {
    let pool = Pool::new(64);
    let words: &'static [SlotWord] = Vec::leak((0..40).map(|_| SlotWord::new()).collect());
    let map: &'static [AtomicU64] = Vec::leak((0..Area::words_needed(40)).map(|_| AtomicU64::new(0)).collect());
    let disk = FakeDisk::new(&pool, 39, Manners::default(), 3);
    let swap = Swap::new(words, map, [5, 6, 5, 39].into_iter(), pool.clone(), disk);
    assert_eq!(swap.free_slots(), 36);
    let got: Vec<u32> = std::iter::from_fn(|| swap.reserve(0, page(&pool, 0)).map(|s| s.0)).collect();
    assert_eq!(got.len(), 36);
    assert!(!got.iter().any(|s| [0, 5, 6, 39].contains(s)));
}

#[test]
fn a_read_error_is_told_once_and_tried_again() {
    let (pool, swap) = area(64, 16, Manners::default());
    let slots: Vec<Slot> = (0..4).map(|i| evict(&pool, &swap, page(&pool, i))).collect();
    swap.write_out();
    swap.poll();
    swap.disk.set_manners(Manners { read_error: 255, ..Manners::default() });
    assert_eq!(fault(&swap, slots[0], true), Err(Take::Failed));
    assert_eq!(pool.free(), 16, "the frame of a failed read is free");
    assert_eq!(fault(&swap, slots[0], true), Err(Take::Failed));
    swap.disk.set_manners(Manners::default());
    let f = fault(&swap, slots[0], false).unwrap();
    assert_eq!(pool.data(f, 0).load(Relaxed), 0);
    pool.release(f);
    slots[1..].iter().for_each(|&s| swap.release(s, 1));
    clean(&pool, &swap);
}

#[test]
fn only_the_bad_page_of_a_failed_write_is_marked() {
    let (pool, swap) = area(128, 64, Manners::default());
    let slots: Vec<Slot> = (0..32).map(|i| evict(&pool, &swap, page(&pool, i))).collect();
    swap.disk.spoil(slots[7]);
    for _ in 0..10 {
        swap.write_out();
        swap.poll();
    }
    for (i, &s) in slots.iter().enumerate() {
        let seen = swap.slot(s).look();
        assert_eq!(seen.state(), if i == 7 { State::Bad } else { State::Clean });
        assert_eq!(seen.frame().is_some(), i == 7, "the page stays in its frame");
    }
    // It can be had for ever, and the slot is not given out again.
    let f = fault(&swap, slots[7], true).unwrap();
    assert_eq!(pool.data(f, 0).load(Relaxed), 7);
    assert!(pool.is_alone(f));
    assert!(!swap.join(slots[7], f, || false), "no page goes out to a bad slot");
    pool.release(f);
    slots.iter().enumerate().filter(|(i, _)| *i != 7).for_each(|(_, &s)| swap.release(s, 1));
    clean(&pool, &swap);
    assert_eq!((swap.census().bad, swap.census().free), (1, 126));
}

#[test]
fn a_dead_disk_loses_nothing_that_is_in_memory() {
    let (pool, swap) = area(128, 64, Manners::default());
    let out: Vec<Slot> = (0..8).map(|i| evict(&pool, &swap, page(&pool, i))).collect();
    swap.write_out();
    swap.poll();
    swap.disk.set_dead(true);
    let kept: Vec<Slot> = (8..16).map(|i| evict(&pool, &swap, page(&pool, i))).collect();
    assert_eq!(swap.write_out(), 0);
    assert!(swap.has_pending());
    assert_eq!(swap.read(out[0], &out[1..]), Err(ReadError::Dead));
    assert!(!swap.is_busy(out[0]));
    assert_eq!(swap.census().cached, 8, "no frame waits for a dead disk");
    for (i, &s) in kept.iter().enumerate() {
        let f = fault(&swap, s, false).unwrap();
        assert_eq!(pool.data(f, 0).load(Relaxed), 8 + i as u64);
        pool.release(f);
    }
    swap.disk.set_dead(false);
    out.iter().for_each(|&s| swap.release(s, 1));
    clean(&pool, &swap);
}

#[test]
fn a_shallow_queue_only_delays() {
    let (pool, swap) = area(512, 300, Manners { depth: 1, ..Manners::default() });
    let slots: Vec<Slot> = (0..200).map(|i| evict(&pool, &swap, page(&pool, i))).collect();
    let mut sent = 0;
    while sent < 200 {
        sent += swap.write_out();
        assert!(swap.disk.in_flight() <= 1);
        swap.poll();
    }
    // Two runs: the second does not fit, and is not read; nothing hangs.
    let far = slots[150];
    swap.read(slots[0], &[far]).unwrap();
    swap.poll();
    assert!(!swap.is_busy(far));
    assert_eq!(swap.read(far, &[]), Ok(()));
    assert_eq!(swap.read(slots[20], &[]), Err(ReadError::Full));
    swap.poll();
    slots.iter().for_each(|&s| swap.release(s, 1));
    clean(&pool, &swap);
    assert_eq!(pool.free(), 300);
}

#[test]
fn lost_requests_are_sent_again() {
    let (pool, swap) = area(512, 300, Manners { lost: 128, late: 100, ..Manners::default() });
    let slots: Vec<Slot> = (0..200).map(|i| evict(&pool, &swap, page(&pool, i))).collect();
    for _ in 0..10_000 {
        swap.write_out();
        swap.poll();
        if swap.census().unwritten == 0 {
            break;
        }
    }
    assert_eq!(swap.census().unwritten, 0);
    swap.disk.set_manners(Manners::default());
    for (i, &s) in slots.iter().enumerate() {
        let f = fault(&swap, s, i % 2 == 0).unwrap();
        assert_eq!(pool.data(f, 0).load(Relaxed), i as u64);
        if let Some(s) = swap.host.release(f) {
            swap.release(s, 1);
        }
    }
    clean(&pool, &swap);
}

/// A frame keeps the note of a slot that it has left. When that very slot is given out for it again, another scan, which evicts
/// another entry of the frame, must not join: the first one may still find its entry changed, and give the slot back.
#[test]
fn nobody_joins_a_slot_whose_entry_has_not_changed_yet() {
    let (pool, swap) = area(8, 4, Manners::default());
    let f = page(&pool, 5);
    let slot = swap.reserve(0, f).unwrap();
    pool.note(f, slot);
    assert!(!swap.join(slot, f, || false), "joined an eviction that may not happen");
    swap.unreserve(slot);
    assert_eq!(swap.slot(slot).look().state(), State::Free);
    assert_eq!(pool.release(f), None);
    clean(&pool, &swap);
    assert_eq!(pool.free(), 4);
}
