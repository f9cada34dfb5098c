//! One CPU, one operation at a time: what each edit and fault does, and that the audit finds nothing after it.

mod common;

use common::{RW, finish, setup};
use quire_mm::fake::{Fake, audit};
use quire_mm::slab::NodePlace;
use quire_mm::{
    Backing, EditError, Fault, Flags, Frame, Memory, PAGE, Page, PageError, PageRange, Place, Prot, Quota, Remap, Space,
};
use std::sync::Arc;

fn range(page: Page, pages: u64) -> PageRange {
    PageRange::new(page, pages).unwrap()
}

fn anon(space: &Space<quire_mm::fake::Fake>, pages: u64, prot: Prot) -> u64 {
    space.map(Place::Anywhere, pages, prot, &Backing::Anonymous, Flags::empty()).unwrap().addr()
}

#[test]
fn anonymous_memory_reads_zero_and_keeps_what_is_written() {
    let (mut cpu, space) = setup(4096);
    let a = anon(&space, 16, RW);
    assert_eq!(cpu.read(a + 8), Ok(0));
    cpu.write(a + 8, 7).unwrap();
    assert_eq!(cpu.read(a + 8), Ok(7));
    assert_eq!(cpu.read(a + PAGE as u64), Ok(0));
    assert_eq!(space.usage().resident, 1);
    space.unmap(range(Page::containing(a), 16)).unwrap();
    assert_eq!(cpu.read(a + 8), Err(Fault::NoSegment));
    finish(cpu, space);
}

/// Each segment lies behind all that are there: only the last leaf is ever touched.
#[test]
fn segments_mapped_in_ascending_order_make_no_list_too_high() {
    const SEGMENTS: u64 = 20_000;
    let (cpu, space) = setup(8192);
    let page = |i| Page((1 << 20) + 2 * i);
    for i in 0..SEGMENTS {
        let mapped = space.map(Place::Fixed(page(i)), 1, RW, &Backing::Anonymous, Flags::empty());
        assert!(mapped.is_ok(), "segment {i}: {mapped:?}");
    }
    // From the end, so that the last nodes become small, and upwards again.
    for i in (SEGMENTS / 2..SEGMENTS).rev() {
        space.unmap(range(page(i), 1)).unwrap();
    }
    for i in SEGMENTS / 2..SEGMENTS {
        space.map(Place::Fixed(page(i)), 1, RW, &Backing::Anonymous, Flags::empty()).unwrap();
    }
    assert_eq!(space.mapped(), SEGMENTS);
    (0..SEGMENTS).for_each(|i| assert_eq!(space.find(page(i)).map(|s| s.range), Some(range(page(i), 1))));
    finish(cpu, space);
}

#[test]
fn protection_is_enforced_and_hidden_pages_keep_their_content() {
    let (mut cpu, space) = setup(4096);
    let a = anon(&space, 4, RW);
    (0..4).for_each(|i| cpu.write(a + i * 4096, i + 1).unwrap());
    let p = Page::containing(a);
    space.protect(range(Page(p.0 + 1), 2), Prot::READ).unwrap();
    assert_eq!(cpu.write(a + 4096, 9), Err(Fault::Forbidden));
    assert_eq!(cpu.read(a + 4096), Ok(2));
    cpu.write(a, 10).unwrap();
    space.protect(range(p, 4), Prot::empty()).unwrap();
    assert_eq!(cpu.read(a), Err(Fault::Forbidden));
    space.protect(range(p, 4), RW).unwrap();
    assert_eq!(cpu.read(a), Ok(10));
    cpu.write(a + 4096, 11).unwrap();
    assert_eq!((cpu.read(a + 4096), cpu.read(a + 3 * 4096)), (Ok(11), Ok(4)));
    assert_eq!(cpu.exec(a), Err(Fault::Forbidden));
    space.protect(range(p, 1), Prot::READ | Prot::EXEC).unwrap();
    cpu.exec(a).unwrap();
    assert_eq!(space.protect(range(p, 5), RW), Err(EditError::NotMapped));
    finish(cpu, space);
}

