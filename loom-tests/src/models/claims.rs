//! Range claims: alone, and what they keep edits from doing to each other.
//!
//! *Invariant*: one holder of a page at a time, and each sees what the one before did; nobody waits for ever.
//! *Races*: 42, 43. *Bounds*: three slots, two or three claimants of one or two ranges.

use crate::defects::Defect::*;
use crate::model::Model;
use crate::world::{RW, World, flag, on, script, spawn};
use loom::cell::UnsafeCell;
use quire_mm::probe::ClaimsProbe;
use quire_mm::sync::Ordering::*;
use quire_mm::{Backing, Flags, Page, Place};
use std::rc::Rc;

pub const MODELS: &[Model] = &[
    Model::new("claims-two", two, &[&[NoChoosing], &[NoClaim]]),
    Model::new("claims-pairs", pairs, &[&[NoClaim]]),
    Model::new("claims-mixed", mixed, &[&[NoChoosing], &[NoClaim]]),
    Model::new("claims-three", three, &[&[NoChoosing]]).bounds([Some(1), Some(2)], [Some(2), Some(3)]),
    Model::new("claims-again", again, &[&[NoClaim]]),
    Model::new("claims-all", all, &[&[SomeSeats]]),
    Model::new("claims-wait", wait, &[&[WaitForNobody]]),
    Model::new("claims-sweep", sweep, &[&[NoClaim]]),
    Model::new("hole", hole, &[&[HoleOnce]]).bounds([Some(2), Some(3)], [Some(3), Some(4)]),
];

struct Pages {
    claims: ClaimsProbe,
    pages: [UnsafeCell<u32>; 3],
}

impl Pages {
    fn new() -> Pages {
        Pages { claims: ClaimsProbe::new(), pages: [UnsafeCell::new(0), UnsafeCell::new(0), UnsafeCell::new(0)] }
    }

    /// Uses a page as if nobody else did.
    fn touch(&self, page: u32) {
        // SAFETY: loom fails the model when two threads are here at once, or without an order between them.
        self.pages[page as usize].with_mut(|v| unsafe { *v += 1 });
    }
}

/// Holds ranges and uses their pages as if nobody else did.
fn hold(w: &World, p: &Pages, ranges: &[(u32, u32)]) {
    let claim = match ranges {
        &[(lo, hi)] => p.claims.acquire_one(w.memory(), lo, hi),
        ranges => p.claims.acquire(w.memory(), ranges),
    };
    for &(lo, hi) in ranges {
        (lo..hi).for_each(|page| p.touch(page));
    }
    drop(claim);
}

fn run(all: &[&'static [(u32, u32)]]) {
    let w = Rc::new(World::bare(8));
    let p = Rc::new(Pages::new());
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

/// One claim after another in the same seat: who has read the ticket of the first one must not go by the range of the second one.
fn again() {
    let w = Rc::new(World::bare(8));
    let p = Rc::new(Pages::new());
    let (v, q) = (w.clone(), p.clone());
    let t = spawn(&w, 1, move || hold(&v, &q, &[(0, 2)]));
    script(&w, || {
        hold(&w, &p, &[(0, 1)]);
        hold(&w, &p, &[(2, 3)]);
    });
    let _ = t.join();
}

/// All seats, beside a claim of one page and one of two.
fn all() {
    let w = Rc::new(World::bare(8));
    let p = Rc::new(Pages::new());
    let (v, q) = (w.clone(), p.clone());
    let t = spawn(&w, 1, move || {
        hold(&v, &q, &[(0, 1)]);
        hold(&v, &q, &[(0, 1), (2, 3)]);
    });
    script(&w, || {
        let claim = p.claims.all(w.memory());
        (0..3).for_each(|page| p.touch(page));
        drop(claim);
    });
    let _ = t.join();
}

/// Whoever waits for the claims of a page, and holds none, sees what those did who had theirs before.
fn wait() {
    let w = Rc::new(World::bare(8));
    let p = Rc::new(Pages::new());
    let begun = flag();
    let (v, q, told) = (w.clone(), p.clone(), begun.clone());
    let t = spawn(&w, 1, move || {
        let claim = q.claims.acquire_one(v.memory(), 0, 1);
        told.store(1, Release);
        q.touch(0);
        drop(claim);
    });
    script(&w, || {
        if begun.load(Acquire) != 0 {
            p.claims.wait_for(w.memory(), 0, 2);
            p.touch(0);
        }
    });
    let _ = t.join();
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
