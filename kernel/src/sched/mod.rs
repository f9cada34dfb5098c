//! Threads and who runs where.
//!
//! Each CPU has a queue of runnable threads (a spin lock, held for a few instructions) and an idle thread. An idle CPU takes
//! from others' queues, so nobody has to balance. Kernel code is not preempted: a thread leaves its CPU when it parks, yields,
//! exits, or on the way back to user mode when its slice is over.
//!
//! # Rules
//! 1. A thread that leaves its CPU becomes visible to others only *after* the switch, on the next thread's stack
//!    ([`finish_switch`]): whoever finds it may run it at once, and nobody ever waits for another CPU's switch.
//! 2. `park` is decided there, too: `RUNNING -> PARKED` succeeds only if no token has come; else the thread is queued again.
//!    `unpark` is `RUNNING -> TOKEN`, or `PARKED -> TOKEN` and into a queue. So no wake-up is lost, and each is consumed once.
//! 3. Who moves a thread out of `PARKED` owns it until it is in a queue.
//! 4. Before it halts, a CPU sets its idle bit and then looks at the queues; who queues a thread looks at the idle bits after
//!    that. Whoever clears a bit sends the interrupt, unless the CPU still [polls](poll).

pub mod poll;
pub mod stack;
pub mod timer;

mod look;
mod switch;
mod thread;
mod wait;

pub use look::{each_kernel_thread, progress};
pub use thread::{Thread, ThreadRef, Usage};
pub use wait::{WaitError, WaitQueue};

use crate::arch::cpu::{self, CPUS, WORK_ATTENTION, WORK_SCHEDULE};
use crate::arch::regs::UserRegs;
use crate::arch::{gdt, irq, syscall, time};
use crate::debug::lock::Mutex;
use crate::debug::{provoke, record, stall};
use crate::mem;
use crate::proc::UserThread;
use alloc::sync::Arc;
use core::cell::Cell;
use core::ptr::{null, null_mut};
use core::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering, fence};
use poll::HaltPoll;
use thread::{Begin, EXITED, PARKED, RUNNING, TOKEN};

/// A thread's turn when others wait, in nanoseconds.
const SLICE: u64 = 4_000_000;

/// There was no memory for a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

/// Why `park` returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// By `unpark`, now or before.
    Unparked,
    /// By its deadline.
    TimedOut,
}

/// What becomes of a thread that leaves its CPU.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    /// It is runnable.
    Queue,
    /// It parks unless it has a token.
    Park,
    /// It is gone.
    Exit,
    /// It is the idle thread: nobody looks for it.
    Nothing,
}

/// A first-in-first-out list through [`Thread::next`]; each thread in it carries the scheduler's own reference.
struct Queue {
    head: *mut Thread,
    tail: *mut Thread,
}
// SAFETY: threads may be sent, and a lock protects the list.
unsafe impl Send for Queue {}

#[repr(align(128))]
struct Cpu {
    queue: Mutex<Queue>,
    /// Threads in `queue`: a hint for those who do not hold its lock.
    len: AtomicUsize,
    /// Own use: the idle thread, the thread that has just left and what becomes of it.
    idle: Cell<*const Thread>,
    left: Cell<(*const Thread, After)>,
    /// Own use: deadline of the armed timer.
    armed: Cell<u64>,
    /// When the current thread's time was taken last; own use.
    since: Cell<u64>,
    /// Own use: how long its waits are.
    waits: HaltPoll,
    /// Switches so far; written by its CPU only.
    switches: AtomicU64,
}
// SAFETY: the cells are touched by their own CPU only (before it runs, by the boot CPU).
unsafe impl Sync for Cpu {}

static SCHED: [Cpu; CPUS] = [const {
    Cpu {
        queue: Mutex::new(Queue { head: null_mut(), tail: null_mut() }),
        len: AtomicUsize::new(0),
        idle: Cell::new(null()),
        left: Cell::new((null(), After::Nothing)),
        armed: Cell::new(u64::MAX),
        since: Cell::new(0),
        waits: HaltPoll::new(),
        switches: AtomicU64::new(0),
    }
}; CPUS];

