//! Rights that are decided under the claim, what lies before a refusal, and who counts as a writer of an object.

mod common;

use common::{EndOnPanic, RW, Shared, finish, range, setup};
use quire_mm::fake::{Cpu, Fake, audit, memory};
use quire_mm::{Backing, EditError, Fault, Flags, ObjectRef, PAGE, Page, PageRange, Place, Prot, Remap, Space};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

const R: Prot = Prot::READ;
const BASE: u64 = 1 << 20;
const SIZE: u64 = PAGE as u64;
/// No other CPU works in mm.
const ALONE: u64 = 0;

fn show(
    space: &Space<Fake>,
    object: &ObjectRef,
    at: u64,
    pages: u64,
    prot: Prot,
    flags: Flags,
) -> Result<Page, EditError> {
    let backing = Backing::Object { object: object.clone(), offset: 0, shared: true };
    space.map(Place::Fixed(Page(at)), pages, prot, &backing, flags)
}

fn rights(space: &Space<Fake>, at: u64, pages: u64) -> Vec<Option<Prot>> {
    let of = |page: u64| space.find(Page(page)).filter(|s| s.range.start.0 <= page).map(|s| s.prot);
    (at..at + pages).map(of).collect()
}

/// Whether there was something of the view.
fn unmap_view(space: &Space<Fake>, range: PageRange, object: &ObjectRef) -> Result<bool, EditError> {
    let mut found = false;
    space.unmap_view(range, object, &mut found).map(|()| found)
}

/// A segment may become writable or may not, wherever in the range it is, in one leaf or in many; what lies before has its new rights.
#[test]
fn protecting_ends_at_a_view_for_reading() {
    let (cpu, space) = setup(8192);
    let m = cpu.memory;
    let object = m.new_object(SIZE, SIZE, &[]).unwrap();
    for segments in [3, 40, 600] {
        // Every second page, so that nothing merges; the one before the last is the view.
        let view = BASE + segments - 2;
        space.unmap(range(BASE, 1000)).unwrap();
        for page in BASE..BASE + segments {
            let prot = if page % 2 == 0 { R } else { R | Prot::EXEC };
            space.map(Place::Fixed(Page(page)), 1, prot, &Backing::Anonymous, Flags::empty()).unwrap();
        }
        show(&space, &object, view, 1, R, Flags::READ_ONLY).unwrap();
        assert_eq!(space.protect(range(BASE, segments), RW), Err(EditError::ReadOnly));
        let mut want = vec![Some(RW); segments as usize - 2];
        want.extend([Some(R), Some(if (view + 1).is_multiple_of(2) { R } else { R | Prot::EXEC })]);
        assert_eq!(rights(&space, BASE, segments), want);
        assert_eq!(space.protect(range(view, 1), RW), Err(EditError::ReadOnly));
        assert_eq!(space.protect(range(view, 1), Prot::empty()), Ok(()));
        assert_eq!(space.protect(range(view, 1), R | Prot::EXEC), Ok(()));
        assert_eq!(space.protect(range(view, 1), RW), Err(EditError::ReadOnly));
    }
    drop(object);
    finish(cpu, space);
}

