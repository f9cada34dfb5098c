//! The life of a thread: it is made, started, ends, and is buried.
//!
//! A started thread carries the scheduler's own reference. It passes from queue to CPU to queue with the thread; when the thread has
//! exited and is off its stack, `finish_switch` hands it to [`bury`], and the reaper drops it: dropping may be long work, or wait.

use crate::machine::{UserRegs, stack};
use crate::place::choose;
use crate::thread::{Begin, Part, Thread, ThreadRef};
use crate::{After, NoMemory, current, enqueue, look, park, schedule};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};

/// Threads that have exited and whose memory waits for the reaper.
static GRAVES: AtomicPtr<Thread> = AtomicPtr::new(null_mut());
static REAPER: spin::Once<ThreadRef> = spin::Once::new();

/// Makes and starts a thread of the kernel.
pub fn spawn_kernel(name: &'static str, f: fn(usize), arg: usize) -> Result<ThreadRef, NoMemory> {
    spawn_kernel_on(name, f, arg, u64::MAX)
}

/// Makes and starts a thread of the kernel that runs on these CPUs only.
pub fn spawn_kernel_on(name: &'static str, f: fn(usize), arg: usize, cpus: u64) -> Result<ThreadRef, NoMemory> {
    let t = Thread::make(0, name, None, Begin::Kernel(f, arg), false, 0)?;
    t.set_affinity(cpus);
    look::add_kernel(&t);
    start(&t);
    Ok(t)
}

/// Makes a thread of a program, of which `part` is its owner's part; it does not run before [`start`]. Its space is set with [`Thread::set_space`].
pub fn spawn_user(
    tid: u32,
    part: Box<dyn Part>,
    regs: &UserRegs,
    fs_base: u64,
    inherit_fpu: bool,
) -> Result<ThreadRef, NoMemory> {
    Thread::make(tid, "user", Some(part), Begin::User(regs), inherit_fpu, fs_base)
}

/// Makes a new thread runnable.
pub fn start(t: &ThreadRef) {
    // The scheduler's own reference; `finish_switch` drops it when the thread has exited.
    enqueue(Arc::into_raw(t.clone()));
}

/// Prepares a new thread's space for the CPU that [`start`] would choose now, so that there is one on which it can run however
/// short memory becomes. False: no memory.
pub fn prepare(t: &ThreadRef) -> bool {
    t.any_space().is_none_or(|space| space.prepare(choose(t)))
}

/// Where a kernel thread begins.
#[allow(improper_ctypes_definitions, reason = "the pointer only passes through the entry's assembler")]
pub(super) extern "C" fn kernel_main(f: fn(usize), arg: usize) -> ! {
    f(arg);
    exit_current()
}

/// Ends the current thread. Its stack is freed once it is off it; the rest when the last reference goes.
pub fn exit_current() -> ! {
    current().set_space(None);
    schedule(After::Exit);
    unreachable!("an exited thread runs")
}

/// Leaves the scheduler's reference to the reaper: dropping a thread may be long work, or wait.
pub(super) fn bury(t: *mut Thread) {
    // ordering: Relaxed; the exchange publishes.
    let mut head = GRAVES.load(Ordering::Relaxed);
    loop {
        // SAFETY: the thread is in no list any more.
        unsafe { (*t).next.store(head, Ordering::Relaxed) };
        // ordering: Release pairs with the reaper's Acquire.
        match GRAVES.compare_exchange(head, t, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => break,
            Err(now) => head = now,
        }
    }
    if let Some(reaper) = REAPER.get() {
        reaper.unpark();
    }
}

/// Memory is short: the reaper is to give the frames of unused stacks back. True: it will.
pub fn give_stacks_back() -> bool {
    let asked = stack::ask();
    if asked && let Some(reaper) = REAPER.get() {
        reaper.unpark();
    }
    asked
}

/// The reaper thread: drops what is left of exited threads, and shrinks the pool of stacks.
fn reap(_: usize) {
    loop {
        // ordering: Acquire pairs with `bury`.
        let mut t = GRAVES.swap(null_mut(), Ordering::Acquire);
        while !t.is_null() {
            // SAFETY: the list is ours now, and each thread in it comes with the scheduler's reference.
            unsafe {
                let next = (*t).next.load(Ordering::Relaxed);
                drop(Arc::from_raw(t));
                t = next;
            }
        }
        stack::trim();
        park(None);
    }
}

/// Starts the scheduler's own thread.
pub fn start_reaper() -> Result<(), NoMemory> {
    let t = spawn_kernel("reaper", reap, 0)?;
    REAPER.call_once(|| t);
    Ok(())
}

/// Whether the scheduler's own thread has started.
#[cfg(not(target_os = "none"))]
pub(super) fn has_reaper() -> bool {
    REAPER.get().is_some()
}