/// CPUs that halt or are about to.
static IDLE: AtomicU64 = AtomicU64::new(0);
/// Threads that have exited and whose memory waits for the reaper.
static GRAVES: AtomicPtr<Thread> = AtomicPtr::new(null_mut());
static REAPER: spin::Once<ThreadRef> = spin::Once::new();

fn mine() -> &'static Cpu {
    &SCHED[cpu::cpu_id()]
}

/// The running thread.
#[inline]
pub fn current() -> &'static Thread {
    // SAFETY: set before any thread code runs; the thread lives while it runs, and its code cannot keep the reference longer
    // than that (other than by storing it, which nothing does).
    unsafe { &*cpu::this().current.get() }
}

/// The running thread, if threads exist yet.
pub fn try_current() -> Option<&'static Thread> {
    // SAFETY: as in `current`.
    unsafe { cpu::this().current.get().as_ref() }
}

/// A counted reference to the running thread.
pub fn current_ref() -> ThreadRef {
    let p = cpu::this().current.get();
    // SAFETY: all threads are made by `Arc::new`, and the scheduler's own reference keeps this one alive.
    unsafe {
        Arc::increment_strong_count(p);
        Arc::from_raw(p)
    }
}

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

/// Makes a thread of a program; it does not run before [`start`]. Its space is set with [`Thread::set_space`].
pub fn spawn_user(
    tid: u32,
    user: UserThread,
    regs: &UserRegs,
    fs_base: u64,
    inherit_fpu: bool,
) -> Result<ThreadRef, NoMemory> {
    Thread::make(tid, "user", Some(user), Begin::User(regs), inherit_fpu, fs_base)
}

/// Makes a new thread runnable.
pub fn start(t: &ThreadRef) {
    // The scheduler's own reference; `finish_switch` drops it when the thread has exited.
    enqueue(Arc::into_raw(t.clone()));
}

/// Prepares a new thread's space for the CPU that [`start`] would choose now, so that there is one on which it can run however
/// short memory becomes. False: no memory.
pub fn prepare(t: &ThreadRef) -> bool {
    t.space().is_none_or(|space| space.prepare(choose(t)))
}

/// Where a kernel thread begins.
#[allow(improper_ctypes_definitions, reason = "the pointer only passes through the entry's assembler")]
extern "C" fn kernel_main(f: fn(usize), arg: usize) -> ! {
    f(arg);
    exit_current()
}

/// Ends the current thread. Its stack is freed once it is off it; the rest when the last reference goes.
pub fn exit_current() -> ! {
    current().set_space(None);
    schedule(After::Exit);
    unreachable!("an exited thread runs")
}

/// Lets other runnable threads of this CPU run.
pub fn yield_now() {
    // ordering: Relaxed; a hint.
    if mine().len.load(Ordering::Relaxed) != 0 || misplaced(current()) {
        schedule(After::Queue);
    }
}

/// The slice is over, or the thread's affinity has changed: on the way back to user mode.
pub(crate) fn preempt() {
    yield_now();
}

fn misplaced(t: &Thread) -> bool {
    misplaced_on(t, cpu::cpu_id())
}

fn misplaced_on(t: &Thread, cpu: usize) -> bool {
    let allowed = t.affinity() & cpu::online();
    allowed != 0 && allowed & 1 << cpu == 0
}

