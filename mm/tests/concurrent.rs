//! Several CPUs on one space: threads with software TLBs, real races, the audit at the end. Names carry race numbers.

mod common;

use common::{EndOnPanic, RW, Random, Shared, range};
use quire_mm::fake::{Cpu, POISON, audit, memory};
use quire_mm::{Backing, Counter, EditError, Fault, Flags, Page, Place, Prot, Remap, Segment, Space};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

const RO: Prot = Prot::READ;

/// Runs `work` on CPUs `1 ..= n` in `space`, then audits with the space alive and with it gone.
fn run(frames: usize, n: usize, setup: impl FnOnce(&mut Cpu), work: impl Fn(&mut Cpu, usize) + Sync) {
    let m = memory(frames);
    let space: Shared = Arc::new(Space::new(m));
    let mut cpu = Cpu::new(m, 0);
    cpu.enter(&space);
    setup(&mut cpu);
    cpu.leave();
    let done = AtomicU64::new(0);
    std::thread::scope(|s| {
        for id in 1..=n {
            let (space, work, done) = (&space, &work, &done);
            s.spawn(move || {
                let mut cpu = Cpu::new(m, id);
                cpu.enter(space);
                let _end = EndOnPanic;
                work(&mut cpu, id);
                done.fetch_add(1, SeqCst);
                // Whoever has seen this CPU in the space may ask it for an answer: it serves until nobody can.
                cpu.wait_until(|| done.load(SeqCst) == n as u64);
            });
        }
    });
    drop(cpu);
    audit(m, &[&space]);
    drop(space);
    let r = audit(m, &[]);
    assert_eq!((r.tables, r.slabs, r.pages, r.objects), (0, 0, 1, 0), "{r:?}");
}

fn fixed(cpu: &Cpu, p: u64, n: u64, prot: Prot) {
    cpu.space().map(Place::Fixed(Page(p)), n, prot, &Backing::Anonymous, Flags::empty()).unwrap();
}

const BASE: u64 = 1 << 20;

/// Races 19, 20, 21: map, write, read back, unmap at private and at shared places, several CPUs in one arena.
#[test]
fn race_19_20_21_map_race() {
    run(
        20_000,
        4,
        |_| (),
        |cpu, id| {
            let mut r = Random(id as u64 * 77 + 1);
            for i in 0..3000 {
                let n = 1 + r.next(20);
                let a = cpu.space().map(Place::Anywhere, n, RW, &Backing::Anonymous, Flags::empty()).unwrap();
                for k in 0..n {
                    assert_eq!(cpu.read(Page(a.0 + k).addr()), Ok(0));
                    cpu.write(Page(a.0 + k).addr(), i).unwrap();
                }
                (0..n).for_each(|k| assert_eq!(cpu.read(Page(a.0 + k).addr()), Ok(i)));
                // A place that everybody fights for: whatever happens, nobody sees poison or another arena's data.
                let p = BASE + r.next(8) * 256;
                let _ =
                    cpu.space().map(Place::Fixed(Page(p)), 1 + r.next(600), RW, &Backing::Anonymous, Flags::empty());
                if let Ok(v) = cpu.read(Page(p).addr()) {
                    assert!(v == 0 || v >> 32 == 0xabcd, "{v:#x}");
                }
                let _ = cpu.write(Page(p).addr(), 0xabcd << 32 | i);
                cpu.space().unmap(range(BASE + r.next(2048), 1 + r.next(700))).unwrap();
                cpu.space().unmap(range(a.0, n)).unwrap();
                assert_eq!(cpu.read(a.addr()).err().is_none(), cpu.space().find(a).is_some_and(|s| s.range.start <= a));
            }
        },
    );
}

