//! swapon: from a header on the disk to an open area.

use super::host::Waker;
use super::{AREA, Area, OPEN, area, daemon, disk};
use crate::mem::memory;
use crate::proc::sleep::SleepMutex;
use crate::sys::errno::*;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use quire_mm::Machine;
use quire_mm::sync::AtomicU64;
use quire_swapd::slot::SlotWord;
use quire_swapd::{Frames, Header, Swap, header};

/// What was found in the header, for reports and for the next swapon.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Its UUID.
    pub uuid: [u8; 16],
    /// The last page of the area.
    pub last_page: u32,
}

/// Pages of the area that may be used, by its header.
static USABLE: AtomicU64 = AtomicU64::new(0);

/// Pages of the area that may be used, by its header.
pub fn usable() -> u64 {
    // ordering: Relaxed; written before the area is opened.
    USABLE.load(Ordering::Relaxed)
}

/// One swapon or swapoff at a time; what is open or was last.
pub static ADMIN: SleepMutex<Option<Shape>> = SleepMutex::new(None);

/// Pages of the area while it is open.
pub fn open_pages() -> u64 {
    if super::is_open() { usable() } else { 0 }
}

/// Why there is no swapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// No disk.
    NoDisk,
    /// The disk cannot be written.
    ReadOnly,
    /// It cannot be read.
    Unreadable,
    /// It is no swap area; nothing was written.
    NoArea(header::HeaderError),
    /// It is in use already.
    Busy,
    /// No memory for the slots.
    NoMemory,
}

impl core::fmt::Display for Refusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Refusal::NoDisk => f.write_str("there is no disk"),
            Refusal::ReadOnly => f.write_str("the disk is read-only"),
            Refusal::Unreadable => f.write_str("the disk's first page cannot be read"),
            Refusal::NoArea(why) => write!(f, "the disk is no swap area: {why}; it was not touched"),
            Refusal::Busy => f.write_str("the disk is in use already"),
            Refusal::NoMemory => f.write_str("no memory for the area's slots"),
        }
    }
}

impl From<Refusal> for Errno {
    fn from(why: Refusal) -> Errno {
        match why {
            Refusal::NoDisk => ENXIO,
            Refusal::ReadOnly => EACCES,
            Refusal::Unreadable => EIO,
            Refusal::NoArea(_) => EINVAL,
            Refusal::Busy => EBUSY,
            Refusal::NoMemory => ENOMEM,
        }
    }
}

/// Opens the area on the disk.
pub fn open() -> Result<(), Refusal> {
    let mut last = ADMIN.lock();
    if super::is_open() {
        return Err(Refusal::Busy);
    }
    let facts = disk::facts().ok_or(Refusal::NoDisk)?;
    if facts.read_only {
        return Err(Refusal::ReadOnly);
    }
    let frame = memory().alloc_kernel().ok_or(Refusal::NoMemory)?;
    let result = with_page(frame, facts.pages, *last);
    // A read that was given up may still come: then the frame is the device's for ever.
    if !matches!(result, Err(Refusal::Unreadable)) {
        memory().free(frame);
    }
    let shape = result?;
    *last = Some(shape);
    if !daemon::start() {
        return Err(Refusal::NoMemory);
    }
    if let Some(area) = area() {
        area.set_open(true);
    }
    // ordering: Release; whoever sees it open sees the area.
    OPEN.store(true, Ordering::Release);
    Ok(())
}

/// Reads the header into `frame` and makes the area that it describes.
fn with_page(frame: quire_mm::Frame, pages: u64, last: Option<Shape>) -> Result<Shape, Refusal> {
    disk::read_page(0, frame).ok_or(Refusal::Unreadable)?;
    // SAFETY: the frame is ours, and the device is done with it.
    let page = unsafe { &*memory().machine.page(frame).cast::<[u8; header::PAGE]>() };
    let header = Header::read(page, pages).map_err(Refusal::NoArea)?;
    let slots = header.last_page() as usize + 1;
    let shape = Shape { uuid: header.uuid().0, last_page: header.last_page() };
    // The same area again keeps its slots, and what is known of bad ones.
    if last != Some(shape) || area().is_none() {
        USABLE.store(build(slots, &header)?, Ordering::Relaxed);
    }
    log::info!(
        "swap: {} MiB on the disk, UUID {}{}{}, {} of {} pages bad",
        (slots as u64 * 4096) >> 20,
        header.uuid(),
        if header.label().is_some() { ", label " } else { "" },
        header.label().unwrap_or(""),
        slots as u64 - 1 - usable(),
        slots - 1
    );
    Ok(shape)
}

/// Makes the slots and publishes the area. Returns how many slots may be used.
fn build(slots: usize, header: &Header<'_>) -> Result<u64, Refusal> {
    let no_memory = |_| Refusal::NoMemory;
    let mut words: Vec<SlotWord> = Vec::new();
    words.try_reserve_exact(slots).map_err(no_memory)?;
    words.resize_with(slots, SlotWord::new);
    let mut bits: Vec<AtomicU64> = Vec::new();
    bits.try_reserve_exact(Area::words_needed(slots)).map_err(no_memory)?;
    bits.resize_with(Area::words_needed(slots), || AtomicU64::new(0));
    let host = Frames::new(memory(), Waker);
    let area = Box::new(Swap::new(words.leak(), bits.leak(), header.bad_pages(), host, disk::Disk));
    let usable = area.free_slots();
    // An area that it replaces is closed and empty, but somebody may still look at it: it stays where it is.
    // ordering: Release pairs with the Acquire of `area`.
    AREA.store(Box::into_raw(area), Ordering::Release);
    Ok(usable)
}
