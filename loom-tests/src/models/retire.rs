//! Tables that an unmap retires, against faults inside them, the hardware's walk, and software that looks from elsewhere.
//!
//! *Invariant*: a page in a retired table is found and freed once; nobody walks a freed table.
//! *Races*: 7, 19, 21, 32. *Bounds*: one table of two pages, two CPUs, one unmap.

use crate::defects::Defect::*;
use crate::model::Model;
use crate::world::{RW, Scene, World, on, script, spawn};
use quire_mm::Page;

pub const MODELS: &[Model] = &[
    Model::new("retire-fault", fault, &[&[NoSeal]]).collecting(),
    Model::new("retire-look", look, &[&[NoGrace], &[PinNoFence], &[AdvanceEarly]]).collecting(),
    Model::new("discard", discard, &[&[FreeBeforeAnswer], &[AnswerEarly]]),
    Model::new("discard-joining", discard_joining, &[&[DiscardUnsealed]]),
    Model::new("retire-joining", retire_joining, &[&[AloneTooEarly]]).collecting(),
    Model::new("retire-arena", arena, &[&[FreeBeforeAnswer]]).collecting(),
];

/// A fault in the table, then the hardware's walk through what it has cached.
fn fault() {
    let w = World::new(26);
    let s = w.space();
    s.map(0, 2, RW);
    for cpu in 0..2 {
        on(cpu, || {
            s.enter();
            assert!(s.read(1, 0).is_ok());
        });
    }
    let t = spawn(&w, 1, move || {
        let _ = s.write(0, 0, 1);
        s.poke(0, 0, 2);
    });
    script(&w, || s.unmap(0, 2));
    let _ = t.join();
    w.end(&[s]);
}

/// A CPU outside of the space looks whether a page is in memory.
fn look() {
    let w = World::new(26);
    let s = w.space();
    s.map(0, 2, RW);
    on(0, || {
        s.enter();
        assert!(s.write(1, 0, 1).is_ok());
    });
    let t = spawn(&w, 1, move || {
        let _ = s.is_resident(Page(1));
    });
    script(&w, || s.unmap(0, 2));
    let _ = t.join();
    w.end(&[s]);
}

/// All of an arena goes while another CPU reads and writes in it through what it has cached.
fn arena() {
    let w = World::new(26);
    let s = w.space();
    s.map(0, 4, RW);
    on(0, || s.enter());
    on(1, || {
        s.enter();
        assert!(s.write(0, 0, 1).is_ok());
    });
    let t = spawn(&w, 1, move || {
        s.peek(0, 0);
        let _ = s.write(2, 0, 1);
    });
    script(&w, || s.unmap(0, 4));
    let _ = t.join();
    w.end(&[s]);
}

/// A table's pages are discarded, their segment stays: a store comes before or after as a whole.
fn discard() {
    let w = World::new(26);
    let s = w.space();
    s.map(0, 2, RW);
    for cpu in 0..2 {
        on(cpu, || {
            s.enter();
            assert!(s.write(0, 0, 1).is_ok());
        });
    }
    let t = spawn(&w, 1, move || {
        assert!(s.write(0, 0, 2).is_ok());
        let v = s.read(0, 0);
        assert!(v == Ok(2) || v == Ok(0), "a discarded page came back: {v:?}");
    });
    script(&w, || assert!((*s).discard(Scene::range(0, 2)).is_ok()));
    let _ = t.join();
    w.end(&[s]);
}

/// A scene in which CPU 0 is the only one in the arena, and CPU 1, active in the space, joins.
fn one_in_the_arena() -> (World, Scene) {
    let w = World::new(26);
    let s = w.space();
    s.map(0, 2, RW);
    on(1, || s.enter());
    on(0, || {
        s.enter();
        assert!(s.write(1, 0, 1).is_ok());
    });
    (w, s)
}

/// The segment stays, so that CPU 1 may be about to install a page in the table that goes.
fn discard_joining() {
    let (w, s) = one_in_the_arena();
    let t = spawn(&w, 1, move || {
        assert!(s.write(0, 0, 2).is_ok());
        let v = s.read(0, 0);
        assert!(v == Ok(2) || v == Ok(0), "a discarded page came back: {v:?}");
    });
    script(&w, || assert!((*s).discard(Scene::range(0, 2)).is_ok()));
    let _ = t.join();
    w.end(&[s]);
}

/// The segment goes: who joins after the publish finds none.
fn retire_joining() {
    let (w, s) = one_in_the_arena();
    let t = spawn(&w, 1, move || {
        let _ = s.write(0, 0, 1);
        s.poke(0, 0, 2);
    });
    script(&w, || s.unmap(0, 2));
    let _ = t.join();
    w.end(&[s]);
}