#[test]
fn fixed_replaces_and_no_replace_refuses() {
    let (mut cpu, space) = setup(4096);
    let a = anon(&space, 8, RW);
    let p = Page::containing(a);
    cpu.write(a + 4096, 5).unwrap();
    let mid = Page(p.0 + 1);
    let no = space.map(Place::FixedNoReplace(mid), 2, RW, &Backing::Anonymous, Flags::empty());
    assert_eq!(no, Err(EditError::Exists));
    space.map(Place::Fixed(mid), 2, Prot::READ, &Backing::Anonymous, Flags::empty()).unwrap();
    assert_eq!(cpu.read(a + 4096), Ok(0));
    assert_eq!(cpu.write(a + 4096, 1), Err(Fault::Forbidden));
    let mut n = 0;
    space.each_segment(PageRange { start: Page(0), end: PageRange::LIMIT }, |_| n += 1);
    assert_eq!(n, 3);
    space.map(Place::Fixed(mid), 2, RW, &Backing::Anonymous, Flags::empty()).unwrap();
    n = 0;
    space.each_segment(PageRange { start: Page(0), end: PageRange::LIMIT }, |_| n += 1);
    assert_eq!(n, 1, "equal neighbours are merged");
    finish(cpu, space);
}

/// Pieces of a range that grants nothing: where no page is, they are mapped as into a hole; a page that is hidden there goes.
#[test]
fn pieces_of_a_reservation_begin_with_zeros() {
    let (mut cpu, space) = setup(4096);
    let a = anon(&space, 600, Prot::empty());
    let fixed = |i: u64, pages, prot| {
        let at = Page(Page::containing(a).0 + i);
        space.map(Place::Fixed(at), pages, prot, &Backing::Anonymous, Flags::empty()).unwrap();
        range(at, pages)
    };
    for i in 0..600 {
        let piece = fixed(i, 1, if i % 2 == 0 { RW } else { Prot::READ });
        assert_eq!(cpu.read(a + i * 4096), Ok(0));
        if i % 2 == 0 {
            cpu.write(a + i * 4096, i + 1).unwrap();
            space.protect(piece, Prot::empty()).unwrap();
        }
    }
    assert_eq!(space.segments(), 600);
    for i in [0, 2, 4, 510] {
        fixed(i, 1, RW);
        assert_eq!(cpu.read(a + i * 4096), Ok(0), "piece {i}");
    }
    // Over several segments that grant nothing, in two tables, of which some hold pages.
    fixed(590, 10, Prot::empty());
    fixed(512, 88, RW);
    (512..600).for_each(|i| assert_eq!(cpu.read(a + i * 4096), Ok(0), "page {i}"));
    finish(cpu, space);
}

#[test]
fn fork_shares_until_somebody_writes() {
    let (mut cpu, space) = setup(4096);
    let a = anon(&space, 600, RW);
    (0..600).for_each(|i| cpu.write(a + i * 4096, i).unwrap());
    let child = Arc::new(space.fork().unwrap());
    cpu.write(a, 100).unwrap();
    assert_eq!(cpu.read(a), Ok(100));
    cpu.enter(&child);
    assert_eq!(cpu.read(a), Ok(0));
    cpu.write(a + 4096, 200).unwrap();
    cpu.enter(&space);
    assert_eq!(cpu.read(a + 4096), Ok(1));
    cpu.write(a + 4096, 300).unwrap();
    let grand = Arc::new(child.fork().unwrap());
    cpu.enter(&grand);
    assert_eq!((cpu.read(a), cpu.read(a + 4096), cpu.read(a + 8192)), (Ok(0), Ok(200), Ok(2)));
    cpu.write(a + 8192, 9).unwrap();
    cpu.enter(&child);
    assert_eq!(cpu.read(a + 8192), Ok(2));
    cpu.leave();
    audit(cpu.memory, &[&space, &child, &grand]);
    drop((child, grand));
    cpu.enter(&space);
    cpu.write(a + 5 * 4096, 55).unwrap();
    finish(cpu, space);
}

