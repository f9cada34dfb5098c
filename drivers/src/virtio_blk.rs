//! virtio-blk: whole pages to and from a disk, many requests in flight.
//!
//! * A request is a header, up to 32 pages anywhere in memory, and a status byte: one chain of descriptors. Requests,
//!   headers and status bytes are allocated when the device starts; nothing is allocated afterwards.
//! * Up to [`QUEUES`] queues of 256 descriptors. The largest request takes 34 of them, so a queue holds 7 of those or 64 small
//!   ones; a request goes to the queue of the caller's choice ([`Block::prefer`]) or else to the one with the most room.
//! * Left out on purpose: EVENT_IDX (the queue's `should_notify` compares indices without wrap-around when it is negotiated) and
//!   indirect descriptors (the queue allocates them with each request).
//! * Completions raise message-signalled interrupts, one message for each queue where the device has so many, so that the CPU that
//!   asks can be the one that is told ([`Block::route`]). Interrupts are never suppressed, so there is no re-arming
//!   that could miss one. Notifying the device is the one Dekker-shaped pair: *index, fence, the device's flag* meets *flag,
//!   fence, index* in the device; the fence is in [`Block::kick`].
//! * A device that has not answered for [`Block::set_limit`] is reported dead and takes no more requests. The pages of those in
//!   flight stay the device's: it may still write to them. An answer brings it back to life.
//!
//! It is a plain state machine without a lock: the owner calls it from one place at a time, with the time where one is needed.

use crate::msix::{self, Table};
use crate::pci::Ports;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU8, Ordering, fence};
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::pci::bus::{Command, ConfigurationAccess, DeviceFunction, PciRoot};
use virtio_drivers::transport::pci::{PciTransport, virtio_device_type};
use virtio_drivers::transport::{DeviceStatus, DeviceType, Transport};
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE};

/// Most pages of a request: 128 KiB.
pub const MOST_PAGES: usize = 32;
/// Most requests in flight.
pub const REQUESTS: usize = 64;
/// Most queues in use.
pub const QUEUES: usize = 8;
const QUEUE_SIZE: usize = 256;
const SECTORS_PER_PAGE: u64 = PAGE_SIZE as u64 / 512;

const SEG_MAX: u64 = 1 << 2;
const READ_ONLY: u64 = 1 << 5;
const FLUSH: u64 = 1 << 9;
const MULTI_QUEUE: u64 = 1 << 12;
const VERSION_1: u64 = 1 << 32;
const WANTED: u64 = SEG_MAX | READ_ONLY | FLUSH | MULTI_QUEUE | VERSION_1;

/// Why there is no disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// No such device on bus 0.
    Absent,
    /// The device, its transport or its MSI-X table does not work as the standard says.
    Broken,
    /// It takes fewer than 32 pages a request, or its queues have fewer than 256 descriptors.
    Small,
    /// No memory for queues and requests.
    NoMemory,
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Op {
    /// Disk to memory.
    Read = 0,
    /// Memory to disk.
    Write = 1,
    /// What was written before is on the medium when this is done. Without pages.
    Flush = 4,
}

/// Why a request was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// As many as there can be are in flight.
    Full,
    /// The device has not answered for too long, or has answered nonsense.
    Dead,
    /// Not as the device can do it: beyond its end, written though it is read-only, too many pages or none.
    Impossible,
}

/// A request that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completed {
    /// What was given with it.
    pub cookie: u64,
    /// Whether all of it was done.
    pub ok: bool,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Header {
    op: u32,
    reserved: u32,
    sector: u64,
}

/// What the device reads and writes beside the pages: one page of DMA memory.
#[repr(C)]
struct Shared {
    headers: [Header; REQUESTS],
    status: [AtomicU8; REQUESTS],
}
const _: () = assert!(size_of::<Shared>() <= PAGE_SIZE);

/// Status byte before the device has written it.
const UNTOUCHED: u8 = 0xff;

#[derive(Clone, Copy)]
struct Request {
    pages: [*mut u8; MOST_PAGES],
    count: usize,
    op: Op,
    cookie: u64,
    since: u64,
    /// In flight on this queue with this token.
    flying: Option<(u8, u16)>,
}

struct Queue<H: Hal> {
    queue: VirtQueue<H, QUEUE_SIZE>,
    /// The request of each token.
    owner: [u8; QUEUE_SIZE],
    /// Something was added that the device may not know of.
    fresh: bool,
}

