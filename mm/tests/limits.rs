//! References that a frame cannot count any more: refused, not waited for.

use quire_mm::fake::{Cpu, Fake, Stop, audit, memory};
use quire_mm::{
    Backing, EditError, Fault, Flags, Frame, Memory, PAGE, Page, PageError, PageRange, Place, Prot, Quota, Space,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

const RW: Prot = Prot::READ.union(Prot::WRITE);
const BASE: Page = Page(1 << 20);
const PAGES: u64 = 20;
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
    let m = memory(1024);
    let mut cpu = Cpu::new(m, 0);
    let space = Arc::new(Space::new(m));
    cpu.enter(&space);
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
    let m = memory(1024);
    let mut cpu = Cpu::new(m, 0);
    let space = Arc::new(Space::new(m));
    cpu.enter(&space);
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
    assert_eq!(cpu.read(Page(BASE.0 + 10).addr()), Err(Fault::Beyond));
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
    QUOTA.limit(1);
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
        assert_eq!(QUOTA.used(), 1);
        let _ = m.set_object_len(&object, 0).unwrap();
        assert_eq!(QUOTA.used(), 0);
        let _ = m.set_object_len(&object, PAGE as u64).unwrap();
        if through {
            assert!(n > 5, "{n} points");
            break;
        }
    }
    drop(object);
    audit(m, &[]);
}
