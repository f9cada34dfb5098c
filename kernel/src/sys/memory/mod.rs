//! Memory calls: Linux's argument checks and numbers around the memory manager's edits.
//!
//! Here: a mapping comes, changes its protection and goes (`mmap`, `mprotect`, `munmap`, `brk`), and what all these calls share.
//! What only moves is in `remap`, what stays as it is in `advise`, what stays in memory in `lock`, System V's segments in `shm`.

mod advise;
mod lock;
mod remap;
mod shm;

pub use advise::{madvise, mincore, msync};
pub use lock::{mlock, mlock2, mlockall, munlock, munlockall};
pub use remap::mremap;
pub use shm::{shmat, shmctl, shmdt, shmget};

use super::Args;
use super::errno::*;
use crate::arch::UserRegs;
use crate::fs::regular::Regular;
use crate::fs::{OpenFile, dev::Device};
use crate::mem::user::USER_END;
use crate::mem::{Backing, EditError, Flags, Page, PageRange, Place, Prot, Seen, Space, memory};
use crate::proc::thread::{current, user};
use crate::proc::{limits, vm};
use crate::swap::{self, relief};
use alloc::sync::Arc;
use core::cell::Cell;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as l;

const PAGE: usize = 4096;

/// The pages of `address..address + len`, which must lie in the user half; `address` is aligned.
fn range(address: usize, len: usize) -> Option<PageRange> {
    let len = len.checked_next_multiple_of(PAGE)?;
    if address > USER_END || len > USER_END - address {
        return None;
    }
    PageRange::new(Page::containing(address as u64), (len / PAGE) as u64)
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

/// RLIMIT_AS.
#[inline(always)]
fn over_limit(space: &Space, more: u64) -> bool {
    #[cold]
    #[inline(never)]
    fn is_over(space: &Space, more: u64, limit: u64) -> bool {
        space.mapped().saturating_add(more) > limit / PAGE as u64
    }
    let limit = current().limit(l::RLIMIT_AS);
    limit != limits::INFINITY && is_over(space, more, limit)
}

/// Whether all of `range` is mapped.
fn covered(space: &Space, range: PageRange) -> bool {
    let mut pages = 0;
    space.each_segment(range, |s| {
        let start = s.range.start.max(range.start);
        let end = s.range.end.min(range.end);
        pages += end.0.saturating_sub(start.0);
    });
    pages == range.pages()
}

/// What a file mapping shows.
fn file_backing(file: &OpenFile, bits: u32, shared: bool, offset: usize, len: usize) -> Result<Backing, Errno> {
    if file.readable().is_err() {
        return Err(if file.flags() & l::O_PATH != 0 { EBADF } else { EACCES });
    }
    if shared && bits & l::PROT_WRITE != 0 && file.writable().is_err() {
        return Err(EACCES);
    }
    let object = file.file.object()?;
    if file.file.as_any().is::<Device>() {
        // /dev/zero: fresh zeros.
        if !shared {
            return Ok(Backing::Anonymous);
        }
        let object = vm::new_object(len as u64, 0, &[])?;
        return Ok(Backing::Object { object, offset: 0, shared: true });
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

/// Whether a shared view of the file may never be written, even after mprotect.
fn is_read_only(file: &OpenFile) -> bool {
    let regular = file.file.as_any().downcast_ref::<Arc<Regular>>();
    file.writable().is_err() || regular.is_some_and(|r| r.is_sealed())
}

/// `mmap`
pub fn mmap(r: &mut UserRegs) -> SysResult {
    let (address, len, bits) = (r.a0(), r.a1(), r.a2() as u32);
    let (flags, fd, offset) = (r.a3() as u32, r.a4() as i32, r.a5());
    aligned(offset)?;
    let file = if flags & l::MAP_ANONYMOUS == 0 { Some(user().files().get(fd)?) } else { None };
    if len == 0 {
        return Err(EINVAL);
    }
    let len = len.checked_next_multiple_of(PAGE).filter(|n| *n <= USER_END).ok_or(ENOMEM)?;
    if file.is_some() && offset.checked_add(len).is_none_or(|e| e > i64::MAX as usize) {
        return Err(EOVERFLOW);
    }
    let fixed = flags & (l::MAP_FIXED | l::MAP_FIXED_NOREPLACE) != 0;
    if fixed {
        aligned(address)?;
        if len > USER_END || address > USER_END - len {
            return Err(ENOMEM);
        }
    }
    let shared = match flags & l::MAP_TYPE {
        l::MAP_SHARED => true,
        l::MAP_SHARED_VALIDATE if file.is_some() => true,
        l::MAP_PRIVATE => false,
        _ => return Err(EINVAL),
    };
    if flags & l::MAP_HUGETLB != 0 {
        return Err(ENOMEM);
    }
    if shared && flags & l::MAP_GROWSDOWN != 0 {
        return Err(EINVAL);
    }
    let memory = user().memory();
    let space = &memory.space;
    let pages = (len / PAGE) as u64;
    let prot = protection(bits);
    let charged = flags & l::MAP_NORESERVE == 0 && (shared && file.is_none() || !shared && prot.contains(Prot::WRITE));
    if (charged && hopeless(pages)) || over_limit(space, pages) {
        return Err(ENOMEM);
    }
    let backing = match &file {
        Some(file) => file_backing(file, bits, shared, offset, len)?,
        None if shared => Backing::Object { object: vm::new_object(len as u64, 0, &[])?, offset: 0, shared: true },
        None => Backing::Anonymous,
    };
    let mut kind = Flags::empty();
    kind.set(Flags::GROWS_DOWN, flags & l::MAP_GROWSDOWN != 0);
    kind.set(Flags::NORESERVE, flags & l::MAP_NORESERVE != 0);
    let lock = flags & l::MAP_LOCKED != 0 || memory.lock_future.load(Ordering::Relaxed) != 0;
    kind.set(Flags::LOCKED, lock);
    if shared && file.as_deref().is_some_and(is_read_only) {
        kind |= Flags::READ_ONLY;
    }

    let low = flags & l::MAP_32BIT != 0 && !fixed;
    let at = if low {
        map_low(space, pages, prot, &backing, kind)?
    } else {
        let page = Page::containing(address.next_multiple_of(PAGE) as u64);
        let place = match flags {
            f if f & l::MAP_FIXED_NOREPLACE != 0 => Place::FixedNoReplace(page),
            f if f & l::MAP_FIXED != 0 => Place::Fixed(page),
            _ if address >= 65536 && address < USER_END - len => Place::Hint(page),
            // A thread's stack is used by another CPU than the one that maps it.
            f if f & l::MAP_STACK != 0 => Place::Shared,
            // A private view of a file is a library for the most part, which all threads use: it would fill the arena of the thread that
            // loads it, and other CPUs would join there.
            _ if file.is_some() && !shared => Place::Shared,
            _ => Place::Anywhere,
        };
        let backing = &backing;
        vm::retry(move || match space.map(place, pages, prot, backing, kind) {
            // Sealed since it was looked at: a view for reading.
            Err(EditError::Closed) if !prot.contains(Prot::WRITE) => {
                space.map(place, pages, prot, backing, kind | Flags::READ_ONLY)
            }
            done => done,
        })?
    };
    if (flags & l::MAP_POPULATE != 0 && flags & l::MAP_NONBLOCK == 0 || lock)
        && !prot.is_empty()
        && let Some(range) = PageRange::new(at, pages)
    {
        // Linux too ignores what could not be brought in.
        populate(space, range, prot.contains(Prot::WRITE) && !shared);
    }
    Ok(at.addr() as usize)
}

/// MAP_32BIT: somewhere in the first 2 GiB.
fn map_low(space: &Space, pages: u64, prot: Prot, backing: &Backing, flags: Flags) -> Result<Page, Errno> {
    let mut at = Page(0x4000_0000 >> 12);
    while at.0 + pages <= 0x8000_0000 >> 12 {
        match space.map(Place::FixedNoReplace(at), pages, prot, backing, flags) {
            Err(EditError::Exists) => {
                at = space.find(at).map_or(Page(at.0 + 1), |s| s.range.end.max(Page(at.0 + 1)));
            }
            Err(e) => return Err(vm::errno(e)),
            Ok(page) => return Ok(page),
        }
    }
    Err(ENOMEM)
}

/// Pages that are populated with interrupts off.
const PIECE: u64 = 512;

fn populate(space: &Space, range: PageRange, write: bool) -> bool {
    let mut at = range.start;
    while let Some(piece) = PageRange::new(at, PIECE.min(range.end.0 - at.0)) {
        match space.populate(piece, write) {
            Ok(()) => {
                at = piece.end;
                // Other CPUs wait for this one's answers, and the thread may be killed.
                crate::arch::interrupt_window();
                if crate::proc::signal::is_dying() {
                    return false;
                }
            }
            Err((page, needs)) => {
                relief::before_fault();
                if vm::provide(space, page, needs).is_err() {
                    return false;
                }
                at = page;
            }
        }
    }
    true
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
    match vm::retry(|| match space.unmap(range) {
        // A range without any mapping is no error.
        Err(EditError::NotMapped) => Ok(()),
        other => other,
    }) {
        Ok(()) => Ok(0),
        Err(e) => Err(e),
    }
}

/// `mprotect`
pub fn mprotect(r: &mut UserRegs) -> SysResult {
    let (mut address, mut len, bits) = (r.a0(), r.a1(), r.a2() as u32);
    let known = l::PROT_READ | l::PROT_WRITE | l::PROT_EXEC | l::PROT_SEM | l::PROT_GROWSDOWN | l::PROT_GROWSUP;
    aligned(address)?;
    if bits & !known != 0 || bits & l::PROT_GROWSDOWN != 0 && bits & l::PROT_GROWSUP != 0 {
        return Err(EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    let space = &user().memory().space;
    let prot = protection(bits);
    let down = bits & l::PROT_GROWSDOWN != 0;
    if down {
        let segment = space.find(Page::containing(address as u64)).ok_or(ENOMEM)?;
        if !segment.flags.contains(Flags::GROWS_DOWN) {
            return Err(EINVAL);
        }
        let start = segment.range.start.addr() as usize;
        len += address.saturating_sub(start);
        address = address.min(start);
    }
    let range = range(address, len).ok_or(ENOMEM)?;
    if !down && !(prot.contains(Prot::WRITE) && hopeless(range.pages())) {
        return vm::retry(move || space.protect(range, prot)).map(|()| 0);
    }
    // What must be true of each segment: it was charged already, or can be; and with PROT_GROWSDOWN, the first one begins where it did
    // when it was looked up.
    let (moved, too_much) = (Cell::new(false), Cell::new(false));
    let check = |s: &Seen| {
        let begins = s.range.start != range.start || s.start == range.start && s.flags.contains(Flags::GROWS_DOWN);
        let fresh = !s.prot.contains(Prot::WRITE) && !s.flags.intersects(Flags::NORESERVE | Flags::SHARED);
        moved.set(down && !begins);
        too_much.set(prot.contains(Prot::WRITE) && fresh && hopeless(s.range.pages()));
        !moved.get() && !too_much.get()
    };
    match vm::retry(|| space.protect_checked(range, prot, Some(&check))) {
        Err(_) if moved.get() => mprotect(r),
        Err(_) if too_much.get() => Err(ENOMEM),
        done => done.map(|()| 0),
    }
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
    let data = current().limit(l::RLIMIT_DATA);
    if data != limits::INFINITY && wanted - heap.start > data {
        return Ok(old as usize);
    }
    let (from, to) = (old.next_multiple_of(4096), wanted.next_multiple_of(4096));
    let space = &memory.space;
    let done = if to > from {
        let pages = (to - from) / 4096;
        let place = || Place::FixedNoReplace(Page::containing(from));
        let prot = Prot::READ | Prot::WRITE;
        !hopeless(pages)
            && !over_limit(space, pages)
            && vm::retry(|| space.map(place(), pages, prot, &Backing::Anonymous, Flags::HEAP)).is_ok()
    } else if to < from {
        match PageRange::new(Page::containing(to), (from - to) / 4096) {
            Some(range) => vm::retry(|| space.unmap(range)).is_ok(),
            None => false,
        }
    } else {
        true
    };
    if done {
        heap.end = wanted;
    }
    Ok(heap.end as usize)
}