impl<H: Hal> Queue<H> {
    /// Not inlined: a queue is made on the stack, and boot stacks are small.
    #[inline(never)]
    fn new<T: Transport>(transport: &mut T, index: u16) -> Result<Box<Self>, Error> {
        match VirtQueue::new(transport, index, false, false) {
            Ok(queue) => Ok(Box::new(Queue { queue, owner: [0; QUEUE_SIZE], fresh: false })),
            Err(virtio_drivers::Error::InvalidParam) => Err(Error::Small),
            Err(virtio_drivers::Error::DmaError) => Err(Error::NoMemory),
            Err(_) => Err(Error::Broken),
        }
    }
}

/// The disk.
pub struct Block<H: Hal, T: Transport = PciTransport> {
    transport: T,
    queues: Vec<Box<Queue<H>>>,
    /// The messages of the queues; absent where somebody else delivers interrupts.
    table: Option<Table>,
    preferred: usize,
    shared: *mut Shared,
    requests: Box<[Request]>,
    flying: usize,
    pages: u64,
    features: u64,
    limit: u64,
    last_answer: u64,
    dead: bool,
    /// It has answered what nobody asked: no answer can make up for it.
    broken: bool,
}

// SAFETY: everything in it is plain memory or device memory with one owner; the pages of requests belong to the device meanwhile.
unsafe impl<H: Hal, T: Transport + Send> Send for Block<H, T> {}

impl<H: Hal> Block<H> {
    /// Finds the first block device on bus 0 and starts it; its interrupts become `vector` on the CPU with identity `apic_id`. Needs
    /// about 24 KiB of stack.
    ///
    /// # Safety
    /// Called once; nobody else uses PCI configuration space meanwhile.
    pub unsafe fn start(apic_id: u32, vector: u8) -> Result<Self, Error> {
        // SAFETY: promised by the caller.
        let mut ports = unsafe { Ports::new() };
        // SAFETY: as above.
        let mut root = PciRoot::new(unsafe { ports.unsafe_clone() });
        let function = root
            .enumerate_bus(0)
            .find(|(_, info)| virtio_device_type(info) == Some(DeviceType::Block))
            .map(|(f, _)| f)
            .ok_or(Error::Absent)?;
        root.set_command(function, Command::MEMORY_SPACE | Command::BUS_MASTER | Command::INTERRUPT_DISABLE);
        let transport = PciTransport::new::<H, _>(&mut root, function).map_err(|_| Error::Broken)?;
        let map = |address: u64, bytes: u64| {
            // SAFETY: the addresses are those of this function's BARs.
            Some(unsafe { H::mmio_phys_to_virt(address, bytes as usize) }.as_ptr())
        };
        let table = Table::enable(&mut ports, &mut root, function, map).ok_or(Error::Broken)?;
        let common = common_config(&ports, &mut root, function).ok_or(Error::Broken)?;
        let common = map(common, 0x38).ok_or(Error::Broken)?;
        let message = |queue: u16| (queue as usize).min(table.count() - 1);
        let mut block = Self::over(transport, |queue| {
            let message = message(queue);
            table.set(message, apic_id, vector);
            // SAFETY: `common` maps the common configuration: queue_select at 0x16, queue_msix_vector at 0x1a.
            unsafe {
                common.add(0x16).cast::<u16>().write_volatile(queue);
                common.add(0x1a).cast::<u16>().write_volatile(message as u16);
                common.add(0x1a).cast::<u16>().read_volatile() == message as u16
            }
        })?;
        block.table = Some(table);
        Ok(block)
    }
}

impl<H: Hal, T: Transport> Block<H, T> {
    /// Starts the device behind `transport`. `signal` gives a queue its interrupt; false: the device refuses.
    pub fn over(mut transport: T, mut signal: impl FnMut(u16) -> bool) -> Result<Self, Error> {
        transport.set_status(DeviceStatus::empty());
        transport.set_status(DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER);
        let features = transport.read_device_features() & WANTED;
        if features & VERSION_1 == 0 {
            return Err(Error::Broken);
        }
        transport.write_driver_features(features);
        let ready = DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER | DeviceStatus::FEATURES_OK;
        transport.set_status(ready);
        if !transport.get_status().contains(DeviceStatus::FEATURES_OK) {
            return Err(Error::Broken);
        }
        let config =
            |at| transport.read_consistent(|| transport.read_config_space::<u32>(at)).map_err(|_| Error::Broken);
        // Capacity in sectors at 0, seg_max at 12, num_queues (16 bits) at 34.
        let sectors = config(0)? as u64 | (config(4)? as u64) << 32;
        // Without the field a request may have two segments at least.
        let segments = if features & SEG_MAX != 0 { config(12)? } else { 1 };
        if segments < MOST_PAGES as u32 {
            return Err(Error::Small);
        }
        let count = if features & MULTI_QUEUE != 0 { config(32)? >> 16 } else { 1 };
        let count = (count as usize).clamp(1, QUEUES);

        let (physical, shared) = H::dma_alloc(1, BufferDirection::Both);
        if physical == 0 {
            return Err(Error::NoMemory);
        }
        let mut queues: Vec<Box<Queue<H>>> = Vec::new();
        queues.try_reserve_exact(count).map_err(|_| Error::NoMemory)?;
        for i in 0..count as u16 {
            queues.push(Queue::new(&mut transport, i)?);
            if !signal(i) {
                return Err(Error::Broken);
            }
        }
        let idle = Request {
            pages: [core::ptr::null_mut(); MOST_PAGES],
            count: 0,
            op: Op::Flush,
            cookie: 0,
            since: 0,
            flying: None,
        };
        let mut requests = Vec::new();
        requests.try_reserve_exact(REQUESTS).map_err(|_| Error::NoMemory)?;
        requests.resize(REQUESTS, idle);
        transport.set_status(ready | DeviceStatus::DRIVER_OK);
        Ok(Block {
            transport,
            queues,
            table: None,
            preferred: 0,
            shared: shared.as_ptr().cast(),
            requests: requests.into_boxed_slice(),
            flying: 0,
            pages: sectors / SECTORS_PER_PAGE,
            features,
            limit: u64::MAX,
            last_answer: 0,
            dead: false,
            broken: false,
        })
    }

