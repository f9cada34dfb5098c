//! Shootdown: two initiators at once, one record used twice, answers before frees, and a second unmapper that finds nothing.
//!
//! *Invariant*: every request is served and nobody waits for ever; after the return no CPU uses what it was asked to drop; a
//! frame's last use happens before its next one.
//! *Races*: 1, 5, 9, 39. *Bounds*: two or three CPUs, one or two requests each.

use crate::defects::Defect::*;
use crate::model::Model;
use crate::world::{RW, Scene, World, flag, on, script, spawn};
use quire_mm::Page;
use quire_mm::sync::Ordering::*;

pub const MODELS: &[Model] = &[
    Model::new("shootdown-two", two, &[&[NoServe], &[NoInterrupt]]).bounds([Some(2); 2], [Some(3); 2]),
    Model::new("shootdown-record", record, &[&[AnswerEarly]]),
    Model::new("shootdown-free", free, &[&[FreeBeforeAnswer], &[AnswerEarly], &[AnswerRelaxed]]),
    Model::new("unmap-unmap", unmappers, &[&[NoClaim]]).bounds([Some(2), Some(2)], [Some(3), Some(4)]),
];

/// CPUs 0 and 1 ask each other and CPU 2, which only its interrupt reaches.
fn two() {
    let w = World::new(20);
    let m = w.memory();
    let a = spawn(&w, 1, move || m.shoot_down(0b101, &[Page(1)]));
    let b = spawn(&w, 2, move || m.machine.poll());
    script(&w, || m.shoot_down(0b110, &[Page(0)]));
    let _ = (a.join(), b.join());
}

/// A space whose pages `0 .. n` CPU 1 has written and keeps translations to.
fn scene(n: u64) -> (World, Scene) {
    let w = World::new(24);
    let s = w.space();
    s.map(0, 2, RW);
    on(0, || s.enter());
    on(1, || {
        s.enter();
        (0..n).for_each(|p| assert!(s.write(p, 0, 1).is_ok()));
    });
    (w, s)
}

/// Two requests one after the other, for different pages.
fn record() {
    let (w, s) = scene(2);
    let m = w.memory();
    let t = spawn(&w, 1, move || {
        m.machine.poll();
        m.machine.poll();
    });
    script(&w, || {
        for page in [Page(0), Page(1)] {
            m.shoot_down(0b10, &[page]);
            on(1, || assert!(!m.machine.has_cached(page), "a translation after the answer"));
        }
    });
    let _ = t.join();
    w.end(&[s]);
}

/// A page is unmapped under a CPU that reads it.
fn free() {
    let (w, s) = scene(1);
    let returned = flag();
    let over = returned.clone();
    let t = spawn(&w, 1, move || {
        for _ in 0..2 {
            let over = over.load(Acquire);
            let seen = s.peek(0, 0);
            assert!(over == 0 || seen.is_none(), "an access after the unmap returned");
        }
    });
    script(&w, || {
        s.unmap(0, 1);
        returned.store(1, Release);
    });
    let _ = t.join();
    w.end(&[s]);
}

/// Two CPUs unmap one page: when either returns, no CPU has it.
fn unmappers() {
    let (w, s) = scene(1);
    let returned = flag();
    let (over, second) = (returned.clone(), returned.clone());
    let t = spawn(&w, 1, move || {
        let over = over.load(Acquire);
        let seen = s.peek(0, 0);
        assert!(over == 0 || seen.is_none(), "an access after an unmap returned");
    });
    let u = spawn(&w, 2, move || {
        s.unmap(0, 1);
        second.store(1, Release);
    });
    script(&w, || {
        s.unmap(0, 1);
        returned.store(1, Release);
    });
    let _ = (t.join(), u.join());
    w.end(&[s]);
}