/// Holes end some edits and are skipped by others; a refusal ends both. An arena without a segment is a hole.
#[test]
fn edits_in_place_do_what_lies_before() {
    let (mut cpu, space) = setup(8192);
    let border = (1u64 << 27) * 3;
    let near = border - 4;
    for (page, pages) in [(near, 2), (near + 3, 1), (border + 2, 2)] {
        space.map(Place::Fixed(Page(page)), pages, RW, &Backing::Anonymous, Flags::empty()).unwrap();
        (page..page + pages).for_each(|p| cpu.write(p * SIZE, p).unwrap());
    }
    let none = Flags::empty();
    let lock = |from, pages| space.set_flags(range(from, pages), Flags::LOCKED, none, &|_, _| true);
    let unlock = |from, pages| space.set_flags(range(from, pages), none, Flags::LOCKED, &|_, _| true);
    let locked = || {
        let is = |p: u64| space.find(Page(p)).is_some_and(|s| s.range.start.0 <= p && s.flags.contains(Flags::LOCKED));
        (near..near + 8).map(is).collect::<Vec<_>>()
    };
    assert_eq!(space.set_flags_to_hole(range(near, 8), Flags::LOCKED, none), Err(EditError::NotMapped));
    assert_eq!(locked(), [true, true, false, false, false, false, false, false]);
    assert_eq!(lock(near + 1, 6), Err(EditError::NotMapped));
    assert_eq!(locked(), [true, true, false, true, false, false, true, false]);
    // The locked one is refused: what lies before goes, what lies behind stays.
    assert_eq!(unlock(near, 3), Err(EditError::NotMapped));
    let free = &|flags: Flags, _: bool| !flags.contains(Flags::LOCKED);
    assert_eq!(space.discard_such(range(near, 8), free), Err(EditError::Refused));
    let mut seen = |page: u64| cpu.read(page * SIZE).unwrap();
    assert_eq!((seen(near), seen(near + 1), seen(near + 3), seen(border + 2)), (0, 0, near + 3, border + 2));
    assert_eq!(unlock(near, 8), Err(EditError::NotMapped));
    assert_eq!(space.discard_such(range(near, 8), free), Err(EditError::NotMapped));
    let mut seen = |page: u64| cpu.read(page * SIZE).unwrap();
    assert_eq!((seen(near + 3), seen(border + 2), seen(border + 3)), (0, 0, 0));
    assert_eq!(space.protect(range(near, 8), R), Err(EditError::NotMapped));
    let want = [Some(R), Some(R), None, Some(RW), None, None, Some(RW), Some(RW)];
    assert_eq!(rights(&space, near, 8), want);
    // Nothing at all is mapped in the arenas behind.
    assert_eq!(space.protect(range(border << 1, 2), R), Err(EditError::NotMapped));
    assert_eq!(space.discard(range(border + 2, 1 << 30)), Err(EditError::NotMapped));
    finish(cpu, space);
}

/// The caller's check sees every segment of the range, clipped to it, and where it begins.
#[test]
fn a_check_sees_what_is_changed() {
    let (cpu, space) = setup(8192);
    space.map(Place::Fixed(Page(BASE)), 4, RW, &Backing::Anonymous, Flags::empty()).unwrap();
    space.map(Place::Fixed(Page(BASE + 4)), 4, R, &Backing::Anonymous, Flags::GROWS_DOWN).unwrap();
    let seen = std::cell::RefCell::new(Vec::new());
    let note = |s: &quire_mm::Seen| {
        seen.borrow_mut().push((s.start.0 - BASE, s.range.start.0 - BASE, s.range.end.0 - BASE, s.prot));
        s.flags.contains(Flags::GROWS_DOWN)
    };
    assert_eq!(space.protect_checked(range(BASE + 5, 2), RW, Some(&note)), Ok(()));
    assert_eq!(seen.take(), [(4, 5, 7, R)]);
    assert_eq!(space.protect_checked(range(BASE + 2, 3), R, Some(&note)), Err(EditError::Refused));
    assert_eq!(seen.take().last(), Some(&(0, 2, 4, RW)));
    assert_eq!(rights(&space, BASE, 8), [RW, RW, RW, RW, R, RW, RW, R].map(Some));
    finish(cpu, space);
}

