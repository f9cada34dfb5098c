//! Breaks of copy-on-write against each other, against readers of the old page, and against a CPU that joins.
//!
//! *Invariant*: nobody reads old after new; no store is lost; one copy; counts exact.
//! *Races*: 2, 3, 11, 12, 30, 48, 49. *Bounds*: one page, shared with a child, two or three CPUs, one store each.

use crate::defects::Defect::*;
use crate::model::Model;
use crate::world::{RW, Scene, World, flag, on, script, spawn};
use quire_mm::Counter;
use quire_mm::sync::Ordering::*;

pub const MODELS: &[Model] = &[
    Model::new("cow-two", two, &[&[NoFresh]]).bounds([Some(3), Some(2)], [Some(4); 2]),
    Model::new("cow-publish", publish, &[&[CopyWritable]]).bounds([Some(2); 2], [Some(3); 2]),
    Model::new("cow-alone", alone, &[&[CopyAloneTooEarly]]),
    Model::new("cow-child", child, &[&[ReuseShared]]),
];

/// A page that CPU 0 has filled and a child shares; CPUs `cpus` have a translation to it.
fn shared(cpus: std::ops::Range<usize>) -> (World, Scene, Scene) {
    let w = World::new(30);
    let s = w.space();
    s.map(0, 1, RW);
    let child = on(0, || {
        s.enter();
        assert!(s.write(0, 0, 0).is_ok());
        s.fork()
    });
    on(0, || s.leave());
    for cpu in cpus {
        on(cpu, || {
            s.enter();
            assert_eq!(s.read(0, 0), Ok(0));
        });
    }
    (w, s, child)
}

/// Two CPUs store to different words of the page.
fn two() {
    let (w, s, child) = shared(0..2);
    let t = spawn(&w, 1, move || assert!(s.write(0, 1, 2).is_ok()));
    script(&w, || assert!(s.write(0, 0, 1).is_ok()));
    let _ = t.join();
    on(0, || assert_eq!((s.read(0, 0), s.read(0, 1)), (Ok(1), Ok(2)), "a store was lost"));
    assert_eq!(w.memory().stats.get(Counter::Copy), 1, "the copy was copied");
    frozen(child);
    w.end(&[s, child]);
}

fn frozen(child: Scene) {
    on(2, || {
        child.enter();
        assert_eq!((child.read(0, 0), child.read(0, 1)), (Ok(0), Ok(0)), "the child sees its parent's store");
    });
}

/// CPU 1 breaks, CPU 2 stores to what it published and says so, CPU 0 reads through its old translation.
fn publish() {
    let (w, s, child) = shared(0..2);
    on(2, || {
        s.enter();
        s.peek(0, 0);
    });
    let said = flag();
    let say = said.clone();
    let a = spawn(&w, 1, move || assert!(s.write(0, 1, 1).is_ok()));
    let b = spawn(&w, 2, move || {
        assert!(s.write(0, 0, 1).is_ok());
        say.store(1, Release);
    });
    script(&w, || {
        let new = said.load(Acquire);
        let x = s.peek(0, 0);
        assert!(new == 0 || x != Some(0), "old after new");
    });
    let _ = (a.join(), b.join());
    w.end(&[s, child]);
}

/// CPU 1 breaks alone while CPU 0 comes in and reads.
fn alone() {
    let (w, s, child) = shared(1..2);
    let said = flag();
    let say = said.clone();
    let t = spawn(&w, 1, move || {
        assert!(s.write(0, 0, 1).is_ok());
        say.store(1, Release);
    });
    script(&w, || {
        s.enter();
        assert!(s.read(0, 0).is_ok());
        let new = said.load(Acquire);
        let x = s.read(0, 0);
        assert!(new == 0 || x == Ok(1), "old after new");
    });
    let _ = t.join();
    w.end(&[s, child]);
}

/// Parent and child break together: one copies or both do, and neither sees the other.
fn child() {
    let (w, s, child) = shared(0..1);
    on(1, || child.enter());
    let t = spawn(&w, 1, move || {
        assert!(child.write(0, 0, 2).is_ok());
        assert_eq!(child.read(0, 0), Ok(2), "the child sees its parent's store");
    });
    script(&w, || {
        assert!(s.write(0, 0, 1).is_ok());
        assert_eq!(s.read(0, 0), Ok(1), "the parent sees its child's store");
    });
    let _ = t.join();
    on(0, || assert_eq!(s.read(0, 0), Ok(1), "the parent sees its child's store"));
    on(1, || assert_eq!(child.read(0, 0), Ok(2), "the child sees its parent's store"));
    w.end(&[s, child]);
}
