//! A thread: what the scheduler knows of it, and its making.

use crate::above::ABOVE;
use crate::machine::{self, REGS, Registers, Stack, UserRegs};
use crate::space::Space;
use crate::timer::Node;
use crate::{NoMemory, switch};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use quire_base::cpu::{self, WORK_ATTENTION};
use quire_base::time;
use quire_base::usage::Usage;
use quire_base::wait::Note;

/// What a thread of each nice value from -20 on gets beside others, as on Linux: a step is a quarter more or less.
const WEIGHTS: [u32; 40] = [
    88761, 71755, 56483, 46273, 36291, 29154, 23254, 18705, 14949, 11916, 9548, 7620, 6100, 4904, 3906, 3121, 2501,
    1991, 1586, 1277, 1024, 820, 655, 526, 423, 335, 272, 215, 172, 137, 110, 87, 70, 56, 45, 36, 29, 23, 18, 15,
];
/// The weight of nice 0.
pub(super) const NORMAL: u32 = 1024;

/// A counted reference to a thread.
pub type ThreadRef = Arc<Thread>;

/// On a CPU or in a queue.
pub(super) const RUNNING: u32 = 0;
/// As `RUNNING`, and an `unpark` has come that `park` has not consumed.
pub(super) const TOKEN: u32 = 1;
/// Off every CPU and in no queue.
pub(super) const PARKED: u32 = 2;
/// Will never run again.
pub(super) const EXITED: u32 = 3;

/// What a program's thread has beside what the scheduler knows of it.
///
/// # Safety
/// One type only implements it: whoever finds a part in a thread takes it for that.
pub unsafe trait Part: Send + Sync {}

/// A thread of the kernel or of a program.
pub struct Thread {
    /// Its number; 0 for idle threads.
    pub tid: u32,
    /// What makes it a thread of a program.
    part: Option<Box<dyn Part>>,
    name: &'static str,
    /// `RUNNING`, `TOKEN`, `PARKED` or `EXITED`. Who moves it from `PARKED` to another state puts it into a queue.
    pub(super) state: AtomicU32,
    attention: AtomicBool,
    affinity: AtomicU64,
    nice: AtomicI32,
    /// Virtual nanoseconds that others get before a thread above nice 0 has its next turn (`queue`): relative to its CPU's clock, and in
    /// a queue by that clock. Negative: they got more. And the weight with which it is in the queue. Both belong to the CPU that has the thread, or to its
    /// queue's lock.
    pub(super) owes: AtomicI64,
    pub(super) queued_weight: AtomicU32,
    /// 1 + the CPU that it runs on, 0 when it is on none.
    pub(super) on: AtomicU32,
    /// The CPU that it ran on last.
    pub(super) last: AtomicU32,
    /// What the thread is likely to read next from the swap area (`quire_swapd::policy::Readahead`); its own.
    pub readahead: AtomicU64,
    pub(super) run_ns: AtomicU64,
    /// Ticks of the time stamp counter in the kernel; part of `run_ns`.
    pub(super) kernel_ticks: AtomicU64,
    /// Faults of the program, and those of them that had to wait for the disk.
    pub(super) faults: AtomicU64,
    major_faults: AtomicU64,
    /// When it left its CPU last.
    pub(super) changed: AtomicU64,
    /// What it waits for by polling.
    pub note: Note,
    fs_base: AtomicU64,
    gs_base: AtomicU64,
    /// Next in the run queue or in the graveyard; belongs to the list's lock.
    pub(super) next: AtomicPtr<Thread>,
    pub(super) timer: UnsafeCell<Node>,
    pub(super) inner: UnsafeCell<Inner>,
}

/// What belongs to the CPU that runs the thread, or to the one that is about to.
pub(super) struct Inner {
    pub rsp: u64,
    pub top: u64,
    pub stack: Option<Stack>,
    pub fpu: Option<Registers>,
    /// CPU whose registers match `fpu` if its owner word says so.
    pub fpu_cpu: u32,
    pub space: Option<Arc<dyn Space>>,
}

// SAFETY: `inner` is touched by the CPU that runs the thread or has taken it from a queue (the queue's lock orders the two);
// `timer` under its heap's lock; everything else is atomic or constant. `part` may be shared by its own bound.
unsafe impl Send for Thread {}
// SAFETY: as above.
unsafe impl Sync for Thread {}

/// Where a new thread begins.
pub(super) enum Begin<'a> {
    /// A function of the kernel.
    Kernel(fn(usize), usize),
    /// A program.
    User(&'a UserRegs),
    /// The code that runs already: a CPU's first thread.
    Here(u64),
}

