//! What the virtio driver needs of the kernel: memory for DMA, and device registers.

use core::ptr::NonNull;
use quire_arch::paging;
use quire_base::early;
use quire_base::layout::{phys_to_virt, virt_to_phys};
use quire_drivers::{BufferDirection, Hal, PhysAddr};

/// The kernel under `virtio-drivers`.
pub struct KernelHal;

// SAFETY: memory comes zeroed and page-aligned from the early allocator, for ever and for the caller alone; it is in the linear map, so
// virtual and physical addresses differ by a constant; the devices are cache-coherent.
unsafe impl Hal for KernelHal {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        // The device is started at boot, before the frame allocator has taken over.
        match early::alloc(pages as u64 * 4096, 4096) {
            Some(phys) => (phys, NonNull::new(phys_to_virt(phys)).unwrap_or(NonNull::dangling())),
            None => (0, NonNull::dangling()),
        }
    }
    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        // Only when a start fails: the memory is lost.
        0
    }
    unsafe fn mmio_phys_to_virt(phys: PhysAddr, size: usize) -> NonNull<u8> {
        match paging::map_mmio(phys, size as u64).and_then(NonNull::new) {
            Some(p) => p,
            None => panic!("no memory to map device registers"),
        }
    }
    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        virt_to_phys(buffer.as_ptr().cast())
    }
    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}
