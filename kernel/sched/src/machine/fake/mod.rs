//! A machine for tests on the host: several CPUs, one thread of the host, and a seed.
//!
//! Each CPU has a stack. Wherever code asks something of the machine (the clock, an interrupt, the timer) and holds no spin lock, another
//! CPU may go on instead; random numbers decide, so a run with the same seed is the same run. Time passes a little at each look at the
//! clock, and leaps when all CPUs halt: a sleep costs nothing. Interrupts come when a CPU halts, opens a window, or [computes](compute).
//!
//! When all CPUs halt, no interrupt is on its way and no timer is armed, the machine is at rest. If a thread has not ended then, its
//! wake-up was lost.
//!
//! What it does not have: memory that is seen late. For that there are models.

extern crate std;

mod inert;

pub use inert::*;

use crate::switch::{push, switch};
use crate::{SCHED, ThreadRef, WAKE, adopt_idle, idle, life, poked, preempt, prepare_cpu, tick, timer};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::any::Any;
use core::cell::{Cell, RefCell};
use core::sync::atomic::{AtomicBool, Ordering};
use quire_base::cpu::{self, WORK_SCHEDULE};
use quire_base::lock::may_wait;
use quire_base::{time, wait};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Looks at the machine after which it does not come to rest any more.
const LONG: u64 = 4_000_000;

/// What a CPU is besides its block.
struct Own {
    /// Where it goes on, while another one does.
    rsp: u64,
    halted: bool,
    poked: bool,
    timer: Option<u64>,
}

impl Own {
    /// Whether it would go on now.
    fn is_awake(&self, now: u64) -> bool {
        !self.halted || self.poked || self.timer.is_some_and(|at| at <= now)
    }
}

struct Machine {
    cpus: Vec<Own>,
    /// The CPU that runs.
    me: usize,
    now: u64,
    random: u64,
    /// Looks until now.
    looks: u64,
    /// Threads of the test that have not ended.
    alive: usize,
    /// Where `run` goes on.
    outside: u64,
    /// Whether the CPUs run.
    started: bool,
    panic: Option<Box<dyn Any + Send>>,
    stacks: Vec<Stack>,
}

std::thread_local! {
    static MACHINE: RefCell<Option<Machine>> = const { RefCell::new(None) };
    /// Whether interrupts come to what computes as a program does.
    static USER: Cell<bool> = const { Cell::new(false) };
}

/// The scheduler has one state, so there is one machine at a time.
static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
/// A machine has ended in the middle of something.
static BROKEN: AtomicBool = AtomicBool::new(false);

/// Does something with the machine; before there is one, nothing.
fn with<R: Default>(f: impl FnOnce(&mut Machine) -> R) -> R {
    MACHINE.with_borrow_mut(|m| m.as_mut().map_or_else(R::default, f))
}

impl Machine {
    /// A random number below `n`.
    fn random(&mut self, n: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % n
    }

    /// A CPU that would go on now, but not this one.
    fn another(&mut self) -> Option<usize> {
        let awake = |m: &Machine, cpu: usize| cpu != m.me && m.cpus[cpu].is_awake(m.now);
        let count = (0..self.cpus.len()).filter(|&cpu| awake(self, cpu)).count();
        let n = if count > 1 { self.random(count as u64) as usize } else { 0 };
        (0..self.cpus.len()).filter(|&cpu| awake(self, cpu)).nth(n)
    }

    /// The CPU whose timer is next, at its time.
    fn leap(&mut self) -> Option<usize> {
        let (at, cpu) = self.cpus.iter().zip(0..).filter_map(|(own, cpu)| Some((own.timer?, cpu))).min()?;
        self.now = self.now.max(at);
        Some(cpu)
    }
}

/// Goes on as another CPU, until that one or a third goes on as this.
fn go_to(next: usize) {
    let (save, load) = MACHINE.with_borrow_mut(|m| {
        let m = m.as_mut().expect("a CPU runs");
        let me = core::mem::replace(&mut m.me, next);
        (&raw mut m.cpus[me].rsp, m.cpus[next].rsp)
    });
    cpu::act_as(next);
    // SAFETY: the other CPU has saved its context there, or `run` has made it; the list of CPUs stays where it is.
    unsafe { switch(save, load) };
}

