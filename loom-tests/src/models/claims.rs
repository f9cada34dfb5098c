//! Range claims: alone, and what they keep edits from doing to each other.
//!
//! *Invariant*: one holder of a page at a time, and each sees what the one before did; nobody waits for ever.
//! *Races*: 42, 43. *Bounds*: three slots, two or three claimants of one or two ranges.

use crate::defects::Defect::*;
use crate::model::Model;
use crate::world::{RW, World, on, script, spawn};
use loom::cell::UnsafeCell;
use quire_mm::probe::ClaimsProbe;
use quire_mm::{Backing, Flags, Page, Place};
use std::rc::Rc;

pub const MODELS: &[Model] = &[
    Model::new("claims-two", two, &[&[NoChoosing], &[NoClaim]]),
    Model::new("claims-pairs", pairs, &[&[NoClaim]]),
    Model::new("claims-mixed", mixed, &[&[NoChoosing], &[NoClaim]]),
    Model::new("claims-three", three, &[&[NoChoosing]]).bounds([Some(1), Some(2)], [Some(2), Some(3)]),
    Model::new("claims-sweep", sweep, &[&[NoClaim]]),
    Model::new("hole", hole, &[&[HoleOnce]]),
];

struct Pages {
    claims: ClaimsProbe,
    pages: [UnsafeCell<u32>; 3],
}

/// Holds ranges and uses their pages as if nobody else did.
fn hold(w: &World, p: &Pages, ranges: &[(u32, u32)]) {
    let claim = match ranges {
        &[(lo, hi)] => p.claims.acquire_one(w.memory(), lo, hi),
        ranges => p.claims.acquire(w.memory(), ranges),
    };
    for &(lo, hi) in ranges {
        for page in lo..hi {
            // SAFETY: loom fails the model when two threads are here at once, or without an order between them.
            p.pages[page as usize].with_mut(|v| unsafe { *v += 1 });
        }
    }
    drop(claim);
}

fn run(all: &[&'static [(u32, u32)]]) {
    let w = Rc::new(World::bare(8));
    let p = Rc::new(Pages {
        claims: ClaimsProbe::new(),
        pages: [UnsafeCell::new(0), UnsafeCell::new(0), UnsafeCell::new(0)],
    });
    let threads: Vec<_> = all[1..]
        .iter()
        .enumerate()
        .map(|(i, &ranges)| {
            let (v, q) = (w.clone(), p.clone());
            spawn(&w, i + 1, move || hold(&v, &q, ranges))
        })
        .collect();
    script(&w, || hold(&w, &p, all[0]));
    threads.into_iter().for_each(|t| drop(t.join()));
}

fn two() {
    run(&[&[(0, 2)], &[(1, 3)]]);
}

/// More slots wanted than there are, in opposite orders.
fn pairs() {
    run(&[&[(0, 1), (2, 3)], &[(2, 3), (0, 1)]]);
}

/// Both ways to claim meet.
fn mixed() {
    run(&[&[(0, 1), (2, 3)], &[(0, 2)]]);
}

fn three() {
    run(&[&[(0, 1)], &[(0, 1)], &[(0, 2)]]);
}

/// An unmap, and a mapping at the same address that is used at once: the unmap's sweep must not reach it.
fn sweep() {
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
        let place = Place::FixedNoReplace(Page(0));
        if (*s).map(place, 1, RW, &Backing::Anonymous, Flags::empty()).is_ok() {
            assert!(s.write(0, 0, 1).is_ok());
            assert_eq!(s.read(0, 0), Ok(1), "a new mapping was swept by an old unmap");
        }
    });
    script(&w, || s.unmap(0, 1));
    let _ = t.join();
    w.end(&[s]);
}

/// Two mappings without a hint find the same hole.
fn hole() {
    let w = World::new(24);
    let s = w.space();
    let find = move || (*s).map(Place::Anywhere, 1, RW, &Backing::Anonymous, Flags::empty());
    let t = spawn(&w, 1, find);
    let a = script(&w, find);
    let b = t.join().expect("a result");
    assert!(a.is_ok() && a != b, "two mappings at one address");
    w.end(&[s]);
}
