//! Programs larger than memory, on the memory manager's adversarial machine: software TLBs that keep what they may, poison in freed
//! frames, a disk that is late and reorders. Every page that is read back must be the one that was written; the audit ends each test.

mod rig;

use quire_mm::fake::Cpu;
use quire_swapd::fake::Manners;
use rig::*;

const LATE: Manners = Manners { late: 100, read_error: 0, write_error: 0, lost: 0, depth: 0 };

/// One program, four times the memory: filled, read in order, at random, and once more in order with rewriting.
#[test]
fn one_thread_verifies() {
    let rig = Rig::new(1024, 5000, LATE);
    let space = rig.space();
    let mut cpu = Cpu::new(rig.memory, 0);
    cpu.enter(&space);
    let n = 4000;
    fixed(&rig, &mut cpu, BASE, n, RW);
    (0..n).for_each(|i| rig.stamp(&mut cpu, BASE + i, i + 1));
    (0..n).for_each(|i| assert_eq!(rig.check(&mut cpu, BASE + i), Ok(i + 1)));
    let mut r = Random(9);
    for _ in 0..2000 {
        let i = r.below(n);
        assert_eq!(rig.check(&mut cpu, BASE + i), Ok(i + 1));
    }
    for i in 0..n {
        assert_eq!(rig.check(&mut cpu, BASE + i), Ok(i + 1));
        rig.stamp(&mut cpu, BASE + i, i + 7);
    }
    (0..n).for_each(|i| assert_eq!(rig.check(&mut cpu, BASE + i), Ok(i + 7)));
    drop(cpu);
    rig.end(vec![space]);
}

/// Four programs' threads in one space, each with its part, three times the memory together, while every one of them reclaims.
#[test]
fn four_threads_verify() {
    let rig = Rig::new(2048, 7000, LATE);
    let space = rig.space();
    threads(&rig, &space, 4, |rig, cpu, id| {
        let (base, n) = (BASE + id as u64 * 2048, 1500);
        fixed(rig, cpu, base, n, RW);
        (0..n).for_each(|i| rig.stamp(cpu, base + i, id as u64 * 100_000 + i));
        let mut r = Random(id as u64 + 5);
        for round in 0..2 {
            (0..n).for_each(|i| assert_eq!(rig.check(cpu, base + i), Ok(id as u64 * 100_000 + i), "round {round}"));
            for _ in 0..500 {
                let i = r.below(n);
                assert_eq!(rig.check(cpu, base + i), Ok(id as u64 * 100_000 + i));
            }
        }
    });
    rig.end(vec![space]);
}

/// Runs `work` on CPUs `1 ..= n` in a space.
fn threads(rig: &Rig, space: &S, n: usize, work: impl Fn(&Rig, &mut Cpu, usize) + Sync) {
    std::thread::scope(|s| {
        for id in 1..=n {
            let work = &work;
            s.spawn(move || {
                let mut cpu = Cpu::new(rig.memory, id);
                cpu.enter(space);
                work(rig, &mut cpu, id);
            });
        }
    });
}

