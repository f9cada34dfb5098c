//! Pages that leave their object for good, against those who come to show them.
//!
//! *Invariant*: when a file has become shorter, or has got a hole, no mapping shows a page of before; a copy that somebody stored to
//! is lost only with the end of the file; no child keeps what its parent has lost.
//! *Bounds*: one page that goes, two CPUs, one fault or one fork.

use crate::defects::Defect::*;
use crate::model::Model;
use crate::world::{RW, World, on, script, spawn};
use quire_mm::{Backing, Fault, Flags, ObjectRef, Page, Place, Space};

pub const MODELS: &[Model] = &[
    Model::new("cut-fault", fault, &[&[EmptyZero]]),
    Model::new("cut-copy", copy, &[&[CopyTaken]]),
    Model::new("cut-fork", fork, &[&[ReadyLate]]),
];

const SIZE: u64 = 4096;

/// Maps `pages` pages of an object at `at`.
fn show(s: &crate::world::Scene, object: &ObjectRef, at: u64, pages: u64, shared: bool) {
    let backing = Backing::Object { object: object.clone(), offset: 0, shared };
    assert!(Space::map(s, Place::Fixed(Page(at)), pages, RW, &backing, Flags::empty()).is_ok());
}

/// A file of two pages loses the second one, while another CPU stores there; then it gets it again.
fn fault() {
    let w = World::new(26);
    let (m, s) = (w.memory(), w.space());
    let object = m.new_object(2 * SIZE, 2 * SIZE, &[]).expect("a node");
    show(&s, &object, 0, 2, true);
    for cpu in 0..2 {
        on(cpu, || s.enter());
    }
    on(1, || assert!(s.write(0, 0, 3).is_ok()));
    let t = spawn(&w, 1, move || s.write(1, 0, 5));
    script(&w, || {
        let cut = m.set_object_len(&object, SIZE).expect("shorter");
        s.cut(&cut);
    });
    let _ = t.join();
    on(1, || assert_eq!(s.peek(1, 0), None, "a page behind the end"));
    on(0, || {
        assert_eq!(s.read(1, 0), Err(Fault::Beyond));
        assert!(m.set_object_len(&object, 2 * SIZE).is_ok_and(|cut| cut.is_empty()));
        assert_eq!((s.read(0, 0), s.read(1, 0)), (Ok(3), Ok(0)), "what was cut off came back");
    });
    drop(object);
    w.end(&[s]);
}

/// A hole comes where a private mapping shows the page, while another CPU stores to its copy of it. Who makes the hole does not run in
/// the space, so he is not asked for an answer in the middle of it.
fn copy() {
    let w = World::new(28);
    let (m, s) = (w.memory(), w.space());
    let object = m.new_object(SIZE, SIZE, &[]).expect("a node");
    show(&s, &object, 0, 1, true);
    show(&s, &object, 2, 1, false);
    on(1, || {
        s.enter();
        assert!(s.write(0, 0, 7).is_ok());
        assert_eq!(s.read(2, 0), Ok(7));
    });
    let t = spawn(&w, 1, move || assert!(s.write(2, 1, 8).is_ok()));
    script(&w, || {
        let cut = m.punch_object(&object, 0, SIZE).expect("a hole");
        s.cut(&cut);
    });
    let _ = t.join();
    on(1, || {
        assert_eq!(s.read(2, 1), Ok(8), "a store to a private copy was lost");
        assert_eq!(s.read(0, 0), Ok(0), "the page that went is still shown");
    });
    drop(object);
    w.end(&[s]);
}

/// A file becomes empty while another CPU forks a process that has a copy of its page. Nobody runs there, so that no answers put what
/// the two do into an order.
fn fork() {
    let w = World::new(36);
    let (m, s) = (w.memory(), w.space());
    let object = m.new_object(SIZE, SIZE, &[]).expect("a node");
    show(&s, &object, 0, 1, false);
    let child = crate::world::Scene::holding(Space::for_copy(m));
    on(0, || {
        s.enter();
        assert!(s.write(0, 0, 7).is_ok());
        s.leave();
    });
    let t = spawn(&w, 1, move || assert!(s.fork_into(&child).is_ok()));
    script(&w, || {
        let cut = m.set_object_len(&object, 0).expect("shorter");
        // In the order of their making.
        s.cut(&cut);
        child.cut(&cut);
    });
    let _ = t.join();
    on(0, || {
        assert!(!s.is_resident(Page(0)), "a page behind the end");
        assert!(!child.is_resident(Page(0)), "a child has a page behind the end");
    });
    drop(object);
    w.end(&[s, child]);
}
