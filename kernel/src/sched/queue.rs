//! The queues of runnable threads: one for each CPU, from which others take, too.
//!
//! A queue's lock is held for a few instructions. A thread in a queue is alive (it carries the scheduler's reference), is on no CPU
//! and in no other list, and belongs to who takes it out.

use super::place::{can_run, may_enter, misplaced_on, with_table};
use super::thread::Thread;
use super::{Cpu, SCHED, enqueue, give};
use crate::arch::cpu::{self, CPUS};
use core::ptr::null_mut;
use core::sync::atomic::Ordering;

/// A first-in-first-out list through [`Thread::next`]; each thread in it carries the scheduler's own reference.
pub(super) struct Queue {
    head: *mut Thread,
    tail: *mut Thread,
}
// SAFETY: threads may be sent, and a lock protects the list.
unsafe impl Send for Queue {}

impl Queue {
    pub(super) const EMPTY: Queue = Queue { head: null_mut(), tail: null_mut() };
}

impl Cpu {
    /// Adds a thread at the end.
    pub(super) fn push(&self, t: *mut Thread) {
        let mut queue = self.queue.lock();
        // SAFETY: the thread is alive and in no list; the lock protects the links.
        unsafe {
            // ordering: Relaxed; under the lock.
            (*t).next.store(null_mut(), Ordering::Relaxed);
            if queue.tail.is_null() {
                queue.head = t;
            } else {
                (*queue.tail).next.store(t, Ordering::Relaxed);
            }
        }
        queue.tail = t;
        self.len.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes the first thread, whoever may run it.
    fn take_first(&self) -> *mut Thread {
        let mut queue = self.queue.lock();
        let t = queue.head;
        if !t.is_null() {
            // SAFETY: queued threads are alive; the lock protects the links.
            // ordering: Relaxed; under the lock.
            queue.head = unsafe { &*t }.next.load(Ordering::Relaxed);
            if queue.head.is_null() {
                queue.tail = null_mut();
            }
            self.len.fetch_sub(1, Ordering::Relaxed);
        }
        t
    }

    /// Takes the first thread that `cpu`, the calling one, may run and can.
    fn steal(&self, cpu: usize) -> *mut Thread {
        let own = core::ptr::eq(self, &SCHED[cpu]);
        // ordering: Relaxed; a hint, and rule 4 makes sure that somebody looks again.
        if self.len.load(Ordering::Relaxed) == 0 {
            return null_mut();
        }
        let online = cpu::online();
        let mut queue = self.queue.lock();
        let (mut before, mut at) = (null_mut::<Thread>(), queue.head);
        while !at.is_null() {
            // SAFETY: queued threads are alive; the lock protects the links.
            let t = unsafe { &*at };
            // ordering: Relaxed; under the lock.
            let next = t.next.load(Ordering::Relaxed);
            let allowed = t.affinity() & online;
            if (allowed == 0 || allowed & 1 << cpu != 0) && (own || may_enter(t, cpu)) && can_run(t) {
                if before.is_null() {
                    queue.head = next;
                } else {
                    // SAFETY: as above.
                    unsafe { (*before).next.store(next, Ordering::Relaxed) };
                }
                if queue.tail == at {
                    queue.tail = before;
                }
                self.len.fetch_sub(1, Ordering::Relaxed);
                return at;
            }
            before = at;
            at = next;
        }
        null_mut()
    }
}

/// Takes a thread from this CPU's own queue; those that may not run here any more, or cannot for want of a table, go elsewhere.
pub(super) fn pop_own(cpu: usize) -> *mut Thread {
    loop {
        let t = SCHED[cpu].steal(cpu);
        // ordering: Relaxed; our own queue, and who adds to it wakes us if we sleep.
        if !t.is_null() || SCHED[cpu].len.load(Ordering::Relaxed) == 0 {
            return t;
        }
        let stray = SCHED[cpu].take_first();
        if stray.is_null() {
            continue;
        }
        // SAFETY: it came from a queue: it is alive, and ours.
        let thread = unsafe { &*stray };
        if misplaced_on(thread, cpu) {
            enqueue(stray);
            continue;
        }
        match with_table(thread, thread.affinity() & cpu::online()) {
            Some(other) => give(other, stray),
            // Its affinity has changed while memory was short. It waits here until there is some.
            None => {
                SCHED[cpu].push(stray);
                return null_mut();
            }
        }
    }
}

/// Takes a thread for this CPU: from its own queue, else from another's.
pub(super) fn pick(cpu: usize) -> *mut Thread {
    let own = pop_own(cpu);
    if !own.is_null() {
        return own;
    }
    let online = cpu::online();
    for i in 1..CPUS {
        let other = (cpu + i) % CPUS;
        // ordering: Relaxed; a hint.
        if online & 1 << other != 0 && SCHED[other].len.load(Ordering::Relaxed) != 0 {
            let t = SCHED[other].steal(cpu);
            if !t.is_null() {
                return t;
            }
        }
    }
    null_mut()
}
