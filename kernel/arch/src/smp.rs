//! Starting the other CPUs: INIT, then SIPI, all at once.

use super::above::{self, ABOVE};
use super::{boot, control, fpu, gdt, idt, irq, paging, stack, syscall};
use core::sync::atomic::{AtomicU64, Ordering};
use quire_base::layout::phys_to_virt;
use quire_base::wait::Wait;
use quire_base::{cpu, time};
use quire_mm::What;

/// Tops of the first stacks of the other CPUs, by CPU number; the entry code reads it.
#[unsafe(no_mangle)]
static AP_STACKS: [AtomicU64; cpu::CPUS] = [const { AtomicU64::new(0) }; cpu::CPUS];

unsafe extern "C" {
    static ap_trampoline: u8;
    static ap_trampoline_end: u8;
    static ap_limit: u32;
    static ap_top: u64;
    static ap_efer: u32;
}

/// What every CPU does to itself once its block and its stack are there.
///
/// # Safety
/// Called once on each CPU, on the kernel's tables, with the interrupt table filled.
pub unsafe fn init_this_cpu() -> Result<(), &'static str> {
    // SAFETY: the caller's promise is that of each step; the order is theirs too: the FPU before anything is zeroed with it,
    // segments before gates before SYSCALL.
    unsafe {
        control::protect();
        fpu::init();
        let mut ist = [0; 3];
        for top in &mut ist {
            *top = stack::Stack::new().ok_or("no memory for a CPU's stacks")?.leak();
        }
        gdt::load(ist);
        idt::load();
        syscall::init();
        irq::enable()
    }
}

/// Starts the CPUs with these APIC identities (this one's is skipped) and waits until they have come, 1 s at most. `prepare` gives the
/// top of a CPU's first stack.
pub fn start(apic_ids: &[u32], prepare: impl Fn(usize) -> Option<u64>) {
    // ordering: Relaxed; our own identity.
    let own = cpu::this().apic_id.load(Ordering::Relaxed);
    let mut others = 0;
    for _ in apic_ids.iter().filter(|&&id| id != own).take(cpu::CPUS - 1) {
        let Some(stack) = prepare(others + 1) else { break };
        others += 1;
        // ordering: Relaxed; the start messages order it before the reader.
        AP_STACKS[others].store(stack, Ordering::Relaxed);
    }
    if others == 0 {
        return;
    }
    // SAFETY: the page was reserved from the memory map; the trampoline is shorter than a page and lies in the boot section, which
    // the linear map shows. the variables are read by the other CPUs only after they have been started.
    unsafe {
        let from = &raw const ap_trampoline as u64;
        let len = &raw const ap_trampoline_end as u64 - from;
        core::ptr::copy_nonoverlapping(phys_to_virt(from), phys_to_virt(boot::AP_PAGE), len as usize);
        phys_to_virt(&raw const ap_limit as u64).cast::<u32>().write_volatile(others as u32 + 1);
        phys_to_virt(&raw const ap_top as u64).cast::<u64>().write_volatile(paging::kernel_top());
        let nx = if control::has_nx() { 1 << 11 } else { 0 };
        phys_to_virt(&raw const ap_efer as u64).cast::<u32>().write_volatile(nx);
    }
    let ids = || apic_ids.iter().copied().filter(|&id| id != own).take(others);
    let expect = u64::MAX >> (63 - others);
    let wait = |ns: u64| {
        let end = time::now_ns() + ns;
        while time::now_ns() < end && cpu::online() != expect {
            core::hint::spin_loop();
        }
    };
    ids().for_each(irq::send_init);
    wait(1_000_000);
    ids().for_each(|id| irq::send_start(id, (boot::AP_PAGE >> 12) as u8));
    wait(200_000_000);
    if cpu::online() != expect {
        // The standard's second SIPI, for those that have missed the first; a running CPU ignores it.
        ids().for_each(|id| irq::send_start(id, (boot::AP_PAGE >> 12) as u8));
        wait(1_000_000_000);
    }
    if cpu::online() != expect {
        log::warn!("only {} of {} CPUs came", cpu::online().count_ones(), others + 1);
    }
}

/// The first Rust code of another CPU, on its idle thread's stack.
#[unsafe(no_mangle)]
extern "C" fn ap_entry(id: u32) -> ! {
    // SAFETY: the entry code gave each CPU a number of its own; the tables are complete; each step is done once.
    let result = unsafe {
        control::install(id as usize);
        (ABOVE.get().adopt_cpu)();
        init_this_cpu()
    };
    if let Err(why) = result {
        log::error!("CPU {id}: {why}");
        super::halt_forever();
    }
    cpu::set_online();
    (ABOVE.get().idle)()
}

/// Barriers that were asked for, and the number that each CPU has passed.
static WANTED: AtomicU64 = AtomicU64::new(0);
static PASSED: [AtomicU64; cpu::CPUS] = [const { AtomicU64::new(0) }; cpu::CPUS];

/// Answers [`barrier`]; an interrupt is a full barrier by itself.
pub fn serve_barrier() {
    // ordering: SeqCst; what the program did before the barrier comes before the answer, and the other way round.
    PASSED[cpu::cpu_id()].store(WANTED.load(Ordering::SeqCst), Ordering::SeqCst);
}

/// Makes every other CPU pass a full memory barrier before it returns. May switch threads.
pub fn barrier() {
    // ordering: SeqCst, as above.
    let number = WANTED.fetch_add(1, Ordering::SeqCst) + 1;
    let others = cpu::online() & !(1 << cpu::cpu_id());
    for target in (0..cpu::CPUS).filter(|&c| others & 1 << c != 0) {
        irq::send(target, irq::FLUSH);
    }
    static BARRIERS: What = What::cpus("barriers of other CPUs");
    let mut wait = Wait::new(&BARRIERS);
    let waits_for = |c: &usize| others & 1 << c != 0 && PASSED[*c].load(Ordering::SeqCst) < number;
    while let Some(silent) = (0..cpu::CPUS).find(waits_for) {
        serve_barrier();
        above::serve_shootdown();
        wait.pause(1 << silent);
    }
}
