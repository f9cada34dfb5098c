//! The disk below the swap area: swapd's `Disk` over the virtio-blk driver.
//!
//! The driver is a state machine without a lock, so a leaf lock is around it. It is held for a submission or for a batch of
//! completions, never while completions are acted upon, and interrupt handlers take it too: all kernel code runs with interrupts
//! off, so nobody is interrupted while he holds it.

use crate::host::hal::KernelHal;
use crate::mem::memory;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use quire_arch::irq;
use quire_base::cpu;
use quire_base::lock::Mutex;
use quire_drivers::virtio_blk::{self, Block, Error, MOST_PAGES};
use quire_mm::{Frame, Machine};
use quire_sched::{WaitQueue, timer};
use quire_swapd::io::IoError;
use quire_swapd::{Op, Refused, Slot};

/// How long the device may be silent while it has something to do, unless the host says otherwise.
const LIMIT: u64 = 30_000_000_000;
/// Completions that are taken under one hold of the lock.
const BATCH: usize = 16;
/// The cookie of a request of [`read_page`]: a run of the area never begins at the last slot that a number can have.
const PRIVATE: u64 = u64::MAX;

static BLOCK: Mutex<Option<Block<KernelHal>>> = Mutex::new(None);
/// What became of the request of [`read_page`]: 0 under way, 1 done, 2 failed.
static ANSWER: AtomicU64 = AtomicU64::new(0);
static ASKING: WaitQueue = WaitQueue::new();
/// Whether requests are in flight: a hint for those who do not hold the lock.
static FLYING: AtomicBool = AtomicBool::new(false);
/// The silence of the device was reported.
static REPORTED: AtomicBool = AtomicBool::new(false);

/// What is known of the disk.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Whole pages.
    pub pages: u64,
    /// Whether it cannot be written.
    pub read_only: bool,
}

/// Finds the disk. Its interrupts come to this CPU. Called once at boot, while the early allocator serves.
pub fn start() {
    // ordering: Relaxed; our own.
    let apic_id = cpu::this().apic_id.load(Ordering::Relaxed);
    // SAFETY: called once at boot, and nothing else uses PCI.
    match unsafe { Block::start(apic_id, irq::DISK) } {
        Ok(mut block) => {
            block.set_limit(LIMIT);
            log::info!("disk: {} MiB, {} queues", block.pages() >> 8, block.queues());
            super::area::reserve(block.pages());
            *BLOCK.lock() = Some(block);
        }
        Err(Error::Absent) => {}
        Err(why) => log::warn!("disk: does not work ({why:?})"),
    }
}

/// Lets each queue interrupt the CPU that uses it. Called once all CPUs are there; queue and CPU have the same number.
pub fn spread() {
    if let Some(block) = &mut *BLOCK.lock() {
        for queue in 0..block.queues().min(quire_arch::cpu_count()) {
            // ordering: Relaxed; published with the CPU's online bit.
            let apic_id = cpu::block(queue).apic_id.load(Ordering::Relaxed);
            block.route(queue, apic_id, irq::DISK);
        }
    }
}

/// The disk's properties, if there is one.
pub fn facts() -> Option<Facts> {
    BLOCK.lock().as_ref().map(|b| Facts { pages: b.pages(), read_only: b.is_read_only() })
}

/// Gives the disk `seconds` to answer before it counts as dead.
pub fn set_limit(seconds: u64) {
    if let Some(block) = &mut *BLOCK.lock() {
        block.set_limit(seconds.saturating_mul(1_000_000_000));
    }
}

/// Whether the disk has stopped to answer; asked now and then by who waits for it. The first to see it tells the user.
pub fn is_dead() -> bool {
    let dead = BLOCK.lock().as_mut().is_some_and(|b| b.is_dead(timer::now_ns()));
    // ordering: Relaxed; only the report depends on it.
    if dead && !REPORTED.swap(true, Ordering::Relaxed) {
        crate::host::line("quire: swap: the disk does not answer; what is on it cannot be read until it does");
    }
    dead
}

