//! What the kernel needs of the ACPI tables, read with the `acpi` crate.

use acpi::fadt::Fadt;
use acpi::madt::{Madt, MadtEntry};
use acpi::{AcpiHandler, AcpiTables, PhysicalMapping};
use core::ptr::NonNull;

/// How to see physical memory.
#[derive(Clone, Copy)]
pub struct Linear {
    /// Address at which physical address 0 is mapped, linearly.
    pub base: usize,
}

impl AcpiHandler for Linear {
    unsafe fn map_physical_region<T>(&self, physical_address: usize, size: usize) -> PhysicalMapping<Self, T> {
        let virt = NonNull::new((self.base + physical_address) as *mut T).unwrap_or(NonNull::dangling());
        // SAFETY: the creator of `Linear` promises that the tables are mapped there for good.
        unsafe { PhysicalMapping::new(physical_address, virt, size, size, *self) }
    }
    fn unmap_physical_region<T>(_region: &PhysicalMapping<Self, T>) {}
}

/// The machine as its tables describe it.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// APIC identities of the usable CPUs.
    pub cpus: [u32; 64],
    /// How many of `cpus` count.
    pub cpu_count: usize,
    /// Port of the PM timer.
    pub pm_timer: Option<u16>,
}

/// Reads the tables behind the root pointer at physical address `rsdp`.
///
/// # Safety
/// Physical memory that holds the tables is mapped as `linear` says.
pub unsafe fn read(linear: Linear, rsdp: u64) -> Option<Machine> {
    // SAFETY: promised by the caller.
    let tables = unsafe { AcpiTables::from_rsdp(linear, rsdp as usize) }.ok()?;
    let mut m = Machine { cpus: [0; 64], cpu_count: 0, pm_timer: None };
    if let Ok(madt) = tables.find_table::<Madt>() {
        for entry in madt.get().entries() {
            // Bit 0: enabled. Bit 1 (could be enabled later) does not count: nobody plugs CPUs here.
            let id = match entry {
                MadtEntry::LocalApic(e) if { e.flags } & 1 != 0 => e.apic_id as u32,
                MadtEntry::LocalX2Apic(e) if { e.flags } & 1 != 0 => e.x2apic_id,
                _ => continue,
            };
            if m.cpu_count < m.cpus.len() && !m.cpus[..m.cpu_count].contains(&id) {
                m.cpus[m.cpu_count] = id;
                m.cpu_count += 1;
            }
        }
    }
    if let Ok(fadt) = tables.find_table::<Fadt>()
        && let Ok(Some(block)) = fadt.pm_timer_block()
    {
        m.pm_timer = u16::try_from(block.address).ok().filter(|&p| p != 0);
    }
    Some(m)
}
