//! MAP_FIXED over a live mapping.
//!
//! *Invariant*: who has written into the new mapping reads it back; an object is never written through a private mapping.
//! *Races*: 26. *Bounds*: one page, two CPUs, one edit (`fixed-withdrawn`: two), one store.

use crate::defects::Defect::*;
use crate::model::Model;
use crate::world::{NONE, R, RW, Scene, World, on, script, spawn};
use quire_mm::{Backing, Flags, Page, Place};

pub const MODELS: &[Model] = &[
    Model::new("fixed", fixed, &[&[NoTransit]]),
    Model::new("fixed-shared", fixed_shared, &[&[NoTransit]]),
    Model::new("fixed-joining", fixed_joining, &[&[AloneTooEarly]]),
    Model::new("fixed-reserved", fixed_reserved, &[&[PublishBlind]]),
    Model::new("fixed-withdrawn", fixed_withdrawn, &[&[IdleUnseen]]).bounds([Some(2), Some(2)], [Some(3), Some(3)]),
];

fn enter(s: Scene) {
    for cpu in 0..2 {
        on(cpu, || {
            s.enter();
            assert!(s.read(1, 0).is_ok());
        });
    }
}

/// The old mapping is read-only, the new one writable: a store that succeeds is in the new one.
fn fixed() {
    let w = World::new(24);
    let s = w.space();
    s.map(0, 2, R);
    enter(s);
    let t = spawn(&w, 1, move || s.write(0, 0, 1).is_ok());
    script(&w, || s.map(0, 1, RW));
    if t.join().is_ok_and(|wrote| wrote) {
        on(0, || assert_eq!(s.read(0, 0), Ok(1), "a store into the new mapping was erased"));
    }
    w.end(&[s]);
}

/// As `fixed`, the old mapping being a read-only view of an object whose page is there.
fn fixed_shared() {
    let w = World::new(28);
    let s = w.space();
    let object = w.memory().new_object(4096, 4096, &[]).expect("a node");
    s.map(1, 1, R);
    let backing = Backing::Object { object: object.clone(), offset: 0, shared: true };
    assert!((*s).map(Place::Fixed(Page(0)), 1, R, &backing, Flags::empty()).is_ok());
    drop(backing);
    enter(s);
    on(1, || assert_eq!(s.read(0, 0), Ok(0)));
    let t = spawn(&w, 1, move || s.write(0, 0, 1).is_ok());
    script(&w, || s.map(0, 1, RW));
    let _ = t.join();
    let frame = w.memory().object_page(&object, 0).expect("the object's page");
    let data = w.memory().machine.data(frame, 0).load(quire_mm::sync::Ordering::Acquire);
    assert_eq!(data, 0, "an object was written through a private mapping");
    w.memory().drop_reference(frame);
    drop(object);
    w.end(&[s]);
}

/// The old mapping is writable, the new one read-only; CPU 1 is active, but has not been in the arena.
fn fixed_joining() {
    let w = World::new(24);
    let s = w.space();
    s.map(0, 2, RW);
    on(1, || s.enter());
    on(0, || {
        s.enter();
        assert!(s.read(1, 0).is_ok());
    });
    let t = spawn(&w, 1, move || s.write(0, 0, 1));
    script(&w, || s.map(0, 1, R));
    let _ = t.join();
    on(0, || {
        assert!(!s.poke(0, 0, 3), "a writable page in a read-only segment");
        assert_eq!(s.read(0, 0), Ok(0), "a page of the old mapping");
    });
    w.end(&[s]);
}

/// Pieces of a reservation, which grants nothing and holds nothing: each is one publish, without a mark and a sweep. A store between the two
/// that are mapped beside each other is kept, and none gets in before.
fn fixed_reserved() {
    let w = World::new(24);
    let s = w.space();
    s.map(0, 2, NONE);
    on(1, || s.enter());
    let t = spawn(&w, 1, move || {
        let wrote = s.write(0, 0, 1).is_ok();
        s.map(1, 1, RW);
        wrote
    });
    script(&w, || s.map(0, 1, RW));
    let wrote = t.join().expect("no panic");
    on(0, || {
        s.enter();
        assert_eq!(s.read(0, 0), Ok(wrote as u64), "a store into a piece of a reservation was erased");
        assert_eq!(s.read(1, 0), Ok(0), "a piece of a reservation is not mapped");
    });
    w.end(&[s]);
}

/// A page was there before the rights were taken away, and a store is under way: what is mapped over it begins with zeros.
fn fixed_withdrawn() {
    let w = World::new(28);
    let s = w.space();
    s.map(0, 2, RW);
    on(1, || {
        s.enter();
        assert!(s.write(1, 0, 9).is_ok());
    });
    let t = spawn(&w, 1, move || s.write(0, 0, 9).is_ok());
    script(&w, || {
        s.protect(0, 1, NONE);
        s.map(0, 1, R);
    });
    let _ = t.join();
    on(0, || {
        s.enter();
        assert_eq!(s.read(0, 0), Ok(0), "a page from before the reservation");
    });
    w.end(&[s]);
}
