//! A CPU that stops at any point of an edit holds nobody up who works elsewhere.
//!
//! The fake stops one CPU at the n-th use that an edit makes of the machine, for every n until the edit ends without
//! reaching it; between two uses lie few accesses to shared memory. It then answers nothing: no interrupt, no claim is
//! given back, no read section ends. Meanwhile another CPU takes and frees frames, faults, breaks copy-on-write and edits
//! in an arena of its own, in the same space, and faults beside the edit in the edit's arena. All of it has to end while the first CPU still stands.

mod common;

use common::{RW, Shared, range};
use quire_mm::fake::{Cpu, Stop, audit, memory};
use quire_mm::{Backing, Flags, Page, Place, Prot, Remap, Space};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

/// A page in the stopped CPU's arena, one in the other CPU's.
const HERE: u64 = 1 << 20;
const THERE: u64 = (3 << 27) + (1 << 20);
/// Pages beside those that are edited, in the same arena, not touched before.
const BESIDE: u64 = HERE + 4096;
const PAGES: u64 = 8;
/// How long the other CPU may take before it counts as held up. It needs less than a millisecond.
const PATIENCE: Duration = Duration::from_secs(60);

fn fixed(space: &Shared, p: u64, n: u64) {
    space.map(Place::Fixed(Page(p)), n, RW, &Backing::Anonymous, Flags::empty()).unwrap();
}

/// Room wherever there is some, in the arena that all CPUs share; given back.
fn stack(cpu: &mut Cpu) {
    let space = cpu.space().clone();
    let at = space.map(Place::Shared, PAGES, RW, &Backing::Anonymous, Flags::empty()).unwrap();
    space.unmap(range(at.0, PAGES)).unwrap();
}

/// What the other CPU does while the first one stands: everything that has to need nobody.
fn elsewhere(cpu: &mut Cpu) {
    let m = cpu.memory;
    let at = |i: u64| Page(THERE + i).addr();
    let frames: Vec<_> = (0..200).map(|_| m.alloc().expect("a frame")).collect();
    frames.into_iter().for_each(|f| m.free(f));
    stack(cpu);
    // Faults beside the edit, in its own arena.
    let beside = |i: u64| Page(BESIDE + i).addr();
    (0..PAGES).for_each(|i| assert_eq!(cpu.read(beside(i)), Ok(0)));
    (0..PAGES).for_each(|i| cpu.write(beside(PAGES + i), i + 1).unwrap());
    (0..PAGES).for_each(|i| assert_eq!(cpu.read(beside(PAGES + i)), Ok(i + 1)));
    // First touches, and pages that a child shares: copied, for the child is alive.
    (0..PAGES).for_each(|i| cpu.write(at(i), i + 1).unwrap());
    (0..PAGES).for_each(|i| assert_eq!(cpu.read(at(i)), Ok(i + 1)));
    let space = cpu.space().clone();
    space.protect(range(THERE, PAGES), Prot::READ).unwrap();
    space.protect(range(THERE, PAGES), RW).unwrap();
    (0..PAGES).for_each(|i| cpu.write(at(i), i + 2).unwrap());
    space.discard(range(THERE, 2)).unwrap();
    assert_eq!((cpu.read(at(0)), cpu.read(at(2))), (Ok(0), Ok(4)));
    fixed(&space, THERE + 100, 4);
    cpu.write(at(101), 7).unwrap();
    assert_eq!(space.remap(range(THERE + 100, 4), 4, Remap::Fixed(Page(THERE + 200)), false), Ok(Page(THERE + 200)));
    assert_eq!(cpu.read(at(201)), Ok(7));
    space.unmap(range(THERE + 200, 4)).unwrap();
    fixed(&space, THERE + 2, 2);
    assert_eq!(cpu.read(at(2)), Ok(0));
}