/// Races 1, 5: after an unmap has returned nobody reads the page through an old translation.
#[test]
fn race_1_5_no_access_after_unmap() {
    let turn = AtomicU64::new(0);
    let gone = AtomicU64::new(0);
    let seen = AtomicU64::new(0);
    run(
        4096,
        3,
        |_| (),
        |cpu, id| {
            for round in 1..2000u64 {
                if id == 1 {
                    fixed(cpu, BASE, 4, RW);
                    cpu.write(Page(BASE).addr(), round).unwrap();
                    turn.store(round, SeqCst);
                    (0..5).for_each(|_| std::thread::yield_now());
                    cpu.space().unmap(range(BASE, 4)).unwrap();
                    gone.store(round, SeqCst);
                    cpu.wait_until(|| seen.load(SeqCst) == 2 * round);
                } else {
                    cpu.wait_until(|| turn.load(SeqCst) >= round);
                    loop {
                        let was = gone.load(SeqCst);
                        let v = cpu.read(Page(BASE).addr());
                        assert_ne!(v, Ok(POISON));
                        if was >= round {
                            assert!(v.is_err(), "read {v:?} after the unmap returned");
                            break;
                        }
                        if v.is_err() && id == 2 {
                            // A second unmapper must not return before the first one's flush.
                            cpu.space().unmap(range(BASE, 4)).unwrap();
                            assert!(cpu.read(Page(BASE).addr()).is_err());
                        }
                    }
                    seen.fetch_add(1, SeqCst);
                }
            }
        },
    );
}

/// Races 20, 27, 41: rights never outlive the edit that took them.
#[test]
fn race_20_protect_race() {
    let version = AtomicU64::new(0); // odd: writable
    let stop = AtomicBool::new(false);
    run(
        4096,
        4,
        |cpu| fixed(cpu, BASE, 8, RO),
        |cpu, id| {
            if id == 1 {
                for _ in 0..3000 {
                    version.fetch_add(1, SeqCst);
                    cpu.space().protect(range(BASE, 8), RW).unwrap();
                    cpu.space()
                        .protect(range(BASE, 8), if version.load(SeqCst) % 4 == 1 { RO } else { Prot::empty() })
                        .unwrap();
                    version.fetch_add(1, SeqCst);
                    cpu.poll();
                }
                stop.store(true, SeqCst);
            } else {
                while !stop.load(SeqCst) {
                    let before = version.load(SeqCst);
                    let ok = cpu.write(Page(BASE + id as u64).addr(), before).is_ok();
                    let after = version.load(SeqCst);
                    assert!(
                        !(ok && before.is_multiple_of(2) && before == after),
                        "a store succeeded while no edit allowed it"
                    );
                }
            }
        },
    );
}

/// Race 47: once a thread has been refused, no other one writes through an older translation.
#[test]
fn race_47_refusal_is_final() {
    let told = AtomicU64::new(0);
    let round = AtomicU64::new(0);
    let done = AtomicU64::new(0);
    run(
        4096,
        3,
        |cpu| fixed(cpu, BASE, 1, RW),
        |cpu, id| {
            for r in 1..1500u64 {
                match id {
                    1 => {
                        cpu.space().protect(range(BASE, 1), RW).unwrap();
                        round.store(r, SeqCst);
                        std::thread::yield_now();
                        cpu.space().protect(range(BASE, 1), RO).unwrap();
                        cpu.wait_until(|| done.load(SeqCst) == 2 * r);
                    }
                    2 => {
                        cpu.wait_until(|| round.load(SeqCst) == r);
                        while cpu.write(Page(BASE).addr(), r).is_ok() {}
                        told.store(r, SeqCst);
                        done.fetch_add(1, SeqCst);
                    }
                    _ => {
                        cpu.wait_until(|| round.load(SeqCst) == r);
                        loop {
                            let refused = told.load(SeqCst) == r;
                            let ok = cpu.write(Page(BASE).addr() + 8, r).is_ok();
                            assert!(!(refused && ok), "wrote after another thread was refused");
                            if !ok {
                                break;
                            }
                        }
                        done.fetch_add(1, SeqCst);
                    }
                }
            }
        },
    );
}

