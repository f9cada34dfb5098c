//! What an edit makes is decided under its claims: locks that new segments get, segments that grow, second views, what a move unlocks.
//!
//! *Invariant*: each edit comes wholly before another one over the same segments, or wholly behind it: what one thread has seen when its
//! edit was over stays true.
//! *Bounds*: one or two pages, two CPUs, one edit against one or two others; across the border of the arenas where there is one.

use crate::defects::Defect::*;
use crate::model::Model;
use crate::world::{R, RW, Scene, World, on, script, spawn};
use quire_mm::{Backing, EditError, Flags, ObjectRef, Page, Place, Prot, Remap, Space};

pub const MODELS: &[Model] = &[
    Model::new("future-replace", replace, &[&[FutureReadOnce]]).bounds([Some(2), Some(3)], [Some(3), Some(4)]),
    Model::new("future-border", border, &[&[FutureReadOften]]).bounds([Some(2); 2], [Some(3); 2]),
    Model::new("future-arena", arena, &[&[ArenaNoFence]]).bounds([Some(2); 2], [Some(3); 2]),
    Model::new("grow-border", grow, &[&[GrowBesideBorder]]).bounds([Some(2); 2], [Some(3); 2]),
    Model::new("grow-guard", guard, &[&[GuardBesideBorder]]).bounds([Some(2); 2], [Some(3); 2]),
    Model::new("view-again", again, &[&[ViewLookedBefore]]).bounds([Some(2); 2], [Some(3); 2]),
    Model::new("unmap-made", made, &[&[ArenaUnclaimed]]).bounds([Some(2); 2], [Some(3); 2]),
    Model::new("move-unlocks", unlocks, &[&[UnlockUnclaimed]]).bounds([Some(1), Some(2)], [Some(2), Some(3)]),
];

/// The arenas' border.
const BORDER: u64 = 4;

fn map(s: &Scene, at: Place, prot: Prot, flags: Flags) -> Result<Page, EditError> {
    Space::map(s, at, 1, prot, &Backing::Anonymous, flags)
}

fn flags(s: &Scene, page: u64) -> Option<Flags> {
    s.find(Page(page)).filter(|s| s.range.start <= Page(page)).map(|s| s.flags & Flags::LOCKS)
}

/// As munlockall.
fn unlock_all(s: &Scene) {
    s.set_future_flags(Flags::empty());
    let done = s.set_flags(Scene::range(0, 2 * BORDER), Flags::empty(), Flags::LOCKED, &|_, _| true);
    assert!(matches!(done, Ok(()) | Err(EditError::NotMapped)), "{done:?}");
}

/// A replacement beside munlockall: nothing is locked afterwards.
fn replace() {
    let w = World::new(24);
    let s = w.space();
    s.map(0, 1, RW);
    s.set_future_flags(Flags::LOCKED);
    let t = spawn(&w, 1, move || unlock_all(&s));
    script(&w, || s.map(0, 1, RW));
    let _ = t.join();
    assert_eq!(flags(&s, 0), Some(Flags::empty()), "locked after munlockall");
    w.end(&[s]);
}

/// A mapping over the border, while it is said that new ones are locked: it is one segment, locked or not.
fn border() {
    let w = World::new(24);
    let s = w.space();
    let t = spawn(&w, 1, move || s.set_future_flags(Flags::LOCKED));
    script(&w, || s.map(BORDER - 1, 2, RW));
    let _ = t.join();
    assert_eq!(flags(&s, BORDER - 1), flags(&s, BORDER), "half of it is locked");
    w.end(&[s]);
}

/// A mapping in a new arena beside mlockall of what is there and what comes: it is locked.
fn arena() {
    let w = World::new(24);
    let s = w.space();
    let t = spawn(&w, 1, move || s.map(BORDER, 1, RW));
    script(&w, || {
        s.set_future_flags(Flags::LOCKED);
        let done = s.set_flags(Scene::range(0, 2 * BORDER), Flags::LOCKED, Flags::empty(), &|_, _| true);
        assert!(matches!(done, Ok(()) | Err(EditError::NotMapped)), "{done:?}");
    });
    let _ = t.join();
    assert_eq!(flags(&s, BORDER), Some(Flags::LOCKED), "not locked after mlockall");
    w.end(&[s]);
}

