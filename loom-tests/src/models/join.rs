//! CPUs that come into a space, and into an arena, while an unmap asks who is there.
//!
//! *Invariant*: after the unmap has returned nobody uses the page; nobody walks a freed table.
//! *Races*: 8, 32, 38. *Bounds*: one page, two CPUs, one unmap.

use crate::defects::Defect::*;
use crate::model::Model;
use crate::world::{RW, Scene, World, flag, on, script, spawn};
use quire_mm::sync::Ordering::*;

pub const MODELS: &[Model] =
    &[Model::new("join", join, &[&[JoinNoFence]]), Model::new("active", active, &[&[ActiveLate], &[ActiveNoFence]])];

fn scene() -> (World, Scene) {
    let w = World::new(24);
    let s = w.space();
    s.map(0, 1, RW);
    on(0, || {
        s.enter();
        assert!(s.write(0, 0, 1).is_ok());
    });
    (w, s)
}

/// CPU 1 is active and faults in the arena for the first time.
fn join() {
    let (w, s) = scene();
    on(1, || s.enter());
    let returned = flag();
    let over = returned.clone();
    let t = spawn(&w, 1, move || {
        let _ = s.read(0, 0);
        let over = over.load(Acquire);
        let seen = s.peek(0, 0);
        assert!(over == 0 || seen.is_none(), "an access after the unmap returned");
    });
    script(&w, || {
        s.unmap(0, 1);
        returned.store(1, Release);
    });
    let _ = t.join();
    w.end(&[s]);
}

/// CPU 1 has joined, goes idle, and comes back.
fn active() {
    let (w, s) = scene();
    on(1, || {
        s.enter();
        assert_eq!(s.read(0, 0), Ok(1));
    });
    let returned = flag();
    let over = returned.clone();
    let t = spawn(&w, 1, move || {
        s.leave();
        s.enter();
        let over = over.load(Acquire);
        let seen = s.peek(0, 0);
        assert!(over == 0 || seen.is_none(), "an access after the unmap returned");
    });
    script(&w, || {
        s.unmap(0, 1);
        returned.store(1, Release);
    });
    let _ = t.join();
    w.end(&[s]);
}