/// Race 24: pages on the disk are shared by fork; parent and child write, one of them ends, the other one's are right. Chains of
/// three generations.
#[test]
fn race_24_33_fork_shares_slots() {
    let rig = Rig::new(1500, 6000, LATE);
    let parent = rig.space();
    let mut cpu = Cpu::new(rig.memory, 0);
    cpu.enter(&parent);
    let n = 1200;
    fixed(&rig, &mut cpu, BASE, n, RW);
    let mut spaces = vec![parent.clone()];
    for generation in 0..3u64 {
        (0..n).for_each(|i| rig.stamp(&mut cpu, BASE + i, (generation << 32) | (i + 1)));
        let space = cpu.space().clone();
        // Some on the disk, some in the cache, some in frames.
        space.page_out(range(BASE, n / 2));
        rig.pump();
        let child = rig.edit(&mut cpu, |s| s.fork());
        spaces.push(rig.adopt(child));
        let child = spaces.last().unwrap().clone();
        // The parent writes every third page, the child every second.
        (0..n).step_by(3).for_each(|i| rig.stamp(&mut cpu, BASE + i, 77 << 40 | i));
        rig.enter(&mut cpu, &child);
        for i in 0..n {
            assert_eq!(
                rig.check(&mut cpu, BASE + i),
                Ok((generation << 32) | (i + 1)),
                "the child sees its parent's store"
            );
        }
        (0..n).step_by(2).for_each(|i| rig.stamp(&mut cpu, BASE + i, 99 << 40 | i));
        rig.enter(&mut cpu, &space);
        for i in 0..n {
            let want = if i % 3 == 0 { 77 << 40 | i } else { (generation << 32) | (i + 1) };
            assert_eq!(rig.check(&mut cpu, BASE + i), Ok(want), "the parent sees its child's store");
        }
        rig.enter(&mut cpu, &child);
    }
    // The middle ones end; first and last stay right.
    drop(spaces.drain(1..3));
    for i in 0..n {
        let want = if i % 2 == 0 { 99 << 40 | i } else { (2 << 32) | (i + 1) };
        assert_eq!(rig.check(&mut cpu, BASE + i), Ok(want));
    }
    rig.enter(&mut cpu, &parent);
    for i in 0..n {
        assert_eq!(rig.check(&mut cpu, BASE + i), Ok(if i % 3 == 0 { 77 << 40 | i } else { i + 1 }));
    }
    drop((cpu, parent));
    rig.end(spaces);
}

/// Races 22, 23, 31, 34 to 36, 50, 54, 57: everything against forced eviction on an area of a few dozen slots: stores, unmaps,
/// discards, protections, moves, forks. Each thread knows what its pages hold.
#[test]
fn race_22_34_57_everything_on_few_slots() {
    storm(2500, 48, LATE, 20_000);
}

/// The same with room on the disk, so that links and taken-back pages live longer.
#[test]
fn race_35_36_everything_on_many_slots() {
    storm(2500, 2000, Manners { late: 30, ..LATE }, 20_000);
}

fn storm(frames: usize, slots: usize, manners: Manners, rounds: u64) {
    let rig = Rig::new(frames, slots, manners);
    let space = rig.space();
    let running = std::sync::atomic::AtomicUsize::new(3);
    use std::sync::atomic::Ordering::SeqCst;
    std::thread::scope(|s| {
        for id in 1..=3usize {
            let (rig, space, running) = (&rig, &space, &running);
            s.spawn(move || {
                let mut cpu = Cpu::new(rig.memory, id);
                cpu.enter(space);
                program(rig, &mut cpu, id, rounds);
                drop(cpu);
                running.fetch_sub(1, SeqCst);
            });
        }
        for id in [4usize, 5] {
            let (rig, space, running) = (&rig, &space, &running);
            // Reclaimers: CPUs that are in no space.
            s.spawn(move || {
                let mut cpu = Cpu::new(rig.memory, id);
                let mut r = Random(id as u64);
                while running.load(SeqCst) != 0 {
                    let mut cursor = quire_mm::Page(BASE + r.below(1024));
                    let round = r.below(4) as u32;
                    space.evict(1 + r.below(40), round, &mut cursor);
                    if r.below(4) == 0 {
                        rig.reclaim(&mut cpu, 4);
                    }
                    if r.below(3) == 0 {
                        rig.swap.trim(20, r.below(2) == 0);
                    }
                    rig.pump();
                    cpu.poll();
                    std::thread::yield_now();
                }
            });
        }
    });
    rig.end(vec![space]);
}

