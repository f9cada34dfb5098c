//! Scans against edits and locks, and links that make way: on the memory manager's adversarial machine.

#[allow(dead_code, reason = "the other tests use the rest")]
mod rig;

use quire_mm::fake::{Cpu, Stop};
use quire_mm::{EditError, Flags, Page};
use quire_swapd::Slot;
use quire_swapd::fake::Manners;
use rig::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::time::Duration;

const PROMPT: Manners = Manners { late: 0, read_error: 0, write_error: 0, lost: 0, depth: 0 };

/// Links are found by a search that ends when it has enough, goes on where the last one has ended, and looks at nothing when
/// there are none: a full swap area asks for each process that it scans.
#[test]
fn links_are_broken_by_the_handful() {
    let rig = Rig::new(2000, 2000, PROMPT);
    let m = rig.memory;
    let space = rig.space();
    let mut cpu = Cpu::new(m, 0);
    cpu.enter(&space);
    assert_eq!(m.break_links(u64::MAX), (0, 0), "a search for links though there are none");
    // The frames with links lie behind these.
    let before: Vec<_> = (0..1200).map(|_| m.alloc().expect("a frame")).collect();
    fixed(&rig, &mut cpu, BASE, 100, RW);
    (0..100).for_each(|i| rig.stamp(&mut cpu, BASE + i, i + 1));
    space.page_out(range(BASE, 100));
    while rig.swap.has_pending() || rig.swap.census().busy != 0 {
        rig.pump();
    }
    // Read only: memory and disk have the same.
    (0..100).for_each(|i| assert_eq!(rig.check(&mut cpu, BASE + i), Ok(i + 1)));
    rig.swap.trim(4000, true);
    let all = m.links();
    assert!(all > 50, "{all} links");
    // All rounds together look at each frame once, wherever the links are: each goes on where the last one has ended.
    let mut looks = 0;
    for round in 1..=4 {
        let (broken, looked) = m.break_links(10);
        assert_eq!((broken, m.links()), (10, all - 10 * round), "{looked} looks");
        looks += looked;
    }
    assert!(looks <= 2000, "{looks} looks at 2000 frames");
    // Stores break them, too.
    (0..100).step_by(4).for_each(|i| rig.stamp(&mut cpu, BASE + i, i + 1));
    let left = m.links();
    assert!(left < all - 40);
    assert_eq!(m.break_links(u64::MAX).0, left);
    assert_eq!(m.break_links(u64::MAX), (0, 0));
    (0..100).for_each(|i| assert_eq!(rig.check(&mut cpu, BASE + i), Ok(i + 1)));
    before.into_iter().for_each(|f| m.free(f));
    drop(cpu);
    rig.end(vec![space]);
}

/// A page in a slot that can count no more holds: its space cannot be forked, as with a frame (`mm/tests/limits.rs`).
#[test]
fn a_fork_fails_where_a_slot_can_count_no_more() {
    let rig = Rig::new(2000, 2000, PROMPT);
    let space = rig.space();
    let mut cpu = Cpu::new(rig.memory, 0);
    cpu.enter(&space);
    fixed(&rig, &mut cpu, BASE, 8, RW);
    (0..8).for_each(|i| rig.stamp(&mut cpu, BASE + i, i + 1));
    space.page_out(range(BASE, 8));
    while rig.swap.has_pending() || rig.swap.census().busy != 0 {
        rig.pump();
    }
    let mut slots = [Slot(0); 8];
    assert_eq!(space.swapped_near(range(BASE, 8), &mut slots), 8);
    let crowded = slots[5];
    let n = (0..).take_while(|_| rig.swap.hold(crowded)).count() as u64;
    assert!(n > 1 << 19, "{n} holds");
    for _ in 0..2 {
        let free = rig.memory.free_frames();
        assert_eq!(space.fork().map(drop), Err(EditError::TooMany));
        assert_eq!(rig.memory.free_frames(), free, "the child has left something behind");
    }
    rig.swap.release(crowded, n);
    let child = rig.adopt(space.fork().expect("room for a hold"));
    (0..8).for_each(|i| assert_eq!(rig.check(&mut cpu, BASE + i), Ok(i + 1)));
    cpu.enter(&child);
    (0..8).for_each(|i| assert_eq!(rig.check(&mut cpu, BASE + i), Ok(i + 1)));
    drop(cpu);
    rig.end(vec![space, child]);
}

