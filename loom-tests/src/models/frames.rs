//! Frames: the bitmap, references, the CPUs' caches, nodes.
//!
//! *Invariant*: a frame or node has one owner at a time, who sees it as the last one left it; none is lost; a frame without references
//! stays free; a promised bit is there.
//! *Races*: 11, 12. *Bounds*: one to three blocks of four bits, two CPUs, one or two operations each.

use crate::defects::Defect::*;
use crate::model::Model;
use crate::world::{World, on, script, spawn};
use loom::cell::UnsafeCell;
use quire_mm::frames::{Bitmap, Block};
use quire_mm::sync::Ordering::*;
use quire_mm::sync::model::FRUITLESS;
use quire_mm::{Frame, Machine};
use std::rc::Rc;

pub const MODELS: &[Model] = &[
    Model::new("bitmap-take", take, &[&[BitBlind]]),
    Model::new("bitmap-promise", promise, &[&[CountBeforeBit]]),
    Model::new("bitmap-block", block, &[&[CountBeforeBit]]),
    Model::new("references", references, &[&[RefFromZero]]),
    Model::new("caches", caches, &[&[BitBlind]]),
    Model::new("nodes", nodes, &[&[SlabUnowned], &[BitBlind]]).bounds([Some(2), Some(3)], [Some(3), Some(4)]),
    Model::new("nodes-return", nodes_return, &[&[SlabUnowned]]).bounds([Some(2), Some(3)], [Some(3), Some(4)]),
];

struct Bits {
    map: Bitmap,
    blocks: [Block; 1],
    owned: [UnsafeCell<u32>; 4],
}

impl Bits {
    fn new(set: &[usize]) -> Rc<Bits> {
        let b = Bits { map: Bitmap::new(), blocks: [Block::new()], owned: std::array::from_fn(|_| UnsafeCell::new(0)) };
        set.iter().for_each(|&i| b.map.put(&b.blocks, i));
        FRUITLESS.store(0, Relaxed);
        Rc::new(b)
    }

    /// Uses bit `i` as its only owner.
    fn own(&self, i: usize) {
        // SAFETY: loom fails the model when two threads are here at once, or without an order between them.
        self.owned[i].with_mut(|v| unsafe { *v += 1 });
    }

    fn take(&self, want: u64) -> Vec<usize> {
        let mut got = Vec::new();
        let n = self.map.take(&self.blocks, &mut 0, want, |i| got.push(i));
        assert_eq!(n as usize, got.len());
        got.iter().for_each(|&i| self.own(i));
        got
    }

    fn put(&self, i: usize) {
        self.own(i);
        self.map.put(&self.blocks, i);
    }
}

/// Two takers of two bits, one of which gives its bit back and takes again.
fn take() {
    let b = Bits::new(&[0, 1]);
    let c = b.clone();
    let t = loom::thread::spawn(move || c.take(1));
    let mine = b.take(1);
    mine.iter().for_each(|&i| b.put(i));
    let again = b.take(2);
    let theirs = t.join().unwrap_or_default();
    assert!(again.iter().all(|i| !theirs.contains(i)), "a bit was taken twice");
    assert_eq!(b.map.count(&b.blocks) as usize + again.len() + theirs.len(), 2, "a bit was lost");
}

/// A taker that has a promise does not wait for the one who gives.
fn promise() {
    let b = Bits::new(&[]);
    let c = b.clone();
    let t = loom::thread::spawn(move || c.put(2));
    b.take(1);
    assert_eq!(FRUITLESS.load(Relaxed), 0, "a promised bit was not there");
    let _ = t.join();
}

/// A whole block, a single bit, and a certain bit.
fn block() {
    let b = Bits::new(&[0, 1, 2, 3]);
    let c = b.clone();
    let t = loom::thread::spawn(move || {
        let got = c.take(1);
        got.iter().for_each(|&i| c.put(i));
        c.map.take_this(&c.blocks, 3)
    });
    let whole = b.map.take_blocks(&b.blocks, 1);
    if whole.is_some() {
        (0..4).for_each(|i| b.own(i));
    }
    assert_eq!(FRUITLESS.load(Relaxed), 0, "a promised bit was not there");
    let certain = t.join().unwrap_or(false);
    assert!(whole.is_none() || !certain, "a bit was taken twice");
}

/// A reference is taken while the last one is dropped.
fn references() {
    let w = World::new(20);
    let m = w.memory();
    let f = on(0, || m.new_counted()).expect("a frame");
    let t = spawn(&w, 1, move || {
        if m.try_reference(f) {
            m.machine.data(f, 0).load(Acquire);
            m.drop_reference(f);
        }
    });
    script(&w, || m.drop_reference(f));
    let _ = t.join();
    assert_eq!(m.machine.frame_words()[f.0 as usize].count(), 0);
    w.audit(&[]);
}

/// Two CPUs take from the same few frames and give back: at most one has each.
fn caches() {
    // Frame 1 is the zero page; three are left.
    let w = World::bare(5);
    let m = w.memory();
    on(0, || m.drain_here());
    let go = move || {
        let a = m.alloc();
        a.into_iter().for_each(|f| m.machine.data(f, 0).store(1, Release));
        let b = m.alloc();
        b.into_iter().for_each(|f| m.free(f));
        m.drain_here();
        a
    };
    let t = spawn(&w, 1, go);
    let a: Option<Frame> = script(&w, go);
    let b = t.join().unwrap_or(None);
    assert!(a != b, "one frame for two");
    assert!(a.is_some() && b.is_some(), "frames were there for both");
    a.into_iter().chain(b).for_each(|f| on(0, || m.free(f)));
    on(0, || m.drain_here());
    assert_eq!(m.free_frames(), 3, "a frame was lost");
}

/// Two CPUs take a node and give all back: one owner each. A frame whose nodes are all free is free, or can be found: a CPU that tries
/// to take another frame's bit holds the block's promise for a moment, and a full frame that is tried just then stays a slab.
fn nodes() {
    let w = World::bare(6);
    let m = w.memory();
    on(0, || m.drain_here());
    let go = move || {
        let (at, place) = m.take_node().expect("memory for a node");
        // SAFETY: taken just now, given back once.
        unsafe { m.give_node(place) };
        m.drain_here();
        at as usize
    };
    let t = spawn(&w, 1, go);
    script(&w, go);
    let _ = t.join();
    assert_eq!(m.free_frames() + m.idle_slabs(), 4, "a frame of nodes was lost");
    w.audit(&[]);
}

/// The two nodes of one frame come back from two CPUs, while a third takes one.
fn nodes_return() {
    let w = World::bare(6);
    let m = w.memory();
    let (a, b) = on(0, || {
        m.drain_here();
        (m.take_node().expect("a node").1, m.take_node().expect("a node").1)
    });
    let t = spawn(&w, 1, move || {
        // SAFETY: taken above, given back once.
        unsafe { m.give_node(a) };
        m.drain_here();
    });
    let u = spawn(&w, 2, move || m.take_node().expect("a node").1);
    script(&w, || {
        // SAFETY: as above.
        unsafe { m.give_node(b) };
        m.drain_here();
    });
    let _ = t.join();
    let c = u.join().expect("a node");
    on(2, || {
        // SAFETY: taken by CPU 2, given back once.
        unsafe { m.give_node(c) };
        m.drain_here();
    });
    on(0, || m.drain_here());
    assert_eq!(m.free_frames() + m.idle_slabs(), 4, "a frame of nodes was lost");
    w.audit(&[]);
}
