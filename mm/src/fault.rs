//! The fault: entry, then list, then one transition. It takes no lock.
//!
//! One attempt is a *window*, one call of [`Space::window`]: not preempted, and one read section from its first line to its end. It runs
//! on a CPU on which the space is active, and joins the arena before it reads the entry. After any wait, and after any failed transition,
//! the fault begins again with another one, and uses no word and no list read before.

use crate::arena::Arena;
use crate::entry::{Entry, Word};
use crate::frames::{Frame, Owners};
use crate::machine::{Machine, What};
use crate::object::PageError;
use crate::page::{Access, Page, PageRange, Prot};
use crate::segment::{Flags, Part};
use crate::shootdown::Pages;
use crate::slot::Slot;
use crate::space::Space;
use crate::stats::Counter;
use crate::sync::{Ordering::*, fence};

/// What came of a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Fault {
    /// The access may be tried again.
    Done,
    /// Nothing is mapped there (SIGSEGV, SEGV_MAPERR).
    NoSegment,
    /// The segment does not grant the access (SIGSEGV, SEGV_ACCERR).
    Forbidden,
    /// Behind the end of the object (SIGBUS, BUS_ADRERR).
    Beyond,
    /// No memory: free some, then fault again.
    OutOfFrames,
    /// As [`PageError::Full`]: SIGBUS, unless what waits for a grace period makes room.
    Full,
    /// The content is in this swap slot: read it, or wait for what is under way, then fault again.
    SwapIn(Slot),
    /// The content could not be read from the swap area (SIGBUS).
    Lost,
}

impl From<PageError> for Fault {
    fn from(why: PageError) -> Fault {
        match why {
            PageError::Beyond => Fault::Beyond,
            PageError::OutOfFrames => Fault::OutOfFrames,
            PageError::Full => Fault::Full,
            PageError::SwapIn(slot) => Fault::SwapIn(slot),
            PageError::Lost => Fault::Lost,
        }
    }
}

/// The end of a window.
enum Step {
    End(Fault),
    Again,
    Wait,
    /// A copy is published; `others` may still read `old`. Ended outside of the window ([`Space::end_copy`]).
    Copied {
        old: Frame,
        copy: Frame,
        others: u64,
    },
}

use Step::{Again, Copied, End, Wait};

impl<M: Machine> Space<M> {
    /// Makes `page` accessible, or says why not. The calling CPU is active in this space.
    pub fn fault(&self, page: Page, access: Access) -> Fault {
        let m = self.memory();
        m.stats.add(&m.machine, Counter::Fault, 1);
        self.resolve(page, access).unwrap_or_else(|| self.wait_and_resolve(page, access))
    }

    /// As [`Space::fault`], after an attempt that found something to wait for.
    #[cold]
    #[inline(never)]
    fn wait_and_resolve(&self, page: Page, access: Access) -> Fault {
        static EDIT: What = What::page("the end of an edit in two steps, of a fork, or of another fault's copy, over");
        let m = self.memory();
        // Whatever it waits for: when that is over, the next fork may have shared the page anew.
        let _slow = self.slow.count();
        let mut since = 0;
        loop {
            m.stats.add(&m.machine, Counter::WaitFault, 1);
            since = m.pause(&EDIT, page.0, since);
            if let Some(fault) = self.resolve(page, access) {
                return fault;
            }
        }
    }

    /// Attempts until there is an end, or something to wait for: `None`.
    #[inline]
    fn resolve(&self, page: Page, access: Access) -> Option<Fault> {
        let m = self.memory();
        loop {
            let Some(arena) = self.arena(page.arena()) else {
                m.stats.add(&m.machine, Counter::FaultDenied, 1);
                return Some(Fault::NoSegment);
            };
            match self.window(arena, page, access) {
                End(f @ (Fault::NoSegment | Fault::Forbidden)) => {
                    m.stats.add(&m.machine, Counter::FaultDenied, 1);
                    // The edit that took the right away must be over before anybody is told (race 47). No second look
                    // (model `segv`).
                    arena.claims.wait_for(m, page.local(), page.local() + 1);
                    return Some(f);
                }
                End(f) => return Some(f),
                Again => {
                    m.stats.add(&m.machine, Counter::RetryFault, 1);
                    m.serve();
                }
                Copied { old, copy, others } => {
                    // Counted, so that the next fork lets this store pass first: else it would share the page anew before the store is
                    // done, and so might each one after it. Only where other CPUs have to answer; else a store is faster than a fork.
                    let _slow = (others != 0).then(|| self.slow.count());
                    let zero = old == m.zero_page();
                    let cause = if zero { Counter::ShootdownZero } else { Counter::ShootdownCopy };
                    if zero {
                        self.blank.replaced();
                    }
                    m.shoot(cause, others, &Pages::one(page));
                    m.machine.invalidate(page);
                    self.end_copy(old, copy);
                }
                Wait => return None,
            }
        }
    }

