//! Tables in which nothing is mapped any more: they go without a page that is mapped there meanwhile, and none is overlooked.
//!
//! *Invariant*: a table goes with nothing in it; at the end each has a reason (the audit). *Bounds*: two leaf spans of two
//! pages, of which the arena remembers one; two CPUs that have joined it, one or two edits each.

use crate::defects::Defect::*;
use crate::model::Model;
use crate::world::{RW, Scene, World, on, script, spawn};
use quire_mm::Page;

pub const MODELS: &[Model] = &[
    Model::new("bare-map", map, &[&[BareUnclaimed], &[BareOnce]]).bounds([Some(2), Some(3)], [Some(3); 2]),
    Model::new("bare-fault", fault, &[&[EmptyZero, NoSeal]]).bounds([Some(2); 2], [Some(3); 2]),
    Model::new("bare-look", look, &[&[NoGrace]]).collecting(),
    Model::new("bare-table", table, &[&[BareBeforeSweep]]).bounds([Some(2); 2], [Some(3); 2]),
];

/// Two CPUs that have joined an arena, in which they have used `pages`.
fn scene(pages: &[u64]) -> (World, Scene) {
    let w = World::new(28);
    let s = w.space();
    pages.iter().for_each(|&page| s.map(page, 1, RW));
    for cpu in 0..2 {
        on(cpu, || {
            s.enter();
            pages.iter().for_each(|&page| assert!(s.write(page, 0, 1).is_ok()));
        });
    }
    (w, s)
}

/// The first span is forgotten while something is mapped there.
fn map() {
    let (w, s) = scene(&[0, 2]);
    on(0, || s.unmap(0, 1));
    let t = spawn(&w, 1, move || {
        s.map(1, 1, RW);
        assert!(s.write(1, 0, 7).is_ok());
        assert_eq!(s.read(1, 0), Ok(7), "a page went with a table that was not bare");
    });
    script(&w, || s.unmap(2, 1));
    assert!(t.join().is_ok());
    on(1, || assert_eq!(s.read(1, 0), Ok(7), "a page went with a table that was not bare"));
    w.end(&[s]);
}

/// A fault is in the table that goes, with the segment that is unmapped before. No page is there whose unmapping would have to
/// wait for it.
fn fault() {
    let (w, s) = scene(&[0, 2]);
    on(0, || [0, 2].iter().for_each(|&page| assert!((*s).discard(Scene::range(page, 1)).is_ok())));
    let t = spawn(&w, 1, move || {
        let _ = s.write(0, 0, 2);
    });
    script(&w, || {
        s.unmap(0, 1);
        s.unmap(2, 1);
    });
    let _ = t.join();
    w.end(&[s]);
}

/// A CPU outside of the space is in the table that goes.
fn look() {
    let w = World::new(28);
    let s = w.space();
    on(0, || {
        s.enter();
        for page in [0, 2] {
            s.map(page, 1, RW);
            assert!(s.write(page, 0, 1).is_ok());
        }
        s.unmap(0, 1);
    });
    let t = spawn(&w, 1, move || {
        let _ = s.is_resident(Page(0));
    });
    script(&w, || s.unmap(2, 1));
    let _ = t.join();
    w.end(&[s]);
}

/// A fault makes the table that the unmapping of its page leaves bare.
fn table() {
    let (w, s) = scene(&[2]);
    s.map(0, 1, RW);
    let t = spawn(&w, 1, move || {
        let _ = s.write(0, 0, 2);
    });
    script(&w, || s.unmap(0, 1));
    let _ = t.join();
    w.end(&[s]);
}
