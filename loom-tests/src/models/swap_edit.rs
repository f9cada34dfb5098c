//! Evictions and swap-ins against edits: unmap, protect, fork.
//!
//! *Invariant*: no access after the edit has returned; no right that it took away; a child is frozen and has its parent's pages;
//! every slot and frame is counted right in the end. *Races*: 24, 27, 34, 35, 50, 57. *Bounds*: one or two pages, two or three CPUs,
//! one scan or fault, one edit.

use super::swap::{evicted, out};
use crate::area::pump;
use crate::defects::Defect::*;
use crate::model::Model;
use crate::world::{NONE, RW, Scene, World, flag, on, script, spawn};
use quire_mm::sync::Ordering::*;
use quire_mm::{Page, Remap};

pub const MODELS: &[Model] = &[
    Model::new("swap-unmap", unmap, &[&[ScannedNoFlush, SweepNoAnswer]]).bounds([Some(2); 2], [Some(3); 2]),
    Model::new("swap-unmap-alone", unmap_alone, &[&[AloneBesideScan]]).bounds([Some(2); 2], [Some(3); 2]),
    Model::new("swap-protect", protect, &[&[NoParityFlip]]).bounds([Some(2); 2], [Some(3); 2]),
    Model::new("swap-fork", fork, &[&[HoldAfterShare], &[NoParityFlip]]).bounds([Some(2); 2], [Some(2); 2]),
    Model::new("swap-fork-store", fork_store, &[&[EvictNoAnswer]]).bounds([Some(1), Some(1)], [Some(2); 2]),
    Model::new("swap-move", there_and_back, &[&[NoScanWait]]).bounds([Some(2); 2], [Some(2); 2]),
    Model::new("swap-move-narrow", narrow_between, &[&[MoveNoAnswer]]).bounds([Some(2); 2], [Some(3); 2]),
    Model::new("swap-unmap-move", another_life, &[&[SweepNoAnswer]]).bounds([Some(2); 2], [Some(3); 2]),
    Model::new("swap-fork-evict", fork_evict, &[&[NoScanWait]]).bounds([Some(2); 2], [Some(2); 2]),
    Model::new("swap-fork-afar", fork_afar, &[&[ScanUnderEdit]]).bounds([Some(2); 2], [Some(3); 2]),
];

/// CPU 2 evicts, CPU 0 unmaps and says so, CPU 1 stores through what it has cached.
fn unmap() {
    let w = World::swapping(30, 2);
    let s = w.space();
    s.map(0, 1, RW);
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
    w.end(&[s]);
}

/// The only CPU of a space unmaps a whole table, whose entries it need not seal, while another one scans it.
fn unmap_alone() {
    let w = World::swapping(30, 2);
    let s = w.space();
    s.map(0, 2, RW);
    on(0, || {
        s.enter();
        assert!(s.write(0, 0, 1).is_ok());
    });
    let scan = spawn(&w, 1, move || _ = s.page_out(Scene::range(0, 2)));
    script(&w, || s.unmap(0, 2));
    let _ = scan.join();
    on(0, || assert!(s.read(0, 0).is_err(), "a page that was unmapped is back"));
    w.end(&[s]);
}

/// A page comes back while it is hidden.
fn protect() {
    let w = World::swapping(30, 2);
    let s = evicted(&w, 0..2, 5, false);
    let over = flag();
    let seen = over.clone();
    let t = spawn(&w, 1, move || {
        let _ = s.read(0, 0);
        let over = seen.load(Acquire);
        let read = s.peek(0, 0);
        assert!(over == 0 || read.is_none(), "a load after the protect returned");
    });
    script(&w, || {
        s.protect(0, 1, NONE);
        over.store(1, Release);
    });
    let _ = t.join();
    on(0, || assert_eq!(s.peek(0, 0), None, "a readable page in a hidden segment"));
    w.end(&[s]);
}

