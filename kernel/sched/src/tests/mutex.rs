//! The mutex of threads: one holder at a time, and nobody sleeps while it is free.

use super::{dally, each};
use crate::SleepMutex;
use crate::machine::{compute, random, spawn};
use alloc::rc::Rc;
use core::cell::Cell;

#[test]
fn one_holds_it_at_a_time_and_all_get_it() {
    each(80, || {
        let (mutex, inside, left) = (Rc::new(SleepMutex::new(0)), Rc::new(Cell::new(false)), Rc::new(Cell::new(5)));
        for n in 0..5 {
            let (mutex, inside, left) = (mutex.clone(), inside.clone(), left.clone());
            spawn(move || {
                for turn in 0..6 {
                    let mut count = if (n + turn) % 3 == 0 {
                        let Some(count) = mutex.try_lock() else { continue };
                        count
                    } else {
                        mutex.lock()
                    };
                    assert!(!inside.replace(true), "two holders");
                    let before = *count;
                    // The holder may wait, and lose its CPU.
                    dally();
                    compute(2_000);
                    *count = before + 1;
                    assert!(inside.replace(false));
                }
                left.set(left.get() - 1);
                if left.get() == 0 {
                    assert!(*mutex.lock() >= 5 * 4 && mutex.try_lock().is_some());
                }
            });
        }
    });
}

/// Two threads only: nobody else's turn makes good for a wake-up that is lost.
#[test]
fn nobody_sleeps_while_it_is_free() {
    each(200, || {
        let mutex = Rc::new(SleepMutex::new(()));
        for _ in 0..2 {
            let mutex = mutex.clone();
            spawn(move || {
                dally();
                let guard = mutex.lock();
                compute(random(20_000));
                drop(guard);
            });
        }
    });
}
