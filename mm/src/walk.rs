//! The walk: how tables are descended, and which entries of a range there are.

use crate::arena::Arena;
use crate::entry::{Entry, Table, Word, are_empty};
use crate::machine::{GROUP, Machine};
use crate::memory::Memory;
use crate::page::{ENTRIES, LEVELS, Page, PageRange, TABLE_BITS};
use crate::rcu::Pin;
use crate::sizes::FEW;
use crate::space::Space;

impl Arena {
    /// The entry of a page, or the upper entry in whose place there is no table; with its word and level (0: the page's own).
    /// The read section keeps the tables.
    #[inline]
    pub fn walk<'p, M: Machine>(
        &'p self,
        memory: &'p Memory<M>,
        _pin: &'p Pin<'_, M>,
        page: u32,
    ) -> (&'p Entry, Word, u32) {
        let mut entry = &self.table;
        let mut level = LEVELS;
        loop {
            let e = entry.load();
            if level == 0 || !e.is_present() {
                return (entry, e, level);
            }
            level -= 1;
            entry = &memory.machine.table(e.page_frame())[index(page, level)];
        }
    }

    /// The leaf table that holds a page's entry, or the level at which its upper entry has no table.
    pub fn leaf<'p, M: Machine>(
        &'p self,
        memory: &'p Memory<M>,
        _pin: &'p Pin<'_, M>,
        page: u32,
    ) -> Result<&'p Table, u32> {
        self.descend(memory, page)
    }

    /// As [`Arena::leaf`], under a claim over the page: only an edit that covers all of a table detaches it.
    pub fn leaf_claimed<'c, M: Machine>(&'c self, memory: &'c Memory<M>, page: u32) -> Result<&'c Table, u32> {
        self.descend(memory, page)
    }

    #[inline(always)]
    fn descend<'p, M: Machine>(&'p self, memory: &'p Memory<M>, page: u32) -> Result<&'p Table, u32> {
        let mut entry = &self.table;
        for level in (0..LEVELS).rev() {
            let e = entry.load();
            if !e.is_present() {
                return Err(level + 1);
            }
            let table = memory.machine.table(e.page_frame());
            if level == 0 {
                return Ok(table);
            }
            entry = &table[index(page, level)];
        }
        Err(LEVELS)
    }
}

impl<M: Machine> Space<M> {
    /// Calls `see` for each leaf entry of a range whose table is there, and answers shootdowns after each table.
    pub(crate) fn each_entry(&self, range: PageRange, see: &mut dyn FnMut(Page, &Entry)) {
        for (i, lo, hi) in range.by_arena() {
            let Some(arena) = self.arena(i) else { continue };
            let mut page = lo;
            while page < hi {
                // One read section a table: a long walk must not hold grace periods up.
                let pin = self.memory().pin();
                let leaf = arena.leaf(self.memory(), &pin, page);
                let next = next_table(page, leaf.err(), hi);
                if let Ok(table) = leaf {
                    (page..next).zip(&table[index(page, 0)..]).for_each(|(page, e)| see(Page::of(i, page), e));
                }
                drop(pin);
                self.memory().serve();
                page = next;
            }
        }
    }
}

/// The index of a page's entry in its table of `level`.
#[inline]
pub(crate) fn index(page: u32, level: u32) -> usize {
    (page >> (TABLE_BITS * level)) as usize & (ENTRIES - 1)
}

/// The first page behind the table that `page` is in, which is missing above level `missing`; at most `end`.
pub(crate) fn next_table(page: u32, missing: Option<u32>, end: u32) -> u32 {
    let span = 1u64 << (TABLE_BITS * missing.unwrap_or(1));
    ((page as u64 / span + 1) * span).min(end as u64) as u32
}

/// Calls `see` for the words of a table, apart from some that are empty. Most tables are empty for the most part.
#[inline(always)]
pub(crate) fn each_used<M: Machine>(machine: &M, table: &Table, mut see: impl FnMut(Word)) {
    for group in table.as_chunks::<GROUP>().0 {
        if group[0].load().is_empty() && machine.are_empty(group) {
            continue;
        }
        for few in group.as_chunks::<FEW>().0 {
            if !few[0].load().is_empty() || !are_empty(few) {
                few.iter().map(Entry::load).for_each(&mut see);
            }
        }
    }
}
