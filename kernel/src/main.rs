#![no_std]
#![no_main]
#![doc = include_str!("../README.md")]

extern crate alloc;

mod debug;
mod dispatch;
mod fs;
mod host;
mod init;
mod mem;
mod proc;
mod report;
mod swap;
mod sys;

use quire_arch::boot::{self, BootInfo};
use quire_arch::{control, idt, irq, paging, smp};
use quire_base::cpu;
use quire_base::early::{self, Region};
use quire_base::layout::{KERNEL_BASE, PHYS_BASE, phys_to_virt};
use quire_drivers::{acpi, apic};
use quire_sched as sched;

/// The boot CPU's first Rust code: the order of the boot at a glance.
#[unsafe(no_mangle)]
extern "C" fn kernel_entry(start_info: u64) -> ! {
    // SAFETY: once, before anything asks for this CPU's block.
    unsafe { control::install(0) };
    debug::init();
    dispatch::init(); //                           who answers what the machine asks
    // SAFETY: what the loader passed, on the boot tables.
    let Some(info) = (unsafe { BootInfo::read(start_info) }) else { panic!("not started by PVH") };
    early_memory(&info); //                        the loader's map, a bump allocator
    // SAFETY: once, on the boot tables.
    unsafe {
        control::enable_nx();
        paging::init().expect("no memory for the kernel's tables"); // the kernel's own tables
        idt::init();
    }
    sched::init().expect("no memory for the first thread"); // this code becomes the idle thread
    // SAFETY: once on this CPU; no interrupt is on.
    unsafe {
        apic::silence_pic();
        smp::init_this_cpu().expect("the boot CPU"); // segments, gates, protections, FPU, SYSCALL, APIC
    }
    cpu::set_online();
    let linear = acpi::Linear { base: PHYS_BASE as usize };
    // SAFETY: ACPI tables lie in or near RAM, which the linear map covers.
    let machine = unsafe { acpi::read(linear, info.rsdp) };
    irq::calibrate(machine.as_ref().and_then(|m| m.pm_timer)); //  the clocks
    host::start(); //                              the console
    swap::disk::start(); //                        the disk; its buffers are the last early memory
    mem::machine::init().expect("the frame allocator"); //  all RAM goes to the memory manager
    if let Some(m) = &machine {
        smp::start(&m.cpus[..m.cpu_count], sched::prepare_cpu); // the other CPUs
    }
    swap::disk::spread(); //                       each CPU gets its own completions
    log::info!(
        "{} CPUs, {} MiB, booted in {} us",
        quire_arch::cpu_count(),
        early::ram_bytes() >> 20,
        quire_base::time::now_ns() / 1000
    );
    sched::start_reaper().expect("no memory for the reaper");
    // SAFETY: the loader put the archive there, and the early allocator left it alone.
    let job = unsafe {
        core::slice::from_raw_parts(phys_to_virt(info.initrd.start), (info.initrd.end - info.initrd.start) as usize)
    };
    init::start_init(job); //                      the first program
    sched::idle()
}

/// Gives the loader's map to the early allocator, without what is in use.
fn early_memory(info: &BootInfo) {
    let image = boot::image();
    early::init(
        info.ram(),
        &[
            // The first MiB holds the loader's data and the page at which other CPUs start.
            Region { start: 0, end: 1 << 20 },
            Region { start: image[0] - KERNEL_BASE, end: image[4] - KERNEL_BASE },
            info.initrd,
        ],
    );
}
