//! Pages of private memory on their way to the swap area and back: faults, stores and evictions of one page.
//!
//! *Invariant*: no store is lost, nobody sees another page's content, every slot and frame is counted right in the end.
//! *Races*: 1, 22, 23, 31, 33, 35, 36, 54. *Bounds*: one page in one or two spaces, one slot (three for links), two CPUs, one scan.

use crate::area::pump;
use crate::defects::Defect::*;
use crate::model::Model;
use crate::world::{RW, Scene, World, on, script, spawn};

pub const MODELS: &[Model] = &[
    Model::new("swap-two", two, &[&[RestoreBlind]]).bounds([Some(2); 2], [Some(3); 2]),
    Model::new("swap-two-cached", two_cached, &[&[RestoreBlind]]).bounds([Some(2); 2], [Some(3); 2]),
    Model::new("swap-evict", evict, &[&[EvictNoAnswer]]).bounds([Some(2); 2], [Some(3); 2]),
    Model::new("swap-clean", clean, &[&[KeepLink], &[EvictBlind]]).bounds([Some(2); 2], [Some(3); 2]),
    Model::new("swap-slot", slot, &[&[RestoreBlind]]).bounds([Some(2); 2], [Some(2); 2]),
    Model::new("swap-share", share, &[&[ReuseShared]]).bounds([Some(2); 2], [Some(3); 2]),
];

/// A space with one page at 0 that says `v`, evicted; `cpus` are in the space. `written`: it is on the disk only.
pub fn evicted(w: &World, cpus: std::ops::Range<usize>, v: u64, written: bool) -> Scene {
    let s = w.space();
    s.map(0, 1, RW);
    on(cpus.start, || {
        s.enter();
        assert!(s.write(0, 0, v).is_ok());
    });
    for cpu in cpus.skip(1) {
        on(cpu, || {
            s.enter();
            assert_eq!(s.read(0, 0), Ok(v));
        });
    }
    out(w, s, 0, written);
    s
}

/// CPU 2 evicts a page.
pub fn out(w: &World, s: Scene, page: u64, written: bool) {
    let area = w.area();
    on(2, || {
        assert_eq!(s.page_out(Scene::range(page, 1)).pages, 1);
        if written {
            pump(area);
        }
    });
}

/// Two CPUs store to different words of a page that is on the disk.
fn two() {
    stores(true);
}

/// The same, the page being in the swap cache.
fn two_cached() {
    stores(false);
}

fn stores(written: bool) {
    let w = World::swapping(30, 2);
    let s = evicted(&w, 0..2, 5, written);
    let t = spawn(&w, 1, move || assert!(s.write(0, 1, 2).is_ok()));
    script(&w, || assert!(s.write(0, 0, 1).is_ok()));
    let _ = t.join();
    on(0, || assert_eq!((s.read(0, 0), s.read(0, 1)), (Ok(1), Ok(2)), "a store was lost"));
    w.end(&[s]);
}

/// CPU 1 stores twice, through its translation or through faults, while CPU 0 evicts the page and writes it out.
fn evict() {
    let w = World::swapping(30, 2);
    let s = w.space();
    s.map(0, 1, RW);
    on(1, || {
        s.enter();
        assert!(s.write(0, 0, 0).is_ok());
    });
    let t = spawn(&w, 1, move || {
        assert!(s.write(0, 0, 1).is_ok());
        assert!(s.write(0, 0, 2).is_ok());
    });
    let area = w.area();
    script(&w, || {
        s.page_out(Scene::range(0, 1));
        pump(area);
    });
    let _ = t.join();
    on(1, || assert_eq!(s.read(0, 0), Ok(2), "a store was lost"));
    w.end(&[s]);
}

/// A page that was read back is linked to its slot; CPU 1 stores to it while CPU 0 drops it without a write.
fn clean() {
    let w = World::swapping(30, 4);
    let s = evicted(&w, 1..2, 5, true);
    on(1, || assert_eq!(s.read(0, 0), Ok(5)));
    let t = spawn(&w, 1, move || assert!(s.write(0, 0, 6).is_ok()));
    let area = w.area();
    script(&w, || {
        s.page_out(Scene::range(0, 1));
        pump(area);
    });
    let _ = t.join();
    on(1, || assert_eq!(s.read(0, 0), Ok(6), "a store was lost"));
    w.end(&[s]);
}

/// One slot. Two CPUs read the page back; then one of them sends a stranger's page to the slot.
fn slot() {
    let w = World::swapping(30, 2);
    let stranger = w.space();
    stranger.map(0, 1, RW);
    on(2, || {
        stranger.enter();
        assert!(stranger.write(0, 0, 9).is_ok());
        stranger.leave();
    });
    let s = evicted(&w, 0..2, 5, true);
    let area = w.area();
    let t = spawn(&w, 1, move || {
        assert_eq!(s.read(0, 0), Ok(5), "foreign content");
        stranger.page_out(Scene::range(0, 1));
        pump(area);
    });
    script(&w, || assert_eq!(s.read(0, 0), Ok(5), "foreign content"));
    let _ = t.join();
    on(2, || {
        stranger.enter();
        assert_eq!(stranger.read(0, 0), Ok(9), "foreign content");
    });
    w.end(&[s, stranger]);
}

/// Parent and child name one slot, and both store.
fn share() {
    let w = World::swapping(34, 2);
    let s = evicted(&w, 0..1, 5, true);
    let child = on(0, || s.fork());
    on(1, || child.enter());
    let t = spawn(&w, 1, move || {
        assert!(child.write(0, 0, 2).is_ok());
        assert_eq!((child.read(0, 0), child.read(0, 1)), (Ok(2), Ok(0)), "the child sees its parent's store");
    });
    script(&w, || {
        assert!(s.write(0, 1, 1).is_ok());
        assert_eq!((s.read(0, 0), s.read(0, 1)), (Ok(5), Ok(1)), "the parent sees its child's store");
    });
    let _ = t.join();
    on(0, || assert_eq!(s.read(0, 0), Ok(5), "the parent sees its child's store"));
    w.end(&[s, child]);
}
