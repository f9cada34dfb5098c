//! `mremap`: a mapping grows, shrinks or moves, or is seen a second time. The move itself is the memory manager's.
//!
//! In Linux's order, as of 6.17: the numbers ([`Wish`]), the mapping, the limits, then the place that it moves to, which is free from
//! then on whatever comes of the rest; then what is too much; then the move.

use super::{PAGE, Span, aligned, bring_in_mapped, hopeless, range};
use crate::mem::user::USER_END;
use crate::mem::{Backing, EditError, Flags, Page, PageRange, Prot, Remap, Segment};
use crate::proc::account::{self, More};
use crate::proc::thread::{current, user};
use crate::proc::{Memory, shm, vm};
use linux_raw_sys::general as l;
use quire_arch::UserRegs;
use quire_base::errno::*;

/// What a call asks for, by numbers that are in order.
struct Wish {
    old: usize,
    /// Lengths in whole pages; the old one may be nothing, and may wrap around the end of all addresses.
    old_len: usize,
    new_len: usize,
    /// Where to, which MREMAP_FIXED demands and MREMAP_DONTUNMAP suggests.
    new: usize,
    may_move: bool,
    fixed: bool,
    /// MREMAP_DONTUNMAP: the old range stays mapped.
    keep: bool,
}

impl Wish {
    /// All that can be told from the numbers alone is EINVAL.
    fn new(r: &UserRegs) -> Result<Wish, Errno> {
        let flags = r.a3();
        if flags & !((l::MREMAP_MAYMOVE | l::MREMAP_FIXED | l::MREMAP_DONTUNMAP) as usize) != 0 {
            return Err(EINVAL);
        }
        let has = |flag: u32| flags as u32 & flag != 0;
        // As Linux: rounded up, they may become 0.
        let round = |len: usize| len.wrapping_add(PAGE - 1) & !(PAGE - 1);
        let wish = Wish {
            old: r.a0(),
            old_len: round(r.a1()),
            new_len: round(r.a2()),
            new: r.a4(),
            may_move: has(l::MREMAP_MAYMOVE),
            fixed: has(l::MREMAP_FIXED),
            keep: has(l::MREMAP_DONTUNMAP),
        };
        aligned(wish.old)?;
        if wish.new_len == 0 || wish.new_len > USER_END {
            return Err(EINVAL);
        }
        if wish.fixed || wish.keep {
            aligned(wish.new)?;
            let outside = wish.new > USER_END - wish.new_len;
            if outside || !wish.may_move || wish.keep && wish.old_len != wish.new_len || wish.overlaps() {
                return Err(EINVAL);
            }
        }
        Ok(wish)
    }

    /// As Linux sees it, to whom an old range that wraps around is over where it begins.
    fn overlaps(&self) -> bool {
        self.old < self.new + self.new_len && self.new < self.old.wrapping_add(self.old_len)
    }

    /// Whether something moves, all of it, to a place of the caller's choice: this takes several mappings at once.
    fn only_moves(&self) -> bool {
        self.fixed && self.old_len == self.new_len
    }

    /// The place that MREMAP_FIXED and MREMAP_DONTUNMAP name.
    fn place(&self) -> Result<PageRange, Errno> {
        range(self.new, self.new_len).ok_or(EINVAL)
    }
}

/// `mremap`
pub fn mremap(r: &mut UserRegs) -> SysResult {
    let wish = Wish::new(r)?;
    let memory = user().memory();
    if wish.only_moves() {
        return move_each(memory, &wish);
    }
    let space = &memory.space;
    let page = Page::containing(wish.old as u64);
    let segment = space.find_arrived(page).filter(|s| s.range.start <= page).ok_or(EFAULT)?;
    if wish.old_len == 0 {
        return duplicate(memory, &segment, page, &wish);
    }
    if wish.new_len <= wish.old_len && !wish.fixed && !wish.keep {
        return cut(memory, &wish).map(|()| wish.old);
    }
    let moved = range(wish.old, wish.old_len.min(wish.new_len)).ok_or(EFAULT)?;
    // What is there now is only a guess of what will be moved: for the order of errors, and for what is no promise.
    let segment = space.one_segment(moved).map_err(|_| EFAULT)?;
    if wish.new_len < wish.old_len {
        // With a place of its own, then; which may cover a range that wraps around.
        let place = wish.place()?;
        clear(memory, place)?;
        if (place.start..place.end).contains(&page) {
            return Err(EFAULT);
        }
        cut(memory, &wish)?;
    }
    let to = match (wish.fixed, wish.may_move) {
        (true, _) => Remap::Fixed(Page::containing(wish.new as u64)),
        (_, true) => Remap::MayMove(if wish.keep { Page::containing(wish.new as u64) } else { Page(0) }),
        _ => Remap::InPlace,
    };
    carry(memory, &segment, moved, (wish.new_len / PAGE) as u64, to, wish.keep)
}

/// Makes a place free.
fn clear(memory: &Memory, place: PageRange) -> Result<(), Errno> {
    vm::retry(|| memory.space.unmap(place))
}

/// What of the old range is too much goes, whatever it is.
fn cut(memory: &Memory, wish: &Wish) -> Result<(), Errno> {
    match Span::new(wish.old + wish.new_len, wish.old_len - wish.new_len) {
        Span::Empty => Ok(()),
        Span::Pages(Some(rest), true) => clear(memory, rest),
        _ => Err(EINVAL),
    }
}

