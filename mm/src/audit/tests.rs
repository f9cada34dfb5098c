//! Each kind of finding is provoked: an audit that finds nothing proves nothing.

use super::*;
use crate::fake::{Cpu, Fake, memory};
use crate::page::{PAGE, Page, PageRange, Prot};
use crate::segment::Backing;
use crate::{Place, Space};
use std::sync::Arc;

const RW: Prot = Prot::READ.union(Prot::WRITE);
/// Where the scenes begin: the first page of a leaf span.
const AT: u64 = 1 << 20;

/// A CPU in a space.
fn scene() -> (Cpu, Arc<Space<Fake>>) {
    let m = memory(1000);
    let mut cpu = Cpu::new(m, 0);
    let space = Arc::new(Space::new(m));
    cpu.enter(&space);
    (cpu, space)
}

/// Maps `pages` pages and stores to each.
fn touched(cpu: &mut Cpu, page: u64, pages: u64, backing: &Backing) {
    cpu.space().map(Place::Fixed(Page(page)), pages, RW, backing, Flags::empty()).unwrap();
    (page..page + pages).for_each(|p| cpu.write(Page(p).addr(), p).unwrap());
}

/// Some pages of an object.
fn object(m: &'static Memory<Fake>, shared: bool) -> Backing {
    let object = m.new_object_within(8 * PAGE as u64, 8, &[], None).unwrap();
    (0..8).for_each(|i| drop(m.hold_page(&object, i).unwrap()));
    Backing::Object { object, offset: 1, shared }
}

fn report(space: &Space<Fake>) -> Report {
    let m = space.memory();
    while m.has_retired() {
        m.collect();
    }
    m.drain_here();
    m.audit([space].into_iter(), &mut std::vec![0; m.machine.frame_words().len()])
}

/// Changes the word of a page, sees what the audit says, and changes it back.
fn with(space: &Space<Fake>, page: u64, change: impl Fn(Word) -> Word) -> Report {
    assert!(report(space).is_clean(), "{:?}", report(space));
    let m = space.memory();
    let pin = m.pin();
    let (entry, was, level) = space.arena(0).unwrap().walk(m, &pin, page as u32);
    assert_eq!(level, 0);
    entry.init(change(was));
    let found = report(space);
    entry.init(was);
    assert!(!found.is_clean(), "{found:?}");
    found
}

fn frame(w: Word) -> Frame {
    w.frame().expect("a page")
}

#[test]
fn a_right_that_the_segment_does_not_give() {
    let (mut cpu, space) = scene();
    touched(&mut cpu, AT, 4, &Backing::Anonymous);
    let range = |i, n| PageRange::new(Page(AT + i), n).unwrap();
    space.protect(range(1, 1), Prot::READ).unwrap();
    space.protect(range(2, 1), Prot::empty()).unwrap();
    cpu.leave();
    for (page, prot) in [(0, RW | Prot::EXEC), (1, RW), (1, Prot::READ | Prot::EXEC), (2, Prot::READ)] {
        let found = with(&space, AT + page, |w| Word::page(frame(w), prot).private());
        assert_eq!((found.rights, found.foreign, found.torn, found.wrong), (1, 0, 0, 0), "{page}, {prot:?}: {found:?}");
    }
}

#[test]
fn a_store_that_would_reach_the_object_of_a_private_mapping() {
    let (mut cpu, space) = scene();
    let backing = object(cpu.memory, false);
    space.map(Place::Fixed(Page(AT)), 4, RW, &backing, Flags::empty()).unwrap();
    cpu.read(Page(AT).addr()).unwrap();
    cpu.leave();
    let found = with(&space, AT, |w| Word::page(frame(w), RW));
    assert_eq!((found.rights, found.foreign, found.torn), (1, 0, 0), "{found:?}");
}

#[test]
fn a_page_of_the_object_in_another_ones_place() {
    let (mut cpu, space) = scene();
    let backing = object(cpu.memory, true);
    touched(&mut cpu, AT, 4, &backing);
    cpu.leave();
    let m = space.memory();
    let word = |page: u64| space.arena(0).unwrap().walk(m, &m.pin(), page as u32).1;
    let (first, second) = (word(AT), word(AT + 1));
    // Exchanged, so that all counts are right.
    let pin = m.pin();
    let (entry, ..) = space.arena(0).unwrap().walk(m, &pin, AT as u32);
    entry.init(second);
    let found = with_second(&space, first);
    entry.init(first);
    assert_eq!((found.foreign, found.rights, found.torn, found.wrong), (2, 0, 0, 0), "{found:?}");
    // A private page in a shared mapping.
    let found = with(&space, AT, |w| Word::page(frame(w), Prot::READ).private().cow());
    assert_eq!((found.foreign, found.rights), (1, 0), "{found:?}");
}

/// What the audit says while the second page's word is `w`.
fn with_second(space: &Space<Fake>, w: Word) -> Report {
    let m = space.memory();
    let pin = m.pin();
    let (entry, was, _) = space.arena(0).unwrap().walk(m, &pin, AT as u32 + 1);
    entry.init(w);
    let found = report(space);
    entry.init(was);
    found
}

#[test]
fn an_object_in_anonymous_memory() {
    let (mut cpu, space) = scene();
    touched(&mut cpu, AT, 1, &Backing::Anonymous);
    cpu.leave();
    let found = with(&space, AT, |w| Word::page(frame(w), RW));
    assert!(found.foreign == 1, "{found:?}");
}

#[test]
fn a_table_without_a_reason() {
    let (mut cpu, space) = scene();
    touched(&mut cpu, AT, 1, &Backing::Anonymous);
    cpu.leave();
    let m = space.memory();
    let arena = space.arena(0).unwrap();
    let pin = m.pin();
    for page in [AT + 512, AT + (1 << 18)] {
        let (entry, was, level) = arena.walk(m, &pin, page as u32);
        assert!(level != 0);
        assert!(report(&space).is_clean());
        let table = m.new_table().unwrap();
        entry.init(Word::table(table));
        let found = report(&space);
        assert_eq!((found.bare, found.first), (1, Some(table)), "{found:?}");
        entry.init(was);
        m.free(table);
    }
    drop(pin);
    // Remembered, it has one.
    space.unmap(PageRange::new(Page(AT), 1).unwrap()).unwrap();
    let found = report(&space);
    assert!(found.is_clean() && found.tables == 4, "{found:?}");
    assert!(arena.bare.has(AT as u32));
}
