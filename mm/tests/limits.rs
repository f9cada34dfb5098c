//! References that a frame cannot count any more: refused, not waited for.

mod common;

use common::{RW, setup};
use quire_mm::fake::{Cpu, Fake, Stop, audit, memory};
use quire_mm::{
    Backing, EditError, Fault, Flags, Frame, Memory, PAGE, Page, PageError, PageRange, Place, Prot, Quota, Remap, Space,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

const BASE: Page = Page(1 << 20);
const PAGES: u64 = 20;
/// Pages of an arena, 512 GiB.
const ARENA: u64 = 1 << 27;
/// The page in the middle, whose frame gets so many references.
const CROWDED: u64 = 11;

fn all() -> PageRange {
    PageRange::new(BASE, PAGES).unwrap()
}

/// Takes references until there are no more to be had. Returns how many.
fn crowd(m: &'static Memory<Fake>, f: Frame) -> u64 {
    (0..).take_while(|_| m.try_ref(f)).count() as u64
}

fn disperse(m: &'static Memory<Fake>, f: Frame, n: u64) {
    (0..n).for_each(|_| assert_eq!(m.release_frame(f), None));
}

fn finish(cpu: Cpu, space: Arc<Space<Fake>>) {
    let m = cpu.memory;
    drop((cpu, space));
    while m.has_retired() {
        m.collect();
    }
    let r = audit(m, &[]);
    assert_eq!((r.tables, r.slabs, r.pages, r.objects), (0, 0, 1, 0), "{r:?}");
}

/// A page with 16 million references: its space cannot be forked, first as it is, then with pages that an earlier fork has left
/// read-only. Each time the fork fails, the child leaves nothing behind, and the parent goes on.
#[test]
fn a_fork_fails_where_a_frame_can_count_no_more() {
    let (mut cpu, space) = setup(1024);
    let m = cpu.memory;
    space.map(Place::Fixed(BASE), PAGES, RW, &Backing::Anonymous, Flags::empty()).unwrap();
    let at = |i: u64| Page(BASE.0 + i).addr();
    (0..PAGES).for_each(|i| cpu.write(at(i), i).unwrap());
    let mut frame = None;
    space.each_page(all(), &mut |page, f| {
        if page.0 == BASE.0 + CROWDED {
            frame = Some(f);
        }
    });
    let frame = frame.expect("a page that was stored to");
    let n = crowd(m, frame);
    assert!(n > 1 << 23, "{n} references");
    for turn in 0..2 {
        let free = m.free_frames();
        assert_eq!(space.fork().map(drop), Err(EditError::TooMany));
        assert_eq!(m.free_frames(), free, "the child has left something behind");
        (0..PAGES).for_each(|i| assert_eq!(cpu.read(at(i)), Ok(i)));
        (0..PAGES).filter(|&i| i != CROWDED).for_each(|i| cpu.write(at(i), i).unwrap());
        if turn == 0 {
            // With room for one more, there is a child; and no room for a second one.
            disperse(m, frame, 1);
            let child = space.fork().expect("room for one reference");
            assert_eq!(space.fork().map(drop), Err(EditError::TooMany));
            drop(child);
            assert!(m.try_ref(frame));
        }
    }
    disperse(m, frame, n);
    cpu.write(at(CROWDED), 99).unwrap();
    assert_eq!(cpu.read(at(CROWDED)), Ok(99));
    cpu.leave();
    audit(m, &[&space]);
    finish(cpu, space);
}

/// A program may map one page of a file as often as it likes: the mapping that the frame cannot count is SIGBUS.
#[test]
fn an_objects_page_can_be_mapped_so_often() {
    let (mut cpu, space) = setup(1024);
    let m = cpu.memory;
    let object = m.new_object(PAGE as u64, 0, &[]).unwrap();
    let backing = Backing::Object { object: object.clone(), offset: 0, shared: true };
    for at in [BASE, Page(BASE.0 + 10)] {
        space.map(Place::Fixed(at), 1, RW, &backing, Flags::empty()).unwrap();
    }
    drop(backing);
    cpu.write(BASE.addr(), 7).unwrap();
    let frame = m.object_page(&object, 0).unwrap();
    let n = crowd(m, frame) + 1;
    assert_eq!(m.hold_page(&object, 0).map(drop), Err(PageError::Full));
    assert_eq!(cpu.read(Page(BASE.0 + 10).addr()), Err(Fault::Full));
    disperse(m, frame, n);
    assert_eq!(cpu.read(Page(BASE.0 + 10).addr()), Ok(7));
    drop(object);
    cpu.leave();
    audit(m, &[&space]);
    finish(cpu, space);
}

/// A CPU stands anywhere on its way to the last page that a file system has room for; another one that wants the same page is
/// not refused, and gets it when that one goes on.
#[test]
fn the_last_page_of_a_quota_is_for_all_who_want_it() {
    static QUOTA: Quota = Quota::new();
    // With a table for it, which stays.
    QUOTA.limit(2);
    let m = memory(1024);
    let object = m.new_object_within(PAGE as u64, 0, &[], Some(&QUOTA)).unwrap();
    for n in 1.. {
        let stop = Arc::new(Stop::default());
        let through = std::thread::scope(|s| {
            let first = s.spawn(|| {
                let _cpu = Cpu::new(m, 1);
                Stop::after(n, &stop);
                let page = m.hold_page(&object, 0).map(drop);
                let through = Stop::disarm();
                stop.finish();
                (page, through)
            });
            stop.wait();
            let second = s.spawn(|| {
                let _cpu = Cpu::new(m, 2);
                m.hold_page(&object, 0).map(drop)
            });
            let patience = Instant::now() + Duration::from_millis(20);
            while !second.is_finished() && Instant::now() < patience {
                std::thread::yield_now();
            }
            stop.release();
            let (page, through) = first.join().unwrap();
            assert_eq!(second.join().unwrap(), Ok(()), "point {n}: refused, though the page is there");
            assert_eq!(page, Ok(()), "point {n}");
            through
        });
        assert_eq!(QUOTA.used(), 2);
        let _ = m.set_object_len(&object, 0).unwrap();
        assert_eq!(QUOTA.used(), 1);
        let _ = m.set_object_len(&object, PAGE as u64).unwrap();
        if through {
            assert!(n > 5, "{n} points");
            break;
        }
    }
    drop(object);
    audit(m, &[]);
}

/// The limit is a space's: arenas have no room of their own. What goes makes room again; and an unmap that would split a segment needs
/// room for one.
#[test]
fn segments_are_counted_over_all_arenas() {
    const MOST: u64 = 100;
    let m = memory(1024);
    m.set_most_segments(MOST);
    let mut cpu = Cpu::new(m, 0);
    let space = Arc::new(Space::new(m));
    cpu.enter(&space);
    let at = |n: u64| Place::Fixed(Page::of(1 + n as usize % 3, 8 * n as u32));
    let map = |n: u64| space.map(at(n), 3, RW, &Backing::Anonymous, Flags::empty());
    (0..MOST).for_each(|n| assert!(map(n).is_ok(), "segment {n}"));
    assert_eq!(map(MOST), Err(EditError::TooMany));
    assert_eq!(space.map(Place::Anywhere, 1, RW, &Backing::Anonymous, Flags::empty()), Err(EditError::TooMany));
    let page = |n: u64, i: u32| PageRange::new(Page::of(1 + n as usize % 3, 8 * n as u32 + i), 1).unwrap();
    assert_eq!(space.unmap(page(0, 1)), Err(EditError::TooMany));
    assert_eq!(space.protect(page(0, 0), Prot::READ), Err(EditError::TooMany));
    assert_eq!(space.segments(), MOST);
    (0..3).for_each(|i| space.unmap(page(7, i)).unwrap());
    assert!(map(MOST).is_ok());
    m.set_most_segments(MOST + 1);
    space.unmap(page(0, 1)).unwrap();
    assert_eq!(space.segments(), MOST + 1);
    finish(cpu, space);
}

/// An object of 512 GiB with two pages: whoever visits its pages passes the hole by.
#[test]
fn holes_of_objects_are_passed_by() {
    let m = memory(1024);
    let cpu = Cpu::new(m, 0);
    let last = (512u64 << 30) / PAGE as u64 - 1;
    let object = m.new_object(512 << 30, 512 << 30, &[]).unwrap();
    for index in [0, last] {
        drop(m.hold_page(&object, index).unwrap());
    }
    let (mut at, mut seen) = (0, 0);
    while let Some(index) = m.next_object_page(&object, at) {
        (at, seen) = (index + 1, seen + 1);
    }
    assert_eq!((seen, at), (1024, last + 1));
    // Two pages, and for each a table on each level below the root.
    assert_eq!((object.held(), object.tables()), (2, 5));
    let in_use = || {
        let (mut sum, mut looks, mut from) = (0, 0, 0);
        while let Some((pages, behind)) = m.object_pages_in_use(&object, from) {
            (sum, looks, from) = (sum + pages, looks + 1, behind);
        }
        (sum, looks, from)
    };
    assert_eq!(in_use(), (0, 2, last + 1));
    let held = m.hold_page(&object, last).unwrap();
    assert_eq!(in_use(), (1, 2, last + 1));
    drop(held);
    drop(object);
    finish(cpu, Arc::new(Space::new(m)));
}

/// A mapping larger than an arena goes past a stack in whose guard it would end, and so does one that is as long as an arena.
#[test]
fn large_mappings_leave_guards_alone() {
    let (mut cpu, space) = setup(20_000);
    let stack = space.map(Place::Fixed(Page(3 * ARENA)), 1, RW, &Backing::Anonymous, Flags::GROWS_DOWN).unwrap();
    for pages in [2 * ARENA, 2 * ARENA - 255, ARENA, ARENA - 1] {
        let at = space.map(Place::Anywhere, pages, Prot::empty(), &Backing::Anonymous, Flags::empty()).unwrap();
        assert!(at.0 + pages + 256 <= stack.0 || at > stack, "{pages} pages at {at:?}");
    }
    cpu.leave();
    drop(space);
    drop(cpu);
}

/// A move that is refused for its number of segments has touched neither its source nor its destination.
#[test]
fn a_refused_move_loses_nothing() {
    const MOST: u64 = 20;
    let (mut cpu, space) = setup(20_000);
    let m = cpu.memory;
    let base = 1u64 << 20;
    let map = |page: u64, pages: u64| {
        space.map(Place::Fixed(Page(page)), pages, RW, &Backing::Anonymous, Flags::UNMERGED).unwrap();
    };
    map(base, 3);
    map(base + 10, 1);
    (0..3).for_each(|n| cpu.write(Page(base + n).addr(), n + 7).unwrap());
    cpu.write(Page(base + 10).addr(), 99).unwrap();
    (2..MOST).for_each(|n| map(base + 20 + n, 1));
    m.set_most_segments(MOST);
    let to = Remap::Fixed(Page(base + 1));
    let source = PageRange::new(Page(base + 10), 1).unwrap();
    assert_eq!(space.remap(source, 1, to, false), Err(EditError::TooMany));
    (0..3).for_each(|n| assert_eq!(cpu.read(Page(base + n).addr()), Ok(n + 7)));
    assert_eq!(cpu.read(Page(base + 10).addr()), Ok(99));
    m.set_most_segments(MOST + 10);
    assert_eq!(space.remap(source, 1, to, false), Ok(Page(base + 1)));
    assert_eq!(cpu.read(Page(base + 1).addr()), Ok(99));
    cpu.leave();
    audit(m, &[&space]);
}

/// Many segments in one arena leave no room for some in an arena that has few.
#[test]
fn an_arena_with_few_segments_counts_with_the_others() {
    const MOST: u64 = 1024;
    let m = memory(20_000);
    let space = Space::new(m);
    m.set_most_segments(MOST);
    let map = |page: u64| space.map(Place::Fixed(Page(page)), 1, RW, &Backing::Anonymous, Flags::UNMERGED);
    (0..MOST).for_each(|n| assert!(map((1 << 20) + n).is_ok(), "segment {n}"));
    assert_eq!(map(5 * ARENA), Err(EditError::TooMany));
    let child = space.fork().unwrap();
    let there = child.map(Place::Fixed(Page(5 * ARENA)), 1, RW, &Backing::Anonymous, Flags::UNMERGED);
    assert_eq!(there, Err(EditError::TooMany));
}