/// Ends the machine: `run` goes on.
fn leave_machine() -> ! {
    let outside = with(|m| m.outside);
    let mut nobody = 0;
    // SAFETY: `run` has saved its context there.
    unsafe { switch(&raw mut nobody, outside) };
    unreachable!("a machine that has ended goes on")
}

/// A look at the machine: some time passes, and another CPU may have its turn.
fn look() {
    let next = with(|m| {
        m.now += 1 + m.random(300);
        m.looks += 1;
        if !m.started || cpu::holds_a_lock() || m.random(4) != 0 { None } else { m.another() }
    });
    if with(|m| m.looks) > LONG {
        panic!("the machine does not come to rest");
    }
    if let Some(next) = next {
        go_to(next);
    }
}

/// Takes the interrupts that have come. Whether there were any.
fn take_interrupts() -> bool {
    enum Interrupt {
        Timer,
        Poke,
    }
    let mut any = false;
    loop {
        let next = with(|m| {
            let (now, own) = (m.now, &mut m.cpus[m.me]);
            if own.timer.take_if(|at| *at <= now).is_some() {
                Some(Interrupt::Timer)
            } else {
                core::mem::take(&mut own.poked).then_some(Interrupt::Poke)
            }
        });
        match next {
            Some(Interrupt::Timer) => tick(USER.get()),
            Some(Interrupt::Poke) => poked(),
            None => return any,
        }
        any = true;
    }
}

// --- What the scheduler asks ------------------------------------------------------------------------------------------

/// The time stamp counter: nanoseconds since the machine began.
pub fn tsc() -> u64 {
    look();
    with(|m| m.now)
}

/// Lets pending interrupts in.
pub fn interrupt_window() {
    may_wait();
    look();
    take_interrupts();
}

/// Halts this CPU until an interrupt, and takes it.
pub fn halt() {
    may_wait();
    while !take_interrupts() {
        let next = with(|m| {
            let me = m.me;
            m.cpus[me].halted = true;
            m.another().or_else(|| m.leap())
        });
        match next {
            Some(next) if next != cpu::cpu_id() => go_to(next),
            Some(_) => {}
            None => leave_machine(),
        }
        with(|m| {
            let me = m.me;
            m.cpus[me].halted = false;
        });
    }
}

/// Makes another CPU look at its queue and its thread's flags.
pub fn poke(cpu: usize) {
    with(|m| m.cpus[cpu].poked = true);
    look();
}

/// Makes this CPU's timer interrupt come in so many nanoseconds.
pub fn set_timer(ns: u64) {
    with(|m| {
        let (me, at) = (m.me, m.now + ns);
        m.cpus[me].timer = Some(at);
    });
    look();
}

/// A switch of threads is under way: other CPUs go on meanwhile.
pub fn set_kernel_stack(_: u64) {
    look();
}

/// There are no programs.
pub fn load_fs(_: u64) {}

/// There are no programs.
pub fn load_gs(_: u64) {}

/// Keeps a stack until the machine ends.
fn keep(stack: Stack) {
    with(|m| m.stacks.push(stack));
}

// --- What a test does ---------------------------------------------------------------------------------------------------

/// Runs `main` as a thread on a machine with so many CPUs, until all threads have ended.
///
/// # Panics
/// If a thread does, or does not end.
pub fn run(cpus: usize, seed: u64, main: impl FnOnce() + 'static) {
    let one = ONE.lock().unwrap_or_else(|broken| broken.into_inner());
    // ordering: Relaxed; under the lock.
    assert!(
        !BROKEN.swap(true, Ordering::Relaxed),
        "a test before this one has left the scheduler in the middle of something"
    );
    time::begin(time::Measured { start: 0, ns: 1 << 20, ticks: 1 << 20, apic: 1 });
    wait::set_limit(0);
    let own = || Own { rsp: 0, halted: false, poked: false, timer: None };
    let machine = Machine {
        cpus: (0..cpus).map(|_| own()).collect(),
        me: 0,
        now: 0,
        random: seed,
        looks: 0,
        alive: 0,
        outside: 0,
        started: false,
        panic: None,
        stacks: Vec::new(),
    };
    MACHINE.set(Some(machine));
    boot(cpus);
    spawn(main);
    let (save, load) = MACHINE.with_borrow_mut(|m| {
        let m = m.as_mut().expect("it was just made");
        m.started = true;
        (&raw mut m.outside, m.cpus[0].rsp)
    });
    cpu::act_as(0);
    // SAFETY: `boot` has made that context, and nobody has used it.
    unsafe { switch(save, load) };
    let machine = MACHINE.take().expect("it has just ended");
    if let Some(panic) = machine.panic {
        resume_unwind(panic);
    }
    assert_eq!(machine.alive, 0, "seed {seed}: threads that nobody wakes any more");
    assert_at_rest();
    BROKEN.store(false, Ordering::Relaxed);
    drop(one);
}

