//! What a program says and asks about the pages of a mapping, which stays as it is: `madvise`, `mincore`, `msync`.

use super::{PAGE, aligned, covered, populate, range};
use crate::arch::UserRegs;
use crate::fs::regular;
use crate::mem::user::{UserPtr, UserSlice};
use crate::mem::{Backing, Flags, Page, PageRange, Space};
use crate::proc::thread::user;
use crate::proc::vm;
use crate::swap::advice;
use crate::sys::Args;
use crate::sys::errno::*;
use linux_raw_sys::general as l;

/// `madvise`
pub fn madvise(r: &mut UserRegs) -> SysResult {
    let (address, len, advice) = (r.a0(), r.a1(), r.a2() as u32);
    aligned(address)?;
    match advice {
        0..=4 | 8..=25 => {}
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
    let set = |set: Flags, clear: Flags| vm::retry(|| space.set_flags(range, set, clear, &|_, _| true));
    match advice {
        l::MADV_DONTNEED => vm::retry(|| space.discard_such(range, &|flags, _| !flags.contains(Flags::LOCKED)))?,
        l::MADV_DONTNEED_LOCKED => vm::retry(|| space.discard(range))?,
        l::MADV_FREE => {
            vm::retry(|| space.discard_such(range, &|flags, object| !object && !flags.contains(Flags::LOCKED)))?;
        }
        l::MADV_REMOVE => remove(space, range)?,
        l::MADV_DONTFORK => set(Flags::DONTFORK, Flags::empty())?,
        l::MADV_DOFORK => set(Flags::empty(), Flags::DONTFORK)?,
        l::MADV_WIPEONFORK => {
            vm::retry(|| space.set_flags(range, Flags::WIPEONFORK, Flags::empty(), &|_, object| !object))?;
        }
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

/// MADV_REMOVE: a hole in what is mapped, one segment after the other.
fn remove(space: &Space, range: PageRange) -> Result<(), Errno> {
    let mut at = range.start;
    while at < range.end
        && let Some(s) = space.find(at).filter(|s| s.range.start < range.end)
    {
        let (from, to) = (s.range.start.max(at), s.range.end.min(range.end));
        at = to;
        match &s.backing {
            Backing::Object { object, offset, shared } if !s.flags.contains(Flags::LOCKED) => {
                if !shared || s.flags.contains(Flags::READ_ONLY) {
                    return Err(EACCES);
                }
                let byte = |page: Page| (offset + page.0 - s.range.start.0) * PAGE as u64;
                regular::punch_mapped(object, byte(from), byte(to))?;
            }
            _ => return Err(EINVAL),
        }
    }
    Ok(())
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
    let space = &user().memory().space;
    let mut locked = false;
    space.each_segment(range, |s| locked |= s.flags.contains(Flags::LOCKED));
    match flags & l::MS_INVALIDATE != 0 && locked {
        true => Err(EBUSY),
        false if covered(space, range) => Ok(0),
        false => Err(ENOMEM),
    }
}
