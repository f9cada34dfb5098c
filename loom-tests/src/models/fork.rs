//! Fork against everything that its space's other CPUs do.
//!
//! *Invariant*: the child is frozen when fork returns, and what it holds is one moment of the parent; no store of the parent is lost.
//! *Races*: 4, 12, 28, 29, 40. *Bounds*: one or two pages, two or three CPUs, one fork, one or two stores.

use crate::defects::Defect::*;
use crate::model::Model;
use crate::world::{RW, Scene, World, on, script, spawn};
use quire_mm::{Page, Remap};

pub const MODELS: &[Model] = &[
    Model::new("fork-frozen", frozen, &[&[ForkNoFlush]]),
    Model::new("fork-reuse", reuse, &[&[NoForkMark, NoParityFlip]]),
    Model::new("fork-alone", alone, &[&[NoForkMark]]),
    Model::new("fork-causal", causal, &[&[NoForkMark]]),
    Model::new("fork-causal-absent", causal_absent, &[&[NoForkWait], &[NoForkWait, ForkWaitEarly], &[NoForkMark]]),
    Model::new("fork-hot", hot, &[&[HotBeforeAnswer]]).hot(),
    Model::new("fork-hot-child", hot_child, &[&[HotInPlace]]).hot(),
    Model::new("fork-blank", blank, &[&[NoForkMark]]),
    Model::new("fork-short", short, &[&[ForkNoFlush]]),
    Model::new("fork-cow", cow, &[&[NoForkMark]]).bounds([Some(2); 2], [Some(3); 2]),
    Model::new("fork-move", moved, &[&[NewArenaLeftOut]]).bounds([Some(2), Some(3)], [Some(3), Some(3)]),
    Model::new("fork-arena", arena_made, &[&[ArenaBesideFork]]).bounds([Some(2); 2], [Some(3); 2]),
];

/// What the child holds, read on CPU 2.
fn look(child: Scene, page: u64) -> u64 {
    on(2, || {
        if !child.is_here() {
            child.enter();
        }
        child.read(page, 0).expect("a page of the child")
    })
}

/// A CPU stores through its old translation, and through faults, while the space is forked.
fn frozen() {
    let w = World::new(30);
    let s = w.space();
    s.map(0, 1, RW);
    on(0, || s.enter());
    on(1, || {
        s.enter();
        assert!(s.write(0, 0, 1).is_ok());
    });
    let t = spawn(&w, 1, move || {
        assert!(s.write(0, 0, 2).is_ok());
        assert!(s.write(0, 0, 3).is_ok());
    });
    let (child, then) = script(&w, || {
        let child = s.fork();
        (child, look(child, 0))
    });
    let _ = t.join();
    assert_eq!(look(child, 0), then, "the child sees a later store of its parent");
    on(1, || assert_eq!(s.read(0, 0), Ok(3), "a store of the parent was lost"));
    w.end(&[s, child]);
}

/// Copy-on-write with one owner: a store makes it writable in place while fork shares it.
fn reuse() {
    let w = World::new(30);
    let s = w.space();
    s.map(0, 1, RW);
    on(0, || {
        s.enter();
        assert!(s.write(0, 0, 1).is_ok());
        s.fork().close();
    });
    on(1, || {
        s.enter();
        assert!(s.read(0, 0).is_ok());
    });
    let t = spawn(&w, 1, move || assert!(s.write(0, 0, 2).is_ok()));
    let (child, then) = script(&w, || {
        let child = s.fork();
        (child, look(child, 0))
    });
    let _ = t.join();
    assert_eq!(look(child, 0), then, "the child sees a later store of its parent");
    on(1, || assert_eq!(s.read(0, 0), Ok(2), "a store of the parent was lost"));
    w.end(&[s, child]);
}

/// A page that an earlier fork has left read-only, with one owner: fork, alone, leaves the parent's entry as it is, while CPU 1
/// comes and stores.
fn alone() {
    let w = World::new(30);
    let s = w.space();
    s.map(0, 1, RW);
    on(0, || {
        s.enter();
        assert!(s.write(0, 0, 1).is_ok());
        s.fork().close();
    });
    let t = spawn(&w, 1, move || {
        s.enter();
        assert!(s.write(0, 0, 2).is_ok());
    });
    let (child, then) = script(&w, || {
        let child = s.fork();
        (child, look(child, 0))
    });
    let _ = t.join();
    assert_eq!(look(child, 0), then, "the child sees a later store of its parent");
    on(1, || assert_eq!(s.read(0, 0), Ok(2), "a store of the parent was lost"));
    w.end(&[s, child]);
}