/// The boot of all CPUs, as far as the scheduler has to do with it.
fn boot(cpus: usize) {
    for (cpu, sched) in SCHED.iter().enumerate().take(cpus) {
        cpu::act_as(cpu);
        let block = cpu::this();
        block.current.set(core::ptr::null());
        block.work.set(0);
        sched.armed.set(u64::MAX);
        WAKE.works(cpu);
        // ordering: Relaxed; nobody else runs.
        sched.clock.store(0, Ordering::Relaxed);
        // Long waits: nothing is polled for.
        (0..8).for_each(|_| sched.waits.end(u64::MAX));
    }
    cpu::act_as(0);
    crate::init().expect("there is memory");
    for cpu in 0..cpus {
        let top = if cpu == 0 { Stack::new().map(Stack::leak) } else { prepare_cpu(cpu) };
        let top = top.expect("there is memory");
        // SAFETY: a new stack; `begin` takes what is above its return address as its caller's.
        let rsp = unsafe { push(top, [0, 0, 0, 0, 0, 0, begin as *const () as u64, 0]) };
        with(|m| m.cpus[cpu].rsp = rsp);
    }
    cpu::set_online_cpus(u64::MAX >> (64 - cpus));
    if !life::has_reaper() {
        crate::start_reaper().expect("there is memory");
    }
}

/// Where a CPU begins.
extern "C" fn begin() {
    let end = catch_unwind(|| {
        adopt_idle();
        idle()
    });
    with(|m| m.panic = end.err());
    leave_machine();
}

/// Nothing is left of the threads of a machine that is at rest.
fn assert_at_rest() {
    for (cpu, sched) in SCHED.iter().enumerate() {
        // ordering: Relaxed; nobody else runs.
        let left = (
            sched.len.load(Ordering::Relaxed),
            sched.weight.load(Ordering::Relaxed),
            sched.nice.load(Ordering::Relaxed),
        );
        assert_eq!(left, (0, 0, 0), "in the queue of CPU {cpu}");
        assert!(timer::is_empty(cpu), "in the timers of CPU {cpu}");
    }
}

/// Makes and starts a thread.
pub fn spawn(f: impl FnOnce() + 'static) -> ThreadRef {
    spawn_on(u64::MAX, f)
}

/// Makes and starts a thread that runs on these CPUs only.
pub fn spawn_on(cpus: u64, f: impl FnOnce() + 'static) -> ThreadRef {
    type Body = Box<dyn FnOnce()>;
    fn body(at: usize) {
        // SAFETY: made below, for this thread.
        let f = unsafe { Box::from_raw(core::ptr::with_exposed_provenance_mut::<Body>(at)) };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(*f)) {
            with(|m| m.panic = Some(panic));
            leave_machine();
        }
        with(|m| m.alive -= 1);
    }
    with(|m| m.alive += 1);
    let f: Box<Body> = Box::new(Box::new(f));
    life::spawn_kernel_on("test", body, Box::into_raw(f).expose_provenance(), cpus).expect("there is memory")
}

/// Another CPU may have its turn here.
pub fn pause() {
    look();
}

/// A random number below `n`, of this run.
pub fn random(n: u64) -> u64 {
    with(|m| m.random(n))
}

/// The thread runs as a program's does for so many nanoseconds: interrupts come at any time, and it may have to give way.
pub fn compute(ns: u64) {
    let end = with(|m| m.now) + ns;
    loop {
        // As far as the next timer interrupt, and no further than some microseconds.
        with(|m| {
            let (step, now) = (1 + m.random(20_000), m.now);
            let next = m.cpus[m.me].timer.unwrap_or(u64::MAX).max(now);
            m.now = (now + step).min(end.max(now)).min(next);
        });
        look();
        USER.set(true);
        take_interrupts();
        USER.set(false);
        while cpu::this().work.replace(0) & WORK_SCHEDULE != 0 {
            preempt();
        }
        if with(|m| m.now) >= end {
            return;
        }
    }
}