/// One slot. A page comes back while its space is forked; a stranger's page takes the slot.
fn fork() {
    let w = World::swapping(34, 2);
    let stranger = w.space();
    stranger.map(0, 1, RW);
    on(2, || {
        stranger.enter();
        assert!(stranger.write(0, 0, 9).is_ok());
        stranger.leave();
    });
    let s = evicted(&w, 1..2, 5, true);
    let area = w.area();
    let t = spawn(&w, 1, move || {
        assert_eq!(s.read(0, 0), Ok(5));
        stranger.page_out(Scene::range(0, 1));
        pump(area);
    });
    let child = script(&w, || s.fork());
    let _ = t.join();
    on(1, || assert_eq!(s.read(0, 0), Ok(5), "foreign content"));
    on(2, || {
        child.enter();
        assert_eq!(child.read(0, 0), Ok(5), "foreign content in the child");
        child.leave();
        stranger.enter();
        assert_eq!(stranger.read(0, 0), Ok(9), "foreign content");
    });
    w.end(&[s, child, stranger]);
}

/// A page whose frame is linked, in a child of the one who evicted it: CPU 0 stores to it and forks, alone, which gives the entry
/// the word that it had, while CPU 1 scans.
fn fork_evict() {
    let w = World::swapping(40, 4);
    let parent = w.space();
    parent.map(0, 1, RW);
    let s = on(0, || {
        parent.enter();
        assert!(parent.write(0, 0, 5).is_ok());
        let child = parent.fork();
        parent.leave();
        child
    });
    out(&w, parent, 0, true);
    on(0, || {
        s.enter();
        assert_eq!(s.read(0, 0), Ok(5));
    });
    let area = w.area();
    let scan = spawn(&w, 1, move || {
        s.page_out(Scene::range(0, 1));
        pump(area);
    });
    let child = script(&w, || {
        assert!(s.write(0, 0, 6).is_ok());
        s.fork()
    });
    let _ = scan.join();
    on(0, || assert_eq!(s.read(0, 0), Ok(6), "a store was lost"));
    on(1, || {
        child.enter();
        assert_eq!(child.read(0, 0), Ok(6), "the child has not its parent's page");
        child.leave();
        parent.enter();
        assert_eq!(parent.read(0, 0), Ok(5), "the parent sees its child's store");
    });
    w.end(&[s, child, parent]);
}

/// CPU 0 forks from where it has not touched the arena, so that a scan there needs no answer of it, while CPU 1 evicts the page and
/// writes it out: fork adds a reference to a frame that must not be free by then.
fn fork_afar() {
    let w = World::swapping(40, 4);
    let s = w.space();
    s.map(0, 1, RW);
    on(1, || {
        s.enter();
        assert!(s.write(0, 0, 5).is_ok());
        s.leave();
    });
    on(0, || s.enter());
    let area = w.area();
    let scan = spawn(&w, 1, move || {
        s.page_out(Scene::range(0, 1));
        pump(area);
    });
    let child = script(&w, || s.fork());
    let _ = scan.join();
    on(0, || assert_eq!(s.read(0, 0), Ok(5), "the parent has lost its page"));
    on(1, || {
        child.enter();
        assert_eq!(child.read(0, 0), Ok(5), "the child has not its parent's page");
    });
    w.end(&[s, child]);
}