    fn window(&self, arena: &Arena, page: Page, access: Access) -> Step {
        let m = self.memory();
        let pin = m.pin();
        if !self.join(arena) {
            return End(Fault::OutOfFrames);
        }
        loop {
            // 1. The entry, 2. then the segment.
            let (entry, e, level) = arena.walk(m, &pin, page.local());
            let segment = arena.list(&pin).find(page.local());
            // 3. May it be?
            let Some(p) = segment else { return End(Fault::NoSegment) };
            if p.flags.contains(Flags::TRANSIT) {
                return Wait;
            }
            if !p.prot.allows(access) {
                return End(Fault::Forbidden);
            }
            if access == Access::Write && !p.flags.contains(Flags::SHARED) && self.is_forking() {
                return Wait;
            }
            // 4. A missing table.
            if level != 0 {
                if e.is_sealed() {
                    return Again;
                }
                let Some(t) = m.new_table() else { return End(Fault::OutOfFrames) };
                if entry.install_table(e, t).is_err() {
                    m.free(t);
                    m.stats.add(&m.machine, Counter::RetryTable, 1);
                    return Again;
                }
                continue;
            }
            // 5. One transition.
            return if e.is_empty() {
                self.fill(arena, entry, e, p, page, access)
            } else if e.is_present() {
                self.present(arena, entry, e, p, page, access)
            } else if e.is_hidden() {
                // Reading is granted at once, storing by the next window.
                match entry.reveal(e, p.prot) {
                    Ok(()) if access == Access::Read => End(Fault::Done),
                    _ => Again,
                }
            } else if e.is_swapped() {
                match self.swap_in(entry, e, p.prot, page, access) {
                    // A store goes on with the page that is back.
                    Ok(true) if access != Access::Write => End(Fault::Done),
                    Ok(_) => Again,
                    Err(why) => End(why.into()),
                }
            } else {
                Again
            };
        }
    }

    /// `Empty(g) -> Page`.
    fn fill(&self, arena: &Arena, entry: &Entry, e: Word, p: &Part, page: Page, access: Access) -> Step {
        let m = self.memory();
        let write = access == Access::Write;
        let (word, counter) = if p.object.is_null() {
            if write {
                let Some(f) = m.new_page() else { return End(Fault::OutOfFrames) };
                (Word::page(f, p.prot).private(), Counter::FaultAnonymous)
            } else if let Some(f) = self.blank_page(arena, p.prot) {
                (Word::page(f, p.prot - Prot::WRITE).private(), Counter::FaultBlank)
            } else {
                (Word::page(m.zero_page(), p.prot).private().cow(), Counter::FaultZero)
            }
        } else {
            // SAFETY: the segment was read inside this window's read section; its leaf holds a reference to the object.
            let object = unsafe { &*p.object };
            let frame = match m.object_page(object, p.offset + (page.local() - p.start) as u64) {
                Ok(f) => f,
                Err(why) => return End(why.into()),
            };
            let word = if p.flags.contains(Flags::SHARED) {
                Word::page(frame, p.prot)
            } else if write {
                // Nobody here has a translation to the object's page, so it is copied straight away.
                let copy = m.copy_of(frame);
                m.release(frame);
                let Some(copy) = copy else { return End(Fault::OutOfFrames) };
                Word::page(copy, p.prot).private()
            } else {
                Word::page(frame, p.prot - Prot::WRITE).cow()
            };
            (word, Counter::FaultObject)
        };
        match entry.install_page(e, word) {
            Ok(()) => {
                m.stats.add(&m.machine, counter, 1);
                End(Fault::Done)
            }
            Err(_) => {
                word.frame().into_iter().for_each(|f| m.release(f));
                if word.is_blank() {
                    self.blank.give_back();
                }
                Again
            }
        }
    }

