//! Memory that stays: `mlock` and its family. A lock is a flag of the segments, and all their pages brought in once.

use super::{PAGE, populate, range};
use crate::arch::UserRegs;
use crate::mem::{Backing, Flags, Page, PageRange, Prot, memory};
use crate::proc::thread::user;
use crate::proc::vm;
use crate::sys::Args;
use crate::sys::errno::*;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

fn lock(address: usize, len: usize, on: bool) -> SysResult {
    let start = address & !(PAGE - 1);
    let len = len.checked_add(address - start).ok_or(EINVAL)?;
    if len == 0 {
        return Ok(0);
    }
    let range = range(start, len).ok_or(ENOMEM)?;
    let space = &user().memory().space;
    if on && range.pages() > memory().total_frames() {
        return Err(ENOMEM);
    }
    let (set, clear) = if on { (Flags::LOCKED, Flags::empty()) } else { (Flags::empty(), Flags::LOCKED) };
    vm::retry(|| space.set_flags_to_hole(range, set, clear))?;
    if on {
        let (mut writable, mut hidden) = (Vec::new(), false);
        space.each_segment(range, |s| {
            let part = (s.range.start.max(range.start), s.range.end.min(range.end));
            let shared = matches!(s.backing, Backing::Object { shared: true, .. });
            hidden |= s.prot.is_empty();
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
        // Locked nevertheless, as on Linux.
        if hidden {
            return Err(ENOMEM);
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
