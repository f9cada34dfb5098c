//! `mremap`: a mapping grows, shrinks or moves, or is seen a second time. The move itself is the memory manager's.

use super::{PAGE, aligned, covered, hopeless, over_limit, range};
use crate::arch::UserRegs;
use crate::mem::user::USER_END;
use crate::mem::{Backing, Flags, Page, PageRange, Place, Prot, Remap, Space};
use crate::proc::thread::user;
use crate::proc::vm;
use crate::sys::Args;
use crate::sys::errno::*;
use linux_raw_sys::general as l;

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
    if new_len <= old_len && !fixed && !keep {
        // What is too much goes, whatever it is.
        let keeps = (new_len / PAGE) as u64;
        if let Some(rest) = PageRange::new(Page(page.0 + keeps), range.pages() - keeps) {
            vm::retry(|| space.unmap(rest))?;
        }
        return Ok(old);
    }
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
