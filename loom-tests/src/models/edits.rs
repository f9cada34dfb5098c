//! Edits of one list by two CPUs, and a reader of a list that is replaced under it.
//!
//! *Invariant*: no edit is lost, overlapping ones happen one after the other; no node is read, or taken for another, after it was freed.
//! *Races*: 18, 45. *Bounds*: four pages, two CPUs, one or two edits each; nodes are collected at once.

use crate::defects::Defect::*;
use crate::model::Model;
use crate::world::{R, RW, Scene, World, on, script, spawn};
use quire_mm::{Page, PageRange};

pub const MODELS: &[Model] = &[
    Model::new("edits-disjoint", disjoint, &[&[PublishBlind]])
        .bounds([Some(2), Some(3)], [Some(3), Some(4)])
        .collecting(),
    Model::new("edits-overlap", overlap, &[&[PublishBlind, NoClaim]])
        .bounds([Some(2), Some(3)], [Some(3); 2])
        .collecting(),
    Model::new("edits-recycled", recycled, &[&[AdvanceEarly]]).bounds([Some(2); 2], [Some(3); 2]).collecting(),
    Model::new("lookup", lookup, &[&[PinNoFence], &[AdvanceEarly]]).collecting(),
    Model::new("lookup-idle", lookup_idle, &[&[AdvanceEarly]]).bounds([Some(2); 2], [Some(3); 2]).collecting(),
];

fn scene() -> (World, Scene) {
    let w = World::new(24);
    let s = w.space();
    s.map(0, 4, RW);
    (w, s)
}

/// The segments as `(first page, pages, writable)`.
fn list(s: Scene) -> Vec<(u64, u64, bool)> {
    let mut all = Vec::new();
    let everything = PageRange { start: Page(0), end: PageRange::LIMIT };
    s.each_segment(everything, |g| all.push((g.range.start.0, g.range.pages(), g.prot == RW)));
    all
}

fn disjoint() {
    let (w, s) = scene();
    let t = spawn(&w, 1, move || s.unmap(0, 1));
    script(&w, || s.protect(3, 1, R));
    let _ = t.join();
    assert_eq!(list(s), [(1, 2, true), (3, 1, false)], "an edit was lost");
    w.end(&[s]);
}

fn overlap() {
    let (w, s) = scene();
    let t = spawn(&w, 1, move || s.map(1, 2, R));
    script(&w, || s.unmap(0, 2));
    let _ = t.join();
    let l = list(s);
    assert!(l == [(1, 2, false), (3, 1, true)] || l == [(2, 1, false), (3, 1, true)], "{l:?}");
    w.end(&[s]);
}

/// One edit sees its root come back at the same address, if grace periods are too short.
fn recycled() {
    let (w, s) = scene();
    let t = spawn(&w, 1, move || {
        s.unmap(0, 1);
        s.unmap(1, 1);
    });
    script(&w, || s.protect(3, 1, R));
    let _ = t.join();
    assert_eq!(list(s), [(2, 1, true), (3, 1, false)], "an edit was lost");
    w.end(&[s]);
}

/// A reader against two edits, each of which retires the root and collects.
fn lookup() {
    let (w, s) = scene();
    let t = spawn(&w, 1, move || {
        let found = s.find(Page(2)).expect("a segment that nobody edits");
        assert!(found.range.end == Page(4));
    });
    script(&w, || {
        s.unmap(0, 1);
        s.unmap(1, 1);
    });
    let _ = t.join();
    w.end(&[s]);
}

/// A stalled reader does not let the epoch pass; an idle CPU collects meanwhile.
fn lookup_idle() {
    let (w, s) = scene();
    let t = spawn(&w, 1, move || {
        assert!(s.find(Page(2)).is_some());
    });
    let m = w.memory();
    let u = spawn(&w, 2, move || m.collect());
    script(&w, || s.unmap(0, 1));
    let _ = (t.join(), u.join());
    on(0, || (0..3).for_each(|_| m.collect()));
    assert!(on(0, || !m.has_retired()), "a grace period never ended");
    w.end(&[s]);
}
