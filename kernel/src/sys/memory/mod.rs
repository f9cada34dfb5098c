//! Memory calls: Linux's argument checks and numbers around the memory manager's edits.
//!
//! Here: a mapping comes, changes its protection and goes (`mmap`, `mprotect`, `munmap`, `brk`), and what all these calls share.
//! What only moves is in `remap`, what stays as it is in `advise`, what stays in memory in `lock`, System V's segments in `shm`.

mod advise;
mod foreign;
mod lock;
mod remap;
mod shm;

pub use advise::{madvise, mincore, msync};
pub use foreign::{process_vm_readv, process_vm_writev};
pub use lock::{mlock, mlock2, mlockall, munlock, munlockall};
pub use remap::mremap;
pub use shm::{shmat, shmctl, shmdt, shmget};

use crate::fs::regular::Regular;
use crate::fs::{OpenFile, dev::Device};
use crate::mem::user::USER_END;
use crate::mem::{Backing, EditError, Fault, Flags, GUARD, Page, PageRange, Place, Prot, Seen, Segment, Space, memory};
use crate::proc::account::{self, More, Room};
use crate::proc::thread::{current, user};
use crate::proc::{limits, vm};
use crate::swap::{self, relief};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::ops::Range;
use linux_raw_sys::general as l;
use quire_arch::UserRegs;
use quire_base::errno::*;

const PAGE: usize = 4096;

/// The flags that mmap knew before MAP_SHARED_VALIDATE: of others, who does not ask for validation is told nothing.
const OLD_FLAGS: usize = (l::MAP_TYPE
    | l::MAP_FIXED
    | l::MAP_ANONYMOUS
    | l::MAP_32BIT
    | l::MAP_ABOVE4G
    | l::MAP_GROWSDOWN
    | l::MAP_DENYWRITE
    | l::MAP_EXECUTABLE
    | l::MAP_LOCKED
    | l::MAP_NORESERVE
    | l::MAP_POPULATE
    | l::MAP_NONBLOCK
    | l::MAP_STACK
    | l::MAP_HUGETLB
    | l::MAP_UNINITIALIZED) as usize
    | 21 << 26
    | 30 << 26;

/// The lowest address of a mapping whose place the system chooses.
const LOWEST: usize = 0x1_0000;

/// The pages of `address..address + len`, which must lie in the user half; `address` is aligned.
fn range(address: usize, len: usize) -> Option<PageRange> {
    let len = len.checked_next_multiple_of(PAGE)?;
    if address > USER_END || len > USER_END - address {
        return None;
    }
    PageRange::new(Page::containing(address as u64), (len / PAGE) as u64)
}

/// What a call means by an aligned address and a length that may be any number.
enum Span {
    /// It wraps around the end of all addresses.
    Wraps,
    /// No page; so is a length that is rounded up to 0.
    Empty,
    /// These pages, where they lie in the user half; and whether all of them do.
    Pages(Option<PageRange>, bool),
}

impl Span {
    /// Rounds the length up as Linux does: it may become 0.
    fn new(address: usize, len: usize) -> Span {
        let len = len.wrapping_add(PAGE - 1) & !(PAGE - 1);
        match address.checked_add(len) {
            _ if len == 0 => Span::Empty,
            None => Span::Wraps,
            Some(end) => {
                let all = end <= USER_END;
                Span::Pages(range(address, end.min(USER_END).saturating_sub(address)), all)
            }
        }
    }
}

/// Calls `act` with each segment that touches `range`, and its part in it, in order, until it fails. Whether there are no holes. What
/// `act` is told may have changed: it is for calls that only look, or whose edits look again. Waits for what is in transit.
fn each_part(
    space: &Space,
    range: PageRange,
    mut act: impl FnMut(&Segment, PageRange) -> Result<(), Errno>,
) -> Result<bool, Errno> {
    let (mut at, mut covered) = (range.start, true);
    while let Some(s) = space.find_arrived(at).filter(|s| at < range.end && s.range.start < range.end) {
        let (start, end) = (s.range.start.max(at), s.range.end.min(range.end));
        covered &= start == at;
        let Some(part) = PageRange::new(start, end.0 - start.0) else { break };
        act(&s, part)?;
        at = end;
    }
    Ok(covered && at >= range.end)
}

