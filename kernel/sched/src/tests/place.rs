//! Where threads run: on CPUs of their set, and where their space can be loaded.

use super::{dally, each};
use crate::machine::{compute, random, spawn, spawn_on};
use crate::{Space, ThreadRef, current, yield_now};
use alloc::rc::Rc;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use quire_base::cpu::{cpu_id, online};

/// A set of some of the CPUs that there are.
fn some_cpus() -> u64 {
    let cpus = random(online()) + 1;
    cpus & online()
}

#[test]
fn threads_change_their_set_and_run_nowhere_else() {
    each(40, || {
        for _ in 0..5 {
            spawn(|| {
                for _ in 0..8 {
                    let cpus = some_cpus();
                    current().set_affinity(cpus);
                    compute(random(30_000));
                    assert_ne!(cpus & 1 << cpu_id(), 0, "on CPU {} and not in {cpus:#b}", cpu_id());
                    // Off the CPU, and back from the queue or from a sleep.
                    if random(2) == 0 {
                        yield_now()
                    } else {
                        _ = crate::park(Some(crate::timer::now_ns() + 500));
                    }
                    assert_ne!(cpus & 1 << cpu_id(), 0, "on CPU {} and not in {cpus:#b}", cpu_id());
                }
            });
        }
    });
}

#[test]
fn a_set_that_another_changes_counts_at_the_next_interrupt() {
    each(40, || {
        let over = Rc::new(Cell::new(false));
        let threads: Vec<ThreadRef> = (0..5)
            .map(|_| {
                let over = over.clone();
                spawn_on(some_cpus(), move || {
                    while !over.get() {
                        let before = current().affinity();
                        compute(1 + random(20_000));
                        let after = current().affinity();
                        // It may have changed and changed back, and the interrupt is still to come; but that is not likely twice.
                        assert!(
                            before != after || after & 1 << cpu_id() != 0,
                            "on CPU {}, not in {after:#b}",
                            cpu_id()
                        );
                    }
                })
            })
            .collect();
        for _ in 0..40 {
            threads[random(5) as usize].set_affinity(some_cpus());
            compute(random(10_000));
            dally();
        }
        over.set(true);
    });
}

/// Whether a CPU may take a frame for its table.
static PLENTY: AtomicBool = AtomicBool::new(true);

/// A space with tables for some CPUs; short of memory it gets no more.
struct Tables(AtomicU64);

// SAFETY: the only space of these tests.
unsafe impl Space for Tables {
    fn load(&self) {
        assert!(self.has_table(cpu_id()), "loaded without a table");
    }
    fn has_table(&self, cpu: usize) -> bool {
        // ordering: Relaxed, here and below; one thread of the host.
        self.0.load(Ordering::Relaxed) & 1 << cpu != 0
    }
    fn prepare(&self, cpu: usize) -> bool {
        if PLENTY.load(Ordering::Relaxed) {
            self.0.fetch_or(1 << cpu, Ordering::Relaxed);
        }
        self.has_table(cpu)
    }
    fn prepare_here(&self) -> bool {
        self.prepare(cpu_id())
    }
}

/// From now on frames are short when `PLENTY` says so.
fn set_above() {
    static SHORT: crate::above::Above = crate::above::Above {
        begin: |_| {},
        tick: |_, _| {},
        is_watched: |_| false,
        look_at_devices: || {},
        stack: crate::machine::Stack::new,
        load_no_space: || {},
        is_plentiful: || PLENTY.load(Ordering::Relaxed),
        heap_has: |_| true,
        idle: || false,
    };
    crate::above::ABOVE.set(&SHORT);
}

#[test]
fn short_of_memory_threads_go_where_their_space_has_a_table() {
    set_above();
    each(40, || {
        PLENTY.store(true, Ordering::Relaxed);
        for _ in 0..5 {
            spawn(|| {
                let space = Arc::new(Tables(AtomicU64::new(0)));
                while !space.prepare_here() {
                    let _ = crate::park(Some(crate::timer::now_ns() + 50_000));
                }
                current().set_space(Some(space.clone()));
                for _ in 0..10 {
                    compute(random(20_000));
                    dally();
                    yield_now();
                    assert!(space.has_table(cpu_id()));
                    assert_eq!(current().space::<Tables>().map(core::ptr::from_ref), Some(Arc::as_ptr(&space)));
                    let _ = crate::park(Some(crate::timer::now_ns() + 300));
                }
            });
        }
        // Memory becomes short, and there is some again.
        for plenty in [false, true, false] {
            let _ = crate::park(Some(crate::timer::now_ns() + 30_000));
            PLENTY.store(plenty, Ordering::Relaxed);
        }
        let _ = crate::park(Some(crate::timer::now_ns() + 3_000_000));
        PLENTY.store(true, Ordering::Relaxed);
    });
}

/// Sleepers that may run on some CPUs only, and such whose space has a table on the first CPU only while memory is short, wait in no
/// other queue.
#[test]
fn a_thread_waits_where_it_may_run() {
    set_above();
    each(60, || {
        PLENTY.store(true, Ordering::Relaxed);
        let (over, loaded) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
        let threads: Vec<(ThreadRef, u64)> = (0..6)
            .map(|n| {
                let (over, loaded) = (over.clone(), loaded.clone());
                let cpus = if n < 3 { 1 } else { some_cpus() };
                let body = move || {
                    if n < 3 {
                        let space = Arc::new(Tables(AtomicU64::new(0)));
                        assert!(space.prepare_here());
                        current().set_space(Some(space));
                        loaded.set(loaded.get() + 1);
                        if loaded.get() == 3 {
                            PLENTY.store(false, Ordering::Relaxed);
                        }
                        while loaded.get() < 3 {
                            yield_now();
                            dally();
                        }
                        // Nothing but its space keeps it on this CPU now.
                        current().set_affinity(u64::MAX);
                    }
                    while !over.get() {
                        let _ = crate::park(Some(crate::timer::now_ns() + random(9_000)));
                        compute(random(4_000));
                    }
                };
                (spawn_on(cpus, body), cpus)
            })
            .collect();
        while loaded.get() < 3 {
            yield_now();
            dally();
        }
        for _ in 0..80 {
            let _ = threads.get(random(6) as usize).map(|(t, _)| t.unpark());
            for (cpu, sched) in crate::SCHED.iter().enumerate() {
                sched.each_queued(|queued| {
                    if let Some((_, cpus)) = threads.iter().find(|(t, _)| core::ptr::eq(&**t, queued)) {
                        assert_ne!(cpus & 1 << cpu, 0, "in the queue of CPU {cpu}");
                    }
                });
            }
            dally();
            yield_now();
        }
        over.set(true);
        PLENTY.store(true, Ordering::Relaxed);
    });
}
