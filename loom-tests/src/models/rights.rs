//! Rights that are decided under the claim: what may become writable, and what is closed to writers.
//!
//! *Invariant*: a view for reading is writable at no moment; what is closed to writers is mapped for writing by nobody.
//! *Bounds*: one page, two CPUs, one edit against one closing, or one mapping against one protect.

use crate::defects::Defect::*;
use crate::model::Model;
use crate::world::{R, RW, Scene, World, script, spawn};
use quire_mm::{Backing, EditError, Flags, ObjectRef, Page, Place, Prot, Space};

pub const MODELS: &[Model] = &[
    Model::new("protect-decides", decides, &[&[ProtectLookedBefore]]).bounds([Some(2), Some(3)], [Some(3); 2]),
    Model::new("close-map", map, &[&[WriteClosed], &[CloseBlind]]),
    Model::new("close-move", moved, &[&[CloseBlind]]).bounds([Some(1), Some(2)], [Some(3); 2]),
];

const SIZE: u64 = 4096;

fn show(s: &Scene, object: &ObjectRef, prot: Prot, flags: Flags) -> Result<Page, EditError> {
    let backing = Backing::Object { object: object.clone(), offset: 0, shared: true };
    Space::map(s, Place::Fixed(Page(0)), 1, prot, &backing, flags)
}

/// A view for reading comes into the place of private memory, while another CPU makes writable what is there.
fn decides() {
    let w = World::new(26);
    let (m, s) = (w.memory(), w.space());
    let object = m.new_object(SIZE, SIZE, &[]).expect("a node");
    s.map(0, 1, R);
    let t = spawn(&w, 1, move || {
        let wider = Space::protect(&s, Scene::range(0, 1), RW);
        assert!(matches!(wider, Ok(()) | Err(EditError::ReadOnly)), "{wider:?}");
    });
    script(&w, || assert!(show(&s, &object, R, Flags::READ_ONLY).is_ok()));
    let _ = t.join();
    let found = s.find(Page(0)).expect("a view");
    assert_eq!(found.prot, R, "a view for reading is writable");
    drop((found, object));
    w.end(&[s]);
}

/// An object is closed while a writable view of it comes: the one or the other.
fn map() {
    let w = World::new(26);
    let (m, s) = (w.memory(), w.space());
    let object = m.new_object(SIZE, SIZE, &[]).expect("a node");
    let o = object.clone();
    let t = spawn(&w, 1, move || show(&s, &o, RW, Flags::empty()).is_ok());
    let closed = script(&w, || m.close_object(&object, 0));
    let mapped = t.join().unwrap_or(false);
    assert!(closed != mapped, "closed: {closed}, mapped: {mapped}");
    drop(object);
    w.end(&[s]);
}

/// A writable view moves while the object is to be closed: it is a writer wherever it is.
fn moved() {
    let w = World::new(28);
    let (m, s) = (w.memory(), w.space());
    let object = m.new_object(SIZE, SIZE, &[]).expect("a node");
    assert!(show(&s, &object, RW, Flags::empty()).is_ok());
    let t = spawn(&w, 1, move || {
        let at = s.remap(Scene::range(0, 1), 1, quire_mm::Remap::Fixed(Page(2)), false);
        assert_eq!(at, Ok(Page(2)));
    });
    script(&w, || assert!(!m.close_object(&object, 0), "closed under a writable view"));
    let _ = t.join();
    drop(object);
    w.end(&[s]);
}