fn aligned(value: usize) -> Result<(), Errno> {
    if value.is_multiple_of(PAGE) { Ok(()) } else { Err(EINVAL) }
}

fn protection(bits: u32) -> Prot {
    let mut prot = Prot::empty();
    prot.set(Prot::READ, bits & l::PROT_READ != 0);
    prot.set(Prot::WRITE, bits & l::PROT_WRITE != 0);
    prot.set(Prot::EXEC, bits & l::PROT_EXEC != 0);
    prot
}

/// Linux's default overcommit heuristic: only a single request that could never be met is refused.
fn hopeless(pages: u64) -> bool {
    pages > memory().total_frames() + swap::area::open_pages()
}

/// What a file mapping shows. In the order in which Linux finds faults.
fn file_backing(file: &OpenFile, bits: u32, flags: usize, offset: usize, len: usize) -> Result<Backing, Errno> {
    if offset.checked_add(len).is_none_or(|end| end > i64::MAX as usize) && file.file.object().is_ok() {
        return Err(EOVERFLOW);
    }
    let shared = match flags as u32 & l::MAP_TYPE {
        l::MAP_SHARED_VALIDATE if flags & !OLD_FLAGS != 0 => return Err(EOPNOTSUPP),
        l::MAP_SHARED | l::MAP_SHARED_VALIDATE => true,
        l::MAP_PRIVATE => false,
        _ => return Err(EINVAL),
    };
    if shared && bits & l::PROT_WRITE != 0 && file.writable().is_err() {
        return Err(EACCES);
    }
    if file.readable().is_err() {
        return Err(EACCES);
    }
    let object = file.file.object()?;
    if flags as u32 & l::MAP_GROWSDOWN != 0 {
        return Err(EINVAL);
    }
    if file.file.as_any().is::<Device>() {
        // /dev/zero: fresh zeros.
        if !shared {
            return Ok(Backing::Anonymous);
        }
        // As Linux: the object is as long as the mapping, wherever in it that begins.
        let object = vm::new_object(len as u64, 0, &[])?;
        return Ok(Backing::Object { object, offset: (offset / PAGE) as u64, shared: true });
    }
    if let Some(regular) = file.file.as_any().downcast_ref::<Arc<Regular>>() {
        regular.note_mapped(&object, &file.path);
        if shared && bits & l::PROT_WRITE != 0 && regular.is_sealed() {
            return Err(EPERM);
        }
        // An image never changes, so a private view reads the same and keeps a later mprotect from writing into it.
        let shared = shared && !regular.is_image();
        return Ok(Backing::Object { object, offset: (offset / PAGE) as u64, shared });
    }
    Ok(Backing::Object { object, offset: (offset / PAGE) as u64, shared })
}

/// What a mapping without a file shows, and whether its content may be dropped when memory is short.
fn plain_backing(flags: usize, len: usize) -> Result<(Backing, bool), Errno> {
    let has = |flag: u32| flags as u32 & flag != 0;
    match flags as u32 & l::MAP_TYPE {
        l::MAP_SHARED | l::MAP_DROPPABLE if has(l::MAP_GROWSDOWN) => Err(EINVAL),
        l::MAP_DROPPABLE if has(l::MAP_LOCKED) => Err(EINVAL),
        l::MAP_SHARED => {
            let object = vm::new_object(len as u64, 0, &[])?;
            Ok((Backing::Object { object, offset: 0, shared: true }, false))
        }
        l::MAP_PRIVATE => Ok((Backing::Anonymous, false)),
        l::MAP_DROPPABLE => Ok((Backing::Anonymous, true)),
        _ => Err(EINVAL),
    }
}

/// Whether a shared view of the file may never be written, even after mprotect.
fn is_read_only(file: &OpenFile) -> bool {
    let regular = file.file.as_any().downcast_ref::<Arc<Regular>>();
    file.writable().is_err() || regular.is_some_and(|r| r.is_sealed())
}

