//! A thread refused by a narrowing protect tells another one, which still has its old translation.
//!
//! *Invariant*: once a thread has been refused by an edit, nobody stores through a translation older than that edit.
//! *Races*: 47. *Bounds*: one page, three CPUs, one protect, one refused store.

use crate::defects::Defect::*;
use crate::model::Model;
use crate::world::{R, RW, World, flag, on, script, spawn};
use quire_mm::sync::Ordering::*;

pub const MODELS: &[Model] =
    &[Model::new("segv", segv, &[&[SignalAtOnce]]).bounds([Some(3), Some(2)], [Some(4), Some(3)])];

fn segv() {
    let w = World::new(24);
    let s = w.space();
    s.map(0, 1, RW);
    for cpu in 0..3 {
        on(cpu, || s.enter());
    }
    on(1, || assert!(s.write(0, 0, 1).is_ok()));
    let told = flag();
    let tell = told.clone();
    let x = spawn(&w, 1, move || {
        let refused = told.load(Acquire);
        assert!(
            !s.poke(0, 0, 2) || refused == 0,
            "a store through an old translation after another thread was refused"
        );
    });
    let y = spawn(&w, 2, move || {
        if s.write(0, 0, 3).is_err() {
            tell.store(1, Release);
        }
    });
    script(&w, || s.protect(0, 1, R));
    let _ = (x.join(), y.join());
    w.end(&[s]);
}