impl Thread {
    pub(super) fn make(
        tid: u32,
        name: &'static str,
        part: Option<Box<dyn Part>>,
        begin: Begin<'_>,
        inherit_fpu: bool,
        fs_base: u64,
    ) -> Result<ThreadRef, NoMemory> {
        let parent = super::try_current();
        let mut fpu = None;
        if part.is_some() {
            let mut state = Registers::new().ok_or(NoMemory)?;
            if inherit_fpu && parent.is_some_and(|p| p.is_user()) {
                // The registers are those of the current thread: the kernel does not use them.
                state.save();
            }
            fpu = Some(state);
        }
        let stack = match begin {
            Begin::Here(_) => None,
            _ => Some((ABOVE.get().stack)().ok_or(NoMemory)?),
        };
        let (mut top, mut rsp) = (stack.as_ref().map_or(0, |s| s.top()), 0);
        match begin {
            Begin::Kernel(f, arg) => {
                let frame = [0, 0, arg as u64, f as usize as u64, 0, 0, switch::kernel_start as *const () as u64, 0];
                // SAFETY: the stack is ours and mapped; `top` is its top, and the last word keeps the alignment.
                rsp = unsafe { switch::push(top, frame) };
            }
            Begin::User(regs) => {
                let mut regs = *regs;
                regs.sanitize();
                // SAFETY: the stack is ours, mapped, and larger than the registers and the frame.
                unsafe {
                    ((top - REGS as u64) as *mut UserRegs).write(regs);
                    rsp = switch::push(top - REGS as u64, [0, 0, 0, 0, 0, 0, switch::user_start as *const () as u64]);
                }
            }
            Begin::Here(at) => top = at,
        }
        if !(ABOVE.get().heap_has)(size_of::<(Thread, [usize; 2])>()) {
            return Err(NoMemory);
        }
        Ok(Arc::new(Thread {
            tid,
            part,
            name,
            state: AtomicU32::new(RUNNING),
            attention: AtomicBool::new(false),
            affinity: AtomicU64::new(parent.map_or(u64::MAX, |p| p.affinity())),
            nice: AtomicI32::new(0),
            owes: AtomicI64::new(0),
            queued_weight: AtomicU32::new(0),
            on: AtomicU32::new(0),
            last: AtomicU32::new(cpu::cpu_id() as u32),
            readahead: AtomicU64::new(0),
            run_ns: AtomicU64::new(0),
            kernel_ticks: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            major_faults: AtomicU64::new(0),
            changed: AtomicU64::new(0),
            note: Note::new(),
            fs_base: AtomicU64::new(fs_base),
            gs_base: AtomicU64::new(parent.filter(|_| inherit_fpu).map_or(0, |p| p.gs_base())),
            next: AtomicPtr::new(core::ptr::null_mut()),
            timer: UnsafeCell::new(Node::new()),
            inner: UnsafeCell::new(Inner { rsp, top, stack, fpu, fpu_cpu: u32::MAX, space: None }),
        }))
    }

    /// The part that makes it a thread of a program, if it is one.
    #[inline]
    pub fn part<P: Part>(&self) -> Option<&P> {
        let part: *const dyn Part = &**self.part.as_ref()?;
        // SAFETY: of all types only `P` is a part.
        Some(unsafe { &*part.cast::<P>() })
    }

    /// Whether it is a thread of a program.
    pub fn is_user(&self) -> bool {
        self.part.is_some()
    }

    /// The thread's name in the log.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Lets the thread go on from `park`, or its next `park` return at once. Works from interrupt handlers.
    pub fn unpark(&self) {
        super::unpark(self);
    }

    /// The flag that says: look at your signals before you return to user mode, and do not wait interruptibly.
    #[inline]
    pub fn attention(&self) -> &AtomicBool {
        &self.attention
    }

    /// Whether the flag is up.
    #[inline]
    pub fn wants_attention(&self) -> bool {
        // ordering: SeqCst; the flag and `on` are a Dekker pair: the sender raises the flag and then reads where the thread
        // runs, the scheduler writes where it runs and then reads the flag.
        self.attention.load(Ordering::SeqCst)
    }

    /// Makes the thread notice its flag (or its new affinity) if it is in user mode now.
    pub fn kick(&self) {
        // ordering: SeqCst; see `wants_attention`.
        match self.on.load(Ordering::SeqCst) {
            0 => {}
            on if on as usize - 1 == cpu::cpu_id() => cpu::request_work(WORK_ATTENTION | cpu::WORK_SCHEDULE),
            on => machine::poke(on as usize - 1),
        }
    }

    /// Restricts the thread to these CPUs. One that runs elsewhere is made to leave; one that waits in a queue elsewhere is placed anew
    /// by that queue's CPU, at its next choice; one that sleeps is placed when it wakes.
    pub fn set_affinity(&self, mask: u64) {
        // ordering: SeqCst; with `on` a Dekker pair as the attention flag is: who switches to the thread meanwhile sees the mask, or is
        // interrupted by `kick`.
        self.affinity.store(mask, Ordering::SeqCst);
        self.kick();
    }