/// Splits, merges, moves, forks and copies of leaves keep the count of writers; only the last one's end lets the object be closed.
#[test]
fn an_object_is_closed_when_nobody_may_write_it() {
    let (mut cpu, space) = setup(8192);
    let m = cpu.memory;
    let object = m.new_object(64 * SIZE, 64 * SIZE, &[]).unwrap();
    // Views for reading, and private ones, are no writers.
    show(&space, &object, BASE + 100, 64, R, Flags::READ_ONLY).unwrap();
    let private = Backing::Object { object: object.clone(), offset: 0, shared: false };
    space.map(Place::Fixed(Page(BASE + 200)), 64, RW, &private, Flags::empty()).unwrap();
    // One that may become writable is.
    show(&space, &object, BASE, 64, R, Flags::empty()).unwrap();
    for page in (0..64).step_by(2) {
        space.protect(range(BASE + page, 1), RW).unwrap();
        cpu.write((BASE + page) * SIZE, page).unwrap();
    }
    assert!(!m.close_object(&object, ALONE));
    space.remap(range(BASE + 10, 1), 1, Remap::Fixed(Page(BASE + 500)), false).unwrap();
    let there = space.remap(range(BASE + 11, 1), 1, Remap::MayMove(Page(0)), true).unwrap();
    let mut child = space.fork().unwrap();
    space.protect(range(BASE, 10), R).unwrap();
    space.unmap(range(1, BASE + 99)).unwrap();
    assert!(!m.close_object(&object, ALONE), "the moved ones");
    space.unmap(range(BASE + 500, 1)).unwrap();
    space.unmap(range(there.0, 1)).unwrap();
    assert!(!m.close_object(&object, ALONE), "the child's");
    assert!(show(&space, &object, BASE, 1, RW, Flags::empty()).is_ok(), "refused, and not closed");
    space.unmap(range(BASE, 1)).unwrap();
    child.destroy();
    assert!(m.close_object(&object, ALONE), "nobody is left");
    assert!(m.close_object(&object, ALONE), "twice");
    assert_eq!(show(&space, &object, BASE, 1, RW, Flags::empty()), Err(EditError::Closed));
    assert_eq!(show(&space, &object, BASE, 1, R, Flags::empty()), Err(EditError::Closed));
    assert_eq!(show(&space, &object, BASE, 1, RW, Flags::READ_ONLY), Err(EditError::Closed));
    assert!(show(&space, &object, BASE, 1, R, Flags::READ_ONLY).is_ok());
    assert_eq!(space.protect(range(BASE, 1), RW), Err(EditError::ReadOnly));
    assert_eq!(cpu.write(BASE * SIZE, 1), Err(Fault::Forbidden));
    assert_eq!((cpu.read(BASE * SIZE), cpu.write((BASE + 200) * SIZE, 9)), (Ok(0), Ok(())));
    drop((object, private, child));
    finish(cpu, space);
}

/// A child's memory is not locked, and what is locked nowhere merges again.
#[test]
fn a_child_locks_nothing() {
    let (cpu, space) = setup(8192);
    space.map(Place::Fixed(Page(BASE)), 9, RW, &Backing::Anonymous, Flags::empty()).unwrap();
    space.set_flags_to_hole(range(BASE + 3, 3), Flags::LOCKED, Flags::empty()).unwrap();
    let child = space.fork().unwrap();
    let all = |s: &Space<Fake>| s.find(Page(BASE)).map(|s| (s.range, s.flags));
    assert_eq!(all(&child), Some((range(BASE, 9), Flags::empty())));
    assert_eq!(all(&space), Some((range(BASE, 3), Flags::empty())));
    drop(child);
    finish(cpu, space);
}