/// Where a mapping is to come, and its length in whole pages.
fn place_of(mut address: usize, len: usize, flags: u32, of_file: bool) -> Result<(Place, usize), Errno> {
    if len == 0 {
        return Err(EINVAL);
    }
    let fixed = flags & (l::MAP_FIXED | l::MAP_FIXED_NOREPLACE) != 0;
    if !fixed {
        address &= !(PAGE - 1);
        if address != 0 {
            address = address.max(LOWEST);
        }
    }
    let len = len.checked_next_multiple_of(PAGE).ok_or(ENOMEM)?;
    if len > USER_END {
        return Err(ENOMEM);
    }
    if fixed && address > USER_END - len {
        // As Linux, which takes an address from where its error numbers lie for an error.
        let number = address.wrapping_neg();
        return Err(if (1..PAGE).contains(&number) { Errno(number as u16) } else { ENOMEM });
    }
    if fixed {
        aligned(address)?;
    }
    let page = Page::containing(address as u64);
    let place = match flags {
        f if f & l::MAP_FIXED_NOREPLACE != 0 => Place::FixedNoReplace(page),
        f if f & l::MAP_FIXED != 0 => Place::Fixed(page),
        _ if address != 0 && address <= USER_END - len => Place::Hint(page),
        // A thread's stack is used by another CPU than the one that maps it.
        f if f & l::MAP_STACK != 0 => Place::Shared,
        // A private view of a file is a library for the most part, which all threads use: it would fill the arena of the thread that
        // loads it, and other CPUs would join there.
        f if of_file && f & l::MAP_TYPE == l::MAP_PRIVATE => Place::Shared,
        _ => Place::Anywhere,
    };
    Ok((place, len))
}

/// `mmap`
pub fn mmap(r: &mut UserRegs) -> SysResult {
    let (bits, flags, fd, offset) = (r.a2() as u32, r.a3(), r.a4() as i32, r.a5());
    let has = |flag: u32| flags as u32 & flag != 0;
    // In Linux's order: the file, the numbers, the place, the kind of mapping, its rights, the limits.
    aligned(offset)?;
    let file = if has(l::MAP_ANONYMOUS) { None } else { Some(user().files().get(fd)?) };
    match &file {
        Some(file) if file.flags() & l::O_PATH != 0 => return Err(EBADF),
        Some(_) if has(l::MAP_HUGETLB) => return Err(EINVAL),
        // No page is reserved for them.
        None if has(l::MAP_HUGETLB) => return Err(if r.a1() == 0 { EINVAL } else { ENOMEM }),
        _ => {}
    }
    let fixed = has(l::MAP_FIXED | l::MAP_FIXED_NOREPLACE);
    let (place, len) = place_of(r.a0(), r.a1(), flags as u32, file.is_some())?;
    let memory = user().memory();
    let space = &memory.space;
    let pages = (len / PAGE) as u64;
    // Decided by the edit; but if so, it is said before what is wrong with the kind.
    if let Place::FixedNoReplace(page) = place
        && PageRange::new(page, pages).is_some_and(|range| !space.is_free(range))
    {
        return Err(EEXIST);
    }
    let kind = match &file {
        Some(file) => file_backing(file, bits, flags, offset, len).map(|backing| (backing, false)),
        None => plain_backing(flags, len),
    };
    // So is that there is no room for it.
    let low = !fixed && has(l::MAP_32BIT);
    let has_room = || fixed || if low { pages <= LOW.end - LOW.start } else { space.has_room(pages) };
    let (backing, droppable) = kind.map_err(|why| if has_room() { why } else { ENOMEM })?;
    let shared = matches!(flags as u32 & l::MAP_TYPE, l::MAP_SHARED | l::MAP_SHARED_VALIDATE);
    let prot = protection(bits);
    // What MCL_FUTURE adds, the edit knows.
    let mut kind = Flags::empty();
    kind.set(Flags::GROWS_DOWN, has(l::MAP_GROWSDOWN));
    kind.set(Flags::NORESERVE, has(l::MAP_NORESERVE) || droppable);
    kind.set(Flags::WIPEONFORK, droppable);
    kind.set(Flags::OF_ZEROS, file.is_some() && matches!(backing, Backing::Anonymous));
    if has(l::MAP_LOCKED) {
        lock::use_it();
        kind |= Flags::LOCKED;
    }
    if droppable {
        kind -= Flags::LOCKED;
    }
    if shared && file.as_deref().is_some_and(is_read_only) {
        kind |= Flags::READ_ONLY;
    }
    let reserved =
        !kind.contains(Flags::NORESERVE) && (shared && file.is_none() || !shared && prot.contains(Prot::WRITE));
    if reserved && hopeless(pages) {
        return Err(ENOMEM);
    }
    let more = || {
        let replaced = match place {
            Place::Fixed(page) => PageRange::new(page, pages).map_or(0, |range| memory.counts_in(range).all),
            _ => 0,
        };
        let is_data = account::is_data(prot, kind | if shared { Flags::SHARED } else { Flags::empty() });
        More { pages: pages.saturating_sub(replaced), is_data }
    };
    let backing = &backing;
    let at = account::within(memory, more, move || {
        vm::retry(move || {
            let map = |kind| match low {
                true => map_low(space, pages, prot, backing, kind),
                false => space.map(place, pages, prot, backing, kind),
            };
            match map(kind) {
                // Sealed since it was looked at: a view for reading.
                Err(EditError::Closed) if !prot.contains(Prot::WRITE) => map(kind | Flags::READ_ONLY),
                done => done,
            }
        })
    })?;
    bring_in_mapped(space, at, at, pages, has(l::MAP_POPULATE) && !has(l::MAP_NONBLOCK));
    Ok(at.addr() as usize)
}

