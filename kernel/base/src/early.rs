//! Memory before the frame allocator: the memory map, and a bump allocator in its largest low part.
//!
//! [`init`] reads the map once; [`alloc`] serves page tables, per-CPU blocks and the first heap. When the frame allocator
//! takes over, [`close`] ends the bump allocator and the rest is read with [`free_regions`]. Only the boot CPU comes here.

use crate::layout::phys_to_virt;
use crate::lock::Mutex;

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

static EARLY: Mutex<Early> = Mutex::new(Early::EMPTY);

impl Early {
    const EMPTY: Early = Early {
        regions: [Region { start: 0, end: 0 }; MAX],
        count: 0,
        bump: Region { start: 0, end: 0 },
        ram_end: 0,
        ram_bytes: 0,
    };

    fn init(&mut self, ram: impl Iterator<Item = Region>, reserved: &[Region]) {
        for r in ram {
            self.ram_end = self.ram_end.max(r.end);
            self.ram_bytes += r.end - r.start;
            self.add(r, reserved);
        }
        // The largest part below 1 GiB: the boot tables map it, and the bump allocator never needs more than a few MiB.
        let best = (0..self.count)
            .filter(|&i| self.regions[i].start < 1 << 30)
            .max_by_key(|&i| self.regions[i].end.min(1 << 30) - self.regions[i].start);
        if let Some(i) = best {
            self.bump = self.regions[i];
            self.regions[i].end = self.regions[i].start;
        }
    }

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

    fn take(&mut self, bytes: u64, align: u64) -> Option<u64> {
        let start = self.bump.start.next_multiple_of(align);
        let end = start.checked_add(bytes)?;
        if end > self.bump.end {
            return None;
        }
        self.bump.start = end;
        Some(start)
    }

    fn close(&mut self) {
        let start = self.bump.start.next_multiple_of(4096);
        let end = self.bump.end;
        self.bump = Region { start: 0, end: 0 };
        if start < end
            && let Some(slot) = (0..self.count).find(|&i| self.regions[i].start == self.regions[i].end)
        {
            self.regions[slot] = Region { start, end };
        }
    }

    fn free(&self) -> impl Iterator<Item = Region> {
        self.regions[..self.count].iter().copied().filter(|r| r.start < r.end)
    }
}

/// Takes the RAM of the memory map without the `reserved` runs (image, modules, low memory).
pub fn init(ram: impl Iterator<Item = Region>, reserved: &[Region]) {
    EARLY.lock().init(ram, reserved);
}

/// Zeroed memory for ever, `None` when there is no more. Returns the physical address.
pub fn alloc(bytes: u64, align: u64) -> Option<u64> {
    let early = &mut *EARLY.lock();
    let start = early.take(bytes, align)?;
    // SAFETY: the run lies in RAM that the map gave, outside all reserved runs, and nobody else got it; the boot tables
    // and the final tables both map it at the linear address.
    unsafe { core::ptr::write_bytes(phys_to_virt(start), 0, bytes as usize) };
    Some(start)
}

/// Ends the bump allocator: [`alloc`] fails from now on and the rest is free memory.
pub fn close() {
    EARLY.lock().close();
}

/// The free runs of whole pages, in no order.
pub fn free_regions(f: impl FnMut(Region)) {
    EARLY.lock().free().for_each(f);
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

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::vec::Vec;

    const MIB: u64 = 1 << 20;

    fn run(start: u64, end: u64) -> Region {
        Region { start, end }
    }

    fn of(ram: &[Region], reserved: &[Region]) -> Early {
        let mut early = Early::EMPTY;
        early.init(ram.iter().copied(), reserved);
        early
    }

    fn free(early: &Early) -> Vec<(u64, u64)> {
        let mut free: Vec<_> = early.free().map(|r| (r.start, r.end)).collect();
        free.sort();
        free
    }

    #[test]
    fn reserved_runs_are_cut_out_in_whole_pages() {
        let reserved = [run(0, MIB + 5), run(2 * MIB + 5, 3 * MIB - 5), run(7 * MIB, 9 * MIB + 5)];
        let mut early = of(&[run(0, 640 << 10), run(MIB, 10 * MIB)], &reserved);
        assert_eq!((early.ram_end, early.ram_bytes), (10 * MIB, 9 * MIB + (640 << 10)));
        // The largest, from 3 to 7 MiB, serves the bump allocator.
        assert_eq!(free(&early), [(MIB + 4096, 2 * MIB), (9 * MIB + 4096, 10 * MIB)]);
        early.close();
        assert_eq!(free(&early), [(MIB + 4096, 2 * MIB), (3 * MIB, 7 * MIB), (9 * MIB + 4096, 10 * MIB)]);
    }

    #[test]
    fn what_is_taken_is_aligned_and_is_nobody_else_s() {
        let mut early = of(&[run(MIB, 2 * MIB)], &[]);
        assert_eq!(early.take(100, 64), Some(MIB));
        assert_eq!(early.take(4096, 4096), Some(MIB + 4096));
        assert_eq!(early.take(8, 8), Some(MIB + 8192));
        assert_eq!(early.take(MIB, 8), None, "more than there is");
        assert_eq!(early.take(u64::MAX, 8), None);
        early.close();
        assert_eq!(early.take(8, 8), None, "closed");
        // The rest of the page that was begun is lost.
        assert_eq!(free(&early), [(MIB + 3 * 4096, 2 * MIB)]);
    }

    #[test]
    fn the_boot_tables_reach_1_gib_only() {
        const GIB: u64 = 1 << 30;
        let early = of(&[run(GIB - 2 * MIB, GIB), run(GIB, 4 * GIB)], &[]);
        assert_eq!((early.bump.start, early.bump.end), (GIB - 2 * MIB, GIB));
        assert_eq!(free(&early), [(GIB, 4 * GIB)]);
    }
}
