//! A move against those who still use its source, and those who already use its destination.
//!
//! *Invariant*: nobody stores through the source once somebody has seen the page at the destination; readers of a live destination
//! see the old page or the new one, never nothing; no store is lost.
//! *Races*: 6, 26. *Bounds*: one page, two or three CPUs, one move.

use crate::runner::Model;
use crate::world::{RW, Scene, World, flag, on, script, spawn};
use quire_mm::sync::Mutant::*;
use quire_mm::sync::Ordering::*;
use quire_mm::{Page, Remap};

pub const MODELS: &[Model] = &[
    Model::new("move-source", source, &[&[MoveNoFlush]]),
    Model::new("move-destination", destination, &[&[NoTransit]]).bounds([Some(3), Some(2)], [Some(4), Some(3)]),
    Model::new("move-fault", fault, &[&[NoTransit]]).bounds([Some(3), Some(2)], [Some(4), Some(3)]),
];

fn go(s: Scene, from: u64, to: u64) {
    assert_eq!(s.remap(Scene::range(from, 1), 1, Remap::Fixed(Page(to)), false), Ok(Page(to)));
}

/// CPU 1 has a translation to the source; CPU 2 sees the page at the destination and says so.
fn source() {
    let w = World::new(28);
    let s = w.space();
    s.map(0, 1, RW);
    on(0, || s.enter());
    on(2, || {
        s.enter();
        // Joined, with a table at the destination.
        s.map(2, 2, RW);
        assert!(s.read(3, 0).is_ok());
        s.unmap(2, 1);
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
        if s.peek(2, 0).is_some() {
            say.store(1, Release);
        }
    });
    script(&w, || go(s, 0, 2));
    let (wrote, _) = (x.join().unwrap_or(false), y.join());
    on(2, || assert_eq!(s.read(2, 0), Ok(if wrote { 2 } else { 1 }), "a store was lost"));
    w.end(&[s]);
}

/// The destination is mapped: CPU 1 reads it meanwhile.
fn destination() {
    let w = World::new(28);
    let s = w.space();
    s.map(0, 1, RW);
    s.map(2, 1, RW);
    on(0, || {
        s.enter();
        assert!(s.write(0, 0, 7).is_ok());
        assert!(s.write(2, 0, 5).is_ok());
    });
    on(1, || {
        s.enter();
        assert_eq!(s.read(2, 0), Ok(5));
    });
    let t = spawn(&w, 1, move || {
        let first = s.read(2, 0);
        let second = s.read(2, 0);
        assert!(first == Ok(5) || first == Ok(7), "the destination was {first:?}");
        assert!(second == Ok(7) || second == first, "new before old");
    });
    script(&w, || go(s, 0, 2));
    let _ = t.join();
    w.end(&[s]);
}

/// A fault at the source meets the move of its page.
fn fault() {
    let w = World::new(28);
    let s = w.space();
    s.map(0, 1, RW);
    s.map(3, 1, RW);
    on(0, || {
        s.enter();
        assert!(s.write(0, 0, 7).is_ok());
        s.fork().close();
    });
    on(1, || {
        s.enter();
        assert!(s.read(3, 0).is_ok());
    });
    let t = spawn(&w, 1, move || (s.write(0, 0, 8).is_ok(), s.write(2, 1, 9).is_ok()));
    script(&w, || go(s, 0, 2));
    let (old, new) = t.join().unwrap_or((false, false));
    on(0, || {
        assert_eq!(s.read(2, 0), Ok(if old { 8 } else { 7 }), "a store to the source was lost");
        assert_eq!(s.read(2, 1), Ok(if new { 9 } else { 0 }), "a store to the destination was lost");
    });
    w.end(&[s]);
}