/// The pages that MAP_32BIT wants.
const LOW: Range<u64> = 0x4000_0000 >> 12..0x8000_0000 >> 12;

/// MAP_32BIT: somewhere in the first 2 GiB.
#[cold]
#[inline(never)]
fn map_low(space: &Space, pages: u64, prot: Prot, backing: &Backing, flags: Flags) -> Result<Page, EditError> {
    let mut at = Page(LOW.start);
    while at.0 + pages <= LOW.end {
        match space.map(Place::FixedNoReplace(at), pages, prot, backing, flags) {
            Err(EditError::Exists) => {
                at = space.find(at).map_or(Page(at.0 + 1), |s| s.range.end.max(Page(at.0 + 1)));
            }
            done => return done,
        }
    }
    Err(EditError::NoSpace)
}

/// Brings in the pages from `from` on, which have just become part of the mapping at `at`, where they are to be there at once: if that was
/// `asked` for, or the mapping is locked now. Whoever locks it from now on brings its pages in himself. With MLOCK_ONFAULT nothing is
/// brought in, whoever asks. Linux too ignores what could not be.
#[inline]
fn bring_in_mapped(space: &Space, at: Page, from: Page, pages: u64, asked: bool) {
    if asked || lock::is_used() {
        bring_in_some(space, at, from, pages, asked);
    }
}

/// As [`bring_in_mapped`], where it was asked for, or something of the process is locked.
#[cold]
fn bring_in_some(space: &Space, at: Page, from: Page, pages: u64, asked: bool) {
    if let Some(range) = PageRange::new(from, pages)
        && let Some(s) = space.find_arrived(at).filter(|s| s.range.start <= at)
        && (asked || s.flags.contains(Flags::LOCKED))
        && !s.flags.contains(Flags::ON_FAULT)
        && !s.prot.is_empty()
    {
        let shared = matches!(s.backing, Backing::Object { shared: true, .. });
        let _ = populate(space, range, s.prot.contains(Prot::WRITE) && !shared);
    }
}

/// Pages that are populated with interrupts off.
const PIECE: u64 = 512;

/// Brings a range in, up to a page that cannot be had; and why.
fn populate(space: &Space, range: PageRange, write: bool) -> Result<(), Fault> {
    let (mut at, mut asked) = (range.start, false);
    while let Some(piece) = PageRange::new(at, PIECE.min(range.end.0 - at.0)) {
        match space.populate(piece, write) {
            Ok(()) => {
                at = piece.end;
                // Other CPUs wait for this one's answers, and the thread may be killed.
                quire_arch::interrupt_window();
                if crate::proc::signal::is_dying() {
                    return Err(Fault::OutOfFrames);
                }
            }
            Err((page, needs)) => {
                relief::before_fault();
                asked &= page == at;
                vm::provide(space, page, needs, &mut asked).map_err(|_| needs)?;
                at = page;
            }
        }
    }
    Ok(())
}