/// Races 2, 3, 30, 48: three threads, old after new never.
#[test]
fn race_2_3_30_cow_three() {
    let (go, end) = (AtomicU64::new(0), AtomicU64::new(0));
    let y = AtomicU64::new(0);
    run(
        8192,
        3,
        |cpu| fixed(cpu, BASE, 1, RW),
        |cpu, id| {
            let x = Page(BASE).addr();
            for r in 1..1500u64 {
                if id == 1 {
                    cpu.write(x, 0).unwrap();
                    let child = cpu.space().fork().unwrap();
                    y.store(0, SeqCst);
                    go.store(r, SeqCst);
                    // The breaker: writes another word of the page.
                    cpu.write(x + 64, r).unwrap();
                    cpu.wait_until(|| end.load(SeqCst) == 2 * r);
                    drop(child);
                } else if id == 2 {
                    cpu.wait_until(|| go.load(SeqCst) == r);
                    cpu.write(x, r).unwrap();
                    y.store(r, SeqCst);
                    end.fetch_add(1, SeqCst);
                } else {
                    cpu.wait_until(|| go.load(SeqCst) == r);
                    for _ in 0..20 {
                        let seen = y.load(SeqCst);
                        let v = cpu.read(x).unwrap();
                        assert!(!(seen == r && v != r), "read the old x after the new y");
                    }
                    end.fetch_add(1, SeqCst);
                }
            }
        },
    );
}

/// Races 4, 28, 29: once fork has returned, the child's memory is frozen and a consistent cut.
#[test]
fn race_4_28_29_fork_freeze() {
    fork_freeze(6);
}

/// So few pages that a fork copies them.
#[test]
fn race_4_28_29_fork_freeze_hot() {
    fork_freeze(3);
}

fn fork_freeze(pages: u64) {
    let stop = AtomicBool::new(false);
    let few = 3 * pages <= 16;
    let rounds = AtomicU64::new(0);
    run(
        30_000,
        4,
        |cpu| fixed(cpu, BASE, pages * 3, RW),
        |cpu, id| {
            let at = |i: u64| Page(BASE + i).addr();
            if id == 1 {
                for _ in 0..400 {
                    // Hot is what was stored to since the last fork, and the host need not have let anybody run.
                    let before = rounds.load(SeqCst);
                    cpu.wait_until(|| !few || rounds.load(SeqCst) != before);
                    let parent = cpu.space().clone();
                    let child: Shared = Arc::new(parent.fork().unwrap());
                    cpu.enter(&child);
                    let first: Vec<u64> = (0..pages * 3).map(|i| cpu.read(at(i)).unwrap()).collect();
                    for w in 0..3 {
                        for k in 1..pages {
                            let (a, b) = (first[(w * pages + k - 1) as usize], first[(w * pages + k) as usize]);
                            assert!(a >= b, "the child has a later write without an earlier one");
                        }
                    }
                    (0..pages * 3)
                        .for_each(|i| assert_eq!(cpu.read(at(i)), Ok(first[i as usize]), "the child's page moved"));
                    cpu.enter(&parent);
                }
                stop.store(true, SeqCst);
                let count = |counter| cpu.memory.stats.get(counter);
                assert!(!few || count(Counter::ForkCopy) > count(Counter::ShootdownCopy), "hot pages were not copied");
            } else {
                let w = (id - 2) as u64;
                let mut n = 0;
                while !stop.load(SeqCst) {
                    n += 1;
                    (0..pages).for_each(|k| cpu.write(at(w * pages + k), n).unwrap());
                    // Nothing of it is lost.
                    (0..pages).for_each(|k| assert_eq!(cpu.read(at(w * pages + k)), Ok(n)));
                    rounds.fetch_add(1, SeqCst);
                }
            }
        },
    );
}

