//! Pages that leave their object: what mappings show afterwards, one CPU at a time and several against each other.

mod common;

use common::{RW, Shared, finish, setup};
use quire_mm::fake::{Cpu, Fake, audit, memory};
use quire_mm::{
    Access, Backing, Fault, Flags, Memory, Object, ObjectRef, PAGE, Page, PageError, PageRange, Place, Prot, Remap,
    Space,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

const BASE: u64 = 1 << 20;
const SIZE: u64 = PAGE as u64;

fn show(space: &Shared, object: &ObjectRef, at: u64, pages: u64, shared: bool) {
    let backing = Backing::Object { object: object.clone(), offset: 0, shared };
    space.map(Place::Fixed(Page(at)), pages, RW, &backing, Flags::empty()).unwrap();
}

fn resize(m: &Memory<Fake>, object: &Object, pages: u64, spaces: &[&Shared]) {
    let cut = m.set_object_len(object, pages * SIZE).unwrap();
    spaces.iter().for_each(|s| s.cut(&cut));
}

fn addr(page: u64) -> u64 {
    page * SIZE
}

/// Shared and private pages, copies and hidden ones, tables that go whole: behind the end there is nothing, and then zeros.
#[test]
fn behind_the_end_there_is_nothing() {
    const N: u64 = 1300;
    let (mut cpu, space) = setup(8192);
    let m = cpu.memory;
    let object = m.new_object(N * SIZE, N * SIZE, &[]).unwrap();
    let (all, copy) = (BASE, 2 * BASE);
    show(&space, &object, all, N, true);
    show(&space, &object, copy, N, false);
    for i in 0..N {
        cpu.write(addr(all + i), 100 + i).unwrap();
        match i % 3 {
            0 => cpu.write(addr(copy + i), 7).unwrap(),
            1 => assert_eq!(cpu.read(addr(copy + i)), Ok(100 + i)),
            _ => {}
        }
    }
    space.protect(PageRange::new(Page(copy + 50), 20).unwrap(), Prot::empty()).unwrap();
    for end in [1290, 600, 55, 3] {
        let cut = m.set_object_len(&object, end * SIZE).unwrap();
        assert!(!cut.is_empty());
        space.cut(&cut);
        assert_eq!(object.resident(), end);
        assert!((end..N).all(|i| !space.is_resident(Page(all + i)) && !space.is_resident(Page(copy + i))));
        assert_eq!(cpu.read(addr(all + end)), Err(Fault::Beyond));
        assert_eq!((cpu.read(addr(all)), cpu.read(addr(copy)), cpu.read(addr(all + 2))), (Ok(100), Ok(7), Ok(102)));
    }
    assert_eq!(cpu.write(addr(copy + 1000), 1), Err(Fault::Beyond));
    resize(m, &object, N, &[&space]);
    for i in 3..N {
        assert_eq!(cpu.read(addr(all + i)), Ok(0));
    }
    assert_eq!((cpu.read(addr(copy + 6)), cpu.read(addr(copy + 1))), (Ok(0), Ok(101)));
    assert_eq!(m.set_object_len(&object, 1 << 40).err(), Some(PageError::Beyond));
    drop(object);
    finish(cpu, space);
}

/// A hole has zeros for shared mappings and for who has made no copy; parts of pages stay, and so do copies.
#[test]
fn a_hole_leaves_private_copies() {
    let (mut cpu, space) = setup(4096);
    let m = cpu.memory;
    let object = m.new_object(8 * SIZE, 8 * SIZE, &[]).unwrap();
    let (all, copy) = (BASE, 2 * BASE);
    show(&space, &object, all, 8, true);
    show(&space, &object, copy, 8, false);
    for i in 0..8 {
        cpu.write(addr(all + i), 10 + i).unwrap();
        cpu.write(addr(all + i) + 800, 20 + i).unwrap();
        cpu.read(addr(copy + i)).unwrap();
    }
    cpu.write(addr(copy + 3), 99).unwrap();
    space.protect(PageRange::new(Page(copy + 2), 2).unwrap(), Prot::empty()).unwrap();
    let cut = m.punch_object(&object, SIZE + 400, 4 * SIZE + 400).unwrap();
    space.cut(&cut);
    space.protect(PageRange::new(Page(copy + 2), 2).unwrap(), RW).unwrap();
    let words = |cpu: &mut Cpu, from: u64| -> Vec<_> {
        (0..8).map(|i| (cpu.read(addr(from + i)).unwrap(), cpu.read(addr(from + i) + 800).unwrap())).collect()
    };
    let left = [(10, 20), (11, 0), (0, 0), (0, 0), (0, 24), (15, 25), (16, 26), (17, 27)];
    assert_eq!(words(&mut cpu, all), left);
    let mut copied = left;
    copied[3] = (99, 23);
    assert_eq!(words(&mut cpu, copy), copied);
    // Within one page, from its first byte on, and to behind the end.
    space.cut(&m.punch_object(&object, 6 * SIZE, 6 * SIZE + 256).unwrap());
    space.cut(&m.punch_object(&object, 5 * SIZE + 800, 5 * SIZE + 808).unwrap());
    space.cut(&m.punch_object(&object, 7 * SIZE + 8, 1 << 40).unwrap());
    assert_eq!(&words(&mut cpu, all)[5..], [(15, 0), (0, 26), (17, 0)]);
    assert_eq!(object.len(), 8 * SIZE);
    drop(object);
    finish(cpu, space);
}

/// What is in an object and what is a hole, across tables that are there and tables that are not.
#[test]
fn an_object_knows_its_holes() {
    let (cpu, space) = setup(4096);
    let m = cpu.memory;
    let object = m.new_object(600 * SIZE, 1 << 30, &[]).unwrap();
    assert_eq!((object.held(), m.object_next(&object, 0, true), m.object_next(&object, 5, false)), (0, 600, 5));
    for page in [3, 4, 515] {
        m.hold_page(&object, page).unwrap();
    }
    let next = |there| [0, 3, 4, 5, 511, 515, 516, 600].map(|from| m.object_next(&object, from, there));
    assert_eq!(next(true), [3, 3, 4, 515, 515, 515, 600, 600]);
    assert_eq!(next(false), [0, 5, 5, 5, 511, 516, 516, 600]);
    assert_eq!(object.held(), 3);
    space.cut(&m.punch_object(&object, 4 * SIZE, 5 * SIZE).unwrap());
    space.cut(&m.set_object_len(&object, 500 * SIZE).unwrap());
    assert_eq!((object.held(), m.object_next(&object, 4, true), m.object_next(&object, 3, false)), (1, 500, 4));
    drop(object);
    finish(cpu, space);
}

/// A file that becomes shorter under CPUs that store to it, move a mapping of it between arenas and fork.
#[test]
fn nobody_shows_what_was_cut() {
    const N: u64 = 12;
    const KEPT: u64 = 2;
    let m = memory(20_000);
    let space: Shared = Arc::new(Space::new(m));
    let object = m.new_object(N * SIZE, N * SIZE, &[]).unwrap();
    let (all, copy) = (BASE, 2 * BASE);
    show(&space, &object, all, N, true);
    show(&space, &object, copy, N, false);
    let places = [Page::of(3, 0), Page::of(7, 512), Page::of(2, 9)];
    show(&space, &object, places[0].0, N, true);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (stop, space) = (&stop, &space);
        for id in 1..3 {
            scope.spawn(move || {
                let mut cpu = Cpu::new(m, id);
                cpu.enter(space);
                for i in 0.. {
                    if stop.load(SeqCst) {
                        break;
                    }
                    let page = [all, copy][i as usize % 2] + i * 7 % N;
                    // Refused behind the end.
                    let stored = cpu.write(addr(page) + 8 * id as u64, i + 1);
                    assert!(matches!(stored, Ok(()) | Err(Fault::Beyond)), "{stored:?}");
                }
            });
        }
        scope.spawn(move || {
            let mut cpu = Cpu::new(m, 3);
            cpu.enter(space);
            for i in 0.. {
                if stop.load(SeqCst) {
                    break;
                }
                let (from, to) = (places[i % 3], places[(i + 1) % 3]);
                let _ = space.fault(from, Access::Write);
                space.remap(PageRange::new(from, N).unwrap(), N, Remap::Fixed(to), false).unwrap();
                cpu.poll();
            }
        });
        // No CPU of the space: it is another process that makes the file shorter.
        let cpu = Cpu::new(m, 0);
        let mut end = KEPT;
        for round in 0..150 {
            end = KEPT + (end * 7 + round) % (N - KEPT);
            let child: Shared = Arc::new(Space::for_copy(m));
            std::thread::scope(|scope| {
                let forks = scope.spawn(|| {
                    let _cpu = Cpu::new(m, 4);
                    space.fork_into(&child).unwrap();
                });
                // As the kernel does it: the object, then the spaces in the order of their making.
                resize(m, &object, end, &[space, &child]);
                while !forks.is_finished() {
                    cpu.poll();
                    std::thread::yield_now();
                }
            });
            for s in [space, &child] {
                for i in end..N {
                    let shown = |at: u64| s.is_resident(Page(at + i));
                    assert!(!shown(all) && !shown(copy), "round {round}: page {i} behind the end {end}");
                    assert!(!places.iter().any(|p| shown(p.0)), "round {round}: page {i} was carried away");
                }
            }
            drop(child);
            resize(m, &object, N, &[]);
            for i in end..N {
                let page = m.hold_page(&object, i).unwrap();
                // SAFETY: the page is held, and nobody stores to its first word.
                assert_eq!(unsafe { page.bytes().cast::<u64>().read() }, 0);
            }
        }
        stop.store(true, SeqCst);
        drop(cpu);
    });
    drop(object);
    audit(m, &[&space]);
    drop(space);
    let r = audit(m, &[]);
    assert_eq!((r.tables, r.slabs, r.pages, r.objects), (0, 0, 1, 0), "{r:?}");
}
