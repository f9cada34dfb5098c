//! The kernel's wake-up of a CPU that has nothing to do, with and without polling before it halts.
//!
//! *Invariant*: a CPU that halts with a thread in its queue gets an interrupt. *Bounds*: one CPU that halts, two that queue threads.

mod production {
    //! `kernel/sched/src/wake.rs`, as it is or with the defects.

    include!(concat!(env!("OUT_DIR"), "/wake.rs"));
}

use crate::defects::Defect::*;
use crate::model::Model;
use crate::world::{World, script, spawn};
use production::Wake;
use quire_mm::sync::{AtomicU64, Ordering::*};
use std::rc::Rc;

pub const MODELS: &[Model] = &[
    Model::new("wake-halt", || run(false), &[&[HaltNoFence], &[WakeNoFence]]),
    Model::new("wake-poll", || run(true), &[&[HaltNoFence], &[WakeNoFence], &[AskBeforeFence]]),
];

/// CPU 0 looks for threads once, and halts; the others queue one each.
fn run(polls: bool) {
    let w = Rc::new(World::bare(8));
    // The queue's length, which it looks at before it takes the queue's lock.
    let p = Rc::new((Wake::new([AtomicU64::new(0), AtomicU64::new(0)]), AtomicU64::new(0)));
    let queue = |p: &(Wake, AtomicU64)| {
        p.1.fetch_add(1, Relaxed);
        p.0.must_interrupt(0)
    };
    let others: Vec<_> = (1..3)
        .map(|cpu| {
            let p = p.clone();
            spawn(&w, cpu, move || queue(&p))
        })
        .collect();
    let halted = script(&w, || {
        let (wake, len) = &*p;
        if polls {
            wake.rests(0);
            if wake.start_poll(0) {
                let found = len.load(Relaxed) != 0;
                wake.end_poll();
                wake.works(0);
                if found {
                    return false;
                }
            }
        }
        wake.about_to_halt(0);
        len.load(Relaxed) == 0
    });
    let interrupts = others.into_iter().map(|t| t.join().expect("a result")).filter(|sent| *sent).count();
    assert!(!halted || interrupts > 0, "a CPU halts for ever with a thread in its queue");
    assert!(!halted || p.0.idle() == 0, "a CPU that was interrupted counts as idle");
    assert!(polls || interrupts < 2, "two interrupts for one halt");
}
