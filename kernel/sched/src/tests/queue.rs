//! Run queues: each thread is in one place, its turns come, and its share is what its nice value says.

use super::{dally, each};
use crate::machine::{compute, random, run, spawn, spawn_on};
use crate::thread::{PARKED, RUNNING, TOKEN};
use crate::{SCHED, Thread, ThreadRef, Woken, current, current_ref, park, timer, yield_now};
use alloc::collections::BTreeSet;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::sync::atomic::Ordering;
use quire_base::cpu::{block, online};

/// Whether a thread is in a queue.
fn is_queued(t: &Thread) -> bool {
    let mut found = false;
    SCHED.iter().for_each(|sched| sched.each_queued(|other| found |= core::ptr::eq(other, t)));
    found
}

/// A thread that returns to no program, and so leaves no CPU by itself, is placed anew if its set changes while it is in a queue.
#[test]
fn a_set_that_changes_in_the_queue_counts_at_once() {
    each(40, || {
        let over = Rc::new(Cell::new(false));
        let threads: Vec<(ThreadRef, Rc<Cell<bool>>)> = (0..5)
            .map(|_| {
                let (over, changed) = (over.clone(), Rc::new(Cell::new(false)));
                let its = changed.clone();
                let body = move || {
                    while !over.get() {
                        yield_now();
                        let (cpus, here) = (current().affinity(), quire_base::cpu::cpu_id());
                        assert!(!its.replace(false) || cpus & 1 << here != 0, "on CPU {here}, not in {cpus:#b}");
                        dally();
                    }
                };
                (spawn(body), changed)
            })
            .collect();
        for _ in 0..60 {
            let (t, changed) = &threads[random(5) as usize];
            if is_queued(t) {
                t.set_affinity((random(online()) + 1) & online());
                changed.set(true);
            }
            dally();
            yield_now();
        }
        over.set(true);
    });
}

/// Looks at all queues while nobody changes one: no thread is in two of them, or in one and on a CPU.
fn assert_each_in_one_place() {
    let mut seen = BTreeSet::new();
    for cpu in (0..SCHED.len()).filter(|cpu| online() & 1 << cpu != 0) {
        // Null: it has not begun.
        let current = block(cpu).current.get();
        assert!(current.is_null() || seen.insert(current.addr()), "a thread on two CPUs");
    }
    for (cpu, sched) in SCHED.iter().enumerate() {
        let (mut count, mut weight) = (0, 0);
        sched.each_queued(|t| {
            assert!(
                seen.insert(core::ptr::from_ref(t).addr()),
                "a thread in two places, one of them the queue of CPU {cpu}"
            );
            // ordering: Relaxed, all; one thread of the host.
            assert!(matches!(t.state.load(Ordering::Relaxed), RUNNING | TOKEN), "in a queue, and it sleeps");
            count += 1;
            weight += u64::from(t.queued_weight.load(Ordering::Relaxed));
        });
        assert_eq!((sched.len.load(Ordering::Relaxed), sched.weight.load(Ordering::Relaxed)), (count, weight));
    }
}

#[test]
fn each_thread_is_in_one_place() {
    each(60, || {
        let over = Rc::new(Cell::new(false));
        let threads: Vec<ThreadRef> = (0..8)
            .map(|_| {
                let over = over.clone();
                spawn(move || {
                    while !over.get() {
                        match random(4) {
                            0 => yield_now(),
                            1 => _ = park(Some(timer::now_ns() + random(2_000))),
                            2 => dally(),
                            _ => compute(random(9_000)),
                        }
                    }
                })
            })
            .collect();
        for _ in 0..60 {
            let t = &threads[random(8) as usize];
            match random(3) {
                0 => t.unpark(),
                1 => t.set_affinity(random(16) + 1),
                _ => t.set_nice(random(40) as i32 - 20),
            }
            dally();
            assert_each_in_one_place();
            if random(3) == 0 {
                compute(5_000);
            }
        }
        over.set(true);
    });
}