#[test]
fn objects_are_shared_or_copied() {
    let (mut cpu, space) = setup(4096);
    let m = cpu.memory;
    let image: &'static [u8] = Vec::leak((0..10_000u32).map(|i| (i % 251) as u8).collect());
    let object = m.new_object(image.len() as u64, 0, image).unwrap();
    let backing = |shared| Backing::Object { object: object.clone(), offset: 1, shared };
    let s = space.map(Place::Anywhere, 2, RW, &backing(true), Flags::empty()).unwrap().addr();
    let p = space.map(Place::Anywhere, 2, RW, &backing(false), Flags::empty()).unwrap().addr();
    let first = u64::from_le_bytes(image[4096..4104].try_into().unwrap());
    assert_eq!((cpu.read(s), cpu.read(p)), (Ok(first), Ok(first)));
    cpu.write(s, 1).unwrap();
    assert_eq!(cpu.read(p), Ok(1), "a private page that was not written shows the object");
    cpu.write(p, 2).unwrap();
    assert_eq!((cpu.read(s), cpu.read(p)), (Ok(1), Ok(2)));
    let beyond = space.map(Place::Anywhere, 3, RW, &backing(true), Flags::empty()).unwrap().addr();
    assert_eq!(cpu.read(beyond + 2 * 4096), Err(Fault::Beyond));
    let child = Arc::new(space.fork().unwrap());
    cpu.enter(&child);
    cpu.write(s, 3).unwrap();
    cpu.write(p, 4).unwrap();
    cpu.enter(&space);
    assert_eq!((cpu.read(s), cpu.read(p)), (Ok(3), Ok(2)));
    drop((object, child));
    finish(cpu, space);
}

#[test]
fn moves_carry_the_content() {
    let (mut cpu, space) = setup(8192);
    let a = anon(&space, 700, RW);
    (0..700).step_by(3).for_each(|i| cpu.write(a + i * 4096, i + 1).unwrap());
    let guard = space.map(
        Place::FixedNoReplace(Page(Page::containing(a).0 + 700)),
        1,
        RW,
        &Backing::Anonymous,
        Flags::UNMERGED,
    );
    guard.unwrap();
    assert_eq!(space.remap(range(Page::containing(a), 700), 900, Remap::InPlace, false), Err(EditError::NoSpace));
    let b = space.remap(range(Page::containing(a), 700), 900, Remap::MayMove(Page(0)), false).unwrap();
    assert_eq!(cpu.read(a), Err(Fault::NoSegment));
    (0..700).for_each(|i| assert_eq!(cpu.read(b.addr() + i * 4096), Ok(if i % 3 == 0 { i + 1 } else { 0 })));
    let dst = Page(b.0 + 100_000);
    assert_eq!(space.remap(range(b, 900), 10, Remap::Fixed(dst), false), Ok(dst));
    assert_eq!(cpu.read(dst.addr() + 9 * 4096), Ok(10));
    let back = space.remap(range(dst, 10), 10, Remap::MayMove(Page(0)), true).unwrap();
    assert_eq!((cpu.read(dst.addr() + 9 * 4096), cpu.read(back.addr() + 9 * 4096)), (Ok(0), Ok(10)));
    let other = Page(5 << 27);
    assert_eq!(space.remap(range(back, 10), 10, Remap::Fixed(other), false), Ok(other), "across arenas");
    assert_eq!(cpu.read(other.addr() + 9 * 4096), Ok(10));
    finish(cpu, space);
}

#[test]
fn moves_and_growth_cross_arenas() {
    let (mut cpu, space) = setup(8192);
    let line = |n: u64| Page(n << 27);
    let before = |n: u64| Page(line(n).0 - 1);
    let map = |at, n| space.map(Place::FixedNoReplace(at), n, RW, &Backing::Anonymous, Flags::empty()).unwrap();
    map(before(5), 2);
    (0..2).for_each(|i| cpu.write(before(5).addr() + i * 4096, i + 1).unwrap());
    assert_eq!(space.remap(range(before(5), 2), 4, Remap::InPlace, false), Ok(before(5)));
    // One boundary, then none, then another one.
    for (from, to, keep) in
        [(before(5), before(6), true), (before(6), Page(7777), false), (Page(7777), before(7), false)]
    {
        assert_eq!(space.remap(range(from, 4), 4, Remap::Fixed(to), keep), Ok(to));
        (0..2).for_each(|i| assert_eq!(cpu.read(to.addr() + i * 4096), Ok(i + 1)));
        let left = if keep { Ok(0) } else { Err(Fault::NoSegment) };
        assert_eq!((cpu.read(from.addr()), cpu.read(from.addr() + 4096)), (left, left));
    }
    map(before(9), 1);
    map(Page(line(9).0 + 1), 1);
    assert_eq!(
        space.remap(range(before(9), 1), 3, Remap::InPlace, false),
        Err(EditError::NoSpace),
        "half of it is free"
    );
    assert_eq!(cpu.read(line(9).addr()), Err(Fault::NoSegment));
    finish(cpu, space);
}

