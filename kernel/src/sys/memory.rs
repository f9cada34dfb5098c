//! Memory calls: Linux's argument checks and numbers around the memory manager's edits.

use super::Args;
use super::errno::*;
use crate::arch::UserRegs;
use crate::fs::regular::Regular;
use crate::fs::{OpenFile, dev::Device};
use crate::mem::user::{USER_END, UserPtr, UserSlice};
use crate::mem::{Backing, EditError, Flags, Page, PageRange, Place, Prot, Remap, Space, memory};
use crate::proc::thread::{current, user};
use crate::proc::{limits, vm};
use crate::swap::{self, advice, relief};
use alloc::sync::Arc;
use alloc::vec::Vec;
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
fn over_limit(space: &Space, more: u64) -> bool {
    let limit = current().limit(l::RLIMIT_AS);
    limit != limits::INFINITY && space.mapped().saturating_add(more) > limit / PAGE as u64
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
        let seals = regular.seals.load(Ordering::Relaxed);
        if shared && bits & l::PROT_WRITE != 0 && seals & (l::F_SEAL_WRITE | l::F_SEAL_FUTURE_WRITE) != 0 {
            return Err(EPERM);
        }
        // An image never changes, so a private view reads the same and keeps a later mprotect from writing into it.
        let shared = shared && !regular.is_image();
        return Ok(Backing::Object { object, offset: (offset / PAGE) as u64, shared });
    }
    Ok(Backing::Object { object, offset: (offset / PAGE) as u64, shared })
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
    let space = &user().memory().space;
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
    let lock = flags & l::MAP_LOCKED != 0 || user().memory().lock_future.load(Ordering::Relaxed) != 0;
    kind.set(Flags::LOCKED, lock);

    let low = flags & l::MAP_32BIT != 0 && !fixed;
    let at = if low {
        map_low(space, pages, prot, &backing, kind)?
    } else {
        let page = Page::containing(address.next_multiple_of(PAGE) as u64);
        let place = || match flags {
            f if f & l::MAP_FIXED_NOREPLACE != 0 => Place::FixedNoReplace(page),
            f if f & l::MAP_FIXED != 0 => Place::Fixed(page),
            _ if address >= 65536 && address < USER_END - len => Place::Hint(page),
            // A thread's stack is used by another CPU than the one that maps it.
            f if f & l::MAP_STACK != 0 => Place::Shared,
            _ => Place::Anywhere,
        };
        vm::retry(|| space.map(place(), pages, prot, &backing, kind))?
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
    if bits & l::PROT_GROWSDOWN != 0 {
        let segment = space.find(Page::containing(address as u64)).ok_or(ENOMEM)?;
        if !segment.flags.contains(Flags::GROWS_DOWN) {
            return Err(EINVAL);
        }
        let start = segment.range.start.addr() as usize;
        len += address.saturating_sub(start);
        address = address.min(start);
    }
    let range = range(address, len).ok_or(ENOMEM)?;
    let prot = protection(bits);
    if prot.contains(Prot::WRITE) && hopeless(range.pages()) {
        // Charged only if something in it was not writable and not MAP_NORESERVE.
        let mut fresh = 0;
        space.each_segment(range, |s| {
            if !s.prot.contains(Prot::WRITE) && !s.flags.contains(Flags::NORESERVE) {
                fresh += s.range.end.min(range.end).0 - s.range.start.max(range.start).0;
            }
        });
        if hopeless(fresh) {
            return Err(ENOMEM);
        }
    }
    vm::retry(|| space.protect(range, prot))?;
    Ok(0)
}

