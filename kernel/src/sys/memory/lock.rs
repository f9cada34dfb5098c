//! Memory that stays: `mlock` and its family. A lock is a flag of the segments, and all their pages brought in once.

use super::{PAGE, Span, each_part, populate};
use crate::mem::{Backing, EditError, Fault, Flags, Page, PageRange, Prot, Space, memory};
use crate::proc::thread::user;
use crate::proc::vm;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as l;
use quire_arch::UserRegs;
use quire_base::errno::*;

/// Gives the segments of a range these of [`Flags::LOCKS`], up to the first hole.
fn lock(address: usize, len: usize, set: Flags) -> SysResult {
    let start = address & !(PAGE - 1);
    let range = match Span::new(start, len.wrapping_add(address - start)) {
        Span::Empty => return Ok(0),
        Span::Wraps => return Err(EINVAL),
        Span::Pages(range, all) => range.map(|range| (range, all)),
    };
    let Some((range, all)) = range else { return Err(ENOMEM) };
    if !set.is_empty() {
        use_it();
    }
    let space = &user().memory().space;
    let covered = vm::retry(|| match space.set_flags_to_hole(range, set, Flags::LOCKS - set) {
        Err(EditError::NotMapped) => Ok(false),
        other => other.map(|()| true),
    })?;
    if !covered || !all {
        return Err(ENOMEM);
    }
    if set == Flags::LOCKED {
        // They are locked nevertheless, as on Linux, which would bring in what it can until somebody is killed for it.
        if range.pages() > memory().total_frames() {
            return Err(ENOMEM);
        }
        bring_in(space, range)?;
    }
    Ok(0)
}

/// Brings all pages in, up to the first that cannot be had. They are locked nevertheless, as on Linux.
fn bring_in(space: &Space, range: PageRange) -> SysResult {
    each_part(space, range, |s, part| {
        let shared = matches!(s.backing, Backing::Object { shared: true, .. });
        match populate(space, part, s.prot.contains(Prot::WRITE) && !shared) {
            // Unmapped since it was locked: no fault of the call's, as on Linux.
            Ok(()) | Err(Fault::NoSegment) => Ok(()),
            Err(Fault::OutOfFrames) => Err(EAGAIN),
            Err(_) => Err(ENOMEM),
        }
    })?;
    Ok(0)
}

/// Something of this process is locked from now on, or will be.
pub fn use_it() {
    user().memory().uses_locks.store(true, Ordering::Relaxed);
}

/// Whether something of this process may be locked. Relaxed: who finds out late brings pages in late.
pub fn is_used() -> bool {
    user().memory().uses_locks.load(Ordering::Relaxed)
}

/// The parts of a range that are locked, private and not writable.
#[cold]
pub fn not_writable(space: &Space, range: PageRange) -> Result<Vec<PageRange>, Errno> {
    let mut parts = Vec::new();
    each_part(space, range, |s, part| {
        if s.flags & (Flags::LOCKS | Flags::SHARED) == Flags::LOCKED && !s.prot.contains(Prot::WRITE) {
            parts.try_reserve(1).map_err(|_| ENOMEM)?;
            parts.push(part);
        }
        Ok(())
    })?;
    Ok(parts)
}

/// As Linux, brings in copies of pages for those of the parts that have become writable since, so that a store needs no fault there.
pub fn bring_in_writable(space: &Space, parts: &[PageRange]) {
    for &part in parts {
        let _ = each_part(space, part, |s, part| {
            if s.flags & Flags::LOCKS == Flags::LOCKED
                && s.prot.contains(Prot::WRITE)
                && part.pages() <= memory().total_frames()
            {
                let _ = populate(space, part, true);
            }
            Ok(())
        });
    }
}

/// `mlock`
pub fn mlock(r: &mut UserRegs) -> SysResult {
    lock(r.a0(), r.a1(), Flags::LOCKED)
}
/// `mlock2`
pub fn mlock2(r: &mut UserRegs) -> SysResult {
    let flags = r.a2() as u32;
    if flags & !l::MLOCK_ONFAULT != 0 {
        return Err(EINVAL);
    }
    lock(r.a0(), r.a1(), if flags == 0 { Flags::LOCKED } else { Flags::LOCKS })
}
/// `munlock`
pub fn munlock(r: &mut UserRegs) -> SysResult {
    lock(r.a0(), r.a1(), Flags::empty())
}
/// `mlockall`
pub fn mlockall(r: &mut UserRegs) -> SysResult {
    let flags = r.a0() as u32;
    let now = flags & l::MCL_CURRENT != 0;
    if flags == 0 || flags & !(l::MCL_CURRENT | l::MCL_FUTURE | l::MCL_ONFAULT) != 0 || flags == l::MCL_ONFAULT {
        return Err(EINVAL);
    }
    let locks = if flags & l::MCL_ONFAULT != 0 { Flags::LOCKS } else { Flags::LOCKED };
    use_it();
    let future = if flags & l::MCL_FUTURE != 0 { locks } else { Flags::empty() };
    let space = &user().memory().space;
    // First: a mapping that has not read it is found among the segments.
    space.set_future_flags(future);
    if now {
        give(space, locks)?;
        if locks == Flags::LOCKED {
            // As on Linux, what cannot be had is left out.
            each_part(space, ALL, |_, part| {
                if part.pages() <= memory().total_frames() {
                    let _ = bring_in(space, part);
                }
                Ok(())
            })?;
        }
    }
    Ok(0)
}

/// All pages.
const ALL: PageRange = PageRange { start: Page(0), end: PageRange::LIMIT };

/// Gives all segments these of [`Flags::LOCKS`], and takes the others.
fn give(space: &Space, set: Flags) -> Result<(), Errno> {
    vm::retry(|| match space.set_flags(ALL, set, Flags::LOCKS - set, &|_, _| true) {
        Err(EditError::NotMapped) => Ok(()),
        done => done,
    })
}

/// `munlockall`
pub fn munlockall(_: &mut UserRegs) -> SysResult {
    let space = &user().memory().space;
    space.set_future_flags(Flags::empty());
    give(space, Flags::empty()).map(|()| 0)
}