#[test]
fn discard_zeroes_and_whole_tables_go() {
    let (mut cpu, space) = setup(8192);
    let m = cpu.memory;
    let a = space.map(Place::Fixed(Page(1 << 20)), 2048, RW, &Backing::Anonymous, Flags::empty()).unwrap().addr();
    (0..2048).for_each(|i| cpu.write(a + i * 4096, 1).unwrap());
    space.discard(range(Page(1 << 20), 2048)).unwrap();
    assert_eq!(space.usage().resident, 0);
    (0..2048).for_each(|i| assert_eq!(cpu.read(a + i * 4096), Ok(0)));
    space.unmap(range(Page(1 << 20), 2048)).unwrap();
    (0..4).for_each(|_| m.collect());
    cpu.leave();
    let r = audit(m, &[&space]);
    assert_eq!(r.tables, 3, "top-level, arena's, and one in between that spans more: {r:?}");
    finish(cpu, space);
}

#[test]
fn terabytes_cost_nothing_until_touched() {
    let (mut cpu, space) = setup(512);
    let m = cpu.memory;
    let before = m.free_frames();
    let a = space.map(Place::Anywhere, 8 << 28, Prot::empty(), &Backing::Anonymous, Flags::empty()).unwrap();
    // What was put aside for a failure is this CPU's again.
    m.drain_nodes();
    assert!(before - m.free_frames() < 16);
    space.protect(range(Page(a.0 + (1 << 29)), 1), RW).unwrap();
    cpu.write(Page(a.0 + (1 << 29)).addr(), 3).unwrap();
    space.unmap(range(a, 8 << 28)).unwrap();
    assert_eq!(space.mapped(), 0);
    finish(cpu, space);
}

#[test]
fn thousands_of_segments_come_and_go() {
    let (cpu, space) = setup(16384);
    let base = anon(&space, 65_000, RW);
    let p = Page::containing(base);
    for i in (0..65_000).step_by(2) {
        space.protect(range(Page(p.0 + i), 1), Prot::READ).unwrap();
    }
    let mut n = 0;
    space.each_segment(range(p, 65_000), |s| {
        assert_eq!(s.range.pages(), 1);
        n += 1;
    });
    assert_eq!(n, 65_000);
    // A hole of one page is found wherever it is.
    space.unmap(range(Page(p.0 + 32_999), 1)).unwrap();
    assert_eq!(anon(&space, 1, RW), Page(p.0 + 32_999).addr());
    space.protect(range(p, 65_000), RW).unwrap();
    n = 0;
    space.each_segment(range(p, 65_000), |_| n += 1);
    assert_eq!(n, 1);
    finish(cpu, space);
}

/// Race 44: out of frames at every possible point of every edit changes nothing, and the audit stays clean.
#[test]
fn shortage_at_every_step_is_survived() {
    let (mut cpu, space) = setup(4096);
    let m = cpu.memory;
    let a = anon(&space, 64, RW);
    (0..64).for_each(|i| cpu.write(a + i * 4096, i + 1).unwrap());
    let p = Page::containing(a);
    for keep in 0..12 {
        m.drain_here();
        let mut held = Vec::new();
        while let Some(f) = m.alloc() {
            held.push(f);
        }
        (0..keep).filter_map(|_| held.pop()).for_each(|f| m.free(f));
        let _ = space.protect(range(Page(p.0 + 3), 1), Prot::READ);
        let _ = space.map(Place::Fixed(Page(p.0 + 10)), 2, RW, &Backing::Anonymous, Flags::UNMERGED);
        let child = space.fork().ok().map(Arc::new);
        let _ = cpu.write(a + 20 * 4096, 21);
        let _ = space.remap(range(Page(p.0 + 30), 4), 4, Remap::Fixed(Page(p.0 + 1000 + keep * 600)), true);
        let _ = cpu.read(Page(3 << 27).addr());
        held.into_iter().for_each(|f| m.free(f));
        if let Some(c) = child {
            cpu.enter(&c);
            assert_eq!(cpu.read(a + 20 * 4096), Ok(21));
            cpu.enter(&space);
        }
        (0..10).for_each(|i| assert_eq!(cpu.read(a + i * 4096), Ok(i + 1)));
        assert_eq!(cpu.read(a + 20 * 4096), Ok(21));
        cpu.leave();
        audit(m, &[&space]);
        cpu.enter(&space);
    }
    finish(cpu, space);
}

