//! `mremap`: a mapping grows, shrinks or moves, or is seen a second time. The move itself is the memory manager's.

use super::{PAGE, Span, aligned, hopeless, populate, range};
use crate::arch::UserRegs;
use crate::mem::user::USER_END;
use crate::mem::{Backing, EditError, Flags, Page, PageRange, Place, Prot, Remap, Segment};
use crate::proc::account::{self, Counts};
use crate::proc::thread::user;
use crate::proc::{Memory, shm, vm};
use crate::sys::Args;
use crate::sys::errno::*;
use linux_raw_sys::general as l;

/// `mremap`
pub fn mremap(r: &mut UserRegs) -> SysResult {
    let (old, old_len, new_len) = (r.a0(), r.a1(), r.a2());
    let (flags, new) = (r.a3(), r.a4());
    let has = |flag: u32| flags as u32 & flag != 0;
    if flags & !((l::MREMAP_MAYMOVE | l::MREMAP_FIXED | l::MREMAP_DONTUNMAP) as usize) != 0 {
        return Err(EINVAL);
    }
    let (may_move, fixed, keep) = (has(l::MREMAP_MAYMOVE), has(l::MREMAP_FIXED), has(l::MREMAP_DONTUNMAP));
    aligned(old)?;
    // As Linux: rounded up, they may become 0.
    let round = |len: usize| len.wrapping_add(PAGE - 1) & !(PAGE - 1);
    let (old_len, new_len) = (round(old_len), round(new_len));
    if new_len == 0 || new_len > USER_END {
        return Err(EINVAL);
    }
    if fixed || keep {
        aligned(new)?;
        if new > USER_END - new_len || !may_move || keep && old_len != new_len {
            return Err(EINVAL);
        }
        // An object mapping may be duplicated with an old length of 0; everything else must not overlap.
        if old < new + new_len && new < old.saturating_add(old_len) {
            return Err(EINVAL);
        }
    }
    let memory = user().memory();
    let space = &memory.space;
    let page = Page::containing(old as u64);
    let segment = space.find_settled(page).filter(|s| s.range.start <= page).ok_or(EFAULT)?;
    if old_len == 0 {
        return duplicate(memory, &segment, page, new_len, fixed.then_some(new), may_move);
    }
    let pages = (new_len / PAGE) as u64;
    if new_len <= old_len && !fixed && !keep {
        // What is too much goes, whatever it is.
        let too_much = Span::new(old + new_len, old_len - new_len);
        return match too_much {
            Span::Empty => Ok(old),
            Span::Pages(Some(rest), true) => vm::retry(|| space.unmap(rest)).map(|()| old),
            _ => Err(EINVAL),
        };
    }
    let range = range(old, old_len.min(new_len)).ok_or(EFAULT)?;
    // What is there now is only a guess of what will be moved: for the order of errors, and for what is no promise.
    let only_moves = fixed && old_len == new_len;
    let Ok(segment) = space.one_segment(range) else {
        return if only_moves { move_each(memory, range, new, keep) } else { Err(EFAULT) };
    };
    // A move that makes it smaller: first what is too much goes, as above.
    if new_len < old_len && old.checked_add(old_len).is_some_and(|end| end <= USER_END) {
        let rest = self::range(old + new_len, old_len - new_len).ok_or(EFAULT)?;
        vm::retry(|| space.unmap(rest))?;
    }
    let to = || match (fixed, may_move) {
        (true, _) => Remap::Fixed(Page::containing(new as u64)),
        (_, true) => Remap::MayMove(if keep { Page::containing(new as u64) } else { Page(0) }),
        _ => Remap::InPlace,
    };
    match carry(memory, &segment, range, pages, &to, keep) {
        // Several by now.
        Err(EFAULT) if only_moves => move_each(memory, range, new, keep),
        done => done,
    }
}

/// Whether a segment only moves alone, as on Linux: a private view of /dev/zero, and System V's.
fn moves_alone(segment: &Segment) -> bool {
    segment.flags.contains(Flags::OF_ZEROS)
        || matches!(&segment.backing, Backing::Object { object, shared: true, .. } if shm::showing(object).is_some())
}

