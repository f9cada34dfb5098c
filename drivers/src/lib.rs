#![no_std]
#![doc = include_str!("../README.md")]

extern crate alloc;

pub mod acpi;
pub mod apic;
pub mod clock;
pub mod console;
pub mod msix;
pub mod pci;
pub mod uart;
pub mod virtio_blk;

pub use virtio_drivers::transport::pci::bus;
pub use virtio_drivers::{BufferDirection, Hal, PhysAddr};
