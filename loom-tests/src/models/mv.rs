//! A move against those who still use its source, and those who already use its destination.
//!
//! *Invariant*: nobody stores through the source once somebody has seen the page at the destination; readers of a live destination
//! see the old page or the new one, never nothing; no store is lost.
//! *Races*: 6, 26. *Bounds*: one page, two or three CPUs, one move. The scripts begin with a page in a frame, and with some of the other
//! kinds ([`Start`]); `starts` has the rest for the source.

use super::swap::out;
use crate::defects::Defect::{self, *};
use crate::model::Model;
use crate::world::{NONE, RW, Scene, World, flag, on, script, spawn};
use quire_mm::sync::Ordering::*;
use quire_mm::{Backing, Flags, Page, Place, Remap};

pub const MODELS: &[Model] = &[
    Model::new("move-source", || source(Start::Frame, NEAR, false), &[&[MoveNoAnswer]]),
    Model::new("move-source-far", || source(Start::Frame, FAR, false), &[&[MoveNoAnswer]]),
    Model::new("move-source-keep", || source(Start::Frame, NEAR, true), &[&[MoveNoAnswer]]),
    bounded("move-destination", || destination(Start::Frame, NEAR, Start::Frame), &[&[NoTransit]]),
    bounded("move-destination-object", || destination(Start::Frame, NEAR, Start::Object), &[&[NoTransit]]),
    bounded("move-destination-cached", || destination(Start::Frame, NEAR, Start::Cached), &[&[NoTransit]]),
    bounded("move-destination-hidden", || destination(Start::Hidden, FAR, Start::Hidden), &[&[NoTransit]]),
    bounded("move-fault", || fault(Start::Frame, NEAR, false, true), &[&[NoTransit]]),
    bounded("move-fault-absent", || fault(Start::Absent, NEAR, false, false), &[&[TablesBeforeTransit]])
        .bounds([Some(1), Some(2)], [Some(3); 2]),
    bounded("move-fault-absent-keep", || fault(Start::Absent, NEAR, true, false), &[&[TablesBeforeTransit]])
        .bounds([Some(1), Some(2)], [Some(3); 2]),
    bounded("move-fault-keep", || fault(Start::Frame, NEAR, true, true), &[&[NoTransit]]),
];

const fn bounded(name: &'static str, run: fn(), defects: &'static [&'static [Defect]]) -> Model {
    Model::new(name, run, defects).bounds([Some(2), Some(2)], [Some(4), Some(3)])
}

/// Where the pages go: to another table of their arena, or to another arena.
const NEAR: u64 = 2;
const FAR: u64 = quire_mm::page::ARENA_PAGES as u64;

/// What a page is when a script begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    /// In a frame, of which a child had a reference: a store makes it writable again.
    Frame,
    /// Nowhere, and there is no table.
    Absent,
    /// Swapped, its content still in memory.
    Cached,
    /// Swapped, its content on the disk only.
    Written,
    /// An object's, seen through a shared mapping.
    Object,
    /// In a frame, hidden by a protection that has been lifted.
    Hidden,
}

impl Start {
    fn world(self, other: Start) -> World {
        let swaps = |s| matches!(s, Start::Cached | Start::Written);
        if swaps(self) || swaps(other) { World::swapping(36, 3) } else { World::new(32) }
    }

    /// Maps a page that is what this says, and holds `v` in its first word, or 0 if it is nowhere. Returns what it holds.
    fn make(self, w: &World, s: Scene, page: u64, v: u64) -> u64 {
        if self == Start::Object {
            let object = w.memory().new_object(4096, 4096, &[]).expect("a node");
            let backing = Backing::Object { object, offset: 0, shared: true };
            assert!((*s).map(Place::Fixed(Page(page)), 1, RW, &backing, Flags::empty()).is_ok());
        } else {
            s.map(page, 1, RW);
        }
        if self == Start::Absent {
            return 0;
        }
        on(0, || assert!(s.write(page, 0, v).is_ok()));
        match self {
            Start::Frame => on(0, || s.fork().close()),
            Start::Cached | Start::Written => out(w, s, page, self == Start::Written),
            Start::Hidden => on(0, || {
                s.protect(page, 1, NONE);
                s.protect(page, 1, RW);
            }),
            Start::Absent | Start::Object => {}
        }
        v
    }
}