fn program(rig: &Rig, cpu: &mut Cpu, id: usize, rounds: u64) {
    use quire_mm::Remap;
    let n = 64;
    let mut at = BASE + id as u64 * 128;
    let elsewhere = |k: u64| BASE + 4096 * 128 * k + id as u64 * 128;
    let mut now = vec![0u64; n as usize];
    fixed(rig, cpu, at, n, RW);
    let mut r = Random(id as u64 * 31 + 7);
    for round in 1..=rounds {
        let i = r.below(n);
        let v = round << 8 | id as u64;
        match r.below(12) {
            0..=3 => {
                rig.stamp(cpu, at + i, v);
                now[i as usize] = v;
            }
            4 | 5 => (i..(i + 9).min(n)).for_each(|k| assert_eq!(rig.check(cpu, at + k), Ok(now[k as usize]))),
            6 => {
                let len = (1 + r.below(12)).min(n - i);
                rig.edit(cpu, |s| s.discard(range(at + i, len)));
                now[i as usize..(i + len) as usize].fill(0);
            }
            7 => {
                let len = (1 + r.below(12)).min(n - i);
                rig.edit(cpu, |s| s.unmap(range(at + i, len)));
                assert!(cpu.read(quire_mm::Page(at + i).addr()).is_err());
                fixed(rig, cpu, at + i, len, RW);
                now[i as usize..(i + len) as usize].fill(0);
            }
            8 => {
                let len = (1 + r.below(12)).min(n - i);
                let prot = if r.below(2) == 0 { RO } else { NONE };
                rig.edit(cpu, |s| s.protect(range(at + i, len), prot));
                assert_eq!(cpu.write(quire_mm::Page(at + i).addr(), 1), Err(quire_mm::Fault::Forbidden));
                if prot == RO {
                    assert_eq!(rig.check(cpu, at + i), Ok(now[i as usize]));
                } else {
                    assert_eq!(cpu.read(quire_mm::Page(at + i).addr()), Err(quire_mm::Fault::Forbidden));
                }
                rig.edit(cpu, |s| s.protect(range(at + i, len), RW));
            }
            9 => {
                // To another arena, or back, or within one.
                let to = [elsewhere(0) + 1024, elsewhere(1), elsewhere(0) + 2048][r.below(3) as usize];
                if to != at {
                    rig.edit(cpu, |s| match s.remap(range(at, n), n, Remap::Fixed(quire_mm::Page(to)), false) {
                        // Protections split it.
                        Err(quire_mm::EditError::NotMapped) => Ok(None),
                        other => other.map(Some),
                    })
                    .into_iter()
                    .for_each(|p| at = p.0);
                }
            }
            10 if round % 8 == 0 => {
                // A child with everything as it was. It writes and ends; what it saw is frozen, what it wrote is its own. Other threads'
                // pages are theirs to check.
                let child = rig.edit(cpu, |s| s.fork());
                let child = rig.adopt(child);
                let parent = cpu.space().clone();
                rig.stamp(cpu, at + i, v);
                rig.enter(cpu, &child);
                for k in 0..n {
                    assert_eq!(rig.check(cpu, at + k), Ok(now[k as usize]), "a child's page");
                }
                (0..n).step_by(5).for_each(|k| rig.stamp(cpu, at + k, v ^ 5));
                rig.enter(cpu, &parent);
                now[i as usize] = v;
                drop_space(cpu, child);
            }
            _ => {
                let space = cpu.space().clone();
                space.page_out(range(at + i, (1 + r.below(16)).min(n - i)));
                rig.pump();
            }
        }
        cpu.poll();
    }
    (0..n).for_each(|k| assert_eq!(rig.check(cpu, at + k), Ok(now[k as usize])));
}