/// What is mapped from now on gets the flags, wherever it goes; not what comes into a child.
#[test]
fn new_segments_get_future_flags() {
    let (cpu, space) = setup(8192);
    let plain = Backing::Anonymous;
    let map = |place, pages, flags| space.map(place, pages, RW, &plain, flags).unwrap();
    map(Place::Fixed(Page(BASE)), 4, Flags::empty());
    let border = (1 << 27) * 7;
    map(Place::Fixed(Page(border - 2)), 1, Flags::empty());
    space.set_future_flags(Flags::LOCKED);
    // What grows, here into another arena, is no new segment.
    assert_eq!(space.remap(range(border - 2, 1), 4, Remap::InPlace, false), Ok(Page(border - 2)));
    map(Place::Fixed(Page(BASE + 8)), 1, Flags::empty());
    map(Place::Fixed(Page(BASE + 1)), 1, Flags::empty());
    let across = map(Place::FixedNoReplace(Page((1 << 27) * 5 - 2)), 4, Flags::empty());
    map(Place::Fixed(Page(BASE + 16)), 1, Flags::WIPEONFORK);
    let child = space.fork().unwrap();
    child.map(Place::Fixed(Page(BASE + 32)), 1, RW, &plain, Flags::empty()).unwrap();
    let locked = |s: &Space<Fake>, page: u64| s.find(Page(page)).map(|s| s.flags.contains(Flags::LOCKED));
    let pages = [BASE, BASE + 1, BASE + 2, BASE + 8, across.0, across.0 + 3, BASE + 16, border - 1, border + 1];
    assert_eq!(pages.map(|p| locked(&space, p)), [false, true, false, true, true, true, false, false, false].map(Some));
    assert_eq!(pages.map(|p| locked(&child, p)), [Some(false); 9]);
    assert_eq!(locked(&child, BASE + 32), Some(false));
    drop(child);
    finish(cpu, space);
}

/// What is left of a view goes, and nothing else: neither another view of the same object nor what has come into a hole of it.
#[test]
fn a_view_is_unmapped_by_what_it_shows() {
    let (cpu, space) = setup(8192);
    let object = cpu.memory.new_object(8 * SIZE, 8 * SIZE, &[]).unwrap();
    show(&space, &object, BASE, 8, RW, Flags::empty()).unwrap();
    show(&space, &object, BASE + 2, 1, RW, Flags::empty()).unwrap();
    space.unmap(range(BASE, 1)).unwrap();
    space.map(Place::Fixed(Page(BASE + 5)), 1, RW, &Backing::Anonymous, Flags::empty()).unwrap();
    space.protect(range(BASE + 4, 1), R).unwrap();
    assert_eq!(unmap_view(&space, range(BASE, 8), &object), Ok(true));
    assert_eq!(rights(&space, BASE, 8), [None, None, Some(RW), None, None, Some(RW), None, None]);
    assert_eq!(unmap_view(&space, range(BASE, 8), &object), Ok(false));
    drop(object);
    finish(cpu, space);
}

/// One thread maps what cannot become writable where another makes everything writable.
#[test]
fn a_view_for_reading_is_never_writable() {
    const ROUNDS: u64 = 300;
    let m = memory(8192);
    let space = Arc::new(Space::new(m));
    let object = m.new_object(SIZE, SIZE, &[]).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let run = |n: usize, act: fn(&mut Cpu, &Shared)| {
            let (space, stop) = (space.clone(), &stop);
            scope.spawn(move || {
                let mut cpu = Cpu::new(m, n);
                cpu.enter(&space);
                let _end = EndOnPanic;
                while !stop.load(SeqCst) {
                    act(&mut cpu, &space);
                }
                cpu.leave();
            });
        };
        run(1, |_, space| _ = space.protect(range(BASE, 1), RW));
        run(2, |cpu, space| {
            let _ = cpu.write(BASE * SIZE + 8, 7);
            space.each_segment(range(BASE, 1), |s| {
                let view = matches!(s.backing, Backing::Object { .. });
                assert!(!(view && s.prot.contains(Prot::WRITE)), "a view for reading is writable");
            });
        });
        let mut cpu = Cpu::new(m, 0);
        cpu.enter(&space);
        let _end = EndOnPanic;
        for _ in 0..ROUNDS {
            show(&space, &object, BASE, 1, R, Flags::READ_ONLY).unwrap();
            assert_eq!(cpu.read(BASE * SIZE + 8), Ok(0), "the object was written");
            space.map(Place::Fixed(Page(BASE)), 1, R, &Backing::Anonymous, Flags::empty()).unwrap();
        }
        stop.store(true, SeqCst);
        cpu.leave();
    });
    drop(object);
    audit(m, &[&space]);
}