    /// A page for a read of fresh memory whose first store would have to await others' answers; `None`: the zero page will do.
    fn blank_page(&self, arena: &Arena, prot: Prot) -> Option<Frame> {
        let wanted = || prot.contains(Prot::WRITE) && self.others_in(arena) != 0;
        if self.blank.spend(wanted) { self.memory().new_page() } else { None }
    }

    /// `Page -> Page` with more rights.
    fn present(&self, arena: &Arena, entry: &Entry, e: Word, p: &Part, page: Page, access: Access) -> Step {
        let m = self.memory();
        let counter = if e.allows(access) {
            Counter::FaultSpurious
        } else if access == Access::Write && e.is_cow() {
            return self.break_cow(arena, entry, e, p, page);
        } else if entry.widen(e, p.prot, access).is_ok() {
            if e.is_blank() && access == Access::Write {
                self.blank.stored();
            }
            Counter::FaultRights
        } else {
            return Again;
        };
        m.stats.add(&m.machine, counter, 1);
        m.machine.invalidate(page);
        End(Fault::Done)
    }

    /// A store to a page that others may have as well (E3). Who has it says its frame's word ([`FrameWord`](crate::frames::FrameWord)).
    fn break_cow(&self, arena: &Arena, entry: &Entry, e: Word, p: &Part, page: Page) -> Step {
        let m = self.memory();
        let old = e.page_frame();
        let zero = old == m.zero_page();
        if e.is_private() && !zero {
            // Pairs with the end of a fork: this window has found its flag clear, so it sees the references that the child has got.
            fence(Acquire);
            let owners = m.frame_word(old).owners();
            if owners == Owners::Fresh {
                // Another thread's copy, its shootdown under way: do not copy the copy (model `cow-two`).
                return Wait;
            }
            // No fork adds a reference meanwhile: it would await the end of this window first. So the count holds, if the
            // compare-and-swap proves that the entry still shows this frame.
            if owners == Owners::One {
                if entry.reuse(e, p.prot).is_err() {
                    return Again;
                }
                m.stats.add(&m.machine, Counter::Reuse, 1);
                m.machine.invalidate(page);
                return End(Fault::Done);
            }
        }
        if e.is_private() && m.frame_word(old).only_a_link_forbids_reuse() {
            // The frame is *linked*: a swap slot has the same content, and may be used for it again. That ends now, for the page is
            // about to differ. An eviction that has seen the link decides by the entry.
            m.unlink(old);
            return Again;
        }
        let Some(copy) = (if zero { m.alloc_zeroed() } else { m.alloc() }) else { return End(Fault::OutOfFrames) };
        if !zero {
            m.machine.copy(old, copy);
        }
        m.frame_word(copy).start_fresh();
        // Read-only first: until the readers of the old page have answered, nobody may write the new one (model `cow-publish`).
        let word = Word::page(copy, p.prot).private().cow();
        if entry.replace(e, word).is_err() {
            let last = m.frame_word(copy).end_fresh();
            debug_assert!(!last);
            m.release(copy);
            return Again;
        }
        m.stats.add(&m.machine, Counter::Copy, 1);
        // Pairs with the fence of joining: a CPU that we do not see reads the new page (model `cow-alone`).
        fence(SeqCst);
        let others = self.others_in(arena);
        if others != 0 {
            return Copied { old, copy, others };
        }
        // Before the old page can be free.
        m.machine.invalidate(page);
        if !self.end_copy(old, copy) {
            return Again;
        }
        match entry.reuse(word.parity_of(e), p.prot) {
            Ok(()) => End(Fault::Done),
            Err(_) => Again,
        }
    }

    /// Nobody reads the old page through this entry any more: drops its reference, then ends the copy's freshness. False: the
    /// copy was unmapped meanwhile, and is gone.
    fn end_copy(&self, old: Frame, copy: Frame) -> bool {
        let m = self.memory();
        m.release(old);
        let gone = m.frame_word(copy).end_fresh();
        if gone {
            m.free_linked(copy);
        }
        !gone
    }

    /// Faults a whole range in. Ends at the first page that needs something from the kernel (memory, its content from the swap area),
    /// or cannot be had.
    pub fn populate(&self, range: PageRange, write: bool) -> Result<(), (Page, Fault)> {
        let access = if write { Access::Write } else { Access::Read };
        (range.start.0..range.end.0).map(Page).try_for_each(|page| match self.fault(page, access) {
            Fault::Done => Ok(()),
            why => Err((page, why)),
        })
    }
}