/// Takes every free frame and every free node.
fn exhaust(m: &'static Memory<Fake>) -> (Vec<Frame>, Vec<NodePlace>) {
    m.drain_here();
    let frames = std::iter::from_fn(|| m.alloc()).collect();
    (frames, std::iter::from_fn(|| m.alloc_node()).map(|(_, place)| place).collect())
}

fn give(m: &'static Memory<Fake>, nodes: impl IntoIterator<Item = NodePlace>) {
    // SAFETY: from `exhaust`, each once.
    nodes.into_iter().for_each(|place| unsafe { m.free_node(place) });
}

/// However few nodes there are: a replacement or move is done or not done, and leaves no mark.
#[test]
fn race_44_no_nodes_after_the_publish() {
    let (mut cpu, space) = setup(4096);
    let m = cpu.memory;
    let base = 1 << 20;
    // Several leaves, so that neighbours lie in other ones.
    for i in 0..200 {
        let prot = if i % 2 == 0 { RW } else { Prot::READ };
        space.map(Place::Fixed(Page(base + i * 4)), 4, prot, &Backing::Anonymous, Flags::empty()).unwrap();
    }
    let (mut done, mut refused) = (0, 0);
    for keep in 0..40 {
        for (n, edit) in (0..).zip([8u64, 27, 28, 61, 90, 152]) {
            let at = Page(base + edit * 4);
            let (frames, mut nodes) = exhaust(m);
            give(m, nodes.drain(..keep.min(nodes.len())));
            // What it becomes merges with a neighbour, now and then with both.
            let prot = if (keep + n) % 3 == 0 { Prot::READ } else { RW };
            let result = match n % 3 {
                0 => space.remap(range(Page(at.0 + 400), 1), 1, Remap::Fixed(at), true).map(|_| ()),
                _ => space.map(Place::Fixed(at), 4, prot, &Backing::Anonymous, Flags::empty()).map(|_| ()),
            };
            match result {
                Ok(()) => done += 1,
                Err(EditError::OutOfFrames) => refused += 1,
                Err(other) => panic!("{other:?}"),
            }
            // A mark would make this wait for ever.
            let _ = space.populate(range(at, 1), false);
            frames.into_iter().for_each(|f| m.free(f));
            give(m, nodes);
            m.collect();
        }
        cpu.leave();
        audit(m, &[&space]);
        cpu.enter(&space);
    }
    assert!(done > 50 && refused > 20, "{done} done, {refused} refused");
    assert_eq!(cpu.read(Page(base).addr()), Ok(0));
    finish(cpu, space);
}

/// A mapping that spans arenas, for which memory does not suffice, leaves nothing behind.
#[test]
fn a_mapping_across_arenas_is_whole_or_not_there() {
    let (cpu, space) = setup(4096);
    let m = cpu.memory;
    let arena = 1u64 << 27;
    let (mut done, mut refused) = (0, 0);
    for keep in 0..60 {
        let all = range(Page((3 * keep as u64 + 4) * arena - 8), arena + 16);
        // A neighbour that the mapping merges with: taking it back needs a node.
        space.map(Place::Fixed(Page(all.start.0 - 4)), 4, RW, &Backing::Anonymous, Flags::empty()).unwrap();
        m.collect();
        let (mut frames, mut nodes) = exhaust(m);
        give(m, nodes.drain(..(keep % 8).min(nodes.len())));
        frames.drain(..keep / 8).for_each(|f| m.free(f));
        let result = space.map(Place::FixedNoReplace(all.start), all.pages(), RW, &Backing::Anonymous, Flags::empty());
        match result {
            Ok(_) => done += 1,
            Err(EditError::OutOfFrames) => {
                refused += 1;
                assert!(space.is_free(all), "{keep}: part of a refused mapping is there");
            }
            Err(other) => panic!("{other:?}"),
        }
        frames.into_iter().for_each(|f| m.free(f));
        give(m, nodes);
    }
    assert!(done > 4 && refused > 4, "{done} done, {refused} refused");
    finish(cpu, space);
}