/// A second view has the rights and flags that the first one has then, and shows the same pages: in the place of private memory that was
/// written to, and over the border of an arena.
#[test]
fn a_second_view_is_as_the_first_is_now() {
    let (mut cpu, space) = setup(8192);
    let object = cpu.memory.new_object(9 * SIZE, 9 * SIZE, &[]).unwrap();
    let address = |page: u64| Page(page).addr();
    show(&space, &object, BASE, 4, RW, Flags::empty()).unwrap();
    space.set_future_flags(Flags::DONTFORK);
    let border = (1 << 27) * 7;
    for (round, at) in (0..).zip([BASE + 16, border - 2, border]) {
        space.map(Place::Fixed(Page(at)), 4, RW, &Backing::Anonymous, Flags::empty()).unwrap();
        (0..4).for_each(|page| cpu.write(address(at + page), 7).unwrap());
        space.protect(range(BASE, 4), RW).unwrap();
        cpu.write(address(BASE + 2), round).unwrap();
        space.protect(range(BASE, 4), if round == 1 { R } else { RW }).unwrap();
        space.set_flags_to_hole(range(BASE, 4), Flags::LOCKED, Flags::empty()).unwrap();
        assert_eq!(space.map_again(Page(BASE + 1), Some(Page(at)), 4), Ok(Page(at)));
        let view = space.find_whole(Page(at)).unwrap();
        assert_eq!((view.range, view.flags), (range(at, 4), Flags::SHARED | Flags::LOCKED));
        assert_eq!(view.prot, if round == 1 { R } else { RW });
        assert_eq!([0, 1, 2].map(|page| cpu.read(address(at + page))), [Ok(0), Ok(round), Ok(0)]);
        space.unmap(range(at, 4)).unwrap();
    }
    let anywhere = space.map_again(Page(BASE + 2), None, 1).unwrap();
    assert_eq!(cpu.read(anywhere.addr()), Ok(2));
    assert_eq!(space.map_again(Page(BASE + 1), Some(Page(BASE - 2)), 4), Err(EditError::Invalid));
    space.map(Place::Fixed(Page(BASE + 8)), 1, RW, &Backing::Anonymous, Flags::empty()).unwrap();
    for other in [BASE + 8, BASE + 9] {
        assert_eq!(space.map_again(Page(other), None, 1), Err(EditError::NotMapped));
    }
    drop(object);
    finish(cpu, space);
}

/// What moves out of a locked segment and leaves its pages mapped unlocks all that is left on its side, over the border of an arena, too.
#[test]
fn a_move_unlocks_what_it_leaves_behind() {
    let (mut cpu, space) = setup(8192);
    let border = (1 << 27) * 7;
    let locked = |page: u64| space.find(Page(page)).unwrap().flags;
    let all = Flags::LOCKS;
    for (from, to) in [(0, 100), (border - 1, border + 100), (border - 5, border + 3), (border + 2, border - 5)] {
        space.map(Place::Fixed(Page(border - 6)), 12, RW, &Backing::Anonymous, all).unwrap();
        space.map(Place::Fixed(Page(border + 6)), 1, R, &Backing::Anonymous, all).unwrap();
        let from = if from == 0 { border - 1 } else { from };
        cpu.write(Page(from).addr(), 3).unwrap();
        let at = space.remap(range(from, 1), 1, Remap::Fixed(Page(to)), true).unwrap();
        assert_eq!((cpu.read(at.addr()), locked(to)), (Ok(3), all));
        for page in (border - 6..border + 6).filter(|&page| page != to) {
            let beyond = if to > from { page > to } else { page < to };
            assert_eq!(locked(page), if beyond { all } else { Flags::empty() }, "page {page}");
        }
        assert_eq!(locked(border + 6), all);
        space.unmap(range(to, 1)).unwrap();
        space.unmap(range(border - 6, 20)).unwrap();
    }
    finish(cpu, space);
}
