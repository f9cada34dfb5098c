//! Tables in which nothing is mapped any more: they come back, wherever the program goes. The audit looks for a reason for each.

mod common;

use common::{RW, Random, range};
use quire_mm::fake::{Cpu, Fake, audit, memory};
use quire_mm::{Backing, EditError, Flags, Page, PageRange, Place, Prot, Remap, Space};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// Pages of a leaf table, of a table above it, of an arena.
const LEAF: u64 = 512;
const UPPER: u64 = LEAF * 512;
const ARENA: u64 = UPPER * 512;
/// Tables of an arena that need no reason: its own, and those of the leaf spans that it remembers.
const SPARE: u64 = 1 + 2 * 4;
/// Those of two arenas in which one page was mapped.
const OTHERS: u64 = 2 * 3;

fn fixed(space: &Space<Fake>, p: u64, n: u64) {
    space.map(Place::Fixed(Page(p)), n, RW, &Backing::Anonymous, Flags::empty()).unwrap();
}

/// The tables that there are, with the CPUs at rest. Top-level tables do not count.
fn tables(cpu: &mut Cpu, space: &Arc<Space<Fake>>) -> u64 {
    let m = cpu.memory;
    cpu.leave();
    while m.has_retired() {
        m.collect();
    }
    let n = audit(m, &[space]).tables;
    cpu.enter(space);
    let tops = (0..quire_mm::CPUS).filter(|&cpu| space.has_top(cpu)).count() as u64;
    n - tops
}

/// A space in which CPU 0 works, alone or beside another CPU that has joined the arenas and does nothing.
fn each_way(work: impl Fn(&mut Cpu, &Arc<Space<Fake>>)) {
    for alone in [true, false] {
        let m = memory(20_000);
        let space = Arc::new(Space::new(m));
        let (joined, over) = (AtomicBool::new(alone), AtomicBool::new(alone));
        std::thread::scope(|s| {
            if !alone {
                s.spawn(|| {
                    let mut other = Cpu::new(m, 1);
                    other.enter(&space);
                    for arena in 1..4 {
                        fixed(&space, arena * ARENA, 1);
                        other.read(Page(arena * ARENA).addr()).unwrap();
                        space.unmap(range(arena * ARENA, 1)).unwrap();
                    }
                    joined.store(true, SeqCst);
                    other.wait_until(|| over.load(SeqCst));
                });
            }
            while !joined.load(SeqCst) {
                std::thread::yield_now();
            }
            let mut cpu = Cpu::new(m, 0);
            cpu.enter(&space);
            let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&mut cpu, &space)));
            over.store(true, SeqCst);
            worked.unwrap_or_else(|why| std::panic::resume_unwind(why));
        });
        audit(m, &[&space]);
        drop(space);
        let r = audit(m, &[]);
        assert_eq!((r.tables, r.slabs, r.pages, r.objects), (0, 0, 1, 0), "{r:?}");
    }
}

#[test]
fn one_page_at_a_time_all_over_an_arena() {
    each_way(|cpu, space| {
        let mut r = Random(7);
        for i in 0..1000 {
            let p = ARENA + r.next(ARENA);
            fixed(space, p, 1);
            cpu.write(Page(p).addr(), i).unwrap();
            space.unmap(range(p, 1)).unwrap();
            if i % 100 == 0 {
                let n = tables(cpu, space);
                assert!(n <= OTHERS + SPARE, "{n} tables after {i} pages");
            }
        }
    });
}

/// What stays mapped here and there is a reason for its own tables only.
#[test]
fn neighbours_that_go_in_any_order() {
    each_way(|cpu, space| {
        let mut r = Random(99);
        for round in 0..30 {
            let base = ARENA + r.next(500) * UPPER;
            let mut pages: Vec<u64> = (0..40).map(|_| base + r.next(6) * LEAF + r.next(LEAF)).collect();
            pages.sort_unstable();
            pages.dedup();
            for &p in &pages {
                fixed(space, p, 1);
                if r.next(4) != 0 {
                    cpu.write(Page(p).addr(), round).unwrap();
                }
            }
            while !pages.is_empty() {
                let p = pages.swap_remove(r.next(pages.len() as u64) as usize);
                space.unmap(range(p, 1)).unwrap();
                if r.next(10) == 0 {
                    tables(cpu, space);
                }
            }
            let n = tables(cpu, space);
            assert!(n <= OTHERS + SPARE, "{n} tables after round {round}");
        }
    });
}

