//! Wait queues: whoever waits for what is there gets it, and whoever gives up leaves it to another.

use super::{dally, each};
use crate::machine::{random, spawn};
use crate::timer::now_ns;
use crate::{WaitError, WaitQueue, current_ref, yield_now};
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::sync::atomic::Ordering;

/// Things that threads wait for, one each.
struct Shelf {
    queue: WaitQueue,
    things: Cell<u32>,
}

impl Shelf {
    fn new() -> Rc<Shelf> {
        Rc::new(Shelf { queue: WaitQueue::new(), things: Cell::new(0) })
    }

    fn put(&self) {
        self.things.set(self.things.get() + 1);
        dally();
        self.queue.wake_one();
    }

    fn take(&self, deadline: Option<u64>, interruptible: bool) -> Result<(), WaitError> {
        self.queue.wait(deadline, interruptible, || {
            dally();
            let left = self.things.get().checked_sub(1)?;
            self.things.set(left);
            Some(())
        })
    }
}

#[test]
fn everything_that_is_put_is_taken() {
    each(60, || {
        let shelf = Shelf::new();
        for _ in 0..5 {
            let (takers, givers) = (shelf.clone(), shelf.clone());
            spawn(move || (0..4).for_each(|_| assert_eq!(takers.take(None, false), Ok(()))));
            spawn(move || {
                for _ in 0..4 {
                    dally();
                    givers.put();
                }
            });
        }
    });
}

/// Some takers give up, woken or not; those who do not must get all that is left, or the machine never comes to rest.
#[test]
fn a_wake_up_of_one_that_gives_up_is_passed_on() {
    each(120, || {
        let shelf = Shelf::new();
        let (taken, left) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(12)));
        for n in 0..12 {
            let (shelf, taken, left) = (shelf.clone(), taken.clone(), left.clone());
            let patient = n % 3 == 0;
            spawn(move || {
                let deadline = now_ns() + random(6_000);
                match shelf.take((!patient).then_some(deadline), false) {
                    Ok(()) => taken.set(taken.get() + 1),
                    Err(error) => {
                        assert_eq!((error, patient), (WaitError::TimedOut, false));
                        assert!(now_ns() >= deadline);
                    }
                }
                left.set(left.get() - 1);
            });
        }
        // As many as there are patient takers, at first; then until all have gone, for the others may have taken theirs.
        (0..4).for_each(|_| shelf.put());
        let mut put = 4;
        while left.get() != 0 {
            let _ = crate::park(Some(now_ns() + 20_000));
            if left.get() != 0 && shelf.things.get() == 0 {
                shelf.put();
                put += 1;
            }
        }
        assert_eq!(taken.get() + shelf.things.get(), put);
        // ordering: Relaxed; nobody waits any more.
        assert_eq!(shelf.queue.count.load(Ordering::Relaxed), 0);
    });
}

/// A taker whose deadline passes while it links itself may have been woken when it gives up; the one behind it must get the wake-up.
#[test]
fn a_wake_up_that_comes_with_the_deadline_is_passed_on() {
    each(100, || {
        for _ in 0..6 {
            let (shelf, hasty) = (Shelf::new(), Rc::new(Cell::new(None)));
            let (its, result) = (shelf.clone(), hasty.clone());
            spawn(move || result.set(Some(its.take(Some(now_ns() + random(3_000)), false))));
            dally();
            let its = shelf.clone();
            spawn(move || assert_eq!(its.take(None, false), Ok(())));
            dally();
            shelf.put();
            while hasty.get().is_none() {
                let _ = crate::park(Some(now_ns() + 700));
            }
            // One for each of the two.
            if hasty.get() == Some(Ok(())) {
                shelf.put();
            }
        }
    });
}

#[test]
fn one_is_woken_at_a_time_who_has_waited_longest() {
    each(30, || {
        let (queue, open) = (Rc::new(WaitQueue::new()), Rc::new(Cell::new(0)));
        let (order, waiting) = (Rc::new(RefCell::new(Vec::new())), Rc::new(Cell::new(0)));
        for n in 0..6 {
            let (queue, open, order, asked) = (queue.clone(), open.clone(), order.clone(), waiting.clone());
            spawn(move || {
                let mut times = 0;
                let got = queue.wait(None, false, || {
                    times += 1;
                    // The second time it is in the list.
                    if times == 2 {
                        asked.set(asked.get() + 1);
                    }
                    (open.get() > n).then_some(())
                });
                assert_eq!(got, Ok(()));
                order.borrow_mut().push(n);
            });
            while waiting.get() != n + 1 {
                dally();
                yield_now();
            }
        }
        for n in 0..6 {
            open.set(n + 1);
            queue.wake_one();
            while order.borrow().len() <= n {
                dally();
                yield_now();
            }
        }
        assert_eq!(*order.borrow(), [0, 1, 2, 3, 4, 5]);
    });
}

#[test]
fn all_are_woken() {
    each(60, || {
        let (queue, open) = (Rc::new(WaitQueue::new()), Rc::new(Cell::new(false)));
        for _ in 0..6 {
            let (queue, open) = (queue.clone(), open.clone());
            spawn(move || assert_eq!(queue.wait(None, true, || open.get().then_some(7)), Ok(7)));
        }
        (0..10).for_each(|_| dally());
        open.set(true);
        queue.wake_all();
    });
}

#[test]
fn attention_ends_an_interruptible_wait_only() {
    each(60, || {
        let (shelf, me, interrupted) = (Shelf::new(), current_ref(), Rc::new(Cell::new(false)));
        let (its, seen) = (shelf.clone(), interrupted.clone());
        spawn(move || {
            dally();
            me.attention().store(true, Ordering::SeqCst);
            me.unpark();
            while !seen.get() {
                yield_now();
                dally();
            }
            its.put();
        });
        assert_eq!(shelf.take(None, true), Err(WaitError::Interrupted));
        interrupted.set(true);
        // The flag is still up, and this wait does not mind.
        assert_eq!(shelf.take(None, false), Ok(()));
    });
}
