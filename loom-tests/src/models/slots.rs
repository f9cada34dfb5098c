//! Slots without the memory manager's entries: who holds one, who reads and writes it, and what is cached in between.
//!
//! *Invariant*: nobody gets stale or foreign data, no store is lost, one slot for one page; nothing is left over in the end.
//! *Races*: 22, 23, 31, 36, 55. *Bounds*: one slot, one to three frames, two entries, two threads.

use crate::defects::Defect::*;
use crate::model::Model;
use crate::slots::{Rig, S, SWAPPED, cas, frame, page, rig, with};
use loom::thread::{self, yield_now};
use quire_mm::Frame;
use quire_mm::sync::Ordering::*;
use quire_swapd::Take;

pub const MODELS: &[Model] = &[
    Model::new("slot-reuse", slot_reuse, &[]).bounds([Some(2); 2], [Some(3); 2]),
    Model::new("slot-reuse-late", slot_reuse_late, &[&[HoldLate]]).bounds([Some(3); 2], [Some(3); 2]),
    Model::new("slot-failure", strangers_failure, &[&[LookThenHold], &[NoSecondLook]])
        .bounds([Some(3); 2], [Some(3); 2]),
    Model::new("slot-stale-hold", stale_hold, &[&[HoldFromZero]]).bounds([None; 2], [None; 2]),
    Model::new("slot-two-takers", two_takers, &[&[BitBeforeFree]]).bounds([None; 2], [None; 2]),
    Model::new("slot-two-readers", two_readers, &[&[ReadTwice]]).bounds([Some(3); 2], [Some(3); 2]),
    Model::new("slot-write-end", write_end, &[&[TakeOnce]]).bounds([None; 2], [None; 2]),
    Model::new("slot-write-stranger", write_stranger, &[&[FreeAtWrite]]).bounds([None; 2], [None; 2]),
    Model::new("slot-leaving-take", leaving_take, &[&[TakeLeaving]]).bounds([Some(3); 2], [Some(3); 2]),
    Model::new("slot-leaving-write", leaving_write, &[&[WriteLeaving]]).bounds([None; 2], [None; 2]),
    Model::new("slot-link", link, &[&[LinkWithoutHold]]).bounds([None; 2], [None; 2]),
    Model::new("slot-note", note, &[&[TrustNote]]).bounds([None; 2], [None; 2]),
    Model::new("slot-trim", trim, &[&[UncacheHeld]]).bounds([Some(3); 2], [Some(3); 2]),
    Model::new("slot-last-two", last_two, &[]).bounds([None; 2], [None; 2]),
];

/// Race 22. One slot; a fault that reads from the disk, and the slot's next lives: the page is swapped in and written by
/// another thread, a stranger's page goes out and in, the page goes out again. Neither stale nor foreign data.
fn slot_reuse() {
    let w = rig(3);
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
        stranger_and_out(w, f);
        8
    });
    w.fault(&w.a, false);
    let want = t.join().unwrap();
    assert_eq!(w.content(&w.a), want, "stale or foreign data");
    w.end();
    assert_eq!(w.pool.free(), 3);
}

/// A stranger's page goes out and in, and page `f` of entry `a` goes out.
fn stranger_and_out(w: &Rig, f: Frame) {
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
}

/// As `slot_reuse`, of a fault that read its entry before the page was swapped in and written.
fn slot_reuse_late() {
    let w = rig(3);
    w.on_disk(&w.a, 7);
    let f = w.fault(&w.a, false).unwrap();
    w.pool.data(f, 0).store(8, Relaxed);
    let t = with(&w, |w| {
        w.fault_from(&w.a, SWAPPED, false);
    });
    stranger_and_out(&w, f);
    t.join().unwrap();
    assert_eq!(w.content(&w.a), 8, "stale or foreign data");
    w.end();
    assert_eq!(w.pool.free(), 3);
}

/// A fault looks at the slot of an entry that is unmapped; a stranger takes the slot, and its read fails. The fault is not told so.
fn strangers_failure() {
    let w = rig(2);
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
    let w = rig(3);
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
    let w = rig(3);
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
    let w = rig(2);
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
    let w = rig(1);
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
    let w = rig(1);
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
fn evict_while_written(w: &Rig, f: Frame) {
    let s = w.swap.reserve(0, f).unwrap();
    w.pool.note(f, s);
    assert!(cas(&w.a, page(f), SWAPPED));
    // The other CPU's store through its old translation, then its answer.
    w.pool.data(f, 0).store(1, Relaxed);
    w.swap.answered(s);
}

/// Race 31. A fault meets the slot before the evictor's answers: it waits, and the last store is in what it gets.
fn leaving_take() {
    let w = rig(2);
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
    let w = rig(2);
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
    let w = rig(2);
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
    let w = rig(2);
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
    let w = rig(2);
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
    let w = rig(2);
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
