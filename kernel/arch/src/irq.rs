//! Interrupts: the local APIC of this CPU, the vectors, and messages between CPUs.

use super::above::{self, ABOVE};
use super::{calibrate, paging, smp, stack};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, Ordering};
use quire_base::{cpu, time};
use quire_drivers::apic::{self, Apic, Vectors};

/// Vector of the APIC timer.
pub const TIMER: u8 = 0x40;
/// Vector of the disk.
pub const DISK: u8 = 0x51;
/// Vector of the console.
pub const CONSOLE: u8 = 0x50;
/// Vector that asks a CPU to look at its queue and its thread's flags.
pub const RESCHEDULE: u8 = 0xf0;
/// Vector that asks a CPU to answer shootdowns.
pub const SHOOTDOWN: u8 = 0xf1;
/// Vector that asks a CPU to drop all translations of the kernel's half, or to pass a memory barrier.
pub const FLUSH: u8 = 0xf2;
const ERROR: u8 = 0xfe;
const SPURIOUS: u8 = 0xff;

struct Slot(UnsafeCell<Option<Apic>>);
// SAFETY: each CPU touches its own slot only.
unsafe impl Sync for Slot {}
static APICS: [Slot; cpu::CPUS] = [const { Slot(UnsafeCell::new(None)) }; cpu::CPUS];
static REGISTERS: AtomicU64 = AtomicU64::new(0);

/// Runs `f` on this CPU's APIC.
#[inline]
fn with<R>(f: impl FnOnce(&mut Apic) -> R) -> Option<R> {
    // SAFETY: the slot is this CPU's, interrupts are off, and `f` is one of this file's few register accesses: no second
    // reference comes to life. A panic that interrupts it only sends its last messages.
    unsafe { &mut *APICS[cpu::cpu_id()].0.get() }.as_mut().map(f)
}

/// Enables this CPU's APIC.
///
/// # Safety
/// Called once on each CPU with its interrupt table loaded.
pub unsafe fn enable() -> Result<(), &'static str> {
    // ordering: Relaxed; the boot CPU writes it before the others start.
    let mut registers = REGISTERS.load(Ordering::Relaxed);
    if registers == 0 {
        registers = paging::map_mmio(apic::registers(), 4096).ok_or("no memory for the APIC's registers")? as u64;
        REGISTERS.store(registers, Ordering::Relaxed);
    }
    let vectors = Vectors { timer: TIMER, error: ERROR, spurious: SPURIOUS };
    // SAFETY: the registers are mapped uncached; all vectors have stubs.
    let apic = unsafe { Apic::enable(registers as usize, vectors) }?;
    cpu::this().apic_id.store(apic.id(), Ordering::Relaxed);
    // SAFETY: this CPU's slot, and nothing refers to it yet.
    unsafe { *APICS[cpu::cpu_id()].0.get() = Some(apic) };
    Ok(())
}

/// Measures the clocks with this CPU's timer.
pub fn calibrate(pm_timer: Option<u16>) {
    calibrate::calibrate(
        pm_timer,
        || {
            with(|a| a.set_timer(u32::MAX));
        },
        || with(|a| a.timer_left()).unwrap_or(0),
    );
    with(|a| a.set_timer(0));
}

/// Starts this CPU's one-shot timer.
#[inline]
pub fn set_timer(ns: u64) {
    with(|a| a.set_timer(time::apic_ticks(ns)));
}

/// Sends `vector` to another CPU.
#[inline]
pub fn send(target: usize, vector: u8) {
    // ordering: Relaxed; the identity was published with the CPU's online bit.
    let id = cpu::block(target).apic_id.load(Ordering::Relaxed);
    with(|a| a.send(id, vector));
}

/// Sends a non-maskable interrupt to another CPU.
pub fn send_nmi(target: usize) {
    // ordering: Relaxed; as above.
    let id = cpu::block(target).apic_id.load(Ordering::Relaxed);
    with(|a| a.send_nmi(id));
}

/// Resets the CPU with this APIC identity.
pub fn send_init(apic_id: u32) {
    with(|a| a.send_init(apic_id));
}

/// Starts the CPU with this APIC identity at page `page`.
pub fn send_start(apic_id: u32, page: u8) {
    with(|a| a.send_start(apic_id, page));
}

/// Serves an interrupt.
pub fn interrupt(vector: u8, user: bool) {
    if vector == SPURIOUS {
        return;
    }
    // Ended first: handlers never wait, and interrupts are off.
    with(|a| a.end_of_interrupt());
    match vector {
        SHOOTDOWN => above::serve_shootdown(),
        FLUSH => {
            stack::serve_flush();
            smp::serve_barrier();
        }
        _ => (ABOVE.get().interrupt)(vector, user),
    }
}
