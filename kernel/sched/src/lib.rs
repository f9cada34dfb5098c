#![doc = include_str!("../README.md")]
#![no_std]

extern crate alloc;

pub mod above;
pub mod poll;
pub mod timer;

mod life;
mod look;
pub mod machine;
mod mutex;
mod place;
mod queue;
mod space;
mod switch;
#[cfg(test)]
mod tests;
mod thread;
mod tick;
mod wait;
mod wake;

pub use life::start_reaper;
pub use life::{exit_current, give_stacks_back, prepare, spawn_kernel, spawn_kernel_on, spawn_user, start};
pub use look::{each_kernel_thread, progress};
pub use mutex::{SleepGuard, SleepMutex};
pub use space::Space;
pub use thread::{Part, Thread, ThreadRef};
pub use tick::SLICE;
pub use tick::{grace, tick};
pub use wait::{WaitError, WaitQueue};

use above::ABOVE;
use alloc::sync::Arc;
use core::cell::Cell;
use core::ptr::null;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use life::bury;
use machine::interrupt_window;
use place::{choose, misplaced};
use poll::HaltPoll;
use queue::{Queue, pick, pop_own};
use quire_base::cpu::{self, CPUS, WORK_ATTENTION, WORK_SCHEDULE};
use quire_base::lock::{Mutex, may_wait};
use quire_base::{record, time};
use thread::{Begin, EXITED, PARKED, RUNNING, TOKEN};
use tick::{arm, arm_at, charge, slice_of};
use wake::Wake;

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

#[repr(align(128))]
struct Cpu {
    queue: Mutex<Queue>,
    /// Threads in `queue`, their weight, and those of them above nice 0: hints for those who do not hold its lock.
    len: AtomicUsize,
    weight: AtomicU64,
    nice: AtomicUsize,
    /// The virtual clock of those above nice 0; written by its CPU only.
    clock: AtomicU64,
    /// Own use: the idle thread, the thread that has just left and what becomes of it.
    idle: Cell<*const Thread>,
    left: Cell<(*const Thread, After)>,
    /// Own use: deadline of the armed timer.
    armed: Cell<u64>,
    /// Own use: when the current thread's turn is over, and whether it was lengthened.
    slice: Cell<u64>,
    graced: Cell<bool>,
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
        queue: Mutex::new(Queue::EMPTY),
        len: AtomicUsize::new(0),
        weight: AtomicU64::new(0),
        nice: AtomicUsize::new(0),
        clock: AtomicU64::new(0),
        idle: Cell::new(null()),
        left: Cell::new((null(), After::Nothing)),
        armed: Cell::new(u64::MAX),
        slice: Cell::new(0),
        graced: Cell::new(false),
        since: Cell::new(0),
        waits: HaltPoll::new(),
        switches: AtomicU64::new(0),
    }
}; CPUS];

/// Who is idle, and who polls.
static WAKE: Wake = Wake::new([const { AtomicU64::new(0) }; 2]);

fn mine() -> &'static Cpu {
    &SCHED[cpu::cpu_id()]
}

/// The running thread.
#[inline]
pub fn current() -> &'static Thread {
    // SAFETY: set before any thread code runs; the thread lives while it runs, and its code cannot keep the reference longer
    // than that (other than by storing it, which nothing does).
    unsafe { &*cpu::this().current.get().cast::<Thread>() }
}

/// The running thread, if threads exist yet.
#[inline]
pub fn try_current() -> Option<&'static Thread> {
    // SAFETY: as in `current`.
    unsafe { cpu::this().current.get().cast::<Thread>().as_ref() }
}

/// A counted reference to the running thread.
#[inline]
pub fn current_ref() -> ThreadRef {
    let p = cpu::this().current.get().cast::<Thread>();
    // SAFETY: all threads are made by `Arc::new`, and the scheduler's own reference keeps this one alive.
    unsafe {
        Arc::increment_strong_count(p);
        Arc::from_raw(p)
    }
}

/// Lets other runnable threads of this CPU run.
pub fn yield_now() {
    may_wait();
    // ordering: Relaxed; a hint.
    if mine().len.load(Ordering::Relaxed) != 0 || misplaced(current()) {
        schedule(After::Queue);
    }
}

/// A wait that polls looks as often as it can for so long, in nanoseconds: most are over by then.
const BRISK: u64 = 50_000;
/// The longest rest between two looks.
const REST: u64 = 200_000;

/// A turn of a wait that polls since `since`: other threads of this CPU run. If there are none and the wait is not short, the CPU
/// halts for a moment, at most half as long as the wait has lasted: a host with fewer CPUs has another use for it, such as the virtual
/// CPU that is waited for. The caller holds no spin lock.
pub fn give_way(since: u64) {
    interrupt_window();
    yield_now();
    let (sched, now) = (mine(), timer::now_ns());
    let waited = now.saturating_sub(since);
    // ordering: Relaxed; a hint: what is queued meanwhile waits for the rest's end.
    if waited < BRISK || sched.len.load(Ordering::Relaxed) != 0 {
        return;
    }
    arm_at(sched, now, now + (waited / 2).min(REST));
    machine::halt();
}

/// The slice is over, or the thread's affinity has changed: on the way back to user mode.
pub fn preempt() {
    let me = current();
    if misplaced(me) {
        return yield_now();
    }
    let next = pop_own(cpu::cpu_id(), Some(me));
    if !next.is_null() {
        run(mine(), next, After::Queue);
    }
}