/// `mremap`
pub fn mremap(r: &mut UserRegs) -> SysResult {
    let (old, old_len, new_len) = (r.a0(), r.a1(), r.a2());
    let (flags, new) = (r.a3() as u32, r.a4());
    if flags & !(l::MREMAP_MAYMOVE | l::MREMAP_FIXED | l::MREMAP_DONTUNMAP) != 0 {
        return Err(EINVAL);
    }
    let (may_move, fixed, keep) =
        (flags & l::MREMAP_MAYMOVE != 0, flags & l::MREMAP_FIXED != 0, flags & l::MREMAP_DONTUNMAP != 0);
    if fixed && !may_move || keep && (!may_move || old_len != new_len) {
        return Err(EINVAL);
    }
    aligned(old)?;
    let old_len = old_len.checked_next_multiple_of(PAGE).ok_or(EINVAL)?;
    let new_len = new_len.checked_next_multiple_of(PAGE).ok_or(EINVAL)?;
    if new_len == 0 || new_len > USER_END {
        return Err(if new_len == 0 { EINVAL } else { ENOMEM });
    }
    if fixed {
        aligned(new)?;
        if new > USER_END - new_len {
            return Err(EINVAL);
        }
        // An object mapping may be duplicated with an old length of 0; everything else must not overlap.
        if old < new + new_len && new < old.saturating_add(old_len) {
            return Err(EINVAL);
        }
    }
    let space = &user().memory().space;
    let page = Page::containing(old as u64);
    let segment = space.find(page).filter(|s| s.range.start <= page).ok_or(EFAULT)?;
    if old_len == 0 {
        return duplicate(space, &segment, page, new_len, fixed.then_some(new), may_move);
    }
    let range = range(old, old_len).ok_or(EFAULT)?;
    if !covered(space, range) {
        return Err(EFAULT);
    }
    let pages = (new_len / PAGE) as u64;
    if pages > range.pages() {
        let more = pages - range.pages();
        let charged = segment.prot.contains(Prot::WRITE) && !segment.flags.contains(Flags::NORESERVE);
        if charged && hopeless(more) || over_limit(space, more) {
            return Err(ENOMEM);
        }
    }
    let to = || match (fixed, may_move) {
        (true, _) => Remap::Fixed(Page::containing(new as u64)),
        (_, true) => Remap::MayMove,
        _ => Remap::InPlace,
    };
    let at = vm::retry(|| space.remap(range, pages, to(), keep))?;
    Ok(at.addr() as usize)
}

/// mremap with an old length of 0: a second view of a shared object.
fn duplicate(
    space: &Space,
    segment: &crate::mem::Segment,
    page: Page,
    len: usize,
    fixed: Option<usize>,
    may_move: bool,
) -> SysResult {
    let Backing::Object { object, offset, shared: true } = &segment.backing else { return Err(EINVAL) };
    if !may_move {
        return Err(EINVAL);
    }
    let offset = offset + (page.0 - segment.range.start.0);
    let backing = Backing::Object { object: object.clone(), offset, shared: true };
    let place = || match fixed {
        Some(at) => Place::Fixed(Page::containing(at as u64)),
        None => Place::Anywhere,
    };
    let flags = segment.flags - Flags::SHARED;
    let at = vm::retry(|| space.map(place(), (len / PAGE) as u64, segment.prot, &backing, flags))?;
    Ok(at.addr() as usize)
}

