//! Timers: deadlines pass in their order, none is early, and a cancelled one never comes.

use super::{dally, each};
use crate::machine::{random, run, spawn, spawn_on};
use crate::thread::{Begin, Thread};
use crate::timer::{add, cancel, expire, is_empty, now_ns};
use crate::{ThreadRef, Woken, park};
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::ptr::eq;

/// The heap beside a plain list: sleepers come, cancel, and expire at random.
#[test]
fn the_heap_does_what_a_list_does() {
    for seed in 0..40 {
        run(1, seed, || {
            let make = |_| Thread::make(0, "sleeper", None, Begin::Here(0), false, 0).expect("there is memory");
            let threads: Vec<ThreadRef> = (0..40).map(make).collect();
            // Those that sleep, with their deadlines; and the deadlines of all that were woken since the last look.
            let mut asleep: Vec<(u64, usize)> = Vec::new();
            let mut now = 0;
            for _ in 0..600 {
                let which = random(threads.len() as u64) as usize;
                let place = asleep.iter().position(|&(_, n)| n == which);
                match (random(5), place) {
                    (0..3, None) => {
                        let deadline = now + random(50);
                        assert_eq!(add(&threads[which], deadline), 0);
                        asleep.push((deadline, which));
                    }
                    (3, _) => {
                        // Of one that is not there, too.
                        cancel(&threads[which], 0);
                        place.map(|place| asleep.swap_remove(place));
                    }
                    (4, _) => {
                        now += random(10);
                        let mut woken = Vec::new();
                        let next = expire(now, |t| {
                            woken.extend(threads.iter().position(|other| eq(&**other, t)));
                        });
                        let times = |woken: &Vec<usize>| -> Vec<u64> {
                            woken.iter().filter_map(|n| Some(asleep.iter().find(|(_, m)| n == m)?.0)).collect()
                        };
                        assert!(times(&woken).is_sorted(), "not in their order: {:?}", times(&woken));
                        let mut due: Vec<usize> = asleep.iter().filter(|(at, _)| *at <= now).map(|(_, n)| *n).collect();
                        due.sort();
                        woken.sort();
                        assert_eq!(woken, due);
                        asleep.retain(|(at, _)| *at > now);
                        assert_eq!(next, asleep.iter().map(|(at, _)| *at).min().unwrap_or(u64::MAX));
                    }
                    _ => {}
                }
            }
            for t in &threads {
                cancel(t, 0);
            }
            assert!(is_empty(0));
        });
    }
}

#[test]
fn sleepers_of_one_cpu_wake_in_the_order_of_their_deadlines() {
    each(20, || {
        let woken = Rc::new(RefCell::new(Vec::new()));
        for n in 0..12 {
            let woken = woken.clone();
            spawn_on(1, move || {
                let deadline = 1_000_000 + (n * 7 % 12) * 100_000;
                assert_eq!(park(Some(deadline)), Woken::TimedOut);
                // Not early; and late by no more than it takes to look.
                assert!((deadline..deadline + 90_000).contains(&now_ns()));
                woken.borrow_mut().push(deadline);
                if woken.borrow().len() == 12 {
                    assert!(woken.borrow().is_sorted());
                }
            });
        }
    });
}

/// Each is woken before its deadline, or sleeps until then, or has its deadline in the past. Their deadlines are in the heaps of several
/// CPUs, on which they may not be when they cancel them.
#[test]
fn sleepers_that_are_woken_before_cancel() {
    each(40, || {
        let threads: Vec<ThreadRef> = (0..8)
            .map(|_| {
                spawn(|| {
                    for _ in 0..6 {
                        let deadline = (now_ns() + random(20_000)).saturating_sub(2_000);
                        if park(Some(deadline)) == Woken::TimedOut {
                            assert!(now_ns() >= deadline);
                        }
                        dally();
                    }
                })
            })
            .collect();
        for _ in 0..30 {
            threads[random(8) as usize].unpark();
            let _ = park(Some(now_ns() + random(3_000)));
        }
    });
}