/// Gives the CPU away until [`Thread::unpark`] or the deadline; returns at once if `unpark` has come since the last `park`.
pub fn park(deadline: Option<u64>) -> Woken {
    let me = current();
    // ordering: Acquire pairs with the Release of `unpark`: the caller sees what made it be called.
    let token = || me.state.compare_exchange(TOKEN, RUNNING, Ordering::Acquire, Ordering::Relaxed).is_ok();
    if token() {
        return Woken::Unparked;
    }
    linger(me, deadline);
    if token() {
        return Woken::Unparked;
    }
    let heap = deadline.map(|d| {
        let heap = timer::add(me, d);
        arm(d);
        heap
    });
    schedule(After::Park);
    if let Some(heap) = heap {
        timer::cancel(me, heap);
    }
    // ordering: Acquire, as above. Without a token it was the deadline that made it run.
    match me.state.swap(RUNNING, Ordering::Acquire) {
        TOKEN => Woken::Unparked,
        _ => Woken::TimedOut,
    }
}

/// Looks around for a moment before the current thread parks, if the CPU has nothing else to do: a token may be on its way.
fn linger(me: &Thread, deadline: Option<u64>) {
    let (cpu, sched) = (cpu::cpu_id(), mine());
    // ordering: Relaxed; hints: what is missed here is found when the thread parks.
    let found = || me.state.load(Ordering::Relaxed) == TOKEN || sched.len.load(Ordering::Relaxed) != 0;
    if found() {
        return;
    }
    sched.waits.begin(charge(time::tsc()));
    // ordering: Relaxed; who gives the CPU a thread now is seen by `found`, or when the thread parks.
    IDLE.fetch_or(1 << cpu, Ordering::Relaxed);
    sched.waits.poll(cpu, deadline.unwrap_or(u64::MAX), found);
    IDLE.fetch_and(!(1 << cpu), Ordering::Relaxed);
    // The thread has not worked meanwhile.
    let tsc = time::tsc();
    sched.since.set(time::at_ns(tsc));
    cpu::take_kernel_time(tsc);
    if found() {
        sched.waits.end(sched.since.get());
    }
}

fn unpark(t: &Thread) {
    // ordering: Relaxed; the exchanges decide.
    let mut state = t.state.load(Ordering::Relaxed);
    loop {
        if state == EXITED {
            return;
        }
        // A token that is there already is written again: its consumer must see what made *this* call.
        // ordering: Release pairs with `park`'s Acquire; Acquire takes the parked thread over from `finish_switch`.
        match t.state.compare_exchange(state, TOKEN, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(PARKED) => return enqueue(t),
            Ok(_) => return,
            Err(now) => state = now,
        }
    }
}

/// Puts a runnable thread that is on no CPU into a queue, and wakes an idle CPU for it. Carries the scheduler's reference.
fn enqueue(t: *const Thread) {
    // SAFETY: the scheduler's reference keeps it alive.
    let thread = unsafe { &*t };
    let target = choose(thread);
    record::event(record::Kind::Queue, thread.tid as u64, target as u64);
    SCHED[target].push(t as *mut Thread);
    // ordering: SeqCst pairs with the fence in `idle` (rule 4).
    fence(Ordering::SeqCst);
    wake_cpu(target);
}

/// If the CPU is idle: takes its idle bit and interrupts it.
fn wake_cpu(target: usize) {
    let bit = 1 << target;
    // ordering: Relaxed; ordered by the fences of rule 4.
    if target != cpu::cpu_id()
        && IDLE.load(Ordering::Relaxed) & bit != 0
        && IDLE.fetch_and(!bit, Ordering::Relaxed) & bit != 0
        && !poll::is_polling(target)
    {
        irq::send(target, irq::RESCHEDULE);
    }
}

/// The space of a thread that is on no CPU and that the caller owns, or whose queue he has locked.
fn space_of(t: &Thread) -> Option<&Arc<mem::Space>> {
    // SAFETY: nobody else looks at the thread meanwhile.
    unsafe { &(*t.inner.get()).space }.as_ref()
}

/// Whether a CPU that a thread has not run on should take it: entering a space for the first time costs a frame.
fn may_enter(t: &Thread, cpu: usize) -> bool {
    const PLENTY: u64 = 256;
    space_of(t).is_none_or(|space| space.has_top(cpu) || mem::memory().free_frames() >= PLENTY)
}