/// Races 11, 12, 49: many threads write distinct words of one copy-on-write page.
#[test]
fn race_11_12_49_cow_scribble() {
    let (go, end) = (AtomicU64::new(0), AtomicU64::new(0));
    run(
        8192,
        4,
        |cpu| fixed(cpu, BASE, 2, RW),
        |cpu, id| {
            for r in 1..1200u64 {
                let word = |i: usize| Page(BASE).addr() + i as u64 * 8;
                let mut child = None;
                if id == 1 {
                    child = Some(cpu.space().fork().unwrap());
                    go.store(r, SeqCst);
                }
                cpu.wait_until(|| go.load(SeqCst) == r);
                assert_eq!(cpu.add(word(id), 1), Ok(r - 1));
                end.fetch_add(1, SeqCst);
                cpu.wait_until(|| end.load(SeqCst) >= 4 * r);
                assert_eq!(cpu.read(word(id)), Ok(r));
                if let Some(c) = child {
                    let c: Shared = Arc::new(c);
                    let p = cpu.space().clone();
                    cpu.enter(&c);
                    assert_eq!(cpu.read(word(1)), Ok(r - 1));
                    cpu.enter(&p);
                }
                end.fetch_add(0, SeqCst);
            }
        },
    );
}

/// Races 6, 26: moves against readers, writers and unmaps; MAP_FIXED over a live mapping.
#[test]
fn race_6_26_move_race() {
    let stop = AtomicBool::new(false);
    let (src, dst) = (BASE, BASE + 5000);
    run(
        20_000,
        4,
        |cpu| {
            fixed(cpu, dst, 4, RW);
            (0..4).for_each(|i| cpu.write(Page(dst + i).addr(), 1).unwrap());
        },
        |cpu, id| {
            if id == 1 {
                for round in 2..1500u64 {
                    fixed(cpu, src, 4, RW);
                    (0..4).for_each(|i| cpu.write(Page(src + i).addr(), round).unwrap());
                    cpu.space().remap(range(src, 4), 4, Remap::Fixed(Page(dst)), false).unwrap();
                    (0..4).for_each(|i| assert!(cpu.read(Page(dst + i).addr()).unwrap() >= round));
                    if round % 7 == 0 {
                        // Replaced in place: zeros, then newer rounds.
                        fixed(cpu, dst, 4, RW);
                        (0..4).for_each(|i| cpu.write(Page(dst + i).addr(), round).unwrap());
                    }
                }
                stop.store(true, SeqCst);
            } else {
                let mut last = 0;
                while !stop.load(SeqCst) {
                    let v = cpu.read(Page(dst + id as u64 % 4).addr()).expect("the destination is always mapped");
                    assert!(v == 0 || v >= last, "{v} after {last}");
                    last = last.max(v);
                    let _ = cpu.write(Page(src + id as u64 % 4).addr() + 64, 1);
                    let _ = cpu.space().remap(range(BASE + 100, 1), 2, Remap::MayMove(Page(0)), false);
                }
            }
        },
    );
}

/// Moves of a range without tables, here and over the line between two arenas, against first touches of its pages.
#[test]
fn a_move_takes_what_is_touched_meanwhile() {
    const SPAN: u64 = 512;
    const N: u64 = 8 * SPAN;
    let stop = AtomicBool::new(false);
    run(
        20_000,
        4,
        |cpu| fixed(cpu, BASE, N, RW),
        |cpu, id| {
            if id == 1 {
                for round in 0..100u64 {
                    let (keep, to) = (round % 2 == 1, if round % 4 < 2 { BASE + 8 * N } else { (6 << 27) - N / 2 });
                    cpu.space().remap(range(BASE, N), N, Remap::Fixed(Page(to)), keep).unwrap();
                    for i in 0..8 {
                        let v = cpu.read(Page(to + i * SPAN).addr()).unwrap();
                        assert!(v == 0 || v == i + 1, "page {i} holds {v}");
                    }
                    fixed(cpu, BASE, N, RW);
                }
                stop.store(true, SeqCst);
            } else {
                let mut random = Random(id as u64);
                while !stop.load(SeqCst) {
                    let i = random.next(8);
                    let _ = cpu.write(Page(BASE + i * SPAN).addr(), i + 1);
                }
            }
        },
    );
}

