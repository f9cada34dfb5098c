//! PCI configuration space through ports 0xcf8 and 0xcfc: 256 bytes a function, which is all that is needed.

use virtio_drivers::transport::pci::bus::{ConfigurationAccess, DeviceFunction};
use x86::io::{inl, outl};

/// The ports.
pub struct Ports(());

impl Ports {
    /// The only handle.
    ///
    /// # Safety
    /// Accesses through all handles must not overlap in time: the address port is shared.
    pub unsafe fn new() -> Ports {
        Ports(())
    }
}

fn select(f: DeviceFunction, offset: u8) {
    let address =
        1 << 31 | (f.bus as u32) << 16 | (f.device as u32) << 11 | (f.function as u32) << 8 | (offset & !3) as u32;
    // SAFETY: the address port of PCI configuration; the creator of `Ports` promised that nobody interferes.
    unsafe { outl(0xcf8, address) };
}

impl ConfigurationAccess for Ports {
    fn read_word(&self, f: DeviceFunction, offset: u8) -> u32 {
        select(f, offset);
        // SAFETY: the data port of PCI configuration.
        unsafe { inl(0xcfc) }
    }
    fn write_word(&mut self, f: DeviceFunction, offset: u8, data: u32) {
        select(f, offset);
        // SAFETY: as above; what is written is the caller's matter.
        unsafe { outl(0xcfc, data) };
    }
    unsafe fn unsafe_clone(&self) -> Self {
        Ports(())
    }
}