/// Gives the CPU away until [`Thread::unpark`] or the deadline; returns at once if `unpark` has come since the last `park`.
pub fn park(deadline: Option<u64>) -> Woken {
    may_wait();
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
    sched.waits.begin(charge(machine::tsc()));
    // Who gives the CPU a thread now is seen by `found`, or when the thread parks.
    WAKE.rests(cpu);
    sched.waits.poll(cpu, deadline.unwrap_or(u64::MAX), found);
    WAKE.works(cpu);
    // The thread has not worked meanwhile.
    let tsc = machine::tsc();
    sched.since.set(time::at_ns(tsc));
    cpu::take_kernel_time(tsc);
    if found() {
        sched.waits.end(sched.since.get());
    }
    // ordering: Relaxed; our own queue. Whoever queued a thread meanwhile sent no interrupt, and this one may have its token now.
    if sched.len.load(Ordering::Relaxed) != 0 {
        cpu::request_work(WORK_SCHEDULE);
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
    give(target, t as *mut Thread);
}

/// Puts a thread into a CPU's queue, and wakes that CPU if it is idle.
fn give(target: usize, t: *mut Thread) {
    SCHED[target].push(t);
    if target != cpu::cpu_id() && WAKE.must_interrupt(target) {
        machine::poke(target);
    }
}

/// Gives the CPU to another thread.
fn schedule(after: After) {
    let cpu = cpu::cpu_id();
    let sched = &SCHED[cpu];
    let next = match after {
        // A thread that could go on does not take work from others.
        After::Queue => pop_own(cpu, None),
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
    let prev = block.current.get().cast::<Thread>();
    debug_assert!(!core::ptr::eq(prev, next));
    // SAFETY: `prev` is running here; `next` was taken from a queue (or is this CPU's idle thread), so this CPU is alone with both.
    let (prev_ref, next_ref) = unsafe { (&*prev, &*next) };
    let (p, n) = (prev_ref.inner.get(), next_ref.inner.get());
    let now = charge(machine::tsc());
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
        space::load((*n).space.as_deref());
        if let Some(fpu) = &(*n).fpu {
            if block.fpu_owner.get() != next as usize || (*n).fpu_cpu != block.id.get() {
                fpu.restore();
            }
            // From here on the registers change.
            block.fpu_owner.set(0);
            next_ref.load_bases();
        }
        machine::set_kernel_stack((*n).top);
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
    if misplaced(next_ref) {
        work |= WORK_SCHEDULE;
    }
    block.work.set(work);
    if !core::ptr::eq(next, idle) {
        let slice = now + slice_of(next_ref);
        arm_at(sched, now, slice);
        sched.slice.set(slice);
        sched.graced.set(false);
    }
    block.current.set(next.cast());
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

/// The reschedule interrupt: an idle CPU looks at its queue by itself; a thread may have to look at its flags.
pub fn poked() {
    let t = current();
    if t.wants_attention() {
        cpu::request_work(WORK_ATTENTION);
    }
    if misplaced(t) {
        cpu::request_work(WORK_SCHEDULE);
    }
}

/// The idle loop of a CPU, on its idle thread.
pub fn idle() -> ! {
    let cpu = cpu::cpu_id();
    (ABOVE.get().begin)(timer::now_ns());
    loop {
        schedule(After::Nothing);
        WAKE.about_to_halt(cpu);
        let next = pick(cpu);
        if next.is_null() {
            // ordering: Relaxed; our own queue. A thread in it waits for a frame.
            if (ABOVE.get().idle)() || mine().len.load(Ordering::Relaxed) != 0 {
                // There was something to do for memory, and may be more: look again at once.
                interrupt_window();
                WAKE.works(cpu);
                continue;
            }
            // The watchdog wants to hear from a CPU now and then.
            if let Some(beat) = quire_base::wait::beat() {
                arm(timer::now_ns() + beat);
            }
            machine::halt();
            WAKE.works(cpu);
        } else {
            WAKE.works(cpu);
            run(mine(), next, After::Nothing);
        }
    }
}

/// Makes the idle thread of another CPU; returns the top of its stack.
pub fn prepare_cpu(cpu: usize) -> Option<u64> {
    let top = machine::Stack::new()?.leak();
    let t = Thread::make(0, "idle", None, Begin::Here(top), false, 0).ok()?;
    // ordering: Relaxed; the CPU does not run yet.
    t.last.store(cpu as u32, Ordering::Relaxed);
    t.on.store(cpu as u32 + 1, Ordering::Relaxed);
    SCHED[cpu].idle.set(Arc::into_raw(t));
    Some(top)
}

/// Makes the code that runs on this CPU its idle thread.
pub fn adopt_idle() {
    let sched = mine();
    let tsc = machine::tsc();
    sched.since.set(time::at_ns(tsc));
    cpu::take_kernel_time(tsc);
    cpu::this().current.set(sched.idle.get().cast());
}

/// Makes the running boot code the boot CPU's idle thread.
pub fn init() -> Result<(), NoMemory> {
    let t = Thread::make(0, "idle", None, Begin::Here(0), false, 0)?;
    t.on.store(1, Ordering::Relaxed);
    mine().idle.set(Arc::into_raw(t));
    adopt_idle();
    Ok(())
}