/// A stack at the border grows below it, while it is unmapped: it has grown before, or it never does.
fn grow() {
    let w = World::new(24);
    let s = w.space();
    assert!(map(&s, Place::Fixed(Page(BORDER)), RW, Flags::GROWS_DOWN).is_ok());
    let t = spawn(&w, 1, move || s.grow_down(Page(BORDER - 1), 4));
    let before = script(&w, || {
        s.unmap(BORDER, 1);
        flags(&s, BORDER - 1)
    });
    let _ = t.join();
    assert_eq!(before, flags(&s, BORDER - 1), "a stack has grown that was gone");
    w.end(&[s]);
}

/// A stack grows down to the border, while something is mapped below it that keeps out of guards: not both.
fn guard() {
    let w = World::new(24);
    let s = w.space();
    assert!(map(&s, Place::Fixed(Page(BORDER + 1)), RW, Flags::GROWS_DOWN).is_ok());
    let t = spawn(&w, 1, move || s.grow_down(Page(BORDER), 4).is_ok());
    let at = script(&w, || map(&s, Place::Hint(Page(BORDER - 1)), RW, Flags::empty()));
    let grown = t.join().unwrap_or(false);
    assert!(!(grown && at == Ok(Page(BORDER - 1))), "mapped in the guard of a stack");
    w.end(&[s]);
}

/// A second view is made while the first one gets fewer rights: it has them, or it is there before.
fn again() {
    let w = World::new(26);
    let (m, s) = (w.memory(), w.space());
    let object: ObjectRef = m.new_object(4096, 4096, &[]).expect("a node");
    let backing = Backing::Object { object: object.clone(), offset: 0, shared: true };
    assert!(Space::map(&s, Place::Fixed(Page(0)), 1, RW, &backing, Flags::empty()).is_ok());
    s.map(2, 1, RW);
    drop(backing);
    let view = move || s.find(Page(2)).filter(|s| matches!(s.backing, Backing::Object { .. })).map(|s| s.prot);
    let t = spawn(&w, 1, move || assert_eq!(s.map_again(Page(0), Some(Page(2)), 1), Ok(Page(2))));
    let before = script(&w, || {
        s.protect(0, 1, R);
        view()
    });
    let _ = t.join();
    assert_eq!(view(), Some(before.unwrap_or(R)), "a second view with rights that the first has lost");
    drop(object);
    w.end(&[s]);
}

/// A move leaves a locked segment behind, unlocked, while something else comes into its place that is locked: that stays so.
fn unlocks() {
    let w = World::new(28);
    let s = w.space();
    assert!(Space::map(&s, Place::Fixed(Page(0)), 2, RW, &Backing::Anonymous, Flags::LOCKED).is_ok());
    let t = spawn(&w, 1, move || {
        assert!(map(&s, Place::Fixed(Page(1)), R, Flags::LOCKED).is_ok());
    });
    let moved = script(&w, || s.remap(Scene::range(0, 1), 1, Remap::Fixed(Page(3)), true));
    let _ = t.join();
    assert_eq!(moved, Ok(Page(3)));
    let found = [0, 1, 3].map(|page| flags(&s, page));
    assert_eq!(found, [Some(Flags::empty()), Some(Flags::LOCKED), Some(Flags::LOCKED)]);
    w.end(&[s]);
}

/// An unmapping over the border, while a page moves to the arena behind it, which there was not: the page is gone, or all there.
fn made() {
    let w = World::new(34);
    let s = w.space();
    s.map(0, 1, RW);
    s.map(BORDER - 1, 1, RW);
    on(1, || {
        s.enter();
        assert!(s.write(0, 0, 7).is_ok());
        s.leave();
    });
    let t = spawn(&w, 1, move || {
        let moved = s.remap(Scene::range(0, 1), 1, Remap::Fixed(Page(BORDER)), false);
        assert_eq!(moved, Ok(Page(BORDER)));
    });
    script(&w, || s.unmap(BORDER - 1, 2));
    let _ = t.join();
    let is_mapped = s.find(Page(BORDER)).is_some_and(|s| s.range.start == Page(BORDER));
    assert_eq!(is_mapped, s.is_resident(Page(BORDER)), "a page that moved beside an unmapping is lost");
    w.end(&[s]);
}
