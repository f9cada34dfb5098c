//! Where every CPU and every thread stands, for the log of a machine that goes on.
//!
//! Who reports asks the CPUs by a non-maskable interrupt. Its handler only copies what it finds into the CPU's [`Place`]; the
//! reporter does the reading, the names and the writing. A non-maskable interrupt that nobody here has asked for comes from outside
//! (the launcher's last act before it gives a run up) and means: report everything.

use super::{UART, symbols};
use crate::fs::Printable;
use crate::proc::thread::part;
use crate::proc::tree;
use core::cell::UnsafeCell;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use quire_arch::backtrace::Trace;
use quire_arch::irq;
use quire_arch::regs::{SIZE, UserRegs};
use quire_base::cpu;
use quire_base::record;
use quire_base::wait::Waits;
use quire_drivers::uart::Uart;
use quire_sched::{self as sched, timer};

/// How long a CPU may take to answer, all together.
const PATIENCE: u64 = 1_000_000_000;
/// Events of the flight recorder that a CPU shows.
const EVENTS: usize = 6;
/// The most threads that are shown with their callers.
const THREADS: usize = 64;

/// One report at a time.
static BUSY: AtomicBool = AtomicBool::new(false);
/// The number of the last request.
static WANTED: AtomicU64 = AtomicU64::new(0);

/// What the handler finds.
struct Found {
    /// Where the program was, or 0 for the kernel.
    user_rip: u64,
    tid: u32,
    name: Name,
    /// Word of entry of the thread's last entry into the kernel, if it is a program's: a system call's number or a trap's error code.
    entry: Option<u64>,
    waits: Option<Waits>,
    trace: Trace,
}

/// A thread's name: a program's own, if it is not being changed.
struct Name([u8; 16]);

impl Name {
    fn of(thread: &sched::Thread) -> Name {
        if let Some(name) = part(thread).and_then(|user| user.name.try_lock()) {
            return Name(*name);
        }
        let (mut name, text) = ([0; 16], thread.name().as_bytes());
        let len = text.len().min(15);
        name[..len].copy_from_slice(&text[..len]);
        Name(name)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.split(|&b| b == 0).next().map_or(Ok(()), |name| write!(f, "{}", Printable(name)))
    }
}

struct Place {
    /// The request that `found` answers.
    number: AtomicU64,
    found: UnsafeCell<Found>,
}
// SAFETY: the handler writes `found` before it publishes a new number, and the reporter reads it after that. A handler writes again
// only for a number that is not in its place yet, which is a later report's, or one from outside that finds the reporter busy: then
// the reporter may print words of two answers, all of which are plain numbers or live for ever.
unsafe impl Sync for Place {}

static PLACES: [Place; cpu::CPUS] = [const {
    Place {
        number: AtomicU64::new(0),
        found: UnsafeCell::new(Found {
            user_rip: 0,
            tid: 0,
            name: Name([0; 16]),
            entry: None,
            waits: None,
            trace: Trace::empty(),
        }),
    }
}; cpu::CPUS];

/// A non-maskable interrupt, which may come anywhere: another CPU panics and wants silence, or somebody asks where this CPU stands. Takes
/// no lock.
pub fn answer(regs: &UserRegs) {
    if super::panicking() {
        quire_arch::halt_forever();
    }
    let place = &PLACES[cpu::cpu_id()];
    // ordering: Acquire pairs with `ask`; the place's number is this CPU's own.
    let wanted = WANTED.load(Ordering::Acquire);
    let asked = place.number.load(Ordering::Relaxed) < wanted;
    let number = if asked { wanted } else { place.number.load(Ordering::Relaxed) + 1 };
    // SAFETY: this CPU's place; see `Place`.
    unsafe { place.found.get().write(find(regs)) };
    // ordering: Release publishes what was found.
    place.number.store(number, Ordering::Release);
    if !asked && begin() {
        // All CPUs get it at the same time, and each leaves its answer.
        WANTED.fetch_max(number, Ordering::AcqRel);
        print(format_args!("asked from outside where everything stands"), cpu::online(), true, number);
        end();
    }
}

fn find(regs: &UserRegs) -> Found {
    let thread = sched::try_current();
    let user_rip = if regs.is_user() { regs.rip } else { 0 };
    let entry = thread.filter(|t| t.is_user()).map(|_| {
        let saved = (cpu::this().kernel_rsp.get() - SIZE as u64) as *const UserRegs;
        // SAFETY: the top of the running thread's stack, which is mapped.
        unsafe { (*saved).orig_rax }
    });
    let trace = if regs.is_user() { Trace::empty() } else { Trace::walk(regs.rip, regs.rsp, regs.rbp) };
    Found {
        user_rip,
        tid: thread.map_or(0, |t| t.tid),
        name: thread.map_or(Name([0; 16]), Name::of),
        entry,
        waits: thread.and_then(|t| t.note.get()),
        trace,
    }
}

/// Begins a report. False: one is being written.
pub fn begin() -> bool {
    !BUSY.swap(true, Ordering::Acquire)
}

/// Ends what [`begin`] began.
pub fn end() {
    BUSY.store(false, Ordering::Release);
}

/// Writes a report about `cpus`, with all threads if they are wanted. Works everywhere, whatever locks are held; between [`begin`] and
/// [`end`].
pub fn report(what: fmt::Arguments<'_>, cpus: u64, threads: bool) {
    let number = ask(cpus);
    print(what, cpus, threads, number);
}

