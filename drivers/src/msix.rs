//! Message-signalled interrupts (MSI-X) of a PCI function.

use virtio_drivers::transport::pci::bus::{BarInfo, ConfigurationAccess, DeviceFunction, PciRoot};

/// The table of a function's messages.
pub struct Table {
    entries: *mut u32,
    count: usize,
}

// SAFETY: the table is plain device memory with one owner.
unsafe impl Send for Table {}

/// The physical address of a memory BAR.
pub fn bar_address<C: ConfigurationAccess>(
    root: &mut PciRoot<C>,
    function: DeviceFunction,
    bar: u8,
) -> Option<(u64, u64)> {
    match root.bar_info(function, bar).ok()?? {
        BarInfo::Memory { address, size, .. } if address != 0 => Some((address, size)),
        _ => None,
    }
}

impl Table {
    /// Finds the function's table and turns MSI-X on with every message masked. `map` makes device memory visible.
    pub fn enable<C: ConfigurationAccess>(
        access: &mut C,
        root: &mut PciRoot<C>,
        function: DeviceFunction,
        map: impl FnOnce(u64, u64) -> Option<*mut u8>,
    ) -> Option<Table> {
        let capability = root.capabilities(function).find(|c| c.id == 0x11)?;
        let control = access.read_word(function, capability.offset);
        let place = access.read_word(function, capability.offset + 4);
        let count = ((control >> 16) & 0x7ff) as usize + 1;
        let (bar, _) = bar_address(root, function, (place & 7) as u8)?;
        let entries = map(bar + (place & !7) as u64, count as u64 * 16)?.cast::<u32>();
        let table = Table { entries, count };
        for i in 0..count {
            table.write(i, 3, 1);
        }
        // Bit 31: enable. Bit 30: mask all.
        access.write_word(function, capability.offset, (control | 1 << 31) & !(1 << 30));
        Some(table)
    }

    /// How many messages there are.
    pub fn count(&self) -> usize {
        self.count
    }

    fn write(&self, entry: usize, word: usize, value: u32) {
        // SAFETY: the table was mapped with `count` entries of four words, and `entry` was checked or enumerated.
        unsafe { self.entries.add(entry * 4 + word).write_volatile(value) };
    }

    /// Makes message `entry` raise `vector` on the CPU with this APIC identity.
    pub fn set(&self, entry: usize, apic_id: u32, vector: u8) {
        assert!(entry < self.count);
        self.write(entry, 0, 0xfee0_0000 | (apic_id & 0xff) << 12);
        self.write(entry, 1, 0);
        self.write(entry, 2, vector as u32);
        self.write(entry, 3, 0);
    }
}