    /// The nice value.
    pub fn nice(&self) -> i32 {
        // ordering: Relaxed; the scheduler reads it anew at each choice.
        self.nice.load(Ordering::Relaxed)
    }

    /// Sets the nice value, from -20 to 19.
    pub fn set_nice(&self, nice: i32) {
        // ordering: Relaxed; as above.
        self.nice.store(nice.clamp(-20, 19), Ordering::Relaxed);
    }

    /// Its share beside others.
    pub(super) fn weight(&self) -> u32 {
        WEIGHTS[(self.nice() + 20) as usize % WEIGHTS.len()]
    }

    /// Whether it is above nice 0: it waits for its turn by the virtual clock, too.
    pub(super) fn is_nice(&self) -> bool {
        self.nice() > 0
    }

    /// Whether it runs or could: it is on a CPU or in a queue.
    pub fn is_runnable(&self) -> bool {
        // ordering: Relaxed; for a report.
        matches!(self.state.load(Ordering::Relaxed), RUNNING | TOKEN)
    }

    /// The CPUs that it may run on.
    pub fn affinity(&self) -> u64 {
        // ordering: SeqCst, a plain load; see `set_affinity`.
        self.affinity.load(Ordering::SeqCst)
    }

    /// Sets the base of FS, of the current thread or of one that has not started.
    pub fn set_fs_base(&self, base: u64) {
        // ordering: Relaxed; read by the CPU that runs the thread.
        self.fs_base.store(base, Ordering::Relaxed);
        if core::ptr::eq(self, super::current()) {
            self.load_bases();
        }
    }

    /// The base of FS.
    pub fn fs_base(&self) -> u64 {
        // ordering: Relaxed; as above.
        self.fs_base.load(Ordering::Relaxed)
    }

    /// Sets the base of GS, of the current thread or of one that has not started.
    pub fn set_gs_base(&self, base: u64) {
        // ordering: Relaxed; as above.
        self.gs_base.store(base, Ordering::Relaxed);
        if core::ptr::eq(self, super::current()) {
            self.load_bases();
        }
    }

    /// The base of GS.
    pub fn gs_base(&self) -> u64 {
        // ordering: Relaxed; as above.
        self.gs_base.load(Ordering::Relaxed)
    }

    /// Loads the segment bases of the program into the CPU, if they differ.
    pub(super) fn load_bases(&self) {
        let cpu = cpu::this();
        let (fs, gs) = (self.fs_base(), self.gs_base());
        if cpu.fs_base.get() != fs {
            cpu.fs_base.set(fs);
            machine::load_fs(fs);
        }
        if cpu.gs_base.get() != gs {
            cpu.gs_base.set(gs);
            machine::load_gs(gs);
        }
    }

    /// What it has used until now. Of a thread that runs on another CPU the last few milliseconds are missing.
    pub fn usage(&self) -> Usage {
        if core::ptr::eq(self, super::current()) {
            super::charge(machine::tsc());
        }
        // Time in the kernel first: what is charged in between counts as the program's until the next look, and less of its time never does.
        // ordering: Acquire pairs with the Release in `charge`, so the second is not older than the first.
        let kernel = self.kernel_ticks.load(Ordering::Acquire);
        // ordering: Relaxed, here and below; statistics.
        let ran = self.run_ns.load(Ordering::Relaxed);
        // Both are rounded.
        let system = time::length_ns(kernel).min(ran);
        let (all, major) = (self.faults.load(Ordering::Relaxed), self.major_faults.load(Ordering::Relaxed));
        Usage { user: ran - system, system, minor_faults: all.saturating_sub(major), major_faults: major }
    }

    /// Counts a fault that has to wait for the disk. By the thread itself.
    pub fn count_major_fault(&self) {
        // ordering: Relaxed; a statistic that only the thread itself writes.
        self.major_faults.store(self.major_faults.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// The address space of the current thread, or of one that has not started.
    #[inline]
    pub fn space<S: Space>(&self) -> Option<&S> {
        let space: *const dyn Space = self.any_space()?;
        // SAFETY: of all types only `S` is a space.
        Some(unsafe { &*space.cast::<S>() })
    }

    /// As [`Thread::space`], whatever it is.
    #[inline]
    pub(super) fn any_space(&self) -> Option<&dyn Space> {
        // SAFETY: only the thread itself, or its creator before it starts, asks; both are alone with it.
        unsafe { &*self.inner.get() }.space.as_deref()
    }

    /// Replaces the address space of the current thread, or sets that of one that has not started.
    pub fn set_space(&self, space: Option<Arc<dyn Space>>) {
        if core::ptr::eq(self, super::current()) {
            super::space::load(space.as_deref());
        }
        // SAFETY: as in `any_space`.
        let old = core::mem::replace(unsafe { &mut (*self.inner.get()).space }, space);
        drop(old);
    }
}
