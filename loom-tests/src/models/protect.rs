//! A fault against a narrowing protect.
//!
//! *Invariant*: when the protect has returned, nobody has a right that it took away.
//! *Races*: 20, 40, 46. *Bounds*: one page, two CPUs, one fault, one protect.

use crate::defects::Defect::*;
use crate::model::Model;
use crate::world::{NONE, R, RW, Scene, World, flag, on, script, spawn};
use quire_mm::sync::Ordering::*;

pub const MODELS: &[Model] = &[
    Model::new("protect-reuse", reuse, &[&[NoParityFlip]]),
    Model::new("protect-widen", widen, &[&[NoParityFlip]]),
    Model::new("protect-twice", twice, &[&[NoParityFlip], &[FlipNoAnswer]]).bounds([Some(2); 2], [Some(3); 2]),
    Model::new("protect-hidden", hidden, &[&[NoParityFlip]]),
    Model::new("protect-copy", copy, &[&[NoParityFlip]]),
    Model::new("protect-joining", joining, &[&[AloneTooEarly]]),
];

/// CPU 1 stores and looks whether it still can after the protect of CPU 0 has returned.
fn race(w: World, s: Scene) {
    race_with(w, s, |s| s.protect(0, 1, R));
}

/// As `race`, with other edits, the last of which is such a protect.
fn race_with(w: World, s: Scene, edit: impl Fn(&Scene)) {
    let returned = flag();
    let seen = returned.clone();
    let t = spawn(&w, 1, move || {
        let _ = s.write(0, 0, 1);
        let over = seen.load(Acquire);
        let wrote = s.poke(0, 0, 2);
        assert!(over == 0 || !wrote, "a store after the protect returned");
    });
    script(&w, || {
        edit(&s);
        returned.store(1, Release);
    });
    let _ = t.join();
    on(0, || assert!(!s.poke(0, 0, 3), "a writable page in a read-only segment"));
    w.end(&[s]);
}

/// Copy-on-write, its frame not shared any more: the fault makes it writable in place.
fn reuse() {
    let w = World::new(28);
    let s = w.space();
    s.map(0, 2, RW);
    on(0, || {
        s.enter();
        assert!(s.write(0, 0, 9).is_ok());
        s.fork().close();
    });
    on(1, || {
        s.enter();
        assert!(s.read(1, 0).is_ok());
    });
    race(w, s);
}

/// Present and only readable in a segment that has become writable: the fault widens.
fn widen() {
    let (w, s) = readable();
    race(w, s);
}

/// As `widen`, but the right is taken, given and taken again: the second flip of the parity gives the first word back.
fn twice() {
    let (w, s) = readable();
    race_with(w, s, |s| {
        s.protect(0, 1, R);
        on(2, || s.protect(0, 1, RW));
        s.protect(0, 1, R);
    });
}

fn readable() -> (World, Scene) {
    let w = World::new(24);
    let s = w.space();
    s.map(0, 2, RW);
    for cpu in 0..2 {
        on(cpu, || {
            s.enter();
            assert!(s.write(cpu as u64, 0, 9).is_ok());
            assert!(s.read(0, 0).is_ok());
        });
    }
    s.protect(0, 1, R);
    // A CPU that is not in the space widens nothing ahead.
    on(2, || s.protect(0, 1, RW));
    (w, s)
}

/// The zero page: the fault copies.
fn copy() {
    let w = World::new(24);
    let s = w.space();
    s.map(0, 1, RW);
    // CPU 0 is active, but not in the arena: the fault finds itself alone there, and makes its copy writable at once.
    on(0, || s.enter());
    on(1, || {
        s.enter();
        assert!(s.read(0, 0).is_ok());
    });
    race(w, s);
}

/// Hidden by an earlier PROT_NONE, readable again in the list: the fault reveals while the next PROT_NONE comes.
fn hidden() {
    let w = World::new(24);
    let s = w.space();
    s.map(0, 2, RW);
    for cpu in 0..2 {
        on(cpu, || {
            s.enter();
            assert!(s.write(cpu as u64, 0, 9).is_ok());
        });
    }
    s.protect(0, 1, NONE);
    s.protect(0, 1, R);
    let t = spawn(&w, 1, move || {
        let _ = s.read(0, 0);
    });
    script(&w, || s.protect(0, 1, NONE));
    let _ = t.join();
    on(0, || assert_eq!(s.peek(0, 0), None, "a readable page in a segment that grants nothing"));
    w.end(&[s]);
}

/// As `widen`, while CPU 1 is active but has not been in the arena: CPU 0 is alone there, or is not, as it finds after the publish.
fn joining() {
    let w = World::new(24);
    let s = w.space();
    s.map(0, 2, RW);
    on(1, || s.enter());
    on(0, || {
        s.enter();
        assert!(s.write(0, 0, 9).is_ok());
    });
    s.protect(0, 1, R);
    on(2, || s.protect(0, 1, RW));
    race(w, s);
}