/// Moves all that is mapped in a range, piece by piece, with the gaps between, which replace nothing. As Linux since 6.17: it begins
/// with a mapping, and a piece that cannot be moved ends it.
fn move_each(memory: &Memory, range: PageRange, new: usize, keep: bool) -> SysResult {
    let space = &memory.space;
    let mut at = range.start;
    while let Some(s) = space.find_settled(at).filter(|s| at < range.end && s.range.start < range.end) {
        let (start, end) = (s.range.start.max(at), s.range.end.min(range.end));
        let alone = start == range.start && end == range.end;
        if at == range.start && start > at || moves_alone(&s) && !alone {
            return Err(EFAULT);
        }
        let part = PageRange::new(start, end.0 - start.0).ok_or(EFAULT)?;
        let to = Page(Page::containing(new as u64).0 + (start.0 - range.start.0));
        match carry(memory, &s, part, part.pages(), &|| Remap::Fixed(to), keep) {
            Ok(_) => at = end,
            // Not what was seen any more: look again.
            Err(EFAULT) => {}
            Err(why) => return Err(why),
        }
    }
    if at == range.start { Err(EFAULT) } else { Ok(new) }
}

/// Makes a range of one segment so many pages, there or elsewhere. EFAULT: it is not one segment, by now.
fn carry(
    memory: &Memory,
    segment: &Segment,
    range: PageRange,
    pages: u64,
    to: &dyn Fn() -> Remap,
    keep: bool,
) -> SysResult {
    let space = &memory.space;
    let more = if keep { pages } else { pages.saturating_sub(range.pages()) };
    let reserved = segment.prot.contains(Prot::WRITE) && !segment.flags.contains(Flags::NORESERVE);
    if reserved && hopeless(more) {
        return Err(ENOMEM);
    }
    let edit = || {
        vm::retry(|| match space.remap(range, pages, to(), keep) {
            // More than one segment, or none any more.
            Err(EditError::NotMapped) => Ok(Err(EFAULT)),
            done => done.map(Ok),
        })
    };
    // Alone among the edits that the limits look at, so what it counts for is what will be moved.
    let counts = || space.one_segment(range).map_or(Counts::default(), |s| counts(&s, more));
    let at = account::within(memory, counts, edit)??;
    if let Some(fresh) = PageRange::new(Page(at.0 + range.pages()), pages.saturating_sub(range.pages())) {
        // Whoever locks it from now on brings its pages in himself.
        let locked = |s: &Segment| s.flags.contains(Flags::LOCKED) && !s.flags.contains(Flags::ON_FAULT);
        if let Some(s) = space.find_settled(at).filter(|s| s.range.start <= at && locked(s)) {
            let shared = matches!(s.backing, Backing::Object { shared: true, .. });
            let _ = populate(space, fresh, s.prot.contains(Prot::WRITE) && !shared);
        }
    }
    Ok(at.addr() as usize)
}

/// What so many pages more of a segment count for.
fn counts(segment: &Segment, pages: u64) -> Counts {
    Counts {
        all: pages,
        data: if account::is_data(segment.prot, segment.flags) { pages } else { 0 },
        ..Counts::default()
    }
}

/// mremap with an old length of 0: a second view of a shared object.
fn duplicate(
    memory: &Memory,
    segment: &Segment,
    page: Page,
    len: usize,
    fixed: Option<usize>,
    may_move: bool,
) -> SysResult {
    let Backing::Object { object, offset, shared: true } = &segment.backing else { return Err(EINVAL) };
    if !may_move {
        return Err(ENOMEM);
    }
    if let Some(at) = fixed
        && let Some(place) = range(at, len).filter(|place| (place.start..place.end).contains(&page))
    {
        // As Linux, where the place is made free before the view is looked at again, which is gone then.
        vm::retry(|| memory.space.unmap(place))?;
        return Err(EFAULT);
    }
    let offset = offset + (page.0 - segment.range.start.0);
    let backing = Backing::Object { object: object.clone(), offset, shared: true };
    let place = || match fixed {
        Some(at) => Place::Fixed(Page::containing(at as u64)),
        None => Place::Anywhere,
    };
    let flags = segment.flags - Flags::SHARED;
    let pages = (len / PAGE) as u64;
    let map = || {
        vm::retry(|| match memory.space.map(place(), pages, segment.prot, &backing, flags) {
            // So the first view, which kept it open to writers, is gone.
            Err(EditError::Closed) => Ok(Err(EFAULT)),
            done => done.map(Ok),
        })?
    };
    let at = account::within(memory, || counts(segment, pages), map)?;
    Ok(at.addr() as usize)
}