/// Threads that edit without a pause do not keep an arena's pages in memory.
#[test]
fn a_storm_of_edits_does_not_keep_scans_out() {
    const STORM: u64 = 4;
    const TRIES: u32 = 100;
    let rig = Rig::new(8000, 4000, PROMPT);
    let space = rig.space();
    let over = AtomicBool::new(false);
    let mut cpu = Cpu::new(rig.memory, 0);
    cpu.enter(&space);
    fixed(&rig, &mut cpu, BASE, 16, RW);
    (1..=STORM).for_each(|id| fixed(&rig, &mut cpu, BASE + id * 8192, 8192, RW));
    let mut begun = 0;
    std::thread::scope(|s| {
        for id in 1..=STORM {
            let (rig, space, over) = (&rig, &space, &over);
            s.spawn(move || {
                let mut cpu = Cpu::new(rig.memory, id as usize);
                cpu.enter(space);
                // Long edits: at any moment somebody holds a claim.
                let mine = range(BASE + id * 8192, 8192);
                while !over.load(SeqCst) {
                    (0..8).for_each(|i| cpu.write(Page(mine.start.0 + i * 1000).addr(), i).unwrap());
                    space.discard(mine).unwrap();
                    cpu.poll();
                }
            });
        }
        for _ in 0..TRIES {
            rig.stamp(&mut cpu, BASE, 7);
            begun += (space.page_out(range(BASE, 16)).skipped == 0) as u32;
            rig.pump();
            cpu.poll();
        }
        over.store(true, SeqCst);
        cpu.leave();
    });
    println!("{begun} of {TRIES} scans");
    // Eight in a row may give up, the ninth does not.
    assert!(begun >= TRIES / 18, "{begun} of {TRIES} scans began");
    drop(cpu);
    rig.end(vec![space]);
}

/// Once mlock has returned, no scan takes a page of the range: not even one that read the list before.
#[test]
fn locked_pages_stay() {
    for n in (1..90).step_by(3) {
        let rig = Rig::new(2000, 2000, PROMPT);
        let space = rig.space();
        let mut cpu = Cpu::new(rig.memory, 0);
        cpu.enter(&space);
        fixed(&rig, &mut cpu, BASE, 8, RW);
        (0..8).for_each(|i| rig.stamp(&mut cpu, BASE + i, i + 1));
        cpu.leave();
        let stop = Arc::new(Stop::default());
        let resident = || (0..8).filter(|&i| space.is_resident(Page(BASE + i))).count();
        std::thread::scope(|s| {
            let scan = s.spawn(|| {
                let _cpu = Cpu::new(rig.memory, 1);
                Stop::after(n, &stop);
                space.page_out(range(BASE, 8));
                Stop::disarm();
                stop.finish();
            });
            stop.wait();
            let lock = s.spawn(|| {
                let _cpu = Cpu::new(rig.memory, 2);
                space.set_flags(range(BASE, 8), Flags::LOCKED, Flags::empty(), &|_, _| true).unwrap();
                resident()
            });
            // It returns at once, or waits for the scan.
            let patience = std::time::Instant::now() + Duration::from_millis(20);
            while !lock.is_finished() && std::time::Instant::now() < patience {
                std::thread::yield_now();
            }
            stop.release();
            let locked = lock.join().expect("the lock");
            scan.join().expect("the scan");
            assert_eq!(resident(), locked, "point {n}: locked pages were taken");
        });
        drop(cpu);
        rig.end(vec![space]);
    }
}