/// Whoever looks for a segment that moves back and forth finds it or nothing, never the mark of the move.
#[test]
fn a_settled_look_never_sees_a_range_in_transit() {
    const N: u64 = 8;
    let stop = AtomicBool::new(false);
    let shows = |s: Option<Segment>| s.filter(|s| s.range.start == Page(BASE)).map(|s| s.prot);
    let (marks, looks) = (AtomicU64::new(0), AtomicU64::new(0));
    run(
        20_000,
        4,
        |cpu| fixed(cpu, BASE, N, RW),
        |cpu, id| {
            if id == 1 {
                let mut round = 0;
                while looks.load(SeqCst) < 3000 || marks.load(SeqCst) == 0 {
                    round += 1;
                    let (from, to) = if round % 2 == 1 { (BASE, BASE + 8 * N) } else { (BASE + 8 * N, BASE) };
                    (from..from + N).for_each(|page| cpu.write(Page(page).addr(), page).unwrap());
                    cpu.space().remap(range(from, N), N, Remap::Fixed(Page(to)), false).unwrap();
                }
                stop.store(true, SeqCst);
            } else {
                while !stop.load(SeqCst) {
                    // So that moves wait for this CPU's answer.
                    let _ = cpu.read(Page(BASE).addr());
                    marks.fetch_add((shows(cpu.space().find(Page(BASE))) == Some(Prot::empty())) as u64, SeqCst);
                    looks.fetch_add(1, SeqCst);
                    let seen = shows(cpu.space().find_arrived(Page(BASE)));
                    assert!(seen.is_none_or(|prot| prot == RW), "{seen:?}");
                    let all = cpu.space().one_segment(range(BASE, N)).ok();
                    assert!(all.is_none_or(|s| s.prot == RW && s.range == range(BASE, N)), "a part of it");
                }
            }
        },
    );
}

/// Race 42: mappings without a hint never get one address.
#[test]
fn race_42_no_address_twice() {
    run(
        20_000,
        4,
        |_| (),
        |cpu, id| {
            let mut mine = Vec::new();
            // One arena for all: CPUs 1 to 4 have different homes, so force hints that collide.
            for i in 0..1500u64 {
                let hint = Place::Hint(Page(BASE + i));
                let a = cpu.space().map(hint, 1, RW, &Backing::Anonymous, Flags::UNMERGED).unwrap();
                cpu.write(a.addr(), (id as u64) << 32 | i).unwrap();
                mine.push((a, (id as u64) << 32 | i));
            }
            mine.iter().for_each(|(a, v)| assert_eq!(cpu.read(a.addr()), Ok(*v)));
            mine.iter().for_each(|(a, _)| cpu.space().unmap(range(a.0, 1)).unwrap());
        },
    );
}

/// Races 9, 39: everybody shoots at everybody.
#[test]
fn race_9_39_storm() {
    run(
        8192,
        6,
        |cpu| fixed(cpu, BASE, 64, RW),
        |cpu, id| {
            let p = BASE + id as u64 * 8;
            for i in 0..2000 {
                (0..8).for_each(|k| cpu.write(Page(p + k).addr(), i).unwrap());
                let _ = cpu.read(Page(BASE + (i * 7) % 64).addr());
                cpu.space().protect(range(p, 8), RO).unwrap();
                cpu.space().protect(range(p, 8), RW).unwrap();
                cpu.space().discard(range(p, 8)).unwrap();
            }
        },
    );
}