#[test]
fn a_hole_that_is_read_stays_one() {
    static IMAGE: [u8; PAGE + 1] = [7; PAGE + 1];
    let (cpu, space) = setup(4096);
    let m = cpu.memory;
    let object = m.new_object(8 * PAGE as u64, 0, &IMAGE).unwrap();
    let read = |index| m.hold_page_there(&object, index).map(|page| page.is_some());
    assert_eq!((read(2), read(7), object.held()), (Ok(false), Ok(false), 0));
    drop(m.hold_page(&object, 7).unwrap());
    assert_eq!((read(6), read(7), object.held()), (Ok(false), Ok(true), 1));
    // What has an image is no hole, even where nobody has asked for it; behind the end there is nothing.
    assert_eq!((read(0), read(1), read(8)), (Ok(true), Ok(true), Err(PageError::Beyond)));
    assert_eq!(object.held(), 3);
    drop(object);
    finish(cpu, space);
}

#[test]
fn objects_keep_to_their_quota() {
    static QUOTA: Quota = Quota::new();
    // Ten pages, and a table for those of each object.
    QUOTA.limit(12);
    let (mut cpu, space) = setup(4096);
    let m = cpu.memory;
    let object = m.new_object_within(40 * PAGE as u64, 1 << 20, &[], Some(&QUOTA)).unwrap();
    let other = m.new_object_within(40 * PAGE as u64, 1 << 20, &[], Some(&QUOTA)).unwrap();
    (0..6).for_each(|i| drop(m.hold_page(&object, i).unwrap()));
    (0..4).for_each(|i| drop(m.hold_page(&other, i * 7).unwrap()));
    assert_eq!(m.hold_page(&object, 6).map(drop), Err(PageError::Full));
    // What is there may be used, mapped or not; what is not is SIGBUS.
    drop(m.hold_page(&object, 5).unwrap());
    let backing = Backing::Object { object: object.clone(), offset: 0, shared: true };
    let a = space.map(Place::Anywhere, 40, RW, &backing, Flags::empty()).unwrap().addr();
    drop(backing);
    cpu.write(a, 3).unwrap();
    assert_eq!(cpu.write(a + 9 * PAGE as u64, 3), Err(Fault::Full));
    // Cut off, or gone with its object, it is free for others.
    assert!(!m.set_object_len(&object, PAGE as u64).unwrap().is_empty());
    assert_eq!(QUOTA.used(), 7);
    drop(other);
    assert_eq!(QUOTA.used(), 2);
    assert!(m.set_object_len(&object, 40 * PAGE as u64).unwrap().is_empty());
    (0..10).for_each(|i| cpu.write(a + (20 + i) * PAGE as u64, i).unwrap());
    assert_eq!(cpu.write(a + 39 * PAGE as u64, 3), Err(Fault::Full));
    space.unmap(range(Page::containing(a), 40)).unwrap();
    drop(object);
    // The list's old leaf had a reference, until its grace period was over.
    while m.has_retired() {
        m.collect();
    }
    assert_eq!(QUOTA.used(), 0);
    finish(cpu, space);
}