/// Whether a segment only moves alone, as on Linux: a private view of /dev/zero, and System V's.
fn moves_alone(segment: &Segment) -> bool {
    segment.flags.contains(Flags::OF_ZEROS)
        || matches!(&segment.backing, Backing::Object { object, shared: true, .. } if shm::showing(object).is_some())
}

/// Moves all that is mapped in a range, piece by piece, with the gaps between, which replace nothing. It begins with a mapping, and a
/// piece that cannot be moved ends it.
fn move_each(memory: &Memory, wish: &Wish) -> SysResult {
    let space = &memory.space;
    let end = wish.old.checked_add(wish.old_len).ok_or(EFAULT)?.min(USER_END);
    let range = range(wish.old, end.saturating_sub(wish.old)).ok_or(EFAULT)?;
    let to = |start: Page| Remap::Fixed(Page(Page::containing(wish.new as u64).0 + (start.0 - range.start.0)));
    // One may span arenas, and what moves alone is one.
    if let Ok(s) = space.one_segment(range) {
        match carry(memory, &s, range, range.pages(), to(range.start), wish.keep) {
            // Several by now.
            Err(EFAULT) => {}
            done => return done,
        }
    }
    let mut at = range.start;
    while let Some(s) = space.find_whole(at).filter(|s| at < range.end && s.range.start < range.end) {
        let (start, end) = (s.range.start.max(at), s.range.end.min(range.end));
        let whole = start == range.start && end == range.end;
        if at == range.start && start > at || moves_alone(&s) && !whole {
            return Err(EFAULT);
        }
        let part = PageRange::new(start, end.0 - start.0).ok_or(EFAULT)?;
        match carry(memory, &s, part, part.pages(), to(start), wish.keep) {
            Ok(_) => at = end,
            // Not what was seen any more: look again.
            Err(EFAULT) => {}
            Err(why) => return Err(why),
        }
    }
    if at == range.start { Err(EFAULT) } else { Ok(wish.new) }
}

/// Makes a range of one segment so many pages, there or elsewhere. EFAULT: it is not one segment, by now.
fn carry(memory: &Memory, segment: &Segment, range: PageRange, pages: u64, to: Remap, keep: bool) -> SysResult {
    let space = &memory.space;
    let more = if keep { pages } else { pages.saturating_sub(range.pages()) };
    // What a refusal leaves of the place, as on Linux.
    let clear = || match to {
        Remap::Fixed(at) => PageRange::new(at, pages).map_or(Ok(()), |place| clear(memory, place)),
        _ => Ok(()),
    };
    let reserved = segment.prot.contains(Prot::WRITE) && !segment.flags.intersects(Flags::NORESERVE | Flags::SHARED);
    let edit = || {
        if reserved && hopeless(more) {
            clear()?;
            return Err(ENOMEM);
        }
        vm::retry(|| match space.remap(range, pages, to, keep) {
            // More than one segment, or none any more.
            Err(EditError::NotMapped) => Ok(Err(EFAULT)),
            done => done.map(Ok),
        })
    };
    // Alone among the edits that the limits look at, so what it counts for is what will be moved.
    let counts = || {
        // Not one segment any more: the edit says so.
        let Ok(s) = space.one_segment(range) else { return More::default() };
        if keep {
            // It counts from when the place is free.
            let _ = clear();
        }
        counts(&s, more)
    };
    let at = if more != 0 {
        account::within(memory, counts, edit)??
    } else if current().limits.hold_memory() {
        // What adds nothing is not refused, whatever limits were passed. But while it moves it counts twice, and as no data.
        account::limited(memory, |_| edit())??
    } else {
        edit()??
    };
    bring_in_mapped(space, at, Page(at.0 + range.pages()), pages.saturating_sub(range.pages()), false);
    Ok(at.addr() as usize)
}

/// What so many pages more of a segment count for.
fn counts(segment: &Segment, pages: u64) -> More {
    More { pages, is_data: account::is_data(segment.prot, segment.flags) }
}

/// mremap with an old length of 0: a second view of a shared object.
fn duplicate(memory: &Memory, segment: &Segment, page: Page, wish: &Wish) -> SysResult {
    let Backing::Object { shared: true, .. } = &segment.backing else { return Err(EINVAL) };
    if !wish.may_move {
        return Err(ENOMEM);
    }
    let place = if wish.fixed { Some(wish.place()?) } else { None };
    let pages = (wish.new_len / PAGE) as u64;
    let map = || {
        if let Some(place) = place.filter(|place| (place.start..place.end).contains(&page)) {
            // As Linux, where the place is made free before the view is looked at again, which is gone then.
            clear(memory, place)?;
            return Err(EFAULT);
        }
        vm::retry(|| match memory.space.map_again(page, place.map(|place| place.start), pages) {
            // The first view is gone.
            Err(EditError::NotMapped) => Ok(Err(EFAULT)),
            done => done.map(Ok),
        })?
    };
    let at = account::within(memory, || More { pages, is_data: false }, map)?;
    bring_in_mapped(&memory.space, at, at, pages, false);
    Ok(at.addr() as usize)
}