/// Race 17: forks that run out of memory while others write; nothing is shared or lost afterwards.
#[test]
fn race_17_fork_without_memory() {
    let stop = AtomicBool::new(false);
    run(
        900,
        3,
        |cpu| fixed(cpu, BASE, 300, RW),
        |cpu, id| {
            if id == 1 {
                (0..300).for_each(|i| cpu.write(Page(BASE + i).addr(), i).unwrap());
                let mut failed = 0;
                for _ in 0..10 {
                    let mut children = Vec::new();
                    loop {
                        match cpu.space().fork() {
                            Ok(c) => children.push(c),
                            Err(e) => {
                                assert_eq!(e, EditError::OutOfFrames);
                                failed += 1;
                                break;
                            }
                        }
                        if children.len() > 150 {
                            break;
                        }
                    }
                    children.truncate(children.len() / 2);
                    (4..300).for_each(|i| assert_eq!(cpu.read(Page(BASE + i).addr()), Ok(i)));
                }
                stop.store(true, SeqCst);
                assert!(failed > 0, "memory never ran out");
            } else {
                let mut n = 0;
                while !stop.load(SeqCst) {
                    match cpu.write(Page(BASE + id as u64).addr() + 8, n) {
                        Ok(()) => assert_eq!(cpu.read(Page(BASE + id as u64).addr() + 8), Ok(n)),
                        Err(e) => assert_eq!(e, Fault::OutOfFrames),
                    }
                    n += 1;
                }
            }
        },
    );
}

/// Race 19, the table freed under a fault: a discard takes whole tables out while nobody else is active, as it looks; but the
/// segment stays, so a CPU that becomes active meanwhile may be about to install a page in a table that is on its way out.
#[test]
fn race_19_discard_meets_a_cpu_that_comes() {
    const BLOCKS: u64 = 16;
    let stop = AtomicBool::new(false);
    run(
        9000,
        2,
        |cpu| fixed(cpu, BASE, BLOCKS * 512, RW),
        |cpu, id| {
            if id == 1 {
                for i in 0..2_000 {
                    // One page in each table: the last table goes late.
                    (0..BLOCKS).for_each(|b| cpu.write(Page(BASE + b * 512).addr(), i).unwrap());
                    cpu.space().discard(range(BASE, BLOCKS * 512)).unwrap();
                    cpu.poll();
                }
                stop.store(true, SeqCst);
            } else {
                let space = cpu.space().clone();
                let mut n = 0;
                while !stop.load(SeqCst) {
                    cpu.leave();
                    (0..n % 64).for_each(|_| std::hint::spin_loop());
                    cpu.enter(&space);
                    let page = BASE + (BLOCKS - 1) * 512 + 1 + n % 500;
                    cpu.write(Page(page).addr(), n).unwrap();
                    n += 7;
                }
            }
        },
    );
}

/// A thread that reads fresh memory before it stores to it soon asks nobody for that, and one that only reads gets no memory for it.
#[test]
fn reading_before_writing_asks_nobody() {
    const STORED: u64 = 400;
    const READ: u64 = 4000;
    let (joined, done) = (AtomicBool::new(false), AtomicU64::new(0));
    run(
        8000,
        2,
        |cpu| fixed(cpu, BASE, 1 + STORED + READ, RW),
        |cpu, id| {
            if id == 2 {
                cpu.write(Page(BASE).addr(), 1).unwrap();
                joined.store(true, SeqCst);
                return cpu.wait_until(|| done.load(SeqCst) == 1);
            }
            cpu.wait_until(|| joined.load(SeqCst));
            for page in (BASE + 1..).take(STORED as usize) {
                assert_eq!(cpu.read(Page(page).addr()), Ok(0));
                cpu.write(Page(page).addr(), page).unwrap();
                assert_eq!(cpu.read(Page(page).addr()), Ok(page));
            }
            let count = |counter| cpu.memory.stats.get(counter);
            let asked = (count(Counter::ShootdownZero), count(Counter::FaultBlank));
            assert!(asked.0 <= 10 && asked.1 >= STORED - 10, "{asked:?}");
            (0..READ).for_each(|i| assert_eq!(cpu.read(Page(BASE + 1 + STORED + i).addr()), Ok(0)));
            let resident = cpu.space().usage().resident;
            assert!(resident <= 1 + STORED + STORED / 10, "{resident} pages, where {STORED} were stored to");
            done.store(1, SeqCst);
        },
    );
}