/// `munmap`
pub fn munmap(r: &mut UserRegs) -> SysResult {
    let (address, len) = (r.a0(), r.a1());
    aligned(address)?;
    if len == 0 {
        return Err(EINVAL);
    }
    let range = range(address, len).ok_or(EINVAL)?;
    let space = &user().memory().space;
    // A range without any mapping is no error.
    vm::retry(|| space.unmap(range)).map(|()| 0)
}

/// The bits of mprotect that change the range.
const GROWS: usize = (l::PROT_GROWSDOWN | l::PROT_GROWSUP) as usize;

/// `mprotect`
pub fn mprotect(r: &mut UserRegs) -> SysResult {
    let (address, len, bits) = (r.a0(), r.a1(), r.a2());
    const KNOWN: usize = (l::PROT_READ | l::PROT_WRITE | l::PROT_EXEC | l::PROT_SEM) as usize | GROWS;
    if bits & GROWS == GROWS {
        return Err(EINVAL);
    }
    aligned(address)?;
    if len == 0 {
        return Ok(0);
    }
    let Span::Pages(range, all) = Span::new(address, len) else { return Err(ENOMEM) };
    if bits & !KNOWN != 0 {
        return Err(EINVAL);
    }
    let range = range.ok_or(ENOMEM)?;
    let space = &user().memory().space;
    let prot = protection(bits as u32);
    let writes = prot.contains(Prot::WRITE);
    if bits & GROWS == 0 && !(writes && (hopeless(range.pages()) || current().limits.hold_memory() || lock::is_used()))
    {
        vm::retry(move || space.protect(range, prot))?;
    } else {
        protect_slowly(range, prot, bits)?;
    }
    if all { Ok(0) } else { Err(ENOMEM) }
}

/// `mprotect` where more is to be looked at than the segments' rights. What is locked and becomes writable is brought in.
#[cold]
#[inline(never)]
fn protect_slowly(range: PageRange, prot: Prot, bits: usize) -> Result<(), Errno> {
    let space = &user().memory().space;
    let writes = prot.contains(Prot::WRITE) && lock::is_used();
    loop {
        let range = if bits & GROWS != 0 { grown(space, range, bits)? } else { range };
        let locked = if writes { lock::not_writable(space, range)? } else { Vec::new() };
        let done = protect_checked(range, prot, bits);
        lock::bring_in_writable(space, &locked);
        match done {
            Ok(false) => {}
            done => return done.map(drop),
        }
    }
}

/// What must be true of each segment: it was charged already, or can be; and with PROT_GROWSDOWN, the first one begins where it did
/// when it was looked up (false: it does not).
#[cold]
#[inline(never)]
fn protect_checked(range: PageRange, prot: Prot, bits: usize) -> Result<bool, Errno> {
    let memory = user().memory();
    let down = bits & l::PROT_GROWSDOWN as usize != 0;
    let edit = |room: Option<Room>| {
        // With PROT_GROWSDOWN: the segment that the range begins with was seen, where it begins.
        let (found, too_much) = (Cell::new(false), Cell::new(false));
        // Each segment is asked about several times, perhaps, and once more in each arena that it continues in.
        let (counted, data) = (Cell::new(range.start), Cell::new(0));
        let check = |s: &Seen| {
            found.set(found.get() || s.start == range.start && s.flags.contains(Flags::GROWS_DOWN));
            let becomes = prot.contains(Prot::WRITE) && !s.prot.contains(Prot::WRITE);
            let fresh = becomes && !s.flags.intersects(Flags::NORESERVE | Flags::SHARED);
            let end = if becomes { end_over_borders(&memory.space, s.range, range.end) } else { s.range.end };
            let pages = end.0 - s.range.start.0;
            let mut over = fresh && hopeless(pages);
            let more = if becomes && account::is_data(prot, s.flags) { pages as i64 } else { 0 };
            if let Some(room) = room
                && s.range.start >= counted.get()
                && more != 0
            {
                // As Linux: what RLIMIT_AS would refuse, if it were asked, is not refused here.
                over |= data.get() + more > room.data && more <= room.all;
            }
            too_much.set(over);
            let may = (found.get() || !down) && !over;
            if may && s.range.start >= counted.get() {
                counted.set(end);
                data.set(data.get() + more);
            }
            may
        };
        let once = || {
            found.set(false);
            match memory.space.protect_checked(range, prot, Some(&check)) {
                // Another segment, or a hole: whatever the range begins with now is looked up again.
                Err(EditError::NotMapped | EditError::Refused) if down && !found.get() => Ok(false),
                done => done.map(|()| true),
            }
        };
        vm::retry(once).map_err(|error| if too_much.get() { ENOMEM } else { error })
    };
    if current().limits.hold_memory() {
        account::limited(memory, |memory| edit(Some(memory.room())))
    } else {
        edit(None)
    }
}