/// CPU 1 stores to page `a`, then to page `b`, by faults. The child must not have the second without the first.
fn in_order(w: World, s: Scene, a: u64, b: u64) {
    on(1, || w.forget());
    let t = spawn(&w, 1, move || {
        assert!(s.write(a, 0, 1).is_ok());
        assert!(s.write(b, 0, 1).is_ok());
    });
    let child = script(&w, || s.fork());
    let _ = t.join();
    let (x, y) = (look(child, a), look(child, b));
    assert!(x >= y, "the child has a later store without an earlier one");
    w.end(&[s, child]);
}

fn causal() {
    let w = World::new(30);
    let s = w.space();
    s.map(0, 2, RW);
    on(0, || s.enter());
    on(1, || {
        s.enter();
        assert!(s.write(0, 0, 0).is_ok() && s.write(1, 0, 0).is_ok());
    });
    in_order(w, s, 0, 1);
}

fn causal_absent() {
    let w = World::new(30);
    let s = w.space();
    s.map(0, 2, RW);
    on(0, || s.enter());
    on(1, || {
        s.enter();
        assert!(s.write(1, 0, 0).is_ok());
    });
    in_order(w, s, 0, 1);
}

/// CPU 1 stores to page 0, then to page 1, by what it has cached, while the fork copies both for the child. The child must not have the second
/// store without the first, nor a later one; the parent has both.
fn hot() {
    let w = World::new(30);
    let s = w.space();
    s.map(0, 2, RW);
    on(0, || s.enter());
    on(1, || {
        s.enter();
        assert!(s.write(0, 0, 0).is_ok() && s.write(1, 0, 0).is_ok());
    });
    let t = spawn(&w, 1, move || {
        assert!(s.write(0, 0, 1).is_ok());
        assert!(s.write(1, 0, 1).is_ok());
    });
    let child = script(&w, || s.fork());
    let _ = t.join();
    let (x, y) = (look(child, 0), look(child, 1));
    assert!(x >= y, "the child has a later store without an earlier one");
    on(1, || assert_eq!((s.read(0, 0), s.read(1, 0)), (Ok(1), Ok(1)), "a store of the parent was lost"));
    w.end(&[s, child]);
}

/// CPU 1 stores to a page that the fork copies, and the child to its copy.
fn hot_child() {
    let w = World::new(30);
    let s = w.space();
    s.map(0, 1, RW);
    on(0, || s.enter());
    on(1, || {
        s.enter();
        assert!(s.write(0, 0, 1).is_ok());
    });
    let t = spawn(&w, 1, move || assert!(s.write(0, 0, 2).is_ok()));
    let child = script(&w, || {
        let child = s.fork();
        on(2, || {
            child.enter();
            assert!(child.write(0, 1, 7).is_ok());
        });
        child
    });
    let _ = t.join();
    on(1, || assert_eq!((s.read(0, 0), s.read(0, 1)), (Ok(2), Ok(0)), "the parent has a store of its child"));
    assert!(look(child, 0) <= 2);
    w.end(&[s, child]);
}

/// As `causal_absent`, where CPU 1 reads page 0 before it stores to it, and gets a blank page, perhaps behind the fork that has passed there.
fn blank() {
    let w = World::new(30);
    let s = w.space();
    s.map(0, 2, RW);
    on(0, || {
        s.enter();
        assert!(s.read(1, 0).is_ok());
    });
    on(1, || {
        s.enter();
        assert!(s.write(1, 0, 0).is_ok());
        w.forget();
    });
    s.allow_blank(1);
    let t = spawn(&w, 1, move || {
        assert_eq!(s.read(0, 0), Ok(0), "fresh memory is zero");
        assert!(s.write(0, 0, 1).is_ok());
        assert!(s.write(1, 0, 1).is_ok());
    });
    let child = script(&w, || s.fork());
    let _ = t.join();
    let (x, y) = (look(child, 0), look(child, 1));
    assert!(x >= y, "the child has a later store without an earlier one");
    on(1, || assert_eq!(s.read(0, 0), Ok(1), "a store of the parent was lost"));
    w.end(&[s, child]);
}