/// Whether the disk has something to do.
pub fn is_flying() -> bool {
    // ordering: Relaxed; a hint, and an interrupt comes in any case.
    FLYING.load(Ordering::Relaxed)
}

/// Why [`read_page`] has not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unread {
    /// The disk has refused, or said that it cannot: it is done with the frame.
    Failed,
    /// It has said nothing: it may still write to the frame.
    Silent,
}

/// Reads one page by itself, before the area is open.
pub fn read_page(page: u32, frame: Frame) -> Result<(), Unread> {
    // ordering: Relaxed; the device's answer orders it.
    ANSWER.store(0, Ordering::Relaxed);
    Disk.request(virtio_blk::Op::Read, page, &[frame], PRIVATE).map_err(|_| Unread::Failed)?;
    let until = timer::now_ns() + LIMIT;
    let answer = || {
        // The interrupt may come to a CPU that has none on.
        Disk.take(&mut |_, _| {});
        // ordering: Acquire pairs with the Release of whoever took the completion: the page is there.
        Some(ANSWER.load(Ordering::Acquire)).filter(|&a| a != 0)
    };
    match ASKING.wait(Some(until), false, answer) {
        Ok(1) => Ok(()),
        Ok(_) => Err(Unread::Failed),
        Err(_) => Err(Unread::Silent),
    }
}

/// Looks for the answer of [`read_page`] while no area is there.
pub fn take_private() {
    Disk.take(&mut |_, _| {});
}

/// The one disk.
#[derive(Debug)]
pub struct Disk;

impl Disk {
    fn request(&self, op: virtio_blk::Op, first: u32, frames: &[Frame], cookie: u64) -> Result<(), Refused> {
        let mut pages = [core::ptr::null_mut(); MOST_PAGES];
        for (to, &frame) in pages.iter_mut().zip(frames) {
            *to = memory().machine.page(frame);
        }
        let mut guard = BLOCK.lock();
        let block = guard.as_mut().ok_or(Refused::Dead)?;
        block.prefer(cpu::cpu_id());
        // SAFETY: the frames are in RAM, which the linear map shows; until the completion they are the device's.
        let taken = unsafe { block.submit(op, first as u64, &pages[..frames.len()], cookie, timer::now_ns()) };
        taken.map_err(|why| match why {
            virtio_blk::Refused::Full => Refused::Full,
            virtio_blk::Refused::Dead | virtio_blk::Refused::Impossible => Refused::Dead,
        })?;
        FLYING.store(true, Ordering::Relaxed);
        if cookie == PRIVATE {
            block.kick();
        }
        Ok(())
    }

    fn take(&self, done: &mut dyn FnMut(u64, Result<(), IoError>)) {
        loop {
            let mut batch = [(0, false); BATCH];
            let mut n = 0;
            if let Some(block) = &mut *BLOCK.lock() {
                let now = timer::now_ns();
                while n < BATCH
                    && let Some(c) = block.next(now)
                {
                    batch[n] = (c.cookie, c.ok);
                    n += 1;
                }
                FLYING.store(block.in_flight() != 0, Ordering::Relaxed);
            }
            for &(cookie, ok) in &batch[..n] {
                if cookie == PRIVATE {
                    // ordering: Release pairs with the Acquire in `read_page`.
                    ANSWER.store(if ok { 1 } else { 2 }, Ordering::Release);
                    ASKING.wake_all();
                } else {
                    done(cookie, if ok { Ok(()) } else { Err(IoError::Device) });
                }
            }
            if n < BATCH {
                return;
            }
        }
    }
}

impl quire_swapd::Disk for Disk {
    fn submit(&self, op: Op, first: Slot, frames: &[Frame], cookie: u64) -> Result<(), Refused> {
        let op = match op {
            Op::Read => virtio_blk::Op::Read,
            Op::Write => virtio_blk::Op::Write,
        };
        self.request(op, first.0, frames, cookie)
    }

    fn kick(&self) {
        if let Some(block) = &mut *BLOCK.lock() {
            block.kick();
        }
    }

    fn complete(&self, done: &mut dyn FnMut(u64, Result<(), IoError>)) {
        self.take(done);
    }
}