/// How much of 1.5 s each of some threads on one CPU gets, in thousandths; each with its nice value.
fn shares(seed: u64, nice: &'static [i32]) -> Vec<u64> {
    const WHILE: u64 = 1_500_000_000;
    let shares = Rc::new(Cell::new(Vec::new()));
    let out = shares.clone();
    run(1, seed, move || {
        let over = Rc::new(Cell::new(false));
        let spin = |&nice: &i32| {
            let over = over.clone();
            let t = spawn_on(1, move || {
                while !over.get() {
                    compute(1_000_000);
                }
            });
            t.set_nice(nice);
            t
        };
        let threads: Vec<ThreadRef> = nice.iter().map(spin).collect();
        let _ = park(Some(WHILE));
        over.set(true);
        out.set(threads.iter().map(|t| t.usage().total() * 1000 / WHILE).collect());
    });
    shares.take()
}

#[track_caller]
fn assert_shares(nice: &'static [i32], wanted: &[u64]) {
    for seed in 0..2 {
        let shares = shares(seed, nice);
        let near = shares.iter().zip(wanted).all(|(is, wanted)| is.abs_diff(*wanted) <= 3 + wanted / 10);
        assert!(near, "nice {nice:?}: {shares:?}, not {wanted:?}");
    }
}

#[test]
fn equal_threads_get_equal_shares() {
    assert_shares(&[0, 0, 0, 0, 0], &[200; 5]);
}

#[test]
fn a_nice_thread_gets_what_its_weight_says() {
    // 335 beside 1024, 820 beside 1024.
    assert_shares(&[0, 5], &[753, 247]);
    assert_shares(&[1, 0], &[445, 555]);
    assert_shares(&[0, 5, 0], &[430, 141, 430]);
    // 15 beside 1024.
    assert_shares(&[19, 0], &[14, 986]);
    // All are nice: none is better than the other.
    assert_shares(&[10, 10], &[500, 500]);
    assert_shares(&[0, 10, 0], &[474, 51, 474]);
}

#[test]
fn a_thread_below_nice_0_has_longer_turns() {
    // 3121 beside 1024.
    assert_shares(&[-5, 0], &[753, 247]);
}

/// Threads of a CPU's own set are left to it; all others are taken by whoever has nothing to do, in the order of the queue.
#[test]
fn an_idle_cpu_takes_what_it_may() {
    each(40, || {
        let (done, main) = (Rc::new(Cell::new(0)), current_ref());
        main.set_affinity(1);
        yield_now();
        for n in 0..6 {
            let (done, main) = (done.clone(), main.clone());
            let cpus = if n % 2 == 0 { 1 } else { u64::MAX };
            spawn_on(cpus, move || {
                for _ in 0..5 {
                    compute(3_000);
                    assert!(cpus != 1 || quire_base::cpu::cpu_id() == 0, "taken from the only CPU of its set");
                }
                done.set(done.get() + 1);
                main.unpark();
            });
        }
        // This CPU is busy for many slices; whoever may go elsewhere is done long before, if there is another CPU.
        if online() != 1 {
            let began = timer::now_ns();
            while done.get() < 3 {
                crate::machine::pause();
                assert!(timer::now_ns() < began + 3_000_000, "nobody takes them");
            }
        }
        while done.get() < 6 {
            park(None);
        }
        assert!(!current().is_nice());
    });
}

impl crate::Cpu {
    /// Calls `see` with each thread in the queue.
    pub(super) fn each_queued(&self, mut see: impl FnMut(&Thread)) {
        let mut at = self.queue.lock().first();
        while !at.is_null() {
            // SAFETY: queued threads are alive, and nobody changes the queue meanwhile: one thread of the host.
            let t = unsafe { &*at };
            see(t);
            at = t.next.load(Ordering::Relaxed);
        }
    }
}

/// A thread that sleeps is in no queue: what `PARKED` means.
#[test]
fn a_parked_thread_is_in_no_queue() {
    each(20, || {
        let sleeper = spawn(|| assert_eq!(park(None), Woken::Unparked));
        while sleeper.state.load(Ordering::Relaxed) != PARKED {
            dally();
            yield_now();
        }
        for sched in &SCHED {
            sched.each_queued(|t| assert!(!core::ptr::eq(t, &*sleeper)));
        }
        sleeper.unpark();
    });
}