/// Race 37, 51 to 53: a shared object larger than memory, mapped by two spaces at different places, written by three CPUs and by the
/// kernel; private mappings of it, forks, and reclaim meanwhile.
#[test]
fn race_37_51_52_53_shared_object() {
    use quire_mm::{Backing, Flags, PAGE, Page, Place};
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    let rig = Rig::new(1200, 4000, LATE);
    let n = 900u64;
    let object = rig.memory.new_object(n * PAGE as u64, n * PAGE as u64, &[]).unwrap();
    let backing = || Backing::Object { object: object.clone(), offset: 0, shared: true };
    let spaces: Vec<S> = (0..2).map(|_| rig.space()).collect();
    let running = AtomicUsize::new(4);
    std::thread::scope(|s| {
        for id in 0..4usize {
            let (rig, spaces, object, backing, running) = (&rig, &spaces, &object, &backing, &running);
            s.spawn(move || {
                let mut cpu = Cpu::new(rig.memory, id);
                rig.enter(&mut cpu, &spaces[id % 2]);
                let at = BASE + id as u64 * 4096;
                rig.edit(&mut cpu, |s| s.map(Place::Fixed(Page(at)), n, RW, &backing(), Flags::empty()));
                let mut r = Random(id as u64 + 3);
                // Word `id + 1` of each page is this thread's.
                let mut now = vec![0u64; n as usize];
                for round in 1..40_000u64 {
                    let i = r.below(n);
                    let addr = Page(at + i).addr() + (id as u64 + 1) * 8;
                    match r.below(20) {
                        0..8 => {
                            rig.write(&mut cpu, addr, round).unwrap();
                            now[i as usize] = round;
                        }
                        8..17 => assert_eq!(rig.read(&mut cpu, addr), Ok(now[i as usize]), "page {i} of {id}"),
                        17 => {
                            let space = cpu.space().clone();
                            space.page_out(range(at + i, (n - i).min(40)));
                            rig.pump();
                        }
                        18 => {
                            let len = (n - i).min(1 + r.below(30));
                            rig.edit(&mut cpu, |s| s.discard(range(at + i, len)));
                        }
                        _ if id == 0 && round % 8 == 0 => {
                            let child = rig.edit(&mut cpu, |s| s.fork());
                            let child = rig.adopt(child);
                            let parent = cpu.space().clone();
                            rig.enter(&mut cpu, &child);
                            assert_eq!(rig.read(&mut cpu, addr), Ok(now[i as usize]));
                            rig.enter(&mut cpu, &parent);
                            drop_space(&mut cpu, child);
                        }
                        _ => assert!(rig.object_word(&mut cpu, object, i, None) == 0),
                    }
                    cpu.poll();
                }
                drop(cpu);
                running.fetch_sub(1, SeqCst);
            });
        }
        let (rig, spaces, running) = (&rig, &spaces, &running);
        s.spawn(move || {
            let cpu = Cpu::new(rig.memory, 9);
            let mut r = Random(77);
            while running.load(SeqCst) != 0 {
                let mut cursor = Page(BASE + r.below(4 * 4096));
                spaces[r.below(2) as usize].evict(1 + r.below(60), r.below(4) as u32, &mut cursor);
                rig.pump();
                cpu.poll();
                std::thread::yield_now();
            }
        });
    });
    // Cut in the middle of a page that may be on the disk, then gone.
    let mut cpu = Cpu::new(rig.memory, 0);
    rig.enter(&mut cpu, &spaces[0]);
    rig.object_word(&mut cpu, &object, 5, Some(42));
    spaces.iter().for_each(|s| _ = s.page_out(range(BASE, 4 * 4096)));
    rig.pump();
    loop {
        match rig.memory.set_object_len(&object, 5 * PAGE as u64 + 4) {
            Err(quire_mm::PageError::SwapIn(slot)) => {
                rig.swap.read(slot, &[]).ok();
                rig.pump();
            }
            done => break spaces.iter().for_each(|s| s.cut(done.as_ref().unwrap())),
        }
    }
    assert_eq!(rig.object_word(&mut cpu, &object, 5, None), 42);
    drop((cpu, object));
    rig.end(spaces);
}