/// CPU 0 forks, CPU 1 stores twice, CPU 2 evicts the page and writes it out.
fn fork_store() {
    let w = World::swapping(36, 2);
    let s = w.space();
    s.map(0, 1, RW);
    on(1, || {
        s.enter();
        assert!(s.write(0, 0, 1).is_ok());
    });
    on(0, || s.enter());
    let area = w.area();
    let user = spawn(&w, 1, move || {
        assert!(s.write(0, 0, 2).is_ok());
        assert!(s.write(0, 0, 3).is_ok());
    });
    let scan = spawn(&w, 2, move || {
        s.page_out(Scene::range(0, 1));
        pump(area);
    });
    let child = script(&w, || s.fork());
    let _ = (user.join(), scan.join());
    let then = on(2, || {
        child.enter();
        child.read(0, 0).expect("a page of the child")
    });
    assert!(then <= 3, "foreign content in the child");
    on(1, || assert_eq!(s.read(0, 0), Ok(3), "a store of the parent was lost"));
    on(1, || assert!(s.write(0, 0, 9).is_ok()));
    on(2, || assert_eq!(child.read(0, 0), Ok(then), "the child sees a later store of its parent"));
    w.end(&[s, child]);
}

/// A linked page moves to another arena, is stored to, evicted and taken back there, and moves back, so that its entry has the word
/// again that it had; CPU 1 scans the first arena.
fn there_and_back() {
    let w = World::swapping(40, 6);
    let s = evicted(&w, 0..1, 5, true);
    on(0, || assert_eq!(s.read(0, 0), Ok(5)));
    let far = quire_mm::page::ARENA_PAGES as u64;
    let area = w.area();
    let scan = spawn(&w, 1, move || {
        s.page_out(Scene::range(0, 1));
        pump(area);
    });
    script(&w, || {
        let to = |from, to| assert!((*s).remap(Scene::range(from, 1), 1, Remap::Fixed(Page(to)), false).is_ok());
        // Each move from a scanned arena flips the parity: after two it is what it was.
        to(0, far);
        to(far, 0);
        to(0, far);
        assert!(s.write(far, 0, 6).is_ok());
        s.page_out(Scene::range(far, 1));
        assert_eq!(s.read(far, 0), Ok(6));
        to(far, 0);
    });
    let _ = scan.join();
    on(0, || assert_eq!(s.read(0, 0), Ok(6), "a store was lost"));
    w.end(&[s]);
}

/// CPU 1 takes the page of CPU 0 back, which meanwhile hides it by `edit`. Nobody reads it afterwards.
fn hidden_by(w: World, s: Scene, edit: fn(Scene)) {
    let over = flag();
    let seen = over.clone();
    let t = spawn(&w, 1, move || {
        let _ = s.read(0, 0);
        let over = seen.load(Acquire);
        let read = s.peek(0, 0);
        assert!(over == 0 || read.is_none(), "a load after the last edit returned");
    });
    script(&w, || {
        edit(s);
        over.store(1, Release);
    });
    let _ = t.join();
    on(0, || assert_eq!(s.peek(0, 0), None, "a readable page in a hidden segment"));
    w.end(&[s]);
}

/// Page 4 is in another arena, where CPU 1 has not been, so that an edit there asks it nothing.
const FAR: u64 = quire_mm::page::ARENA_PAGES as u64;

fn go(s: Scene, from: u64, to: u64) {
    assert!((*s).remap(Scene::range(from, 1), 1, Remap::Fixed(Page(to)), false).is_ok());
}

/// A swapped page moves to another arena, is hidden there, and moves back: its entry has the word again that it had, with fewer rights.
fn narrow_between() {
    let w = World::swapping(36, 2);
    let s = evicted(&w, 0..2, 5, false);
    hidden_by(w, s, |s| {
        go(s, 0, FAR);
        s.protect(FAR, 1, NONE);
        go(s, FAR, 0);
    });
}

/// A swapped page is unmapped. Another one, of another arena, gets its slot and comes into its place.
fn another_life() {
    let w = World::swapping(36, 2);
    let s = evicted(&w, 0..2, 5, false);
    s.map(FAR, 1, RW);
    on(0, || assert!(s.write(FAR, 0, 6).is_ok()));
    hidden_by(w, s, |s| {
        s.unmap(0, 1);
        s.page_out(Scene::range(FAR, 1));
        s.protect(FAR, 1, NONE);
        go(s, FAR, 0);
    });
}
