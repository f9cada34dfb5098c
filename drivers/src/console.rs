//! virtio-console: one byte stream each way, through port 1 of the device (QEMU's first `virtserialport`).
//!
//! Not port 0, the `virtconsole`: for that one QEMU drops what the host does not take at once. The ports beyond 0 need the
//! MULTIPORT feature and three control messages, which are sent without waiting for the device's own.
//!
//! Sending copies into a few large buffers. While one is on its way, later bytes gather in the next, so that many small
//! writes become few notifications; the completion interrupt sends what has gathered. Receiving keeps buffers posted only as long as
//! the owner has room, so a program that does not read its stdin stops the host's writer.

use crate::msix::{self, Table};
use crate::pci::Ports;
use alloc::boxed::Box;
use alloc::vec::Vec;
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::pci::bus::{Command, ConfigurationAccess, DeviceFunction, PciRoot};
use virtio_drivers::transport::pci::{PciTransport, virtio_device_type};
use virtio_drivers::transport::{DeviceStatus, DeviceType, Transport};
use virtio_drivers::{BufferDirection, Hal};

const CONTROL_TX: u16 = 3;
const RX: u16 = 4;
const TX: u16 = 5;
const PORT: u32 = 1;
const RX_BUFFERS: usize = 4;
const RX_SIZE: usize = 4096;
const TX_BUFFERS: usize = 8;
const TX_SIZE: usize = 32768;
/// VIRTIO_F_VERSION_1 and VIRTIO_CONSOLE_F_MULTIPORT.
const FEATURES: u64 = 1 << 32 | 1 << 1;
/// Control messages (port, event, value): the driver is ready, so is the port, and it is open.
const HELLO: [(u32, u16, u16); 3] = [(0, 0, 1), (PORT, 3, 1), (PORT, 6, 1)];

/// Why there is no console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// No such device on bus 0.
    Absent,
    /// The device, its transport or its MSI-X table does not work as the standard says.
    Broken,
    /// No memory for queues and buffers.
    NoMemory,
}

struct Sending {
    memory: &'static mut [u8],
    filled: usize,
    token: Option<u16>,
}

struct Receiving {
    memory: &'static mut [u8],
    token: Option<u16>,
}

/// The device.
pub struct Console<H: Hal> {
    transport: PciTransport,
    /// Kept for its memory, which the device knows.
    _control: VirtQueue<H, 4>,
    rx: VirtQueue<H, 8>,
    tx: VirtQueue<H, 16>,
    receiving: [Receiving; RX_BUFFERS],
    sending: [Sending; TX_BUFFERS],
    /// The buffer that is being filled, and how many before it are on their way.
    fill: usize,
    flying: usize,
}

// SAFETY: everything in it is plain memory or device memory with one owner.
unsafe impl<H: Hal> Send for Console<H> {}

fn dma<H: Hal>(bytes: usize) -> Option<&'static mut [u8]> {
    let (physical, p) = H::dma_alloc(bytes / virtio_drivers::PAGE_SIZE, BufferDirection::Both);
    // SAFETY: `dma_alloc` returns zeroed memory of that size for us alone; it is never given back.
    (physical != 0).then(|| unsafe { core::slice::from_raw_parts_mut(p.as_ptr(), bytes) })
}

/// Finds the device on bus 0.
fn find(root: &PciRoot<Ports>) -> Option<DeviceFunction> {
    root.enumerate_bus(0).find(|(_, info)| virtio_device_type(info) == Some(DeviceType::Console)).map(|(f, _)| f)
}