/// Stops `edit` at every point. Returns how many points there were.
fn at_every_point(edit: impl Fn(&mut Cpu) + Send + Sync + Copy + 'static) -> u64 {
    for n in 1.. {
        let m = memory(2048);
        let space: Shared = Arc::new(Space::new(m));
        let mut first = Cpu::new(m, 0);
        first.enter(&space);
        fixed(&space, HERE, PAGES);
        fixed(&space, THERE, PAGES);
        fixed(&space, BESIDE, 2 * PAGES);
        (0..PAGES).for_each(|i| first.write(Page(HERE + i).addr(), i).unwrap());
        first.leave();
        // The other CPU has been in its arena alone, and a child shares its pages.
        let child = {
            let mut cpu = Cpu::new(m, 0);
            cpu.enter(&space);
            let child: Shared = Arc::new(space.fork().unwrap());
            cpu.leave();
            child
        };
        let stop = Arc::new(Stop::default());
        let editor = std::thread::spawn({
            let (space, stop) = (space.clone(), stop.clone());
            move || {
                let mut cpu = Cpu::new(m, 1);
                cpu.enter(&space);
                assert_eq!(cpu.read(Page(HERE).addr()), Ok(0));
                Stop::after(n, &stop);
                edit(&mut cpu);
                let through = Stop::disarm();
                stop.finish();
                through
            }
        });
        stop.wait();
        let (tell, done) = mpsc::channel();
        let other = std::thread::spawn({
            let space = space.clone();
            move || {
                let mut cpu = Cpu::new(m, 2);
                cpu.enter(&space);
                elsewhere(&mut cpu);
                tell.send(()).unwrap();
            }
        });
        let held_up = done.recv_timeout(PATIENCE).is_err();
        assert!(!held_up, "point {n}: a CPU that works elsewhere was held up");
        stop.release();
        let through = editor.join().expect("the edit");
        other.join().expect("the other CPU");
        drop(first);
        audit(m, &[&space, &child]);
        drop((space, child));
        let r = audit(m, &[]);
        assert_eq!((r.tables, r.slabs, r.pages, r.objects), (0, 0, 1, 0), "{r:?}");
        if through {
            return n - 1;
        }
    }
    unreachable!()
}

fn counted(what: &str, points: u64) {
    println!("{what}: {points} points");
    assert!(points > 5, "{what} has {points} points only: the fake does not see it");
}

#[test]
fn a_stopped_fault_holds_nobody_up() {
    counted("first touch", at_every_point(|cpu| cpu.write(Page(HERE + 3).addr(), 9).unwrap()));
}

#[test]
fn a_stopped_unmap_holds_nobody_up() {
    counted("unmap", at_every_point(|cpu| cpu.space().unmap(range(HERE + 2, 4)).unwrap()));
}

#[test]
fn a_stopped_map_holds_nobody_up() {
    counted("map", at_every_point(|cpu| fixed(cpu.space(), HERE + 50, 4)));
}

/// Who looks for room for a stack goes past the room that another one is about to take.
#[test]
fn a_stopped_map_of_a_stack_holds_nobody_up() {
    counted("map of a stack", at_every_point(stack));
}

#[test]
fn a_stopped_replacement_holds_nobody_up() {
    counted("replacement", at_every_point(|cpu| fixed(cpu.space(), HERE + 2, 3)));
}

#[test]
fn a_stopped_protect_holds_nobody_up() {
    counted("protect", at_every_point(|cpu| cpu.space().protect(range(HERE + 2, 4), Prot::READ).unwrap()));
}

#[test]
fn a_stopped_discard_holds_nobody_up() {
    counted("discard", at_every_point(|cpu| cpu.space().discard(range(HERE + 2, 4)).unwrap()));
}

#[test]
fn a_stopped_move_holds_nobody_up() {
    counted(
        "move",
        at_every_point(|cpu| {
            let to = Page(HERE + 1000);
            assert_eq!(cpu.space().remap(range(HERE + 2, 4), 4, Remap::Fixed(to), false), Ok(to));
        }),
    );
}
