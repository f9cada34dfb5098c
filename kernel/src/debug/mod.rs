//! What remains when things go wrong: the log, the flight recorder, the report of a panic.

pub mod dump;
pub mod provoke;
pub mod stall;

mod symbols;

use crate::host;
use core::arch::asm;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use quire_arch::backtrace::Trace;
use quire_arch::{UserRegs, irq};
use quire_base::{cpu, record, time, wait};
use quire_drivers::uart::Uart;
use spin::Mutex;

/// A leaf lock: the log may be written from anywhere but the middle of itself.
// SAFETY: nobody else drives the port.
static UART: Mutex<Uart> = Mutex::new(unsafe { Uart::com1() });

struct Log;

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        let now = time::now_ns() / 1000;
        let mut uart = UART.lock();
        let level = match record.level() {
            log::Level::Error => "error: ",
            log::Level::Warn => "warning: ",
            _ => "",
        };
        let _ = writeln!(uart, "[{:>4}.{:06}] {level}{}", now / 1_000_000, now % 1_000_000, record.args());
    }
    fn flush(&self) {}
}

/// Starts the log, and the reports of waits.
pub fn init() {
    wait::ABOVE.set(&stall::WAITS);
    UART.lock().init();
    let _ = log::set_logger(&Log);
    log::set_max_level(log::LevelFilter::Info);
}

static PANICKING: AtomicBool = AtomicBool::new(false);
static PANIC_CPU: AtomicU32 = AtomicU32::new(u32::MAX);

/// Whether a CPU writes its last report.
pub fn panicking() -> bool {
    // ordering: Relaxed; only a hint for the handler of the interrupt that follows it.
    PANICKING.load(Ordering::Relaxed)
}

/// Both ways out at once: the UART, and the host's frame for panics.
struct Report {
    text: [u8; 8192],
    len: usize,
}

static REPORT: Mutex<Report> = Mutex::new(Report { text: [0; 8192], len: 0 });

impl Write for Report {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        // The other CPUs have been stopped, perhaps in the middle of a line.
        if let Some(mut uart) = UART.try_lock() {
            let _ = uart.write_str(s);
        }
        let n = s.len().min(self.text.len() - self.len);
        self.text[self.len..self.len + n].copy_from_slice(&s.as_bytes()[..n]);
        self.len += n;
        Ok(())
    }
}

/// Stops the other CPUs and writes the report; the machine ends.
fn report(what: fmt::Arguments<'_>, rip: u64, rsp: u64, rbp: u64) -> ! {
    // SAFETY: nothing here wants an interrupt any more.
    unsafe { asm!("cli", options(nomem, nostack)) };
    let me = cpu::cpu_id() as u32;
    // ordering: SeqCst for once; who comes first reports.
    if PANIC_CPU.compare_exchange(u32::MAX, me, Ordering::SeqCst, Ordering::SeqCst).is_err() {
        if PANIC_CPU.load(Ordering::SeqCst) == me {
            // A panic within the report.
            // SAFETY: this CPU's own log lock may be held by its interrupted self.
            unsafe { UART.force_unlock() };
            let _ = writeln!(UART.lock(), "second panic in the report: {what}");
            quire_arch::debug_exit(0x10);
        }
        quire_arch::halt_forever();
    }
    PANICKING.store(true, Ordering::SeqCst);
    let online = cpu::online();
    (0..cpu::CPUS).filter(|&c| c != me as usize && online & 1 << c != 0).for_each(irq::send_nmi);
    for _ in 0..100_000 {
        core::hint::spin_loop();
    }
    // SAFETY: the other CPUs have stopped (or will stop at any moment), and nobody continues.
    unsafe { UART.force_unlock() };
    let mut out = REPORT.lock();
    let _ = writeln!(out, "\nkernel panic on CPU {me}: {what}");
    if let Some(t) = quire_sched::try_current() {
        let _ = writeln!(out, "thread {} ({})", t.tid, t.name());
    }
    let _ = writeln!(out, "backtrace:");
    symbols::print(&mut *out, Trace::walk(rip, rsp, rbp).addresses());
    record::print(&mut *out, 12);
    host::panic(&out.text[..out.len]);
    quire_arch::debug_exit(0x10);
}

/// Panics with the registers of a trap.
pub fn trap_panic(regs: &UserRegs, what: fmt::Arguments<'_>) -> ! {
    report(what, regs.rip, regs.rsp, regs.rbp)
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let (rsp, rbp): (u64, u64);
    // SAFETY: reads registers.
    unsafe { asm!("mov {}, rsp", "mov {}, rbp", out(reg) rsp, out(reg) rbp, options(nomem, nostack, preserves_flags)) };
    match info.location() {
        Some(l) => report(format_args!("{} at {}:{}", info.message(), l.file(), l.line()), 0, rsp, rbp),
        None => report(format_args!("{}", info.message()), 0, rsp, rbp),
    }
}

/// Writes bytes to the log as they are.
pub fn raw(bytes: &[u8]) {
    UART.lock().write(bytes);
}
