//! A fault against an unmap, and against what is mapped at the same address afterwards.
//!
//! *Invariant*: when both are over, no entry carries a page, or a right, that the list does not give; nothing is lost.
//! *Races*: 19, 20, 21. *Bounds*: one page, two CPUs, one fault, one or two edits.

use crate::defects::Defect::*;
use crate::model::Model;
use crate::world::{R, RW, Scene, World, on, script, spawn};

pub const MODELS: &[Model] = &[
    Model::new("unmap", unmap, &[&[ListBeforeEntry], &[EmptyZero], &[SweepBeforePublish], &[GroupSkipped]]),
    Model::new("unmap-table", unmap_table, &[&[ListBeforeEntry], &[SkipAbsent]]),
    Model::new("unmap-remap", unmap_remap, &[&[ListBeforeEntry], &[EmptyZero], &[SweepBeforePublish]]),
    Model::new("unmap-alone", unmap_alone, &[&[AloneTooEarly]]),
    Model::new("unmap-joining", unmap_joining, &[&[AloneTooEarly], &[JoinNoFence]]),
    Model::new("tables", tables, &[&[InstallBlind]]),
];

/// Two CPUs in a space with one writable page at 0, its table there (`table`) or not.
fn scene(table: bool) -> (World, Scene) {
    let w = World::new(24);
    let s = w.space();
    s.map(0, 2, RW);
    for cpu in 0..2 {
        on(cpu, || {
            s.enter();
            if table {
                // The neighbour's fault joins the arena and makes the table.
                assert!(s.read(1, 0).is_ok());
            }
        });
    }
    (w, s)
}

/// A fault meets the sweep of an entry in a table.
fn unmap() {
    let (w, s) = scene(true);
    let t = spawn(&w, 1, move || s.write(0, 0, 1));
    script(&w, || s.unmap(0, 1));
    let _ = t.join();
    w.end(&[s]);
}

/// A fault installs the table whose absence the sweep meets.
fn unmap_table() {
    let (w, s) = scene(false);
    let t = spawn(&w, 1, move || s.write(0, 0, 1));
    script(&w, || s.unmap(0, 1));
    let _ = t.join();
    w.end(&[s]);
}

/// After the unmap, a read-only mapping at the same address.
fn unmap_remap() {
    let (w, s) = scene(true);
    let t = spawn(&w, 1, move || s.write(0, 0, 1));
    script(&w, || {
        s.unmap(0, 1);
        s.map(0, 1, R);
    });
    let _ = t.join();
    on(0, || assert!(!s.poke(0, 0, 2), "a writable page in a read-only segment"));
    w.end(&[s]);
}

/// The unmapping CPU is the only one in the space while another comes in and faults.
fn unmap_alone() {
    let w = World::new(24);
    let s = w.space();
    s.map(0, 2, RW);
    on(0, || {
        s.enter();
        assert!(s.read(1, 0).is_ok());
    });
    let t = spawn(&w, 1, move || {
        s.enter();
        s.write(0, 0, 1)
    });
    script(&w, || s.unmap(0, 1));
    let _ = t.join();
    w.end(&[s]);
}

/// The unmapping CPU is the only one in the arena while another, active in the space before, joins it and faults.
fn unmap_joining() {
    let w = World::new(24);
    let s = w.space();
    s.map(0, 2, RW);
    on(1, || s.enter());
    on(0, || {
        s.enter();
        assert!(s.read(1, 0).is_ok());
    });
    let t = spawn(&w, 1, move || s.write(0, 0, 1));
    script(&w, || s.unmap(0, 1));
    let _ = t.join();
    w.end(&[s]);
}

/// Two CPUs touch the pages of one absent table, in an arena that neither has joined: one table, both pages kept.
fn tables() {
    let (w, s) = scene(false);
    let t = spawn(&w, 1, move || s.write(0, 0, 1));
    script(&w, || assert!(s.write(1, 0, 2).is_ok()));
    assert!(t.join().is_ok_and(|r| r.is_ok()));
    on(0, || {
        assert_eq!(s.peek(0, 0), Some(1), "a page was lost with its table");
        assert_eq!(s.peek(1, 0), Some(2), "a page was lost with its table");
    });
    w.end(&[s]);
}