/// Whether this CPU can switch to a thread now.
fn can_run(t: &Thread) -> bool {
    space_of(t).is_none_or(|space| mem::machine::prepare_here(space))
}

/// The CPU for a thread: its last one if that is idle, else another idle one, else its last one again; but one that can load
/// its space if memory is short.
fn choose(t: &Thread) -> usize {
    let online = cpu::online();
    let mut allowed = t.affinity() & online;
    if allowed == 0 {
        allowed = online;
    }
    // ordering: Relaxed; hints.
    let last = t.last.load(Ordering::Relaxed) as usize;
    let idle = IDLE.load(Ordering::Relaxed) & allowed;
    if idle & 1 << last != 0 {
        last
    } else if idle != 0 && may_enter(t, idle.trailing_zeros() as usize) {
        idle.trailing_zeros() as usize
    } else if allowed & 1 << last != 0 {
        last
    } else {
        let first = allowed.trailing_zeros() as usize;
        if may_enter(t, first) { first } else { with_table(t, allowed).unwrap_or(first) }
    }
}

/// The first of the CPUs that has a table for a thread's space.
fn with_table(t: &Thread, among: u64) -> Option<usize> {
    let space = space_of(t)?;
    (0..CPUS).find(|&cpu| among & 1 << cpu != 0 && space.has_top(cpu))
}

impl Cpu {
    fn push(&self, t: *mut Thread) {
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
fn pop_own(cpu: usize) -> *mut Thread {
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
            Some(other) => {
                SCHED[other].push(stray);
                // ordering: SeqCst; as in `enqueue`.
                fence(Ordering::SeqCst);
                wake_cpu(other);
            }
            // Its affinity has changed while memory was short. It waits here until there is some.
            None => {
                SCHED[cpu].push(stray);
                return null_mut();
            }
        }
    }
}

