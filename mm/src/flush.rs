//! The flush: what a sweep owes before it may return. It gathers the pages whose translations must go, the frames that nobody
//! may use once they are gone, and the detached tables; it pays when it is full and at the end.
//!
//! Order of a payment: the entries are changed (before), SeqCst fence, the set of CPUs is read, they answer, this CPU drops its
//! own translations; only then frames are freed (race 1), and tables are retired for a grace period more (race 7). The fence
//! pairs with the one of joining and activation: either a CPU is in the set that we read, or its walks see the changed entries.

use crate::arena::Arena;
use crate::frames::Frame;
use crate::machine::Machine;
use crate::page::Page;
use crate::shootdown::Pages;
use crate::sizes::{FLUSH_FRAMES as FRAMES, FLUSH_TABLES as TABLES};
use crate::space::Space;
use crate::stats::Counter;
use crate::sync::{Ordering::*, fence};
use core::mem::MaybeUninit;

/// The obligation of one sweep in one arena.
#[must_use = "translations are still cached and frames not freed until the flush is paid"]
pub(crate) struct Flush<'a, M: Machine> {
    space: &'a Space<M>,
    arena: &'a Arena,
    /// What counts its shootdowns.
    cause: Counter,
    pages: Pages,
    frames: [MaybeUninit<Frame>; FRAMES],
    frame_count: usize,
    tables: [MaybeUninit<Frame>; TABLES],
    table_count: usize,
}

impl<'a, M: Machine> Flush<'a, M> {
    #[inline]
    pub fn new(space: &'a Space<M>, arena: &'a Arena, cause: Counter) -> Flush<'a, M> {
        Flush {
            space,
            arena,
            cause,
            pages: Pages::none(),
            frames: [const { MaybeUninit::uninit() }; FRAMES],
            frame_count: 0,
            tables: [const { MaybeUninit::uninit() }; TABLES],
            table_count: 0,
        }
    }

    /// A page's entry was changed so that translations of it must go.
    #[inline]
    pub fn page(&mut self, local: u32) {
        self.pages.push(Page::of(self.arena.index, local));
    }

    /// Entries that were found swapped or empty may have been left so by a scan whose answers are not in (races 34, 53).
    #[cold]
    pub fn everything(&mut self) {
        self.pages.all();
    }

    /// As [`Flush::page`], for `n` pages from `local` on.
    #[inline]
    pub fn pages(&mut self, local: u32, n: usize) {
        self.pages.push_run(Page::of(self.arena.index, local), n);
    }

    /// The swept entry's reference to this frame is dropped at the next payment.
    #[inline]
    pub fn frame(&mut self, frame: Frame) {
        self.frames[self.frame_count].write(frame);
        self.frame_count += 1;
        if self.frame_count == FRAMES {
            self.pay();
        }
    }

    /// A detached table, of which everything else has been gathered.
    pub fn table(&mut self, table: Frame) {
        // What was cached of the levels above must go too.
        self.pages.all();
        self.tables[self.table_count].write(table);
        self.table_count += 1;
        if self.table_count == TABLES {
            self.pay();
        }
    }

    /// Pays what is owed: answers first, then frames and tables. With that a sweep ends.
    #[inline]
    pub fn pay(&mut self) {
        debug_assert!(!self.pages.is_empty() || self.frame_count + self.table_count == 0);
        if !self.pages.is_empty() {
            self.pay_now();
        }
    }

    #[inline(never)]
    fn pay_now(&mut self) {
        let m = self.space.memory();
        fence(SeqCst);
        let others = self.space.others_in(self.arena);
        if others != 0 {
            m.shoot(self.cause, others, &self.pages);
        }
        self.pages.invalidate_here(&m.machine);
        // SAFETY: both lists are initialised up to their counts.
        unsafe {
            self.frames[..self.frame_count].iter().for_each(|f| m.release(f.assume_init()));
            self.tables[..self.table_count].iter().for_each(|t| m.retire_table(t.assume_init()));
        }
        self.pages.clear();
        self.frame_count = 0;
        self.table_count = 0;
    }
}