/// `madvise`
pub fn madvise(r: &mut UserRegs) -> SysResult {
    let (address, len, advice) = (r.a0(), r.a1(), r.a2() as u32);
    aligned(address)?;
    match advice {
        0..=4 | 8..=23 | 25 => {}
        _ => return Err(EINVAL),
    }
    if len.checked_next_multiple_of(PAGE).is_none() || address.checked_add(len).is_none() {
        return Err(EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    let range = range(address, len).ok_or(ENOMEM)?;
    let space = &user().memory().space;
    let set = |set: Flags, clear: Flags| vm::retry(|| space.set_flags(range, set, clear));
    match advice {
        l::MADV_DONTNEED | l::MADV_FREE => {
            let mut locked = false;
            let mut shared = false;
            space.each_segment(range, |s| {
                locked |= s.flags.contains(Flags::LOCKED);
                shared |= !matches!(s.backing, Backing::Anonymous);
            });
            if locked || shared && advice == l::MADV_FREE {
                return Err(EINVAL);
            }
            match vm::retry(|| match space.discard(range) {
                Err(EditError::NotMapped) => Ok(()),
                other => other,
            }) {
                Ok(()) => {}
                Err(e) => return Err(e),
            }
        }
        l::MADV_REMOVE => return Err(EINVAL),
        l::MADV_DONTFORK => set(Flags::DONTFORK, Flags::empty())?,
        l::MADV_DOFORK => set(Flags::empty(), Flags::DONTFORK)?,
        l::MADV_WIPEONFORK => set(Flags::WIPEONFORK, Flags::empty())?,
        l::MADV_KEEPONFORK => set(Flags::empty(), Flags::WIPEONFORK)?,
        l::MADV_POPULATE_READ | l::MADV_POPULATE_WRITE => {
            if !covered(space, range) {
                return Err(ENOMEM);
            }
            if !populate(space, range, advice == l::MADV_POPULATE_WRITE) {
                return Err(EFAULT);
            }
        }
        l::MADV_PAGEOUT | l::MADV_COLD => {
            // As Linux: not for locked memory.
            let mut locked = false;
            space.each_segment(range, |s| locked |= s.flags.contains(Flags::LOCKED));
            if locked {
                return Err(EINVAL);
            }
            if advice == l::MADV_PAGEOUT { advice::page_out(space, range) } else { advice::cool(space, range) }
        }
        l::MADV_WILLNEED => advice::will_need(space, range),
        // The rest are hints about speed.
        _ => {}
    }
    if covered(space, range) { Ok(0) } else { Err(ENOMEM) }
}

/// `mincore`
pub fn mincore(r: &mut UserRegs) -> SysResult {
    let (address, len, at) = (r.a0(), r.a1(), r.a2());
    aligned(address)?;
    if len == 0 {
        return Ok(0);
    }
    let range = range(address, len).ok_or(ENOMEM)?;
    let space = &user().memory().space;
    UserSlice::new(at, range.pages() as usize)?;
    if !covered(space, range) {
        return Err(ENOMEM);
    }
    for index in 0..range.pages() {
        let resident = u8::from(space.is_resident(Page(range.start.0 + index)));
        UserPtr::<u8>::new(at + index as usize).write(resident)?;
    }
    Ok(0)
}

/// `msync`: objects are memory, so there is nothing to write.
pub fn msync(r: &mut UserRegs) -> SysResult {
    let (address, len, flags) = (r.a0(), r.a1(), r.a2() as u32);
    aligned(address)?;
    if flags & !(l::MS_ASYNC | l::MS_INVALIDATE | l::MS_SYNC) != 0 || flags & (l::MS_ASYNC | l::MS_SYNC) == 5 {
        return Err(EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    let range = range(address, len).ok_or(ENOMEM)?;
    if covered(&user().memory().space, range) { Ok(0) } else { Err(ENOMEM) }
}

fn lock(address: usize, len: usize, on: bool) -> SysResult {
    let start = address & !(PAGE - 1);
    let len = len.checked_add(address - start).ok_or(EINVAL)?;
    if len == 0 {
        return Ok(0);
    }
    let range = range(start, len).ok_or(ENOMEM)?;
    let space = &user().memory().space;
    if !covered(space, range) {
        return Err(ENOMEM);
    }
    if on && range.pages() > memory().total_frames() {
        return Err(ENOMEM);
    }
    let (set, clear) = if on { (Flags::LOCKED, Flags::empty()) } else { (Flags::empty(), Flags::LOCKED) };
    vm::retry(|| space.set_flags(range, set, clear))?;
    if on {
        let mut writable = Vec::new();
        space.each_segment(range, |s| {
            let part = (s.range.start.max(range.start), s.range.end.min(range.end));
            let shared = matches!(s.backing, Backing::Object { shared: true, .. });
            if !s.prot.is_empty() && writable.try_reserve(1).is_ok() {
                writable.push((part, s.prot.contains(Prot::WRITE) && !shared));
            }
        });
        for ((start, end), write) in writable {
            if let Some(part) = PageRange::new(start, end.0 - start.0)
                && !populate(space, part, write)
            {
                return Err(ENOMEM);
            }
        }
    }
    Ok(0)
}

/// `mlock`
pub fn mlock(r: &mut UserRegs) -> SysResult {
    lock(r.a0(), r.a1(), true)
}
/// `mlock2`
pub fn mlock2(r: &mut UserRegs) -> SysResult {
    if r.a2() & !1 != 0 {
        return Err(EINVAL);
    }
    lock(r.a0(), r.a1(), true)
}
/// `munlock`
pub fn munlock(r: &mut UserRegs) -> SysResult {
    lock(r.a0(), r.a1(), false)
}
/// `mlockall`
pub fn mlockall(r: &mut UserRegs) -> SysResult {
    let flags = r.a0() as u32;
    if flags == 0 || flags & !7 != 0 || flags == 4 {
        return Err(EINVAL);
    }
    user().memory().lock_future.store(u32::from(flags & 2 != 0), Ordering::Relaxed);
    if flags & 1 != 0 {
        each_part(|start, len| _ = lock(start, len, true));
    }
    Ok(0)
}

/// Calls `act` with each segment of this process, its address and length.
fn each_part(mut act: impl FnMut(usize, usize)) {
    let space = &user().memory().space;
    let mut at = Page(0);
    while let Some(segment) = space.find(at) {
        let (start, end) = (segment.range.start, segment.range.end);
        act(start.addr() as usize, (end.0 - start.0) as usize * PAGE);
        at = end;
    }
}

/// `munlockall`
pub fn munlockall(_: &mut UserRegs) -> SysResult {
    user().memory().lock_future.store(0, Ordering::Relaxed);
    each_part(|start, len| _ = lock(start, len, false));
    Ok(0)
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
