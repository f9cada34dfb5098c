//! What a program says and asks about the pages of a mapping, which stays as it is: `madvise`, `mincore`, `msync`.

use super::{PAGE, Span, aligned, each_part, populate, range};
use crate::fs::regular;
use crate::mem::user::{UserSlice, in_range};
use crate::mem::{Backing, EditError, Fault, Flags, Page, PageRange, Prot, Segment, Space, memory};
use crate::proc::thread::user;
use crate::proc::vm;
use crate::swap::advice;
use linux_raw_sys::general as l;
use quire_arch::UserRegs;
use quire_base::errno::*;

/// `madvise`
pub fn madvise(r: &mut UserRegs) -> SysResult {
    let (address, len, advice) = (r.a0(), r.a1(), r.a2() as u32);
    let known = matches!(advice, 0..=4 | 8..=25);
    if !known {
        return Err(EINVAL);
    }
    aligned(address)?;
    let range = match Span::new(address, len) {
        Span::Empty if len == 0 => return Ok(0),
        Span::Empty | Span::Wraps => return Err(EINVAL),
        Span::Pages(range, all) => range.map(|range| (range, all)),
    };
    let Some((range, all)) = range else { return Err(ENOMEM) };
    if advise(&user().memory().space, range, advice)? && all { Ok(0) } else { Err(ENOMEM) }
}

/// Whether there were no holes.
fn advise(space: &Space, range: PageRange, advice: u32) -> Result<bool, Errno> {
    let covered = |done: Result<(), EditError>| match done {
        Err(EditError::NotMapped) => Ok(false),
        other => other.map(|()| true),
    };
    let set = |set: Flags, clear: Flags| vm::retry(|| covered(space.set_flags(range, set, clear, &|_, _| true)));
    let discard = |takes: &dyn Fn(Flags, bool) -> bool| vm::retry(|| covered(space.discard_such(range, takes)));
    match advice {
        l::MADV_DONTNEED => discard(&|flags, _| !flags.contains(Flags::LOCKED)),
        l::MADV_DONTNEED_LOCKED => discard(&|_, _| true),
        l::MADV_FREE => discard(&|flags, object| !object && !flags.contains(Flags::LOCKED)),
        l::MADV_REMOVE => each_part(space, range, remove),
        l::MADV_DONTFORK => set(Flags::DONTFORK, Flags::empty()),
        l::MADV_DOFORK => set(Flags::empty(), Flags::DONTFORK),
        l::MADV_WIPEONFORK => {
            let takes = |flags: Flags, object: bool| !object && !flags.contains(Flags::OF_ZEROS);
            vm::retry(|| covered(space.set_flags(range, Flags::WIPEONFORK, Flags::empty(), &takes)))
        }
        l::MADV_KEEPONFORK => set(Flags::empty(), Flags::WIPEONFORK),
        l::MADV_POPULATE_READ | l::MADV_POPULATE_WRITE => bring_in(space, range, advice == l::MADV_POPULATE_WRITE),
        l::MADV_PAGEOUT | l::MADV_COLD => each_part(space, range, |s, part| {
            if s.flags.contains(Flags::LOCKED) {
                return Err(EINVAL);
            }
            match advice {
                l::MADV_PAGEOUT => advice::page_out(space, part),
                _ => advice::cool(space, part),
            }
            Ok(())
        }),
        l::MADV_WILLNEED => {
            advice::will_need(space, range);
            each_part(space, range, |_, _| Ok(()))
        }
        // No page is larger than others.
        l::MADV_COLLAPSE => each_part(space, range, |_, _| Err(EINVAL)),
        // The rest are hints about speed.
        _ => each_part(space, range, |_, _| Ok(())),
    }
}

/// MADV_POPULATE_READ and MADV_POPULATE_WRITE: up to the first page that cannot be had.
fn bring_in(space: &Space, range: PageRange, write: bool) -> Result<bool, Errno> {
    let needed = if write { Prot::WRITE } else { Prot::READ };
    let mut at = range.start;
    each_part(space, range, |s, part| {
        if part.start > at {
            return Err(ENOMEM);
        }
        at = part.end;
        if !s.prot.contains(needed) {
            return Err(EINVAL);
        }
        populate(space, part, write).map_err(|why| match why {
            Fault::Forbidden => EINVAL,
            Fault::Beyond | Fault::Full | Fault::Lost => EFAULT,
            _ => ENOMEM,
        })
    })
}

