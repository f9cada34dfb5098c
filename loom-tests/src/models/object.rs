//! Pages of a shared object: made by two at once, and taken while the object gives them up.
//!
//! *Invariant*: one page for all, with everybody's stores; nobody is given a page that has left the object; nothing is lost.
//! *Races*: 21, 37, 52. *Bounds*: one or two pages, two CPUs, one fault or one change of length.

use crate::defects::Defect::*;
use crate::model::Model;
use crate::world::{RW, World, on, script, spawn};
use quire_mm::{Backing, Flags, Page, Place};

pub const MODELS: &[Model] =
    &[Model::new("object-make", make, &[&[InstallBlind]]), Model::new("object-cut", cut, &[&[ObjectOnce]])];

/// Two CPUs touch the two pages of a new object, the first one both.
fn make() {
    let w = World::new(30);
    let s = w.space();
    let object = w.memory().new_object(8192, 8192, &[]).expect("a node");
    let backing = Backing::Object { object: object.clone(), offset: 0, shared: true };
    assert!((*s).map(Place::Fixed(Page(0)), 2, RW, &backing, Flags::empty()).is_ok());
    drop(backing);
    for cpu in 0..2 {
        on(cpu, || s.enter());
    }
    let t = spawn(&w, 1, move || {
        assert!(s.write(0, 1, 2).is_ok());
    });
    script(&w, || {
        assert!(s.write(0, 0, 1).is_ok());
        assert!(s.write(1, 0, 3).is_ok());
    });
    let _ = t.join();
    on(0, || {
        assert_eq!((s.read(0, 0), s.read(0, 1)), (Ok(1), Ok(2)), "two pages for one");
        assert_eq!(s.read(1, 0), Ok(3));
    });
    drop(object);
    w.end(&[s]);
}

/// The object is cut to nothing and the frame goes to a stranger, while a fault asks for the page.
fn cut() {
    let w = World::new(24);
    let m = w.memory();
    let object = m.new_object(4096, 4096, &[]).expect("a node");
    let frame = m.object_page(&object, 0).expect("a frame");
    m.drop_reference(frame);
    let o = object.clone();
    let t = spawn(&w, 1, move || m.object_page(&o, 0).ok());
    let stranger = script(&w, || {
        assert!(m.set_object_len(&object, 0).is_ok_and(|cut| !cut.is_empty()));
        m.new_counted().expect("a frame")
    });
    if let Some(page) = t.join().unwrap_or(None) {
        assert!(page != stranger, "a stranger's frame was taken for the object's page");
        on(0, || m.drop_reference(page));
    }
    on(0, || m.drop_reference(stranger));
    drop(object);
    w.end(&[]);
}
