//! swapon: from a header on the disk to an open area.

use super::disk::Unread;
use super::host::Waker;
use super::{AREA, Area, OPEN, area, daemon, disk};
use crate::mem::{machine, memory};
use alloc::boxed::Box;
use core::sync::atomic::Ordering;
use quire_base::early;
use quire_base::errno::*;
use quire_mm::Machine;
use quire_mm::sync::AtomicU64;
use quire_sched::SleepMutex;
use quire_swapd::slot::SlotWord;
use quire_swapd::{Frames, Header, Swap, header};
use spin::Once;

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
    /// It does not answer.
    Silent,
    /// It is no swap area; nothing was written.
    NoArea(header::HeaderError),
    /// It is in use already.
    Busy,
    /// Its header is not the one that it had before.
    Changed,
    /// No memory for the slots.
    NoMemory,
}

impl core::fmt::Display for Refusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Refusal::NoDisk => f.write_str("there is no disk"),
            Refusal::ReadOnly => f.write_str("the disk is read-only"),
            Refusal::Unreadable => f.write_str("the disk's first page cannot be read"),
            Refusal::Silent => f.write_str("the disk does not answer"),
            Refusal::NoArea(why) => write!(f, "the disk is no swap area: {why}; it was not touched"),
            Refusal::Busy => f.write_str("the disk is in use already"),
            Refusal::Changed => f.write_str("the disk's header has changed since the last swapon"),
            Refusal::NoMemory => f.write_str("no memory for the area's slots"),
        }
    }
}

impl From<Refusal> for Errno {
    fn from(why: Refusal) -> Errno {
        match why {
            Refusal::NoDisk => ENXIO,
            Refusal::ReadOnly => EACCES,
            Refusal::Unreadable | Refusal::Silent => EIO,
            Refusal::NoArea(_) | Refusal::Changed => EINVAL,
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
    if !matches!(result, Err(Refusal::Silent)) {
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
    disk::read_page(0, frame).map_err(|why| match why {
        Unread::Failed => Refusal::Unreadable,
        Unread::Silent => Refusal::Silent,
    })?;
    // SAFETY: the frame is ours, and the device is done with it.
    let page = unsafe { &*memory().machine.page(frame).cast::<[u8; header::PAGE]>() };
    let header = Header::read(page, pages).map_err(Refusal::NoArea)?;
    let slots = header.last_page() as usize + 1;
    let shape = Shape { uuid: header.uuid().0, last_page: header.last_page() };
    // The same area again keeps its slots, and what is known of bad ones.
    match last {
        None => build(slots, &header)?,
        Some(last) if last == shape => {}
        Some(_) => return Err(Refusal::Changed),
    }
    log::info!(
        "swap: {} MiB on the disk, UUID {}{}{}, {} of {} pages bad",
        (slots as u64 * 4096) >> 20,
        header.uuid(),
        if header.label().is_some() { ", label " } else { "" },
        header.label().unwrap_or(""),
        header.bad_pages().count(),
        slots - 1
    );
    Ok(shape)
}

/// Room for the slots of an area and for what is counted beside them.
type Room = (&'static [SlotWord], &'static [AtomicU64]);
static ROOM: Once<Room> = Once::new();

/// Sets memory aside for an area on a disk of `pages` pages: 8.3 bytes a page, a quarter of all memory at most. It is not the
/// heap's, which is for small things. Called once at boot, while the early allocator serves.
pub fn reserve(pages: u64) {
    let most = early::ram_bytes() / 4 / 9;
    let slots = pages.min(most).min(u32::MAX as u64) as usize;
    // SAFETY: zero bytes are free slots, and counters of zero.
    let room = unsafe { machine::zeroed(slots).zip(machine::zeroed(Area::words_needed(slots))) };
    if let Some(room) = room {
        ROOM.call_once(|| room);
    }
}

/// Makes the area over the first `slots` slots, or as many as there is room for, and publishes it.
fn build(slots: usize, header: &Header<'_>) -> Result<(), Refusal> {
    let (words, bits) = ROOM.get().ok_or(Refusal::NoMemory)?;
    if slots > words.len() {
        log::warn!("swap: only {} MiB of it are used: slots take a quarter of the memory", words.len() >> 8);
    }
    let words = &words[..slots.min(words.len())];
    let area = Box::new(Swap::new(words, bits, header.bad_pages(), Frames::new(memory(), Waker), disk::Disk));
    // ordering: Relaxed; published by what follows.
    USABLE.store(area.free_slots(), Ordering::Relaxed);
    // ordering: Release pairs with the Acquire of `area`.
    AREA.store(Box::into_raw(area), Ordering::Release);
    Ok(())
}