/// MADV_REMOVE: a hole in what is mapped.
fn remove(s: &Segment, part: PageRange) -> Result<(), Errno> {
    match &s.backing {
        Backing::Object { object, offset, shared } if !s.flags.contains(Flags::LOCKED) => {
            if !shared || s.flags.contains(Flags::READ_ONLY) {
                return Err(EACCES);
            }
            let byte = |page: Page| (offset + page.0 - s.range.start.0) * PAGE as u64;
            regular::punch_mapped(object, byte(part.start), byte(part.end))
        }
        Backing::Anonymous if s.flags & (Flags::OF_ZEROS | Flags::LOCKED) == Flags::OF_ZEROS => Err(EACCES),
        _ => Err(EINVAL),
    }
}

/// `mincore`: whether pages are in memory, mapped by this process or not.
pub fn mincore(r: &mut UserRegs) -> SysResult {
    let (address, len, at) = (r.a0(), r.a1(), r.a2());
    aligned(address)?;
    if !in_range(address, len) {
        return Err(ENOMEM);
    }
    let to = UserSlice::new(at, len.div_ceil(PAGE))?;
    let Some(range) = range(address, len) else { return Ok(0) };
    let space = &user().memory().space;
    // As Linux: a segment at a time, and of it a page of answers, which are there before more is looked at, up to the first hole.
    let mut page = range.start;
    let mut bytes = crate::swap::shortage::page().ok_or(EAGAIN)?;
    while page < range.end {
        let segment = space.find_arrived(page).filter(|s| s.range.start <= page).ok_or(ENOMEM)?;
        let end = segment.range.end.min(range.end);
        let part = PageRange::new(page, (end.0 - page.0).min(bytes.len() as u64)).ok_or(ENOMEM)?;
        let bytes = &mut bytes[..part.pages() as usize];
        residence(space, &segment, part, bytes);
        to.skip((page.0 - range.start.0) as usize).copy_out(bytes)?;
        page = part.end;
        quire_arch::interrupt_window();
        if crate::proc::signal::is_dying() {
            return Err(EINTR);
        }
    }
    Ok(0)
}

/// Writes 1 for each page of a part of a segment that is in memory, else 0.
fn residence(space: &Space, s: &Segment, part: PageRange, bytes: &mut [u8]) {
    let at = |page: Page| (page.0 - part.start.0) as usize;
    bytes.fill(0);
    // What has no table is passed by.
    space.each_page(part, &mut |page, _| bytes[at(page)] = 1);
    if let Backing::Object { object, offset, .. } = &s.backing {
        for page in (part.start.0..part.end.0).map(Page) {
            let in_object = || memory().has_object_page(object, offset + page.0 - s.range.start.0);
            bytes[at(page)] = u8::from(bytes[at(page)] != 0 || in_object());
        }
    }
}

/// `msync`: objects are memory, so there is nothing to write.
pub fn msync(r: &mut UserRegs) -> SysResult {
    let (address, len, flags) = (r.a0(), r.a1(), r.a2() as u32);
    if flags & !(l::MS_ASYNC | l::MS_INVALIDATE | l::MS_SYNC) != 0 {
        return Err(EINVAL);
    }
    aligned(address)?;
    if flags & (l::MS_ASYNC | l::MS_SYNC) == l::MS_ASYNC | l::MS_SYNC {
        return Err(EINVAL);
    }
    let (range, all) = match Span::new(address, len) {
        Span::Empty => return Ok(0),
        Span::Wraps => return Err(ENOMEM),
        Span::Pages(range, all) => (range.ok_or(ENOMEM)?, all),
    };
    let covered = each_part(&user().memory().space, range, |s, _| {
        match flags & l::MS_INVALIDATE != 0 && s.flags.contains(Flags::LOCKED) {
            true => Err(EBUSY),
            false => Ok(()),
        }
    })?;
    if covered && all { Ok(0) } else { Err(ENOMEM) }
}
