//! Parking and waking: no wake-up is lost, each is consumed once, and of a wake-up and a deadline one wins.

use super::{dally, each};
use crate::machine::{compute, random, spawn, spawn_on};
use crate::timer::now_ns;
use crate::{ThreadRef, Woken, current_ref, park, yield_now};
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use quire_base::cpu::online;

#[test]
fn an_unpark_before_or_after_the_park_ends_it() {
    each(100, || {
        let turn = Rc::new(Cell::new(0));
        let (sleeper, its) = (current_ref(), turn.clone());
        spawn(move || {
            for now in 1..=5 {
                dally();
                its.set(now);
                sleeper.unpark();
                while its.get() != 0 {
                    dally();
                    yield_now();
                }
            }
        });
        for now in 1..=5 {
            dally();
            assert_eq!(park(None), Woken::Unparked);
            assert_eq!(turn.replace(0), now, "woken before the turn has begun");
        }
    });
}

#[test]
fn each_unpark_ends_one_park_whatever_deadlines_pass() {
    each(150, || {
        let (sent, seen) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let (sleeper, its) = (current_ref(), (sent.clone(), seen.clone()));
        spawn(move || {
            for _ in 0..8 {
                dally();
                its.0.set(its.0.get() + 1);
                sleeper.unpark();
                while its.1.get() != its.0.get() {
                    assert_eq!(park(Some(now_ns() + 700)), Woken::TimedOut);
                }
            }
        });
        while seen.get() < 8 {
            let deadline = now_ns() + random(3_000);
            match park(Some(deadline)) {
                Woken::Unparked => {
                    seen.set(seen.get() + 1);
                    assert_eq!(seen.get(), sent.get(), "one unpark, two parks");
                }
                Woken::TimedOut => assert!(now_ns() >= deadline, "woken by a deadline that has not passed"),
            }
        }
        assert_eq!(park(Some(now_ns() + 50_000)), Woken::TimedOut, "a token is left");
    });
}

#[test]
fn a_thread_that_many_wake_runs_once_at_a_time() {
    each(100, || {
        let left = Rc::new(Cell::new(6));
        let sleeper = current_ref();
        for _ in 0..6 {
            let (sleeper, left) = (sleeper.clone(), left.clone());
            spawn(move || {
                for _ in 0..4 {
                    dally();
                    sleeper.unpark();
                }
                left.set(left.get() - 1);
                sleeper.unpark();
            });
        }
        while left.get() != 0 {
            park(None);
        }
    });
}

/// Each thread may run on one CPU only, so nobody else takes it from a CPU that sleeps on. Some CPUs poll before they halt.
#[test]
fn threads_of_different_cpus_wake_each_other() {
    each(60, || {
        const THREADS: usize = 4;
        let turns = Rc::new(Cell::new(0));
        let threads = Rc::new(RefCell::new(Vec::<ThreadRef>::new()));
        for n in 0..THREADS {
            let (turns, threads) = (turns.clone(), threads.clone());
            let cpu = n % online().count_ones() as usize;
            let t = spawn_on(1 << cpu, {
                let threads = threads.clone();
                move || {
                    while threads.borrow().len() < THREADS {
                        yield_now();
                        dally();
                    }
                    while turns.get() < 40 {
                        if turns.get() % THREADS == n {
                            compute(random(3_000));
                            turns.set(turns.get() + 1);
                            let next = threads.borrow()[(n + 1) % THREADS].clone();
                            next.unpark();
                        } else {
                            park(None);
                        }
                    }
                    // The last one ends the others.
                    let others: Vec<ThreadRef> = threads.borrow().clone();
                    others.iter().for_each(|t| t.unpark());
                }
            });
            threads.borrow_mut().push(t);
        }
    });
}