/// Takes a thread for this CPU: from its own queue, else from another's.
fn pick(cpu: usize) -> *mut Thread {
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

/// Gives the CPU to another thread.
fn schedule(after: After) {
    let cpu = cpu::cpu_id();
    let sched = &SCHED[cpu];
    let next = match after {
        // A thread that could go on does not take work from others.
        After::Queue => pop_own(cpu),
        _ => pick(cpu),
    };
    let next = if !next.is_null() {
        next as *const Thread
    } else if after == After::Nothing || (after == After::Queue && !misplaced(current())) {
        return;
    } else {
        sched.idle.get()
    };
    run(sched, next, after);
}

/// Switches to `next`.
fn run(sched: &'static Cpu, next: *const Thread, after: After) {
    let block = cpu::this();
    let prev = block.current.get();
    debug_assert!(!core::ptr::eq(prev, next));
    // SAFETY: `prev` is running here; `next` was taken from a queue (or is this CPU's idle thread), so this CPU is alone with both.
    let (prev_ref, next_ref) = unsafe { (&*prev, &*next) };
    let (p, n) = (prev_ref.inner.get(), next_ref.inner.get());
    let now = charge(time::tsc());
    let idle = sched.idle.get();
    if core::ptr::eq(prev, idle) {
        sched.waits.end(now);
    } else if core::ptr::eq(next, idle) && after != After::Park {
        // A parking thread has lingered, and its wait began then.
        sched.waits.begin(now);
    }
    // ordering: Relaxed; statistics, written by this CPU only.
    prev_ref.changed.store(now, Ordering::Relaxed);
    sched.switches.store(sched.switches.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    record::event(record::Kind::Switch, prev_ref.tid as u64, next_ref.tid as u64);
    // SAFETY: as above; references to the two parts end before the switch.
    let (save, load) = unsafe {
        if let Some(fpu) = &mut (*p).fpu {
            if after == After::Exit {
                block.fpu_owner.set(0);
            } else {
                fpu.save();
                (*p).fpu_cpu = block.id.get();
                block.fpu_owner.set(prev as usize);
            }
        }
        mem::switch_space((*n).space.as_ref());
        if let Some(fpu) = &(*n).fpu {
            if block.fpu_owner.get() != next as usize || (*n).fpu_cpu != block.id.get() {
                fpu.restore();
            }
            // From here on the registers change.
            block.fpu_owner.set(0);
            next_ref.load_bases();
        }
        gdt::set_kernel_stack((*n).top);
        (&raw mut (*p).rsp, (*n).rsp)
    };
    // ordering: Relaxed; a hint.
    next_ref.last.store(block.id.get(), Ordering::Relaxed);
    // ordering: SeqCst; the Dekker pair of `Thread::wants_attention`.
    prev_ref.on.store(0, Ordering::SeqCst);
    next_ref.on.store(block.id.get() + 1, Ordering::SeqCst);
    let mut work = 0;
    if next_ref.wants_attention() {
        work |= WORK_ATTENTION;
    }
    block.work.set(work);
    if !core::ptr::eq(next, idle) {
        arm_at(sched, now, now + SLICE);
    }
    block.current.set(next);
    sched.left.set((prev, after));
    // SAFETY: `load` was saved by an earlier switch or made with the thread; its stack is in use by nobody (rule 1).
    unsafe { switch::switch(save, load) };
    finish_switch();
}

/// The first thing after a switch, on the next thread's stack: what becomes of the thread that left.
extern "C" fn finish_switch() {
    let sched = mine();
    let (left, after) = sched.left.replace((null(), After::Nothing));
    if left.is_null() {
        return;
    }
    // SAFETY: the thread that left is alive: the scheduler's reference is still ours.
    let t = unsafe { &*left };
    match after {
        After::Nothing => {}
        After::Queue => enqueue(left),
        After::Park => {
            // ordering: Release hands the thread's context over to whoever unparks it.
            if t.state.compare_exchange(RUNNING, PARKED, Ordering::Release, Ordering::Relaxed).is_err() {
                // A token has come (rule 2).
                enqueue(left);
            }
        }
        After::Exit => {
            // ordering: Release; nobody runs it any more.
            t.state.store(EXITED, Ordering::Release);
            // SAFETY: it is off its stack for good, and only the scheduler touches `inner`.
            unsafe {
                (*t.inner.get()).stack = None;
                (*t.inner.get()).fpu = None;
            }
            bury(left as *mut Thread);
        }
    }
}

/// Leaves the scheduler's reference to the reaper: dropping a thread may be long work, or wait.
fn bury(t: *mut Thread) {
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

fn arm_at(sched: &Cpu, now: u64, deadline: u64) {
    if deadline < sched.armed.get() {
        sched.armed.set(deadline);
        irq::set_timer(deadline.saturating_sub(now));
    }
}

/// Makes the timer interrupt come at `deadline` or before.
fn arm(deadline: u64) {
    let sched = mine();
    if deadline < sched.armed.get() {
        arm_at(sched, timer::now_ns(), deadline);
    }
}

/// The timer interrupt.
pub(crate) fn tick(user: bool) {
    let sched = mine();
    let now = charge(time::tsc());
    sched.armed.set(u64::MAX);
    stall::tick(now);
    if user {
        provoke::tick()
    } else {
        provoke::tick_in_kernel()
    }
    let mut next = timer::expire(now, |t| {
        // ordering: as in `unpark`, but without a token.
        if t.state.compare_exchange(PARKED, RUNNING, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            enqueue(t);
        }
    });
    if !core::ptr::eq(cpu::this().current.get(), sched.idle.get()) {
        // ordering: Relaxed; our own queue.
        if sched.len.load(Ordering::Relaxed) != 0 {
            syscall::request_work(WORK_SCHEDULE);
        }
        next = next.min(now + SLICE);
    }
    if next != u64::MAX {
        arm_at(sched, now, next);
    }
}

/// The reschedule interrupt: an idle CPU looks at its queue by itself; a thread may have to look at its flags.
pub(crate) fn poked() {
    let t = current();
    if t.wants_attention() {
        syscall::request_work(WORK_ATTENTION);
    }
    if misplaced(t) {
        syscall::request_work(WORK_SCHEDULE);
    }
}

/// Adds to the current thread's time what has passed since that was done last, until the counter's value `tsc`; returns the time.
fn charge(tsc: u64) -> u64 {
    let (sched, thread, now) = (mine(), current(), time::at_ns(tsc));
    let ran = now.saturating_sub(sched.since.replace(now));
    // ordering: Relaxed; statistics that only the thread's CPU writes.
    thread.run_ns.store(thread.run_ns.load(Ordering::Relaxed) + ran, Ordering::Relaxed);
    let (in_kernel, faults) = (cpu::take_kernel_time(tsc), cpu::this().faults.replace(0));
    thread.kernel_ticks.store(thread.kernel_ticks.load(Ordering::Relaxed) + in_kernel, Ordering::Relaxed);
    thread.faults.store(thread.faults.load(Ordering::Relaxed) + faults, Ordering::Relaxed);
    now
}

/// The idle loop of a CPU, on its idle thread.
pub(crate) fn idle() -> ! {
    let cpu = cpu::cpu_id();
    let bit = 1 << cpu;
    stall::begin(timer::now_ns());
    loop {
        schedule(After::Nothing);
        // ordering: Relaxed, then the fence of rule 4.
        IDLE.fetch_or(bit, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let next = pick(cpu);
        if next.is_null() {
            // ordering: Relaxed; our own queue. A thread in it waits for a frame.
            if mem::idle() || mine().len.load(Ordering::Relaxed) != 0 {
                // There was something to do for memory, and may be more: look again at once.
                crate::arch::interrupt_window();
                IDLE.fetch_and(!bit, Ordering::Relaxed);
                continue;
            }
            // The watchdog wants to hear from a CPU now and then.
            if let Some(beat) = stall::beat() {
                arm(timer::now_ns() + beat);
            }
            // SAFETY: `sti` takes effect after the next instruction, so no interrupt is lost between the two. The idle thread
            // holds nothing.
            unsafe { core::arch::asm!("sti", "hlt", "cli", options(nomem, nostack)) };
            IDLE.fetch_and(!bit, Ordering::Relaxed);
        } else {
            IDLE.fetch_and(!bit, Ordering::Relaxed);
            run(mine(), next, After::Nothing);
        }
    }
}

/// Makes the idle thread of another CPU; returns the top of its stack.
pub(crate) fn prepare_cpu(cpu: usize) -> Option<u64> {
    let top = stack::Stack::new()?.leak();
    let t = Thread::make(0, "idle", None, Begin::Here(top), false, 0).ok()?;
    // ordering: Relaxed; the CPU does not run yet.
    t.last.store(cpu as u32, Ordering::Relaxed);
    t.on.store(cpu as u32 + 1, Ordering::Relaxed);
    SCHED[cpu].idle.set(Arc::into_raw(t));
    Some(top)
}

/// Makes the code that runs on this CPU its idle thread.
pub(crate) fn adopt_idle() {
    let sched = mine();
    let tsc = time::tsc();
    sched.since.set(time::at_ns(tsc));
    cpu::take_kernel_time(tsc);
    cpu::this().current.set(sched.idle.get());
}

/// Makes the running boot code the boot CPU's idle thread.
pub(crate) fn init() -> Result<(), NoMemory> {
    let t = Thread::make(0, "idle", None, Begin::Here(0), false, 0)?;
    t.on.store(1, Ordering::Relaxed);
    mine().idle.set(Arc::into_raw(t));
    adopt_idle();
    Ok(())
}

/// Starts the scheduler's own thread.
pub(crate) fn start_reaper() -> Result<(), NoMemory> {
    let t = spawn_kernel("reaper", reap, 0)?;
    REAPER.call_once(|| t);
    Ok(())
}