#[test]
fn a_forked_list_is_packed() {
    const SEGMENTS: u64 = 1300;
    let (cpu, space) = setup(4096);
    let m = cpu.memory;
    for i in 0..SEGMENTS {
        let prot = if i % 2 == 0 { RW } else { Prot::READ };
        space.map(Place::Fixed(Page((1 << 20) + i)), 1, prot, &Backing::Anonymous, Flags::empty()).unwrap();
    }
    let slabs = |spaces: &[&Space<_>]| {
        m.drain_nodes();
        m.collect();
        m.drain_nodes();
        audit(m, spaces).slabs
    };
    // The first child takes what free nodes there are between the parent's own.
    let first = space.fork().unwrap();
    let before = slabs(&[&space, &first]);
    let child = space.fork().unwrap();
    let copy = slabs(&[&space, &first, &child]) - before;
    // 13 segments a leaf, 8 nodes a frame, and a few more above them.
    assert!(copy <= SEGMENTS / 13 / 8 + 3, "{copy} frames of nodes for a copy of {SEGMENTS} segments");
    // The copy is a list like any other: it grows and shrinks everywhere.
    for i in (0..SEGMENTS).step_by(3) {
        child.protect(range(Page((1 << 20) + i), 1), Prot::empty()).unwrap();
    }
    for i in (0..SEGMENTS).step_by(2) {
        child.unmap(range(Page((1 << 20) + i), 1)).unwrap();
    }
    assert_eq!(child.mapped(), SEGMENTS / 2);
    assert_eq!(space.mapped(), SEGMENTS);
    drop((first, child));
    finish(cpu, space);
}

const DOWN: Flags = Flags::GROWS_DOWN;

fn is_at(space: &Space<quire_mm::fake::Fake>, place: Place, flags: Flags) -> Page {
    space.map(place, 1, RW, &Backing::Anonymous, flags).unwrap()
}

/// A segment grows down to a page, but not near one that may be accessed; one without rights, and one that grows down itself, may be
/// near, and only the nearest counts.
#[test]
fn a_stack_grows_down_to_what_is_accessible_below() {
    const TOP: Page = Page((3 << 27) + 2000);
    let (mut cpu, space) = setup(4096);
    let guard = quire_mm::GUARD as u64;
    let below = |pages: u64| Page(TOP.0 - pages);
    is_at(&space, Place::Fixed(TOP), DOWN);
    assert_eq!(space.grow_down(below(10), u64::MAX), Ok(()));
    assert_eq!(space.grow_down(below(5), u64::MAX), Ok(()), "there already");
    cpu.write(below(10).addr(), 1).unwrap();
    assert_eq!(cpu.read(below(11).addr()), Err(Fault::NoSegment));
    assert_eq!(space.grow_down(below(20), 20), Err(EditError::NoSpace), "21 pages with the first");
    assert_eq!(space.grow_down(below(20), 21), Ok(()));
    is_at(&space, Place::Fixed(below(900)), Flags::empty());
    assert_eq!(space.grow_down(below(899 - guard), u64::MAX), Ok(()));
    assert_eq!(space.grow_down(below(900 - guard), u64::MAX), Err(EditError::NoSpace));
    space.protect(range(below(900), 1), Prot::empty()).unwrap();
    assert_eq!(space.grow_down(below(899), u64::MAX), Ok(()));
    assert_eq!(space.find(TOP).unwrap().range, range(below(899), 900));
    is_at(&space, Place::Fixed(Page(TOP.0 - 950)), DOWN);
    space.unmap(range(below(900), 1)).unwrap();
    assert_eq!(space.grow_down(below(949), u64::MAX), Ok(()));
    assert_eq!(space.grow_down(below(2000), u64::MAX), Ok(()), "the lower one");
    finish(cpu, space);
}

/// A stack grows over the border between two arenas, and sees what is accessible beyond it.
#[test]
fn a_stack_grows_over_the_border_of_an_arena() {
    const BORDER: Page = Page(5 << 27);
    let (mut cpu, space) = setup(4096);
    is_at(&space, Place::Fixed(Page(BORDER.0 + 1)), DOWN);
    is_at(&space, Place::Fixed(Page(BORDER.0 - 400)), Flags::empty());
    assert_eq!(space.grow_down(Page(BORDER.0 - 399), u64::MAX), Err(EditError::NoSpace));
    assert_eq!(space.grow_down(Page(BORDER.0 - 100), u64::MAX), Ok(()));
    cpu.write(Page(BORDER.0 - 100).addr(), 1).unwrap();
    for page in [BORDER.0 - 50, BORDER.0 + 1] {
        assert_eq!(space.find_whole(Page(page)).unwrap().range, range(Page(BORDER.0 - 100), 102));
    }
    assert_eq!(space.grow_down(Page(BORDER.0 - 101), 102), Err(EditError::NoSpace), "103 pages with those behind");
    assert_eq!(is_at(&space, Place::Hint(Page(BORDER.0 - 399)), Flags::empty()), Page(BORDER.0 - 399));
    finish(cpu, space);
}