/// Race 25: pages that cannot be read are told of, once each time, to whoever needs them; failed writes keep the page; everybody
/// else's pages are right.
#[test]
fn race_25_the_disk_fails() {
    let rig = Rig::new(1024, 4000, Manners { write_error: 60, ..LATE });
    let space = rig.space();
    let mut cpu = Cpu::new(rig.memory, 0);
    cpu.enter(&space);
    let n = 2500;
    fixed(&rig, &mut cpu, BASE, n, RW);
    (0..n).for_each(|i| rig.stamp(&mut cpu, BASE + i, i + 1));
    (0..n).for_each(|i| assert_eq!(rig.check(&mut cpu, BASE + i), Ok(i + 1), "a failed write lost the page"));
    assert!(rig.swap.census().bad > 0, "no write has failed");
    rig.swap.disk.set_manners(Manners { read_error: 20, ..LATE });
    let mut lost = 0;
    for i in 0..n {
        match rig.check(&mut cpu, BASE + i) {
            Ok(v) => assert_eq!(v, i + 1),
            Err(quire_mm::Fault::Lost) => {
                lost += 1;
                // The program gives it up; or tries again, and has it.
                if lost % 2 == 0 {
                    rig.edit(&mut cpu, |s| s.discard(range(BASE + i, 1)));
                } else {
                    while rig.check(&mut cpu, BASE + i) != Ok(i + 1) {}
                }
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(lost > 0, "no read has failed");
    drop(cpu);
    rig.end(vec![space]);
}

/// A swap area is emptied while its programs run: hidden pages, shared objects, links; what is lost is counted and stays.
#[test]
fn swapoff_brings_everything_back() {
    use quire_mm::{Back, Backing, Flags, PAGE, Page, Place};
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    let rig = Rig::new(4000, 3000, LATE);
    let space = rig.space();
    let object = rig.memory.new_object(300 * PAGE as u64, 0, &[]).unwrap();
    let mut cpu = Cpu::new(rig.memory, 0);
    cpu.enter(&space);
    let backing = Backing::Object { object: object.clone(), offset: 0, shared: true };
    space.map(Place::Fixed(Page(BASE + 4096)), 300, RW, &backing, Flags::empty()).unwrap();
    drop(backing);
    fixed(&rig, &mut cpu, BASE, 1000, RW);
    (0..1000).for_each(|i| rig.stamp(&mut cpu, BASE + i, i + 1));
    (0..300).for_each(|i| rig.stamp(&mut cpu, BASE + 4096 + i, i + 7));
    space.page_out(range(BASE, 8192));
    rig.pump();
    (0..1000).step_by(7).for_each(|i| assert_eq!(rig.check(&mut cpu, BASE + i), Ok(i + 1)));
    space.protect(range(BASE + 100, 50), NONE).unwrap();
    cpu.leave();
    let child = rig.adopt(space.fork().unwrap());
    assert!(space.usage().swapped > 500);
    let over = AtomicBool::new(false);
    std::thread::scope(|s| {
        let (rig, space, over) = (&rig, &space, &over);
        s.spawn(move || {
            let mut cpu = Cpu::new(rig.memory, 1);
            cpu.enter(space);
            let mut r = Random(1);
            while !over.load(SeqCst) {
                let i = r.below(100) + if r.below(2) == 0 { 0 } else { 400 };
                assert_eq!(rig.check(&mut cpu, BASE + i), Ok(i + 1));
                rig.stamp(&mut cpu, BASE + i, i + 1);
                let i = r.below(300);
                assert_eq!(rig.check(&mut cpu, BASE + 4096 + i), Ok(i + 7));
                space.page_out(range(BASE + i, 3));
                cpu.poll();
            }
        });
        rig.swap.set_open(false);
        let mut lost = 0;
        while !rig.swap.is_empty() {
            for space in [space, &child] {
                let mut cursor = Page(0);
                loop {
                    match space.bring_back(&mut cursor, &mut lost) {
                        Back::Done => break,
                        Back::Wait(slot) => {
                            if rig.swap.wants_read(slot) {
                                let _ = rig.swap.read(slot, &[]);
                            }
                            rig.pump();
                        }
                        Back::Busy => std::thread::yield_now(),
                    }
                    cpu.poll();
                }
            }
            rig.memory.break_links(u64::MAX);
            rig.swap.trim(4000, true);
            rig.pump();
            cpu.poll();
        }
        assert_eq!(lost, 0);
        over.store(true, SeqCst);
    });
    assert_eq!((space.usage().swapped, child.usage().swapped), (0, 0));
    rig.enter(&mut cpu, &child);
    rig.edit(&mut cpu, |s| s.protect(range(BASE + 100, 50), RO));
    (0..1000).for_each(|i| assert_eq!(rig.check(&mut cpu, BASE + i), Ok(i + 1)));
    drop((cpu, object));
    rig.end(vec![space, child]);
}

/// A fork without memory undoes what it has done: the slots that it held for the child are given back.
#[test]
fn race_17_24_fork_without_memory() {
    let rig = Rig::new(600, 800, LATE);
    let space = rig.space();
    let mut cpu = Cpu::new(rig.memory, 0);
    cpu.enter(&space);
    // Many tables, so that the fork fails late.
    for k in 0..60u64 {
        fixed(&rig, &mut cpu, BASE + k * 512, 4, RW);
        (0..4).for_each(|i| rig.stamp(&mut cpu, BASE + k * 512 + i, k * 4 + i + 1));
    }
    space.page_out(range(BASE, 20 * 512));
    rig.pump();
    let holds = || rig.swap.census().holds;
    let mut failed = 0;
    let mut taken = Vec::new();
    // Less and less memory.
    loop {
        let before = holds();
        match space.fork() {
            Ok(child) => assert_eq!((drop(child), holds()).1, before),
            Err(e) => {
                assert_eq!(e, quire_mm::EditError::OutOfFrames);
                assert_eq!(holds(), before, "a fork that failed keeps slots");
                failed += 1;
            }
        }
        if failed == 20 {
            break;
        }
        rig.memory.drain_here();
        taken.extend((0..7).filter_map(|_| rig.memory.alloc_kernel()));
    }
    taken.into_iter().for_each(|f| rig.memory.free(f));
    for k in 0..60u64 {
        (0..4).for_each(|i| assert_eq!(rig.check(&mut cpu, BASE + k * 512 + i), Ok(k * 4 + i + 1)));
    }
    drop(cpu);
    rig.end(vec![space]);
}

/// Second chance: pages that are used stay, cold ones go first; what is asked for ahead is found; populating asks for what it needs.
#[test]
fn ages_cold_pages_and_neighbours() {
    use quire_mm::{Fault, Page};
    let rig = Rig::new(2000, 2000, LATE);
    let space = rig.space();
    let mut cpu = Cpu::new(rig.memory, 0);
    cpu.enter(&space);
    fixed(&rig, &mut cpu, BASE, 100, RW);
    (0..100).for_each(|i| rig.stamp(&mut cpu, BASE + i, i + 1));
    // The first look clears Accessed, the second lets pages grow old; used ones are young again.
    let scan = |want, round| space.evict(want, round, &mut Page(0));
    assert_eq!(scan(1000, 0).pages, 0);
    assert_eq!(scan(1000, 0).pages, 0);
    rig.memory.machine.forget();
    (0..50).for_each(|i| assert_eq!(rig.check(&mut cpu, BASE + i), Ok(i + 1)));
    assert_eq!(scan(1000, 0).pages, 50);
    assert!((0..50).all(|i| space.is_resident(Page(BASE + i))));
    let usage = space.usage();
    assert_eq!((usage.resident, usage.swapped), (50, 50));
    // Cold ones go at the next look.
    space.cool(range(BASE + 10, 5));
    assert_eq!(scan(1000, 0).pages, 5);
    assert!(!space.is_resident(Page(BASE + 12)));
    rig.pump();
    // A window that begins before the segment, one that ends behind it, and one over a hole.
    let mut near = [quire_swapd::Slot(0); 32];
    assert_eq!(space.swapped_near(range(BASE - 20, 32), &mut near), 2);
    assert_eq!(space.swapped_near(range(BASE + 90, 32), &mut near), 10);
    assert_eq!(space.swapped_near(range(BASE + 50, 50), &mut near[..7]), 7);
    space.unmap(range(BASE + 60, 10)).unwrap();
    assert_eq!(space.swapped_near(range(BASE + 50, 30), &mut near), 20);
    // Populating ends where the kernel has to act.
    assert!(matches!(space.populate(range(BASE, 20), true), Err((Page(p), Fault::SwapIn(_))) if p == BASE + 10));
    fixed(&rig, &mut cpu, BASE + 60, 10, RW);
    for i in (0..100).filter(|i| !(60..70).contains(i)) {
        assert_eq!(rig.check(&mut cpu, BASE + i), Ok(i + 1));
    }
    assert_eq!(space.populate(range(BASE, 20), true), Ok(()));
    drop(cpu);
    rig.end(vec![space]);
}