/// Asks the CPUs where they stand; returns the request's number.
fn ask(cpus: u64) -> u64 {
    let me = cpu::cpu_id();
    let last = PLACES.iter().map(|p| p.number.load(Ordering::Relaxed)).max().unwrap_or(0);
    let number = last.max(WANTED.load(Ordering::Relaxed)) + 1;
    // ordering: Release; whoever answers this number knows that it was asked.
    WANTED.store(number, Ordering::Release);
    (0..cpu::CPUS).filter(|&c| c != me && cpus & 1 << c != 0).for_each(irq::send_nmi);
    number
}

fn print(what: fmt::Arguments<'_>, cpus: u64, threads: bool, number: u64) {
    let mut out = Lines { text: [0; 256], len: 0 };
    let _ = writeln!(out, "stands still: {what}");
    let until = timer::now_ns() + PATIENCE;
    let me = cpu::cpu_id();
    for c in (0..cpu::CPUS).filter(|&c| cpus & 1 << c != 0) {
        // ordering: Acquire pairs with the answer.
        let answered = || PLACES[c].number.load(Ordering::Acquire) >= number;
        while c != me && !answered() && timer::now_ns() < until {
            core::hint::spin_loop();
        }
        if answered() {
            // SAFETY: published; see `Place`.
            show_cpu(&mut out, c, unsafe { &*PLACES[c].found.get() });
        } else if c == me {
            show_cpu(&mut out, c, &here());
        } else {
            let _ = writeln!(out, "CPU {c} does not answer: its host does not run it");
        }
    }
    if threads {
        let mut left = THREADS;
        let mut show = |thread: &sched::Thread| {
            if left != 0 && show_thread(&mut out, thread) {
                left -= 1;
            }
        };
        sched::each_kernel_thread(&mut show);
        if !tree::each_thread(&mut show) {
            let _ = writeln!(out, "the programs' threads cannot be shown: their list is locked");
        }
        if left == 0 {
            let _ = writeln!(out, "(more threads are not shown)");
        }
        record::print(&mut out, EVENTS);
    }
    let _ = writeln!(out, "end of the report");
}

/// The reporter itself.
fn here() -> Found {
    let (rsp, rbp): (u64, u64);
    // SAFETY: reads registers.
    unsafe { core::arch::asm!("mov {}, rsp", "mov {}, rbp", out(reg) rsp, out(reg) rbp, options(nomem, nostack)) };
    find(&UserRegs { rsp, rbp, ..UserRegs::default() })
}

fn show_cpu(out: &mut Lines, c: usize, found: &Found) {
    let _ = write!(out, "CPU {c}: thread {} ({})", found.tid, found.name);
    if found.user_rip != 0 {
        let _ = writeln!(out, ", in user mode at {:#x}", found.user_rip);
        return;
    }
    show_rest(out, found.entry, found.waits, &found.trace);
}

/// False: it is on a CPU.
fn show_thread(out: &mut Lines, thread: &sched::Thread) -> bool {
    let Some(parked) = thread.parked() else { return false };
    let name = Name::of(thread);
    let state = if parked.runnable { "runnable" } else { "asleep" };
    let since = timer::now_ns().saturating_sub(parked.since) / 1_000_000;
    let _ = write!(out, "thread {} ({name}): {state} since {}.{:03} s", thread.tid, since / 1000, since % 1000);
    show_rest(out, parked.entry, thread.note.get(), &parked.trace);
    true
}

fn show_rest(out: &mut Lines, entry: Option<u64>, waits: Option<Waits>, trace: &Trace) {
    if let Some(entry) = entry {
        let _ = write!(out, ", came in with {}", entry as i64);
    }
    let _ = writeln!(out);
    if let Some(w) = waits {
        let waited = w.seen.saturating_sub(w.since) / 1_000_000;
        let which = Shown(w.what.show, w.which);
        let _ = writeln!(
            out,
            "  waits for {} ({which}) since {}.{:03} s, at {}",
            w.what.text,
            waited / 1000,
            waited % 1000,
            w.place
        );
    }
    symbols::print(out, trace.addresses());
}

/// A number shown by the function that knows what it means.
struct Shown(fn(u64, &mut fmt::Formatter<'_>) -> fmt::Result, u64);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0(self.1, f)
    }
}

/// The log, line by line, each with the time and a word that the launcher looks for.
struct Lines {
    text: [u8; 256],
    len: usize,
}

impl Write for Lines {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for &byte in s.as_bytes() {
            if byte == b'\n' {
                self.flush();
            } else if self.len < self.text.len() {
                self.text[self.len] = byte;
                self.len += 1;
            }
        }
        Ok(())
    }
}

impl Lines {
    fn flush(&mut self) {
        /// Tries to get the port: its owner may be the CPU that this interrupts, or one that stands still.
        const TRIES: u32 = 100_000;
        let now = timer::now_ns() / 1000;
        let line = |uart: &mut Uart| {
            let _ = write!(uart, "[{:>4}.{:06}] watchdog: ", now / 1_000_000, now % 1_000_000);
            uart.write(&self.text[..self.len]);
            uart.write(b"\n");
        };
        let free = (0..TRIES).find_map(|_| {
            core::hint::spin_loop();
            UART.try_lock()
        });
        match free {
            Some(mut uart) => line(&mut uart),
            // SAFETY: two may drive the port then, and their bytes mix; that is all.
            None => line(&mut unsafe { Uart::com1() }),
        }
        self.len = 0;
    }
}
