//! A thread's life: it is charged for its time, and nothing of it is left.

use super::{dally, each};
use crate::machine::{compute, run, spawn};
use crate::poll::HaltPoll;
use crate::timer::now_ns;
use crate::{current, park, yield_now};
use alloc::rc::Rc;
use alloc::sync::Arc;
use core::cell::Cell;

#[test]
fn a_thread_is_gone_once_the_reaper_has_run() {
    // The list of the kernel's own threads keeps the first ones.
    each(10, || (0..20).for_each(|_| drop(spawn(dally))));
    each(20, || {
        let weak = Arc::downgrade(&spawn(|| compute(5_000)));
        let _ = park(Some(now_ns() + 2_000_000));
        assert!(weak.upgrade().is_none(), "somebody keeps a thread that has ended");
    });
}

#[test]
fn time_is_charged_to_whoever_has_used_it() {
    each(20, || {
        let used = Rc::new(Cell::new(0));
        let its = used.clone();
        let t = spawn(move || {
            let before = current().usage().total();
            compute(1_000_000);
            its.set(current().usage().total() - before);
            // A sleep costs nothing.
            let _ = park(Some(now_ns() + 50_000_000));
        });
        let _ = park(Some(now_ns() + 100_000_000));
        assert!((900_000..1_200_000).contains(&used.get()), "{}", used.get());
        assert!(t.usage().total() < 1_400_000, "{:?}", t.usage());
    });
}

/// Whoever gives way before a timer interrupt has used the time until then.
#[test]
fn time_is_not_charged_to_the_next() {
    for seed in 0..10 {
        run(1, seed, || {
            let worker = spawn(|| {
                for _ in 0..4 {
                    compute(500_000);
                    yield_now();
                }
            });
            let idler = spawn(|| (0..8).for_each(|_| yield_now()));
            let _ = park(Some(50_000_000));
            assert!((1_900_000..2_300_000).contains(&worker.usage().total()), "{:?}", worker.usage());
            assert!(idler.usage().total() < 300_000, "{:?}", idler.usage());
        });
    }
}

/// Waits of 60 us are polled for after a few; waits of 10 ms no more.
#[test]
fn a_cpu_learns_how_long_to_poll() {
    run(1, 0, || {
        let poll = HaltPoll::new();
        let wait = |length: u64| {
            poll.begin(now_ns());
            let began = now_ns();
            poll.poll(0, u64::MAX, || false);
            let polled = now_ns() - began;
            poll.begin(1_000_000);
            poll.end(1_000_000 + length);
            polled
        };
        assert!(wait(60_000) < 1_000, "nothing is known yet");
        assert!((45_000..60_000).contains(&wait(60_000)));
        assert!((90_000..110_000).contains(&wait(60_000)), "it is long enough now");
        (0..4).for_each(|_| _ = wait(10_000_000));
        assert!(wait(60_000) < 1_000, "not worth it");
    });
}
