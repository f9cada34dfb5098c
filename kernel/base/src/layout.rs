//! The map of the kernel's half of the address space.
//!
//! | from | what |
//! |---|---|
//! | [`PHYS_BASE`] | all RAM, linearly, RW + NX |
//! | [`STACK_BASE`] | kernel stacks, each with an unmapped guard below |
//! | [`HEAP_BASE`] | the kernel's heap, RW + NX |
//! | [`MMIO_BASE`] | device registers, uncached |
//! | [`KERNEL_BASE`] | the kernel's image at its load address: text R-X, rodata R--, data RW- |
//!
//! The five top-level entries are made at boot and never change, so every top-level table can copy them.

/// First address that a program can never use (Linux's `TASK_SIZE`: the last page of the lower half is a guard).
pub const USER_END: usize = 0x7fff_ffff_f000;
/// Where physical memory begins.
pub const PHYS_BASE: u64 = 0xffff_8000_0000_0000;
/// Where kernel stacks begin.
pub const STACK_BASE: u64 = 0xffff_c000_0000_0000;
/// Where the heap begins.
pub const HEAP_BASE: u64 = 0xffff_c800_0000_0000;
/// Where device registers begin.
pub const MMIO_BASE: u64 = 0xffff_d000_0000_0000;
/// Load address 0 of the kernel's image.
pub const KERNEL_BASE: u64 = 0xffff_ffff_8000_0000;

/// The kernel's view of a physical address in RAM.
#[inline]
pub const fn phys_to_virt(phys: u64) -> *mut u8 {
    (PHYS_BASE + phys) as *mut u8
}

/// The physical address behind a pointer into the linear map or the kernel's image.
#[inline]
pub fn virt_to_phys(virt: *const u8) -> u64 {
    let v = virt as u64;
    if v >= KERNEL_BASE { v - KERNEL_BASE } else { v - PHYS_BASE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_physical_address_comes_back_from_both_of_its_views() {
        for phys in [0, 0x1234, 0x3f_ffff_f000] {
            assert_eq!(virt_to_phys(phys_to_virt(phys)), phys);
        }
        assert_eq!(virt_to_phys((KERNEL_BASE + 0x10_0000) as *const u8), 0x10_0000);
    }

    #[test]
    fn each_region_has_a_top_level_entry_of_its_own() {
        let entries = [PHYS_BASE, STACK_BASE, HEAP_BASE, MMIO_BASE, KERNEL_BASE].map(|base| base >> 39 & 511);
        assert!(entries.is_sorted_by(|a, b| a < b) && entries[0] == 256, "{entries:?}");
    }
}
