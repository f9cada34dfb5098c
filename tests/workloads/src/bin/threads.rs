//! What the standard library's threads rest on: 32 of them with mutex, condition variable, channels, barrier,
//! read-write lock, thread-locals and parking.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex, RwLock, mpsc};
use std::thread;
use std::time::Duration;

use quire_workloads::{Budget, check, ok};

const THREADS: u64 = 32;

thread_local! {
    static OWN: Cell<u64> = const { Cell::new(0) };
}

fn main() {
    let budget = Budget::from_arguments(20);
    for round in budget.rounds() {
        counters();
        turns();
        channels(round);
        parking();
    }
    ok();
}

/// A mutex counts right, thread-locals stay apart, readers see whole writes.
fn counters() {
    let (sum, pair, barrier) = (Mutex::new(0u64), RwLock::new((0u64, 0u64)), Barrier::new(THREADS as usize));
    thread::scope(|scope| {
        for index in 0..THREADS {
            let (sum, pair, barrier) = (&sum, &pair, &barrier);
            scope.spawn(move || {
                OWN.set(index);
                barrier.wait();
                for step in 0..100 {
                    *sum.lock().unwrap() += 1;
                    if step % 10 == 0 {
                        let mut pair = pair.write().unwrap();
                        pair.0 += 1;
                        pair.1 += 1;
                    }
                    let (first, second) = *pair.read().unwrap();
                    check!(first == second, "a torn pair: {first} and {second}");
                }
                check!(OWN.get() == index, "thread-local of thread {index} holds {}", OWN.get());
            });
        }
    });
    let sum = sum.into_inner().unwrap();
    check!(sum == THREADS * 100, "the mutex counted {sum}");
}

/// A condition variable hands a turn round all threads.
fn turns() {
    let (turn, changed) = (Mutex::new(0u64), Condvar::new());
    thread::scope(|scope| {
        for index in 0..THREADS {
            let (turn, changed) = (&turn, &changed);
            scope.spawn(move || {
                for lap in 0..5 {
                    let mut turn =
                        changed.wait_while(turn.lock().unwrap(), |turn| *turn != lap * THREADS + index).unwrap();
                    *turn += 1;
                    changed.notify_all();
                }
            });
        }
    });
    check!(turn.into_inner().unwrap() == 5 * THREADS, "turns were lost");
}

/// Every message arrives once, each sender's in order; the channel closes with its last sender.
fn channels(round: u64) {
    let (sender, receiver) = mpsc::sync_channel::<(u64, u64)>(round as usize % 3);
    thread::scope(|scope| {
        for index in 0..THREADS {
            let sender = sender.clone();
            scope.spawn(move || {
                for number in 0..20 {
                    check!(sender.send((index, number)).is_ok(), "the receiver is gone");
                }
            });
        }
        drop(sender);
        let mut next = [0; THREADS as usize];
        for (index, number) in receiver {
            check!(next[index as usize] == number, "message {number} of sender {index} out of order");
            next[index as usize] += 1;
        }
        check!(next.iter().all(|&count| count == 20), "messages were lost: {next:?}");
    });
}

/// Unparking is never lost, and a time-out comes.
fn parking() {
    let count = Arc::new(AtomicU64::new(0));
    let parked = thread::spawn({
        let count = Arc::clone(&count);
        move || {
            while count.load(Ordering::Acquire) < 50 {
                thread::park();
            }
        }
    });
    for _ in 0..50 {
        count.fetch_add(1, Ordering::Release);
        parked.thread().unpark();
    }
    check!(parked.join().is_ok(), "the parked thread failed");
    let (never, changed) = (Mutex::new(()), Condvar::new());
    let (_guard, waited) = changed.wait_timeout(never.lock().unwrap(), Duration::from_millis(1)).unwrap();
    check!(waited.timed_out(), "a wait without a notification did not time out");
}