    /// Whole pages that the device has.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// Whether it cannot be written.
    pub fn is_read_only(&self) -> bool {
        self.features & READ_ONLY != 0
    }

    /// Whether it has a cache that can be flushed. Without one everything written is on the medium.
    pub fn can_flush(&self) -> bool {
        self.features & FLUSH != 0
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> usize {
        self.flying
    }

    /// Sends the interrupts of a queue to the CPU with this identity; other queues' too where the device has few messages.
    pub fn route(&mut self, queue: usize, apic_id: u32, vector: u8) {
        if let Some(table) = &self.table {
            table.set(queue.min(table.count() - 1), apic_id, vector);
        }
    }

    /// Later requests go to this queue (modulo their number) while it has room.
    pub fn prefer(&mut self, queue: usize) {
        self.preferred = queue % self.queues.len();
    }

    /// How many queues are in use.
    pub fn queues(&self) -> usize {
        self.queues.len()
    }

    /// How long, in the unit of the times that are passed in, the device may stay without any answer while requests are in flight.
    pub fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// Adds a request for the pages from `first` on; [`Block::kick`] tells the device. `now` is the time.
    ///
    /// # Safety
    /// Each of `pages` is the start of a page of memory that [`Hal::share`] knows, which stays valid until the request is
    /// completed; nobody writes to it meanwhile, and for a read nobody reads it either.
    pub unsafe fn submit(
        &mut self,
        op: Op,
        first: u64,
        pages: &[*mut u8],
        cookie: u64,
        now: u64,
    ) -> Result<(), Refused> {
        let fits = first.checked_add(pages.len() as u64).is_some_and(|end| end <= self.pages);
        let sense = match op {
            Op::Flush => pages.is_empty() && self.can_flush(),
            Op::Write => !pages.is_empty() && fits && !self.is_read_only(),
            Op::Read => !pages.is_empty() && fits,
        };
        if !sense || pages.len() > MOST_PAGES {
            return Err(Refused::Impossible);
        }
        if self.is_dead(now) {
            return Err(Refused::Dead);
        }
        let id = self.requests.iter().position(|r| r.flying.is_none()).ok_or(Refused::Full)?;
        let (q, _) = self
            .queues
            .iter()
            .enumerate()
            .map(|(q, queue)| (q, queue.queue.available_desc()))
            .filter(|&(_, room)| room >= pages.len() + 2)
            .max_by_key(|&(q, room)| (q == self.preferred, room, QUEUES - q))
            .ok_or(Refused::Full)?;
        let request = &mut self.requests[id];
        request.pages[..pages.len()].copy_from_slice(pages);
        (request.count, request.op, request.cookie, request.since) = (pages.len(), op, cookie, now);
        // SAFETY: request `id` is idle, so the device uses neither its header nor its status.
        unsafe {
            (&raw mut (*self.shared).headers[id]).write(Header {
                op: op as u32,
                reserved: 0,
                sector: first * SECTORS_PER_PAGE,
            });
            (*self.shared).status[id].store(UNTOUCHED, Ordering::Relaxed);
        }
        let queue = &mut self.queues[q].queue;
        // SAFETY: the header and the status live for ever, the pages by this function's contract; none is touched before
        // `next` has popped the token.
        let token = with_buffers(request, self.shared, id, |inputs, outputs| unsafe { queue.add(inputs, outputs) });
        let Ok(token) = token else { return Err(Refused::Full) };
        if self.flying == 0 {
            // The device had nothing to answer until now.
            self.last_answer = now;
        }
        self.flying += 1;
        self.requests[id].flying = Some((q as u8, token));
        self.queues[q].owner[token as usize % QUEUE_SIZE] = id as u8;
        self.queues[q].fresh = true;
        Ok(())
    }

    /// Tells the device of new requests.
    pub fn kick(&mut self) {
        for q in 0..self.queues.len() {
            if core::mem::take(&mut self.queues[q].fresh) {
                // The queue's index is written, its flag is read next: without the fence the load may come first, and a
                // device that has just gone to sleep is not woken.
                fence(Ordering::SeqCst);
                if self.queues[q].queue.should_notify() {
                    self.transport.notify(q as u16);
                }
            }
        }
    }

    /// The next completed request, if there is one. Its pages are the caller's again.
    pub fn next(&mut self, now: u64) -> Option<Completed> {
        for q in 0..self.queues.len() {
            let Some(token) = self.queues[q].queue.peek_used() else { continue };
            // The token comes from the device: it is believed only if it is one of ours that is in flight.
            let id = *self.queues[q].owner.get(token as usize).unwrap_or(&u8::MAX) as usize;
            let known = self.requests.get(id).is_some_and(|r| r.flying == Some((q as u8, token)));
            if !known {
                if self.broken {
                    continue;
                }
                log::error!(
                    "virtio-blk: completion of a request that is not in flight ({token}); the disk is given up"
                );
                self.broken = true;
                continue;
            }
            let request = &mut self.requests[id];
            let queue = &mut self.queues[q].queue;
            // SAFETY: the buffers that were added with this token.
            let popped = with_buffers(request, self.shared, id, |inputs, outputs| unsafe {
                queue.pop_used(token, inputs, outputs)
            });
            let Ok(written) = popped else { continue };
            request.flying = None;
            self.flying -= 1;
            self.last_answer = now;
            self.dead = false;
            // SAFETY: the device is done with the byte.
            let status = unsafe { (*self.shared).status[id].load(Ordering::Acquire) };
            // A read that is reported done but short would leave old memory in the page.
            let short = request.op == Op::Read && (written as usize) < request.count * PAGE_SIZE;
            return Some(Completed { cookie: request.cookie, ok: status == 0 && !short });
        }
        None
    }

    /// Whether the device has left requests unanswered for too long.
    pub fn is_dead(&mut self, now: u64) -> bool {
        if !self.dead && self.flying != 0 && now.saturating_sub(self.last_answer) > self.limit {
            self.dead = true;
            let oldest = self.requests.iter().filter(|r| r.flying.is_some()).map(|r| r.since).min().unwrap_or(now);
            log::error!("virtio-blk: {} requests unanswered, the oldest since {}", self.flying, now - oldest);
        }
        self.dead || self.broken
    }

    /// The transport, for a host test's device.
    pub fn transport(&mut self) -> &mut T {
        &mut self.transport
    }
}

/// Calls `work` with the buffers of a request, the same ones in the same order each time.
fn with_buffers<R>(
    request: &Request,
    shared: *mut Shared,
    id: usize,
    work: impl for<'a> FnOnce(&'a [&'a [u8]], &'a mut [&'a mut [u8]]) -> R,
) -> R {
    // SAFETY: the shared page lives for ever; header and status of `id` belong to this request; each page is valid by the
    // contract of `submit`. The slices are only made into addresses by the queue.
    unsafe {
        let header = core::slice::from_raw_parts((&raw const (*shared).headers[id]).cast::<u8>(), size_of::<Header>());
        let status = core::slice::from_raw_parts_mut((&raw mut (*shared).status[id]).cast::<u8>(), 1);
        let pages = &request.pages[..request.count];
        if request.op == Op::Read {
            let mut outputs: [&mut [u8]; MOST_PAGES + 1] = core::array::from_fn(|_| -> &mut [u8] { &mut [] });
            for (to, &page) in outputs.iter_mut().zip(pages) {
                *to = core::slice::from_raw_parts_mut(page, PAGE_SIZE);
            }
            outputs[pages.len()] = status;
            work(&[header], &mut outputs[..pages.len() + 1])
        } else {
            let mut inputs: [&[u8]; MOST_PAGES + 1] = [&[]; MOST_PAGES + 1];
            inputs[0] = header;
            for (to, &page) in inputs[1..].iter_mut().zip(pages) {
                *to = core::slice::from_raw_parts(page, PAGE_SIZE);
            }
            work(&inputs[..pages.len() + 1], &mut [status])
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
