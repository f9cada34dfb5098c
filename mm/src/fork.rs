//! Fork: sharing with parity.
//!
//! 1. Claim each arena whole, in ascending order.
//! 2. Set the *forking* flag, fence, and await the end of the windows that are open on other CPUs that are active here (and of other read
//!    sections there, for nothing tells them apart): later ones see the flag, and faults for private stores wait (races 28, 29).
//!    An arena that step 1 has missed is seen now, and all begins again; or its maker sees the flag, and nobody edits in it before that
//!    goes (model `fork-arena`).
//! 3. Copy each arena's list; for every private page: a reference for the child, the parent's entry read-only and
//!    copy-on-write with the parity flipped, the child's entry. Object pages and the zero page are left to the child's faults.
//! 4. One shootdown of the whole space, also when the fork failed half way (race 40).
//! 5. The child's hot pages are copied ([`crate::hot`]), where other CPUs had to answer; then the flag goes, then the claims.
//!
//! *Entries keep their pages meanwhile*: the claims keep edits out, and scans (which step 1 waits for); the flag keeps breaks
//! of copy-on-write out. So a page's own reference stays while the child's is added to it.
//!
//! *The child has the memory of one moment*: until its answer in step 4 a CPU may store through a writable translation that it has cached;
//! such a store lands in a frame that the child shares. After its answer the CPU's private stores fault, and wait for the end of the
//! flag. So a store that the child lacks comes after all answers, and whatever follows from it comes later still. A page that step 5 copies
//! is what it was then: nobody can store to it between the last answer and the copy (model `fork-hot`).
//!
//! Nobody runs in the child yet, so its tables are filled by plain stores; the caller publishes the child afterwards.

use crate::arena::Arena;
use crate::entry::{Entry, Table, Word, are_empty};
use crate::error::EditError;
use crate::frames::Frame;
use crate::hot::Hot;
use crate::machine::{GROUP, Machine, What};
use crate::page::{ARENA_PAGES, ENTRIES, LEVELS, TABLE_BITS};
use crate::segment::{Flags, Part};
use crate::shootdown::Pages;
use crate::sizes::{COURTESY, FEW};
use crate::space::Space;
use crate::stats::Counter;
use crate::sync::{Ordering::*, fence};
use crate::walk::index;
use crate::whole::Claimed;

impl<M: Machine> Space<M> {
    /// A copy of this space. On failure everything is as before, and what the child had got is freed.
    pub fn fork(&self) -> Result<Space<M>, EditError> {
        let child = Space::for_copy(self.memory());
        self.fork_into(&child)?;
        Ok(child)
    }

    /// As [`Space::fork`], into an empty space that nobody else has: for callers whose stack is too small for a space. On
    /// failure the child is to be dropped.
    pub fn fork_into(&self, child: &Space<M>) -> Result<(), EditError> {
        let m = self.memory();
        m.stats.add(&m.machine, Counter::Fork, 1);
        self.let_slow_pass();
        let whole = self.claim_and_hold_stores();
        m.await_windows(self.others());
        child.inherit_crowd(self);
        let mut hot = Hot::new();
        let result = whole.arenas().try_for_each(|arena| self.fork_arena(arena, child, &mut hot));
        fence(SeqCst);
        let others = self.others();
        let mut all = Pages::none();
        all.all();
        if others != 0 {
            m.shoot(Counter::ShootdownFork, others, &all);
        }
        all.invalidate_here(&m.machine);
        if others != 0 && result.is_ok() {
            hot.copy(m);
        }
        // Release: the shootdown comes before the next writer's window.
        self.forking.store(0, Release);
        if result.is_ok() {
            // Release, and before the claims go: whoever claims this space next sees a child that is ready (see `cut`).
            child.ready.store(1, Release);
        }
        drop(whole);
        result
    }

