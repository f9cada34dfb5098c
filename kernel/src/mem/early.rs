//! Memory before the frame allocator: the memory map, and a bump allocator in its largest low part.
//!
//! [`init`] reads the map once; [`alloc`] serves page tables, per-CPU blocks and the first heap. When the frame allocator
//! takes over, [`close`] ends the bump allocator and the rest is read with [`free_regions`]. Only the boot CPU comes here.

use super::layout::phys_to_virt;
use crate::debug::lock::Mutex;

/// A run of physical bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First byte.
    pub start: u64,
    /// First byte behind it.
    pub end: u64,
}

const MAX: usize = 64;

struct Early {
    regions: [Region; MAX],
    count: usize,
    bump: Region,
    ram_end: u64,
    ram_bytes: u64,
}

static EARLY: Mutex<Early> = Mutex::new(Early {
    regions: [Region { start: 0, end: 0 }; MAX],
    count: 0,
    bump: Region { start: 0, end: 0 },
    ram_end: 0,
    ram_bytes: 0,
});

/// Takes the RAM of the memory map without the `reserved` runs (image, modules, low memory).
pub fn init(ram: impl Iterator<Item = Region>, reserved: &[Region]) {
    let early = &mut *EARLY.lock();
    for r in ram {
        early.ram_end = early.ram_end.max(r.end);
        early.ram_bytes += r.end - r.start;
        early.add(r, reserved);
    }
    // The largest part below 1 GiB: the boot tables map it, and the bump allocator never needs more than a few MiB.
    let best = (0..early.count)
        .filter(|&i| early.regions[i].start < 1 << 30)
        .max_by_key(|&i| early.regions[i].end.min(1 << 30) - early.regions[i].start);
    if let Some(i) = best {
        early.bump = early.regions[i];
        early.regions[i].end = early.regions[i].start;
    }
}

impl Early {
    /// Adds `r` minus what `reserved` covers, cut to whole pages.
    fn add(&mut self, r: Region, reserved: &[Region]) {
        let mut r = Region { start: r.start.next_multiple_of(4096), end: r.end & !4095 };
        for (i, no) in reserved.iter().enumerate() {
            if no.start < r.end && r.start < no.end {
                if r.start < no.start {
                    self.add(Region { start: r.start, end: no.start }, &reserved[i + 1..]);
                }
                r.start = no.end.next_multiple_of(4096);
            }
        }
        if r.start < r.end && self.count < MAX {
            self.regions[self.count] = r;
            self.count += 1;
        }
    }
}

/// Zeroed memory for ever, `None` when there is no more. Returns the physical address.
pub fn alloc(bytes: u64, align: u64) -> Option<u64> {
    let early = &mut *EARLY.lock();
    let start = early.bump.start.next_multiple_of(align);
    let end = start.checked_add(bytes)?;
    if end > early.bump.end {
        return None;
    }
    early.bump.start = end;
    // SAFETY: the run lies in RAM that the map gave, outside all reserved runs, and nobody else got it; the boot tables
    // and the final tables both map it at the linear address.
    unsafe { core::ptr::write_bytes(phys_to_virt(start), 0, bytes as usize) };
    Some(start)
}

/// Ends the bump allocator: [`alloc`] fails from now on and the rest is free memory.
pub fn close() {
    let early = &mut *EARLY.lock();
    let start = early.bump.start.next_multiple_of(4096);
    let end = early.bump.end;
    early.bump = Region { start: 0, end: 0 };
    if start < end
        && let Some(slot) = (0..early.count).find(|&i| early.regions[i].start == early.regions[i].end)
    {
        early.regions[slot] = Region { start, end };
    }
}

/// The free runs of whole pages, in no order (some are empty).
pub fn free_regions(mut f: impl FnMut(Region)) {
    let early = EARLY.lock();
    for r in &early.regions[..early.count] {
        if r.start < r.end {
            f(*r);
        }
    }
}

/// The first byte behind all RAM.
pub fn ram_end() -> u64 {
    EARLY.lock().ram_end
}

/// How much RAM the map gives.
pub fn ram_bytes() -> u64 {
    EARLY.lock().ram_bytes
}

/// Whether [`alloc`] still serves.
pub fn is_open() -> bool {
    EARLY.lock().bump.end != 0
}