/// Where moves go, and mappings larger than an arena, is outside the guard, too.
#[test]
fn moves_and_wide_mappings_keep_out_of_the_guard() {
    const ARENA: u64 = 1 << 27;
    let (cpu, space) = setup(4096);
    is_at(&space, Place::Fixed(Page(3 * ARENA)), DOWN);
    let moved = |hint| space.remap(range(Page(9 * ARENA), 1), 1, Remap::MayMove(hint), true).unwrap();
    is_at(&space, Place::Fixed(Page(9 * ARENA)), Flags::empty());
    assert_ne!(moved(Page(3 * ARENA - 1)), Page(3 * ARENA - 1));
    let far = Page(3 * ARENA - 1 - quire_mm::GUARD as u64);
    assert_eq!(moved(far), far);
    space.unmap(range(far, 1)).unwrap();
    // The first two empty arenas would end where it begins.
    let wide = space.map(Place::Anywhere, 2 * ARENA, RW, &Backing::Anonymous, Flags::NORESERVE).unwrap();
    assert!(wide.0 > 3 * ARENA, "at {wide:?}");
    finish(cpu, space);
}

/// A place that the system chooses, or a hint proposes, lies outside the guard below a segment that grows down; a fixed one need not.
#[test]
fn hints_and_holes_keep_out_of_the_guard() {
    const TOP: Page = Page((7 << 27) + 4000);
    let (cpu, space) = setup(4096);
    let guard = quire_mm::GUARD as u64;
    is_at(&space, Place::Fixed(TOP), DOWN);
    let near = Page(TOP.0 - guard);
    assert_ne!(is_at(&space, Place::Hint(near), Flags::empty()), near);
    let far = Page(near.0 - 1);
    assert_eq!(is_at(&space, Place::Hint(far), Flags::empty()), far);
    assert_eq!(is_at(&space, Place::FixedNoReplace(near), Flags::empty()), near);
    // Where the system chooses: a segment that grows down gets room, and what comes later leaves it the guard.
    let stack = is_at(&space, Place::Anywhere, DOWN);
    let others: Vec<Page> = (0..3000).map(|_| is_at(&space, Place::Anywhere, Flags::UNMERGED)).collect();
    assert!(others.iter().all(|p| p.0 + guard < stack.0 || p.0 > stack.0));
    assert!(others.iter().any(|p| p.0 < stack.0));
    assert_eq!(space.grow_down(Page(stack.0 - 1), u64::MAX), Err(EditError::NoSpace));
    finish(cpu, space);
}

/// What a space costs is more than its pages: one read in each 2 MiB costs tables and no page. The audit counts them in another way.
#[test]
fn usage_is_tables_and_nodes_too() {
    let (mut cpu, space) = setup(8192);
    let m = cpu.memory;
    let a = space.map(Place::Fixed(Page(1 << 20)), 512 * 600, RW, &Backing::Anonymous, Flags::empty()).unwrap().addr();
    (0..600).for_each(|i| assert_eq!(cpu.read(a + i * 512 * 4096), Ok(0)));
    (0..10).for_each(|i| cpu.write(a + i * 4096, 1).unwrap());
    (0..200).for_each(|i| space.protect(range(Page((1 << 20) + 2 * i), 1), Prot::READ).unwrap());
    let usage = space.usage();
    assert_eq!((usage.resident, usage.swapped), (10, 0));
    assert_eq!(usage.tables, audit(m, &[&space]).tables);
    assert!(usage.tables > 600, "{usage:?}");
    // 400 segments are 27 leaves at least, and an arena.
    assert!((4..=50).contains(&usage.nodes), "{usage:?}");
    cpu.leave();
}