    /// Claims all arenas, and sets the flag.
    fn claim_and_hold_stores(&self) -> Claimed<'_, M> {
        loop {
            let whole = self.claim_all();
            // From here on no scan begins, and none is under way: entries change by their program only, and not by scans.
            self.wait_for_scans(whole.arenas());
            // The fence pairs with those of activation, of a pin, and of whoever makes an arena: who is not seen in a read section after
            // it sees the flag in its next window; an arena that is not seen has a maker who sees the flag, and waits.
            self.forking.store(1, Release);
            fence(SeqCst);
            if whole.is_complete() {
                return whole;
            }
            self.forking.store(0, Release);
        }
    }

    /// Lets the stores pass that the fork before this one has held up, or that are being copied for: a thread that forks in a loop would starve
    /// all others, whose chance is the time between two forks. For as many as there are at this moment, and for a while only; it
    /// holds nothing.
    fn let_slow_pass(&self) {
        static SLOW: What = What { text: "stores that were under way", show: |n, f| write!(f, "{n} left") };
        let (there, before) = (self.slow.now.load(Relaxed), self.slow.ended.load(Relaxed));
        let mut since = 0;
        for _ in 0..COURTESY {
            let passed = self.slow.ended.load(Relaxed).wrapping_sub(before);
            if passed >= there || self.slow.now.load(Relaxed) == 0 {
                return;
            }
            since = self.memory.pause(&SLOW, there - passed, since);
        }
    }

    fn fork_arena(&self, parent: &Arena, child: &Space<M>, hot: &mut Hot<'static>) -> Result<(), EditError> {
        let m = self.memory();
        // As on Linux, what is locked is locked for its own process only.
        let keep = |p: &Part| {
            let kept = !p.flags.contains(Flags::DONTFORK);
            kept.then_some(Part { flags: p.flags - Flags::LOCKED, ..*p })
        };
        let (root, segments) = {
            let pin = m.pin();
            self.copy_list(parent.list(&pin), &keep)?
        };
        if root.is_null() {
            return Ok(());
        }
        let arena = match child.arena_or_new(parent.index) {
            Ok(a) => a,
            Err(e) => {
                child.free_list(root);
                return Err(e);
            }
        };
        // The child is ours alone: no compare-and-swap.
        arena.list.store(root, Release);
        arena.segments.store(segments, Relaxed);
        if parent.is_guarded() {
            arena.guard();
        }
        // SAFETY: the child's list has no editor and no reader but us.
        let list = unsafe { crate::list::List::new(root) };
        let mut copied = Ok(());
        list.each(0, ARENA_PAGES, &mut |p| {
            if !p.flags.intersects(Flags::SHARED | Flags::WIPEONFORK) {
                copied = self.copy_table(&parent.table, &arena.table, LEVELS, 0, p, hot);
            }
            copied.is_ok()
        });
        copied
    }

    /// Copies the entries of `part` below `from`, whose first page is `base`, to below `to`.
    fn copy_table(
        &self,
        from: &Entry,
        to: &Entry,
        level: u32,
        base: u32,
        part: &Part,
        hot: &mut Hot<'static>,
    ) -> Result<(), EditError> {
        let m = self.memory();
        let table = from.load();
        if !table.is_present() {
            return Ok(());
        }
        if !to.load().is_present() {
            to.init(Word::table(m.new_table().ok_or(EditError::OutOfFrames)?));
        }
        let (from, to) = (m.machine.table(table.page_frame()), m.machine.table(to.load().page_frame()));
        let span = 1u32 << (TABLE_BITS * level);
        let below = span / from.len() as u32;
        let first = if part.start > base { index(part.start, level - 1) } else { 0 };
        let last = if part.end < base + span { index(part.end - 1, level - 1) } else { from.len() - 1 };
        if level == 1 {
            if !self.share_leaf(from, to, first, last, hot) {
                return Err(EditError::TooMany);
            }
        } else {
            let mut at = base + first as u32 * below;
            for (from, to) in from[first..=last].iter().zip(&to[first..=last]) {
                self.copy_table(from, to, level - 1, at, part, hot)?;
                at = at.wrapping_add(below);
            }
        }
        m.serve();
        Ok(())
    }

    /// Shares the pages of the entries `first ..= last` of a leaf table. False: a frame or slot has as many references as it can count.
    fn share_leaf(&self, from: &Table, to: &'static Table, first: usize, last: usize, hot: &mut Hot<'static>) -> bool {
        let m = self.memory();
        let (alone, zero, words) = (self.alone(), m.zero_page(), m.machine.frame_words());
        if !alone {
            // Before the entries are shared, for that makes them read-only.
            hot.gather(&from[first..=last], &to[first..=last]);
        }
        let share = |from: &Entry, to: &Entry| {
            let e = from.load();
            let frame = e.page_frame();
            // Left so by an earlier fork: alone, the parent's entry stays as it is, and the child's is the same.
            if alone && e.is_private_cow() && frame != zero && words[frame.0 as usize].add_ref() {
                to.init(e);
            } else if !e.is_empty() {
                let Some(word) = self.share(from, alone, zero) else { return false };
                to.init(word);
            }
            true
        };
        let groups = from.as_chunks::<GROUP>().0.iter().enumerate();
        for (i, group) in groups.take(last / GROUP + 1).skip(first / GROUP) {
            // What a fault installs in an empty entry meanwhile need not be shared: stores wait, so it is zeros, or an object's page,
            // which the child finds by itself.
            if GROUP < ENTRIES && group[0].load().is_empty() && m.machine.are_empty(group) {
                continue;
            }
            let range = first.max(i * GROUP)..=last.min(i * GROUP + GROUP - 1);
            let (from, from_rest) = from[range.clone()].as_chunks::<FEW>();
            let (to, to_rest) = to[range].as_chunks::<FEW>();
            for (from, to) in from.iter().zip(to) {
                if (FEW == ENTRIES || !from[0].load().is_empty() || !are_empty(from))
                    && !from.iter().zip(to).all(|(from, to)| share(from, to))
                {
                    return false;
                }
            }
            if !from_rest.iter().zip(to_rest).all(|(from, to)| share(from, to)) {
                return false;
            }
        }
        true
    }

    /// Shares one page; the child's word, empty if the page is left to the child's own faults. `None`: the page's frame or slot has
    /// as many references as it can count. Not inlined: the loop around it has few registers.
    #[inline(never)]
    fn share(&self, entry: &Entry, alone: bool, zero: Frame) -> Option<Word> {
        let m = self.memory();
        loop {
            let e = entry.load();
            if !e.is_private() {
                return if e.is_swapped() { self.share_swapped(entry, alone) } else { Some(Word::empty(0)) };
            }
            let frame = e.page_frame();
            if frame == zero {
                return Some(Word::empty(0));
            }
            // The reference comes first, so that the entry never says *shared* of a frame with one owner. The entry's own reference
            // stays meanwhile; so a refusal means that there are too many.
            if !m.frame_word(frame).add_ref() {
                return None;
            }
            // Alone, no window is open that a flip would have to stop.
            if let Ok(word) = entry.share(e, !alone) {
                return Some(word);
            }
            m.release(frame);
            m.stats.add(&m.machine, Counter::RetrySweep, 1);
        }
    }

    /// As [`Space::share`], for a page in a swap slot. What is back meanwhile is shared as a page.
    #[cold]
    fn share_swapped(&self, entry: &Entry, alone: bool) -> Option<Word> {
        let m = self.memory();
        loop {
            let e = entry.load();
            let Some(slot) = e.slot() else { return self.share(entry, alone, m.zero_page()) };
            let Some(pager) = m.machine.pager() else { return Some(Word::empty(0)) };
            // The hold comes first, as a frame's reference does. It fails if the page has come back since, and the entry has another
            // word then for as long as the fork lasts; else the slot has no room for more.
            if pager.hold(slot) {
                // The hold may be a later life's, if the entry had changed before: the compare-and-swap proves that it had not. So it
                // must be one, also where no flip is needed.
                if let Ok(word) = entry.share(e, true) {
                    return Some(word);
                }
                pager.release(slot, 1);
            } else if entry.load() == e {
                return None;
            }
            m.stats.add(&m.machine, Counter::RetrySweep, 1);
        }
    }
}