/// CPU 1 stores through its old translation while CPU 2 breaks the page that fork has just shared.
fn cow() {
    let w = World::new(30);
    let s = w.space();
    s.map(0, 1, RW);
    on(0, || s.enter());
    on(2, || {
        s.enter();
        assert!(s.read(0, 0).is_ok());
    });
    on(1, || {
        s.enter();
        assert!(s.write(0, 0, 0).is_ok());
    });
    let x = spawn(&w, 1, move || s.poke(0, 0, 1));
    let z = spawn(&w, 2, move || assert!(s.write(0, 1, 1).is_ok()));
    let child = script(&w, || s.fork());
    let (wrote, _) = (x.join().unwrap_or(false), z.join());
    on(1, || {
        assert_eq!(s.read(0, 1), Ok(1), "a store of the parent was lost");
        assert!(!wrote || s.read(0, 0) == Ok(1), "a store through an old translation was lost");
    });
    w.end(&[s, child]);
}

/// A fork that runs out of frames after its first page, then one that does not, while CPU 1 stores.
fn short() {
    let w = World::new(34);
    let s = w.space();
    let m = w.memory();
    s.map(0, 1, RW);
    s.map(2, 1, RW);
    on(0, || s.enter());
    on(1, || {
        s.enter();
        assert!(s.write(0, 0, 1).is_ok() && s.write(2, 0, 1).is_ok());
    });
    on(1, || m.stock(4, 0));
    // Enough for the child's own table and one leaf table.
    let mut held: Vec<_> = on(0, || std::iter::from_fn(|| m.alloc()).collect());
    on(0, || held.drain(..2).for_each(|f| m.free(f)));
    let t = spawn(&w, 1, move || {
        assert!(s.write(0, 0, 2).is_ok());
        assert!(s.write(0, 0, 3).is_ok());
    });
    let (child, then) = script(&w, || {
        assert!((*s).fork().is_err(), "the fork had frames enough");
        held.drain(..).for_each(|f| m.free(f));
        let child = s.fork();
        (child, look(child, 0))
    });
    let _ = t.join();
    assert_eq!(look(child, 0), then, "the child sees a later store of its parent");
    on(1, || assert_eq!(s.read(0, 0), Ok(3), "a store of the parent was lost"));
    w.end(&[s, child]);
}

/// A page moves into an arena that there was not, while another CPU forks: the child has it here or there. Nobody runs in the space, so
/// that no answers put what the two do into an order.
fn moved() {
    let w = World::new(34);
    let s = w.space();
    let (old, new) = (Page::of(1, 0), Page(0));
    s.map(old.0, 1, RW);
    on(0, || {
        s.enter();
        assert!(s.write(old.0, 0, 7).is_ok());
        s.leave();
    });
    let t = spawn(&w, 1, move || {
        assert_eq!(s.remap(Scene::range(old.0, 1), 1, Remap::Fixed(new), false), Ok(new));
    });
    let child = script(&w, || s.fork());
    let _ = t.join();
    assert!(
        child.is_resident(old) != child.is_resident(new),
        "a page that moved during the fork is missing in the child"
    );
    w.end(&[s, child]);
}

/// A mapping in an arena that there was not, and then a store that tells of it, while another CPU forks: a child that has been told has the
/// mapping.
fn arena_made() {
    let w = World::new(34);
    let s = w.space();
    let home = Page::of(1, 0).0;
    s.map(home, 1, RW);
    on(0, || s.enter());
    on(1, || {
        s.enter();
        assert!(s.write(home, 0, 0).is_ok());
    });
    let t = spawn(&w, 1, move || {
        s.map(0, 1, RW);
        assert!(s.write(home, 0, 1).is_ok());
    });
    let child = script(&w, || s.fork());
    let _ = t.join();
    let has_it = child.find(Page(0)).is_some_and(|s| s.range.start == Page(0));
    assert!(has_it || look(child, home) == 0, "the child is told of a mapping that it lacks");
    w.end(&[s, child]);
}