/// Sizes from a page to several upper tables, at any place, through two arenas; moves, forks, replacements, holes.
#[test]
fn edits_of_all_kinds_at_random_addresses() {
    each_way(|cpu, space| {
        let mut r = Random(31);
        let place = |r: &mut Random| (1 + r.next(2)) * ARENA - 2 * UPPER + r.next(4 * UPPER);
        let size = |r: &mut Random| match r.next(4) {
            0 => 1 + r.next(3),
            1 => 1 + r.next(LEAF),
            2 => 1 + r.next(4 * LEAF),
            _ => 1 + r.next(2 * UPPER),
        };
        for i in 0..300u64 {
            let (p, n) = (place(&mut r), size(&mut r));
            fixed(space, p, n);
            for _ in 0..r.next(6) {
                cpu.write(Page(p + r.next(n)).addr(), i).unwrap();
            }
            match r.next(6) {
                0 => {
                    let at = (p % ARENA).min(ARENA - n.min(ARENA)) + 3 * ARENA;
                    let left = n.min(ARENA - p % ARENA);
                    match space.remap(range(p, left), 1 + r.next(2 * left), Remap::Fixed(Page(at)), r.next(4) == 0) {
                        Ok(_) | Err(EditError::NoSpace | EditError::NotMapped) => {}
                        other => panic!("{other:?}"),
                    }
                    space.unmap(range(3 * ARENA, ARENA)).unwrap();
                }
                1 => drop(space.fork().unwrap()),
                2 => space.protect(range(p, n), Prot::READ).unwrap(),
                3 => space.discard(range(p, n)).unwrap(),
                _ => {}
            }
            for _ in 0..3 {
                let (q, k) = (p + r.next(n), 1 + r.next(n));
                space.unmap(range(q, k)).unwrap();
            }
            if i % 3 != 0 {
                space.unmap(range(p, n)).unwrap();
            }
            if i % 20 == 0 {
                tables(cpu, space);
            }
        }
        let mut left = Vec::new();
        space.each_segment(PageRange { start: Page(0), end: PageRange::LIMIT }, |s| left.push(s.range));
        assert!(!left.is_empty());
        left.into_iter().for_each(|range| space.unmap(range).unwrap());
        let n = tables(cpu, space);
        assert!(n <= 4 * SPARE, "{n} tables in an empty space");
    });
}

/// A move that fails for want of memory, and a mapping across arenas that does, leave no table behind. So does a view of an object that is
/// detached while parts of it are gone.
#[test]
fn edits_that_fail_or_take_parts() {
    each_way(|cpu, space| {
        let m = cpu.memory;
        for i in (0..40).step_by(3) {
            fixed(space, ARENA, 8 * LEAF);
            (0..8).for_each(|k| cpu.write(Page(ARENA + k * LEAF).addr(), i).unwrap());
            m.collect();
            let frames: Vec<_> = std::iter::from_fn(|| m.alloc()).collect();
            let (few, rest) = frames.split_at((i as usize).min(frames.len()));
            few.iter().for_each(|&f| m.free(f));
            let to = Page(2 * ARENA + 3 * UPPER + 7);
            match space.remap(range(ARENA, 8 * LEAF), 8 * LEAF, Remap::Fixed(to), false) {
                Ok(_) => space.unmap(range(to.0, 8 * LEAF)).unwrap(),
                Err(EditError::OutOfFrames) => {}
                other => panic!("{other:?}"),
            }
            let _ = space.map(Place::FixedNoReplace(Page(3 * ARENA - 9)), 100, RW, &Backing::Anonymous, Flags::empty());
            rest.iter().for_each(|&f| m.free(f));
            tables(cpu, space);
            space.unmap(range(ARENA, 8 * LEAF)).unwrap();
            space.unmap(range(3 * ARENA - 9, 100)).unwrap();
        }
        let object = m.new_object_within(PAGES * 4096, PAGES, &[], None).unwrap();
        const PAGES: u64 = 3 * LEAF;
        let shown = Backing::Object { object: object.clone(), offset: 0, shared: true };
        for at in [ARENA + 5, ARENA + UPPER - LEAF + 5] {
            space.map(Place::Fixed(Page(at)), PAGES, RW, &shown, Flags::empty()).unwrap();
            (0..6).for_each(|k| cpu.write(Page(at + k * LEAF / 2).addr(), k).unwrap());
            space.unmap(range(at + 100, LEAF)).unwrap();
            space.unmap(range(at + LEAF + 200, 50)).unwrap();
            let mut found = false;
            assert_eq!(space.unmap_view(range(at, PAGES), &object, &mut found), Ok(()));
            assert!(found);
            tables(cpu, space);
        }
        drop((object, shown));
    });
}

/// Several CPUs at once, in one arena, at places of their own and at places that they share.
#[test]
fn many_cpus_at_random_addresses() {
    let m = memory(30_000);
    let space: Arc<Space<Fake>> = Arc::new(Space::new(m));
    std::thread::scope(|s| {
        for id in 1..=4usize {
            let space = &space;
            s.spawn(move || {
                let mut cpu = Cpu::new(m, id);
                cpu.enter(space);
                let mut r = Random(id as u64 * 1001);
                for i in 0..1000 {
                    // Three upper spans, a few leaf spans in each; every CPU has an eighth of each leaf span for itself.
                    let leaf = ARENA + r.next(3) * UPPER + r.next(5) * LEAF;
                    let own = leaf + id as u64 * 64;
                    fixed(space, own, 2);
                    cpu.write(Page(own).addr(), i << 8 | id as u64).unwrap();
                    if r.next(8) == 0 {
                        let _ = space.map(Place::Fixed(Page(leaf)), 4, RW, &Backing::Anonymous, Flags::empty());
                        let _ = cpu.write(Page(leaf).addr(), i);
                    }
                    if r.next(8) == 0 {
                        space.unmap(range(leaf, 4)).unwrap();
                    }
                    assert_eq!(cpu.read(Page(own).addr()), Ok(i << 8 | id as u64));
                    assert_eq!(cpu.read(Page(own + 1).addr()), Ok(0));
                    space.unmap(range(own, 2)).unwrap();
                    assert!(cpu.read(Page(own).addr()).is_err());
                }
            });
        }
    });
    let r = audit(m, &[&space]);
    let tops = 4;
    assert!(r.tables <= tops + SPARE + 18, "{r:?}");
    space.unmap(range(ARENA, ARENA)).unwrap();
    audit(m, &[&space]);
    drop(space);
    let r = audit(m, &[]);
    assert_eq!((r.tables, r.slabs, r.pages, r.objects), (0, 0, 1, 0), "{r:?}");
}
