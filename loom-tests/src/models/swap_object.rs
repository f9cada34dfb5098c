//! Pages of shared objects on their way to the swap area and back.
//!
//! *Invariant*: one page for all, with everybody's stores; no access after an unmap has returned.
//! *Races*: 37, 52, 53. *Bounds*: one page, one slot, two or three CPUs, one scan, one fault or unmap.

use crate::area::pump;
use crate::defects::Defect::*;
use crate::model::Model;
use crate::world::{RW, Scene, World, flag, on, script, spawn};
use quire_mm::sync::Ordering::*;
use quire_mm::{Backing, Flags, ObjectRef, Page, Place};

pub const MODELS: &[Model] = &[
    Model::new("object-evict", evict, &[&[GiveUpBlind]]).bounds([Some(2); 2], [Some(3); 2]),
    Model::new("object-back", back, &[&[RestoreBlind]]).bounds([Some(2); 2], [Some(3); 2]),
    Model::new("object-unmap", unmap, &[&[ScannedNoFlush]]).bounds([Some(2); 2], [Some(3); 2]),
];

/// A space that maps an object of one page at 0, and again at 1.
fn scene(frames: usize) -> (World, Scene, ObjectRef) {
    let w = World::swapping(frames, 2);
    let s = w.space();
    let object = w.memory().new_object(4096, 4096, &[]).expect("a node");
    for page in 0..2 {
        let backing = Backing::Object { object: object.clone(), offset: 0, shared: true };
        assert!((*s).map(Place::Fixed(Page(page)), 1, RW, &backing, Flags::empty()).is_ok());
    }
    (w, s, object)
}

/// The object gives its page up while a fault maps it.
fn evict() {
    let (w, s, object) = scene(30);
    let m = w.memory();
    on(1, || {
        s.enter();
        assert!(s.write(0, 0, 5).is_ok());
        assert!((*s).discard(Scene::range(0, 1)).is_ok());
    });
    let area = w.area();
    let t = spawn(&w, 1, move || assert!(s.write(0, 1, 7).is_ok()));
    script(&w, || {
        m.evict_object(&object, 1, &mut 0);
        pump(area);
    });
    let _ = t.join();
    on(1, || assert_eq!((s.read(1, 0), s.read(1, 1)), (Ok(5), Ok(7)), "two pages for one"));
    drop(object);
    w.end(&[s]);
}

/// Two CPUs store to different words of a page that the object has given up.
fn back() {
    let (w, s, object) = scene(30);
    let m = w.memory();
    on(0, || {
        s.enter();
        assert!(s.write(0, 0, 5).is_ok());
        assert!((*s).discard(Scene::range(0, 1)).is_ok());
        assert_eq!(m.evict_object(&object, 1, &mut 0), 1);
    });
    on(1, || s.enter());
    let t = spawn(&w, 1, move || assert!(s.write(1, 1, 7).is_ok()));
    script(&w, || assert!(s.write(0, 0, 6).is_ok()));
    let _ = t.join();
    on(0, || assert_eq!((s.read(0, 0), s.read(0, 1)), (Ok(6), Ok(7)), "two pages for one"));
    drop(object);
    w.end(&[s]);
}

/// CPU 2 unmaps the page for reclaim, CPU 0 unmaps the segment and says so, CPU 1 stores through what it has cached.
fn unmap() {
    let (w, s, object) = scene(30);
    on(1, || {
        s.enter();
        assert!(s.write(0, 0, 1).is_ok());
    });
    on(0, || s.enter());
    let over = flag();
    let seen = over.clone();
    let user = spawn(&w, 1, move || {
        let over = seen.load(Acquire);
        let wrote = s.poke(0, 0, 2);
        assert!(over == 0 || !wrote, "a store after the unmap returned");
    });
    let scan = spawn(&w, 2, move || _ = s.page_out(Scene::range(0, 1)));
    script(&w, || {
        s.unmap(0, 1);
        over.store(1, Release);
    });
    let _ = (user.join(), scan.join());
    drop(object);
    w.end(&[s]);
}
