//! The entry code and the start information that PVH hands over.

use quire_base::early::Region;
use quire_base::layout::phys_to_virt;

/// The page below 1 MiB at which other CPUs start.
pub const AP_PAGE: u64 = 0x8000;

core::arch::global_asm!(
    ".set AP_PAGE, 0x8000",
    ".set BOOT_STACK_SIZE, 32768",
    include_str!("boot.s"),
    options(att_syntax)
);

#[repr(C)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    modules: u32,
    modlist: u64,
    cmdline: u64,
    rsdp: u64,
    memmap: u64,
    memmap_entries: u32,
    reserved: u32,
}

#[repr(C)]
struct Module {
    start: u64,
    size: u64,
    cmdline: u64,
    reserved: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct MapEntry {
    start: u64,
    size: u64,
    kind: u32,
    reserved: u32,
}

/// What the loader told.
#[derive(Clone, Copy, Debug)]
pub struct BootInfo {
    /// Physical address of the ACPI root pointer, 0 if unknown.
    pub rsdp: u64,
    /// The initial file archive, empty if there is none.
    pub initrd: Region,
    map: u64,
    map_entries: usize,
}

impl BootInfo {
    /// Reads the start information.
    ///
    /// # Safety
    /// `start_info` is what the loader passed, and the boot tables are active (they map the first 4 GiB).
    pub unsafe fn read(start_info: u64) -> Option<BootInfo> {
        // SAFETY: the loader's structures lie in the first 4 GiB, which are mapped, and nothing has overwritten them yet.
        let info = unsafe { &*phys_to_virt(start_info).cast::<StartInfo>() };
        if info.magic != 0x336e_c578 || info.version < 1 {
            return None;
        }
        let mut initrd = Region { start: 0, end: 0 };
        if info.modules > 0 {
            // SAFETY: as above; the list has at least one entry.
            let module = unsafe { &*phys_to_virt(info.modlist).cast::<Module>() };
            initrd = Region { start: module.start, end: module.start + module.size };
        }
        Some(BootInfo { rsdp: info.rsdp, initrd, map: info.memmap, map_entries: info.memmap_entries as usize })
    }

    /// The runs of usable RAM.
    pub fn ram(&self) -> impl Iterator<Item = Region> {
        // SAFETY: the loader's map lies in the first 4 GiB and outlives its only reader, the early allocator's set-up (low
        // memory is reserved).
        let map = unsafe { core::slice::from_raw_parts(phys_to_virt(self.map).cast::<MapEntry>(), self.map_entries) };
        map.iter().filter(|e| e.kind == 1).map(|e| Region { start: e.start, end: e.start + e.size })
    }
}

unsafe extern "C" {
    static __image_start: u8;
    static __text_start: u8;
    static __text_end: u8;
    static __rodata_end: u8;
    static __image_end: u8;
    static boot_tsc: u64;
}

/// Addresses of the parts of the image: start, text, end of text, end of rodata, end.
pub fn image() -> [u64; 5] {
    [
        &raw const __image_start as u64,
        &raw const __text_start as u64,
        &raw const __text_end as u64,
        &raw const __rodata_end as u64,
        &raw const __image_end as u64,
    ]
}

/// The time stamp counter at the first instruction.
pub fn entry_tsc() -> u64 {
    // SAFETY: written once by the entry code, before any Rust code. The boot section is part of the linear map.
    unsafe { phys_to_virt(&raw const boot_tsc as u64).cast::<u64>().read() }
}