fn go(s: Scene, from: u64, to: u64, keep: bool) {
    assert_eq!(s.remap(Scene::range(from, 1), 1, Remap::Fixed(Page(to)), keep), Ok(Page(to)));
}

/// CPU 1 has a translation to the source; CPU 2 sees the page at the destination and says so.
fn source(start: Start, to: u64, keep: bool) {
    let w = start.world(start);
    let s = w.space();
    on(0, || s.enter());
    start.make(&w, s, 0, 0);
    on(2, || {
        s.enter();
        // Joined, with a table at the destination.
        s.map(to, 2, RW);
        assert!(s.read(to + 1, 0).is_ok());
        s.unmap(to, 1);
    });
    on(1, || {
        s.enter();
        assert!(s.write(0, 0, 1).is_ok());
    });
    let seen = flag();
    let say = seen.clone();
    let x = spawn(&w, 1, move || {
        let moved = seen.load(Acquire);
        let wrote = s.poke(0, 0, 2);
        assert!(!wrote || moved == 0, "a store through the source after the page was seen at the destination");
        wrote
    });
    let y = spawn(&w, 2, move || {
        if s.peek(to, 0).is_some() {
            say.store(1, Release);
        }
    });
    script(&w, || go(s, 0, to, keep));
    let (wrote, _) = (x.join().unwrap_or(false), y.join());
    on(2, || {
        assert_eq!(s.read(to, 0), Ok(if wrote { 2 } else { 1 }), "a store was lost");
        if keep && start != Start::Object {
            assert_eq!(s.read(0, 0), Ok(0), "the source was not left empty");
        }
    });
    w.end(&[s]);
}

/// The destination is mapped: CPU 1 reads it meanwhile.
fn destination(start: Start, to: u64, there: Start) {
    let w = start.world(there);
    let s = w.space();
    on(0, || s.enter());
    let new = start.make(&w, s, 0, 7);
    let old = there.make(&w, s, to, 5);
    on(1, || {
        s.enter();
        if there == Start::Frame {
            assert_eq!(s.read(to, 0), Ok(old));
        }
    });
    let t = spawn(&w, 1, move || {
        let first = s.read(to, 0);
        let second = s.read(to, 0);
        assert!(first == Ok(old) || first == Ok(new), "the destination was {first:?}");
        assert!(second == Ok(new) || second == first, "new before old");
    });
    script(&w, || go(s, 0, to, false));
    let _ = t.join();
    w.end(&[s]);
}

/// Faults at the source and at the destination meet the move of a page. `tables`: the destination's are there.
fn fault(start: Start, to: u64, keep: bool, tables: bool) {
    let w = start.world(start);
    let s = w.space();
    on(0, || s.enter());
    let before = start.make(&w, s, 0, 7);
    on(1, || s.enter());
    if tables {
        s.map(to + 1, 1, RW);
        on(1, || assert!(s.read(to + 1, 0).is_ok()));
    }
    let t = spawn(&w, 1, move || (s.write(0, 0, 8).is_ok(), s.write(to, 1, 9).is_ok()));
    script(&w, || go(s, 0, to, keep));
    let (old, new) = t.join().unwrap_or((false, false));
    on(0, || {
        // A store to a source that stays mapped is before the move, or after it.
        let moved = s.read(to, 0).expect("a page that moved");
        let left = if keep && start != Start::Object { s.read(0, 0).expect("a page of the source") } else { 0 };
        assert!(!keep || old, "a source that stays mapped was refused");
        assert_eq!(
            (moved, left),
            if !old {
                (before, 0)
            } else if left == 0 {
                (8, 0)
            } else {
                (before, 8)
            },
            "a store to the source was lost"
        );
        assert_eq!(s.read(to, 1), Ok(if new { 9 } else { 0 }), "a store to the destination was lost");
    });
    w.end(&[s]);
}
