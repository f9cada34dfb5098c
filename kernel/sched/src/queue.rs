//! The queues of runnable threads: one for each CPU, from which others take, too.
//!
//! # Turns
//! First in, first out, with turns of the same length: so nice 0 has its share. Below nice 0 turns are longer. Above it they are rarer: a
//! CPU's virtual clock goes on while threads above nice 0 wait, by the time that passed through the weight of all who want the CPU;
//! a thread above nice 0 that has run owes that time through its own weight, and is passed over until the clock has made up for it. If
//! all are such, who owes least is next. Turns are whole, so it is passed over a little longer than it should be: what others got too much
//! it owes less the next time, or nice 1 would get no more than nice 3.
//!
//! A queue's lock is held for a few instructions. A thread in a queue is alive (it carries the scheduler's reference), is on no CPU
//! and in no other list, and belongs to who takes it out.

use crate::place::{can_run, may_enter, misplaced_on, with_table};
use crate::thread::{NORMAL, Thread};
use crate::tick::SLICE;
use crate::{Cpu, SCHED, enqueue, give, timer};
use core::ptr::null_mut;
use core::sync::atomic::Ordering;
use quire_base::cpu::{self, CPUS};

/// The most that others can have got too much before its turn: they all together have one round, of which that is the part of all but
/// itself.
const CREDIT: i64 = SLICE as i64;

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
        // SAFETY: as above.
        let t = unsafe { &*t };
        // Read once: it may change while the thread is queued, and what is added here is taken off again.
        let weight = t.weight();
        t.queued_weight.store(weight, Ordering::Relaxed);
        self.weight.fetch_add(weight.into(), Ordering::Relaxed);
        self.nice.fetch_add(usize::from(was_nice(t)), Ordering::Relaxed);
        if was_nice(t) {
            // While it slept others had their turns: that pays what it owes, and no more.
            let away = timer::now_ns().saturating_sub(t.changed.load(Ordering::Relaxed));
            let owes = t.owes.load(Ordering::Relaxed);
            let owes = if owes > 0 { owes.saturating_sub_unsigned(away).max(0) } else { owes };
            t.owes.store(self.clock.load(Ordering::Relaxed) as i64 + owes, Ordering::Relaxed);
        }
        self.len.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes the first thread that `cpu`, another one, may run and can.
    fn steal(&self, cpu: usize) -> *mut Thread {
        // ordering: Relaxed; a hint, and rule 4 makes sure that somebody looks again.
        if self.len.load(Ordering::Relaxed) == 0 {
            return null_mut();
        }
        let mut queue = self.queue.lock();
        let (mut before, mut at) = (null_mut::<Thread>(), queue.head);
        while !at.is_null() {
            // SAFETY: queued threads are alive; the lock protects the links.
            let t = unsafe { &*at };
            if !misplaced_on(t, cpu) && may_enter(t, cpu) && can_run(t) {
                // SAFETY: it is in the queue behind `before`.
                unsafe { self.unlink(&mut queue, before, at) };
                return at;
            }
            before = at;
            // ordering: Relaxed; under the lock.
            at = t.next.load(Ordering::Relaxed);
        }
        null_mut()
    }

    /// Takes the thread whose turn it is on `cpu`, whose queue this is. Those in front of it that may not run here any more, or cannot
    /// for want of a table, are taken out and come back as a list.
    ///
    /// `rival` runs here and would go on: it counts as the last in the queue.
    fn take_turn(&self, cpu: usize, rival: Option<&Thread>) -> (*mut Thread, *mut Thread) {
        let mut queue = self.queue.lock();
        // ordering: Relaxed, here and below; under the lock, or this CPU's own.
        let clock = self.clock.load(Ordering::Relaxed) as i64;
        let mut strays = null_mut::<Thread>();
        let (mut before, mut at) = (null_mut::<Thread>(), queue.head);
        let (mut least, mut found) = (i64::MAX, (null_mut(), null_mut()));
        while !at.is_null() {
            // SAFETY: queued threads are alive; the lock protects the links.
            let t = unsafe { &*at };
            let next = t.next.load(Ordering::Relaxed);
            if misplaced_on(t, cpu) || !can_run(t) {
                // SAFETY: it is in the queue behind `before`.
                unsafe { self.unlink(&mut queue, before, at) };
                t.next.store(strays, Ordering::Relaxed);
                strays = at;
                at = next;
                continue;
            }
            let owes = if was_nice(t) { (t.owes.load(Ordering::Relaxed) - clock).max(0) } else { 0 };
            if owes < least {
                (least, found) = (owes, (before, at));
            }
            if owes == 0 {
                break;
            }
            (before, at) = (at, next);
        }
        let goes_on = |t: &Thread| !t.is_nice() || t.owes.load(Ordering::Relaxed) < least;
        let (before, at) = found;
        if at.is_null() || (least > 0 && rival.is_some_and(goes_on)) {
            return (null_mut(), strays);
        }
        // SAFETY: it is in the queue, and what was behind `before` has not been taken out since.
        unsafe { self.unlink(&mut queue, before, at) };
        (at, strays)
    }

    /// # Safety
    /// `at` is in the locked queue of this CPU, behind `before`, or the first if that is null.
    unsafe fn unlink(&self, queue: &mut Queue, before: *mut Thread, at: *mut Thread) {
        // SAFETY: queued threads are alive; the lock protects the links.
        // ordering: Relaxed; under the lock.
        unsafe {
            let next = (*at).next.load(Ordering::Relaxed);
            if before.is_null() {
                queue.head = next;
            } else {
                (*before).next.store(next, Ordering::Relaxed);
            }
        }
        if queue.tail == at {
            queue.tail = before;
        }
        // SAFETY: as above.
        let t = unsafe { &*at };
        self.weight.fetch_sub(t.queued_weight.load(Ordering::Relaxed).into(), Ordering::Relaxed);
        if was_nice(t) {
            self.nice.fetch_sub(1, Ordering::Relaxed);
            let owes = t.owes.load(Ordering::Relaxed) - self.clock.load(Ordering::Relaxed) as i64;
            t.owes.store(owes.max(-CREDIT), Ordering::Relaxed);
        }
        self.len.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether a queued thread was above nice 0 when it was queued: by this it is counted.
fn was_nice(t: &Thread) -> bool {
    // ordering: Relaxed; see the field.
    t.queued_weight.load(Ordering::Relaxed) < NORMAL
}

/// A thread has run for `ran` nanoseconds on this CPU, whose clock goes on; if it is above nice 0, it owes what it got beyond its share.
#[cold]
pub(super) fn count(mine: &Cpu, t: &Thread, ran: u64) {
    let through = |weight: u64| ran * u64::from(NORMAL) / weight;
    let own = u64::from(t.weight());
    // ordering: Relaxed, all; written by this CPU only, the weight is a hint.
    let step = through(mine.weight.load(Ordering::Relaxed) + own);
    mine.clock.store(mine.clock.load(Ordering::Relaxed) + step, Ordering::Relaxed);
    if t.is_nice() {
        t.owes.store(t.owes.load(Ordering::Relaxed) + (through(own) - step) as i64, Ordering::Relaxed);
    }
}

/// Takes a thread from this CPU's own queue, unless `rival`, which runs, has the better claim. Those that may not run here any more, or
/// cannot for want of a table, go elsewhere.
pub(super) fn pop_own(cpu: usize, rival: Option<&Thread>) -> *mut Thread {
    // ordering: Relaxed; our own queue, and who adds to it wakes us if we sleep.
    if SCHED[cpu].len.load(Ordering::Relaxed) == 0 {
        return null_mut();
    }
    let (found, mut stray) = SCHED[cpu].take_turn(cpu, rival);
    while !stray.is_null() {
        // SAFETY: it came from a queue: it is alive, and ours.
        let thread = unsafe { &*stray };
        let next = thread.next.load(Ordering::Relaxed);
        if misplaced_on(thread, cpu) {
            enqueue(stray);
        } else {
            // Where there is no table for it either, its affinity has changed while memory was short. It waits here until there is some.
            let elsewhere = with_table(thread, thread.affinity() & cpu::online());
            give(elsewhere.unwrap_or(cpu), stray);
        }
        stray = next;
    }
    found
}

/// Takes a thread for this CPU: from its own queue, else from another's.
pub(super) fn pick(cpu: usize) -> *mut Thread {
    let own = pop_own(cpu, None);
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

#[cfg(test)]
impl Queue {
    /// The first thread.
    pub(super) fn first(&self) -> *mut Thread {
        self.head
    }
}
