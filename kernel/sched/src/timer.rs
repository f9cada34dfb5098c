//! Clocks, and the sleepers of each CPU: a pairing heap threaded through the threads themselves, so that going to sleep
//! needs no memory.
//!
//! A thread is in at most one heap, that of the CPU on which it parked, and only between its `park`'s beginning and end.
//! The heap's lock protects the links; expiry changes the thread's state under it, so a sleeper that has cancelled is never woken
//! by an old deadline.

use crate::machine;
use crate::thread::Thread;
use core::ptr::null_mut;
use quire_base::lock::Mutex;
use quire_base::{cpu, time};

/// Nanoseconds since boot.
#[inline]
pub fn now_ns() -> u64 {
    time::at_ns(machine::tsc())
}

/// Nanoseconds since 1970.
#[inline]
pub fn realtime_ns() -> u64 {
    time::realtime_ns()
}

/// A thread's place in a heap.
pub(super) struct Node {
    deadline: u64,
    child: *mut Thread,
    /// Next sibling.
    next: *mut Thread,
    /// Previous sibling, or the parent for a first child; null for the root.
    prev: *mut Thread,
    queued: bool,
}

impl Node {
    pub const fn new() -> Node {
        Node { deadline: 0, child: null_mut(), next: null_mut(), prev: null_mut(), queued: false }
    }
}

struct Heap(*mut Thread);
// SAFETY: the threads in it are alive (they cannot leave `park` without cancelling), and the heap is behind a lock.
unsafe impl Send for Heap {}

static HEAPS: [Mutex<Heap>; cpu::CPUS] = [const { Mutex::new(Heap(null_mut())) }; cpu::CPUS];

/// The links of a thread in a locked heap.
///
/// # Safety
/// The caller holds the lock of the heap that the thread is in (or enters), and keeps no two references to one node.
unsafe fn node<'a>(t: *mut Thread) -> &'a mut Node {
    // SAFETY: the thread is alive as long as it is in the heap.
    unsafe { &mut *(*t).timer.get() }
}

/// Makes one heap of two (both without siblings; either may be null).
///
/// # Safety
/// As [`node`].
unsafe fn meld(a: *mut Thread, b: *mut Thread) -> *mut Thread {
    if a.is_null() || b.is_null() {
        return if a.is_null() { b } else { a };
    }
    // SAFETY: promised by the caller; `a` and `b` differ, and each reference ends before the next to the same node begins.
    unsafe {
        let (root, other) = if node(a).deadline <= node(b).deadline { (a, b) } else { (b, a) };
        let first = node(root).child;
        node(other).next = first;
        node(other).prev = root;
        if !first.is_null() {
            node(first).prev = other;
        }
        node(root).child = other;
        root
    }
}

/// Makes one heap of a list of siblings: in pairs first, then together.
///
/// # Safety
/// As [`node`].
unsafe fn gather(mut list: *mut Thread) -> *mut Thread {
    let mut pairs = null_mut();
    // SAFETY: promised by the caller.
    unsafe {
        while !list.is_null() {
            let a = list;
            let b = node(a).next;
            list = if b.is_null() { null_mut() } else { node(b).next };
            for t in [a, b] {
                if !t.is_null() {
                    node(t).next = null_mut();
                    node(t).prev = null_mut();
                }
            }
            let pair = meld(a, b);
            node(pair).next = pairs;
            pairs = pair;
        }
        let mut root = null_mut();
        while !pairs.is_null() {
            let rest = node(pairs).next;
            node(pairs).next = null_mut();
            root = meld(root, pairs);
            pairs = rest;
        }
        root
    }
}

/// Puts the current thread into this CPU's heap. Returns the CPU.
pub(super) fn add(t: &Thread, deadline: u64) -> usize {
    let cpu = cpu::cpu_id();
    let mut heap = HEAPS[cpu].lock();
    let p = t as *const Thread as *mut Thread;
    // SAFETY: the thread is in no heap yet, and the lock of the one that it enters is held.
    unsafe {
        *node(p) = Node { deadline, queued: true, ..Node::new() };
        heap.0 = meld(heap.0, p);
    }
    cpu
}

/// Takes the thread out of the heap of `cpu` if it is still there.
pub(super) fn cancel(t: &Thread, cpu: usize) {
    let mut heap = HEAPS[cpu].lock();
    let p = t as *const Thread as *mut Thread;
    // SAFETY: the lock of the heap that the thread was put into is held.
    unsafe {
        if !node(p).queued {
            return;
        }
        node(p).queued = false;
        let children = gather(node(p).child);
        let (prev, next) = (node(p).prev, node(p).next);
        if prev.is_null() {
            heap.0 = children;
            return;
        }
        if node(prev).child == p {
            node(prev).child = next;
        } else {
            node(prev).next = next;
        }
        if !next.is_null() {
            node(next).prev = prev;
        }
        heap.0 = meld(heap.0, children);
    }
}

/// Gives every sleeper of this CPU whose time has come to `wake`; returns the next deadline (`u64::MAX`: none).
pub(super) fn expire(now: u64, mut wake: impl FnMut(&Thread)) -> u64 {
    let mut heap = HEAPS[cpu::cpu_id()].lock();
    loop {
        let p = heap.0;
        if p.is_null() {
            return u64::MAX;
        }
        // SAFETY: the lock is held; the thread is alive while it is in the heap, and `wake` runs under the lock, before the thread
        // can cancel and go.
        unsafe {
            if node(p).deadline > now {
                return node(p).deadline;
            }
            heap.0 = gather(node(p).child);
            node(p).queued = false;
            wake(&*p);
        }
    }
}

/// Whether nobody sleeps on a CPU.
#[cfg(not(target_os = "none"))]
pub(super) fn is_empty(cpu: usize) -> bool {
    HEAPS[cpu].lock().0.is_null()
}