/// Where the segment of which `part` was seen ends, or the edit up to `limit`, whichever comes first: it may continue in the next arenas.
/// Under the edit's claims, which nothing in the range moves past.
fn end_over_borders(space: &Space, part: PageRange, limit: Page) -> Page {
    space.find(part.start).map_or(part.end, |s| space.over_borders(s, limit).range.end.min(limit))
}

/// What PROT_GROWSDOWN makes of a range: it begins where the segment does. No segment grows up.
#[cold]
#[inline(never)]
fn grown(space: &Space, range: PageRange, bits: usize) -> Result<PageRange, Errno> {
    let segment = space.find_whole(range.start).filter(|s| s.range.start < range.end).ok_or(ENOMEM)?;
    if bits & l::PROT_GROWSUP as usize != 0 {
        return Err(if segment.range.start > range.start { ENOMEM } else { EINVAL });
    }
    if !segment.flags.contains(Flags::GROWS_DOWN) {
        return Err(EINVAL);
    }
    let start = segment.range.start;
    PageRange::new(start, range.end.0 - start.0).ok_or(ENOMEM)
}

/// `brk`: the new end, or the old one when it cannot be.
pub fn brk(r: &mut UserRegs) -> SysResult {
    let wanted = r.a0() as u64;
    let memory = user().memory();
    let mut heap = memory.heap.lock();
    let old = heap.end;
    if wanted < heap.start || wanted as usize >= USER_END {
        return Ok(old as usize);
    }
    let limit = current().limit(l::RLIMIT_DATA);
    let (first, last) = memory.layout.data;
    if limit != limits::INFINITY && wanted - heap.start + (last - first) > limit {
        return Ok(old as usize);
    }
    let (from, to) = (old.next_multiple_of(4096), wanted.next_multiple_of(4096));
    let space = &memory.space;
    let done = if let Some(more) = PageRange::new(Page::containing(from), to.saturating_sub(from) / 4096) {
        let pages = more.pages();
        let prot = Prot::READ | Prot::WRITE;
        let added = || More { pages, is_data: true };
        let map = || space.map(Place::FixedNoReplace(more.start), pages, prot, &Backing::Anonymous, Flags::HEAP);
        // Beside the page behind the heap and the guard of a stack above it, which only a look keeps free: whoever maps something there
        // at the same time could as well do so later.
        let above = space.find(more.end).is_some_and(|s| {
            let guard = if s.flags.contains(Flags::GROWS_DOWN) { GUARD as u64 } else { 0 };
            s.range.start.0 < more.end.0 + 1 + guard
        });
        let done = !above && !hopeless(pages) && account::within(memory, added, || vm::retry(map)).is_ok();
        if done {
            bring_in_mapped(space, more.start, more.start, pages, false);
        }
        done
    } else if let Some(less) = PageRange::new(Page::containing(to), from.saturating_sub(to) / 4096) {
        // As Linux: there must be something that goes.
        space.find(less.start).is_some_and(|s| s.range.start < less.end) && vm::retry(|| space.unmap(less)).is_ok()
    } else {
        true
    };
    if done {
        heap.end = wanted;
    }
    Ok(heap.end as usize)
}