impl<H: Hal> Console<H> {
    /// Finds and starts the device; its interrupts become `vector` on the CPU with identity `apic_id`.
    ///
    /// # Safety
    /// Called once; nobody else uses PCI configuration space meanwhile.
    pub unsafe fn start(apic_id: u32, vector: u8) -> Result<Self, Error> {
        // SAFETY: promised by the caller.
        let mut ports = unsafe { Ports::new() };
        // SAFETY: as above.
        let mut root = PciRoot::new(unsafe { ports.unsafe_clone() });
        let function = find(&root).ok_or(Error::Absent)?;
        root.set_command(function, Command::MEMORY_SPACE | Command::BUS_MASTER | Command::INTERRUPT_DISABLE);
        let mut transport = PciTransport::new::<H, _>(&mut root, function).map_err(|_| Error::Broken)?;

        let map = |address: u64, bytes: u64| {
            // SAFETY: the addresses are those of this function's BARs.
            Some(unsafe { H::mmio_phys_to_virt(address, bytes as usize) }.as_ptr())
        };
        let table = Table::enable(&mut ports, &mut root, function, map).ok_or(Error::Broken)?;
        let common = common_config(&ports, &mut root, function).ok_or(Error::Broken)?;
        let common = map(common, 0x38).ok_or(Error::Broken)?;

        transport.set_status(DeviceStatus::empty());
        transport.set_status(DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER);
        let features = transport.read_device_features() & FEATURES;
        if features != FEATURES {
            return Err(Error::Broken);
        }
        transport.write_driver_features(features);
        let ready = DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER | DeviceStatus::FEATURES_OK;
        transport.set_status(ready);
        if !transport.get_status().contains(DeviceStatus::FEATURES_OK) {
            return Err(Error::Broken);
        }
        let mut control = VirtQueue::new(&mut transport, CONTROL_TX, false, false).map_err(|_| Error::Broken)?;
        let rx = VirtQueue::new(&mut transport, RX, false, false).map_err(|_| Error::Broken)?;
        let tx = VirtQueue::new(&mut transport, TX, false, false).map_err(|_| Error::Broken)?;
        table.set(0, apic_id, vector);
        for queue in [RX, TX] {
            // SAFETY: `common` maps the common configuration: queue_select at 0x16, queue_msix_vector at 0x1a. The control queue
            // and configuration changes raise nothing.
            unsafe {
                common.add(0x16).cast::<u16>().write_volatile(queue);
                common.add(0x1a).cast::<u16>().write_volatile(0);
                if common.add(0x1a).cast::<u16>().read_volatile() != 0 {
                    return Err(Error::Broken);
                }
            }
        }
        let mut receiving = Vec::new();
        for _ in 0..RX_BUFFERS {
            receiving.push(Receiving { memory: dma::<H>(RX_SIZE).ok_or(Error::NoMemory)?, token: None });
        }
        let mut sending = Vec::new();
        for _ in 0..TX_BUFFERS {
            sending.push(Sending { memory: dma::<H>(TX_SIZE).ok_or(Error::NoMemory)?, filled: 0, token: None });
        }
        transport.set_status(ready | DeviceStatus::DRIVER_OK);
        let messages: &'static [u8] = {
            let memory = dma::<H>(virtio_drivers::PAGE_SIZE).ok_or(Error::NoMemory)?;
            for (to, (port, event, value)) in memory.chunks_exact_mut(8).zip(HELLO) {
                to[..4].copy_from_slice(&port.to_le_bytes());
                to[4..6].copy_from_slice(&event.to_le_bytes());
                to[6..].copy_from_slice(&value.to_le_bytes());
            }
            memory
        };
        for message in messages.chunks_exact(8).take(HELLO.len()) {
            // SAFETY: the message is static and never written again; it stays in the queue.
            unsafe { control.add(&[message], &mut []) }.map_err(|_| Error::Broken)?;
        }
        transport.notify(CONTROL_TX);
        let receiving: Box<[Receiving; RX_BUFFERS]> =
            receiving.into_boxed_slice().try_into().map_err(|_| Error::Broken)?;
        let sending: Box<[Sending; TX_BUFFERS]> = sending.into_boxed_slice().try_into().map_err(|_| Error::Broken)?;
        Ok(Console {
            transport,
            _control: control,
            rx,
            tx,
            receiving: *receiving,
            sending: *sending,
            fill: 0,
            flying: 0,
        })
    }

    /// How many bytes [`put`](Self::put) would take now.
    pub fn room(&self) -> usize {
        let free = TX_BUFFERS - self.flying;
        if free == 0 { 0 } else { free * TX_SIZE - self.sending[self.fill].filled }
    }

    /// Takes as many bytes as there is room for.
    pub fn put(&mut self, mut bytes: &[u8]) -> usize {
        let all = bytes.len();
        while !bytes.is_empty() && self.flying < TX_BUFFERS {
            let s = &mut self.sending[self.fill];
            let n = bytes.len().min(TX_SIZE - s.filled);
            s.memory[s.filled..s.filled + n].copy_from_slice(&bytes[..n]);
            s.filled += n;
            bytes = &bytes[n..];
            if s.filled == TX_SIZE {
                self.submit();
            }
        }
        all - bytes.len()
    }

    /// Hands the filled part of the current buffer to the device and goes on to the next.
    fn submit(&mut self) {
        let s = &mut self.sending[self.fill];
        if self.flying == TX_BUFFERS || s.filled == 0 {
            return;
        }
        let buffer = &s.memory[..s.filled];
        // SAFETY: the buffer is static, and neither written nor reused before `reap` has popped it.
        if let Ok(token) = unsafe { self.tx.add(&[buffer], &mut []) } {
            s.token = Some(token);
            self.fill = (self.fill + 1) % TX_BUFFERS;
            self.flying += 1;
            if self.tx.should_notify() {
                self.transport.notify(TX);
            }
        }
    }

    /// Takes back what has been sent; buffers come back in order.
    fn reap(&mut self) {
        while self.flying > 0 && self.tx.can_pop() {
            let oldest = (self.fill + TX_BUFFERS - self.flying) % TX_BUFFERS;
            let s = &mut self.sending[oldest];
            let Some(token) = s.token else { return };
            // SAFETY: the same buffer that was added with this token.
            if unsafe { self.tx.pop_used(token, &[&s.memory[..s.filled]], &mut []) }.is_err() {
                return;
            }
            s.token = None;
            s.filled = 0;
            self.flying -= 1;
        }
    }

    /// Takes back what has been sent, and sends what has gathered when nothing is on its way.
    pub fn advance(&mut self) {
        self.reap();
        if self.flying == 0 {
            self.submit();
        }
    }

    /// Sends what has gathered, whatever is on its way.
    pub fn flush(&mut self) {
        self.reap();
        self.submit();
    }

    /// Whether everything has been sent.
    pub fn is_drained(&mut self) -> bool {
        self.reap();
        self.flying == 0 && self.sending[self.fill].filled == 0
    }

    /// Gives each received buffer to `take` and posts new ones while `room` (bytes that the owner can still take) allows.
    pub fn receive(&mut self, mut room: impl FnMut() -> usize, mut take: impl FnMut(&[u8])) {
        while let Some(token) = self.rx.peek_used() {
            let Some(r) = self.receiving.iter_mut().find(|r| r.token == Some(token)) else { return };
            // SAFETY: the same buffer that was added with this token.
            let Ok(n) = (unsafe { self.rx.pop_used(token, &[], &mut [&mut *r.memory]) }) else { return };
            r.token = None;
            take(&r.memory[..(n as usize).min(RX_SIZE)]);
        }
        let mut posted = self.receiving.iter().filter(|r| r.token.is_some()).count();
        let mut fresh = false;
        for r in &mut self.receiving {
            if r.token.is_none() && room() >= (posted + 1) * RX_SIZE {
                // SAFETY: the buffer is static and not touched before it is popped.
                if let Ok(token) = unsafe { self.rx.add(&[], &mut [&mut *r.memory]) } {
                    r.token = Some(token);
                    posted += 1;
                    fresh = true;
                }
            }
        }
        if fresh && self.rx.should_notify() {
            self.transport.notify(RX);
        }
    }
}

/// Physical address of the function's common configuration structure.
fn common_config(ports: &Ports, root: &mut PciRoot<Ports>, function: DeviceFunction) -> Option<u64> {
    // Vendor capability (9) of type 1: BAR number at +4, offset in it at +8.
    let c = root.capabilities(function).find(|c| c.id == 9 && c.private_header >> 8 == 1)?;
    let bar = ports.read_word(function, c.offset + 4) as u8;
    let offset = ports.read_word(function, c.offset + 8);
    Some(msix::bar_address(root, function, bar)?.0 + offset as u64)
}
