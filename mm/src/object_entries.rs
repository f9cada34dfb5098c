//! The entries of an object: a table tree of up to three levels. A missing table is a hole.

use crate::entry::{Entry, Word};
use crate::frames::Frame;
use crate::machine::Machine;
use crate::memory::Memory;
use crate::object::{Object, PageError};
use crate::page::{ENTRIES, TABLE_BITS};
use crate::stats::Counter;
use crate::sync::Ordering::Relaxed;
use core::ops::Range;

impl<M: Machine> Memory<M> {
    /// The leaf entry of a page; `None` if its table is not there (and `make` is false) or it cannot have one.
    pub(crate) fn object_entry<'o>(
        &'o self,
        object: &'o Object,
        index: u64,
        make: bool,
    ) -> Result<Option<&'o Entry>, PageError> {
        if index >> (TABLE_BITS * object.height) != 0 {
            return Ok(None);
        }
        let mut entry = &object.root;
        for level in (0..object.height).rev() {
            let mut e = entry.load();
            while e.is_empty() {
                if !make {
                    return Ok(None);
                }
                let t = self.new_table().ok_or(PageError::OutOfFrames)?;
                self.frame_word(t).set_object_table();
                if entry.install_table(e, t).is_ok() {
                    object.tables.fetch_add(1, Relaxed);
                    object.quota.inspect(|quota| quota.add_table());
                } else {
                    self.free(t);
                    self.stats.add(&self.machine, Counter::RetryTable, 1);
                }
                e = entry.load();
            }
            let Some(table) = e.frame() else { return Ok(None) };
            let i = (index >> (TABLE_BITS * level)) as usize & (ENTRIES - 1);
            entry = &self.machine.table(table)[i];
        }
        Ok(Some(entry))
    }

    /// The first page from `from` on that is there (`there`), or is a hole; [`Object::pages`] if there is none before the end. What
    /// others change meanwhile is seen or not.
    pub fn object_next(&self, object: &Object, from: u64, there: bool) -> u64 {
        let pages = object.pages();
        self.next_below(&object.root, object.height, 0, from..pages, there).unwrap_or(pages).min(pages)
    }

    /// As [`Memory::object_next`], below an entry whose first page is `base`.
    fn next_below(&self, entry: &Entry, level: u32, base: u64, pages: Range<u64>, there: bool) -> Option<u64> {
        if pages.is_empty() {
            return None;
        }
        let e = entry.load();
        if level == 0 {
            return (e.is_empty() != there).then_some(base);
        }
        // Without a table all of it is a hole.
        let Some(table) = e.frame() else { return (!there).then_some(pages.start.max(base)) };
        let span = 1u64 << (TABLE_BITS * (level - 1));
        let first = pages.start.saturating_sub(base) / span;
        let last = ((pages.end - 1 - base) / span).min(ENTRIES as u64 - 1);
        (first..=last).find_map(|i| {
            let entry = &self.machine.table(table)[i as usize];
            self.next_below(entry, level - 1, base + i * span, pages.clone(), there)
        })
    }

    /// The first page of an object from `index` on whose table is there: most of a large object may be a hole. Answers shootdowns now
    /// and then, for whoever visits them all.
    pub fn next_object_page(&self, object: &Object, mut index: u64) -> Option<u64> {
        while index < object.pages() {
            if index.is_multiple_of(ENTRIES as u64) {
                self.serve();
            }
            match self.object_table(object, index) {
                Ok(_) => return Some(index),
                Err(behind) => index = behind,
            }
        }
        None
    }

    /// The table that has a page's entry, or the first page behind the table that is missing.
    pub(crate) fn object_table<'o>(&'o self, object: &'o Object, index: u64) -> Result<&'o [Entry], u64> {
        let mut entry = &object.root;
        for level in (0..object.height).rev() {
            let Some(table) = entry.load().frame() else {
                let bits = TABLE_BITS * (level + 1);
                return Err(((index >> bits) + 1) << bits);
            };
            let entries = self.machine.table(table);
            if level == 0 {
                return Ok(entries);
            }
            entry = &entries[(index >> (TABLE_BITS * level)) as usize & (ENTRIES - 1)];
        }
        Err(u64::MAX)
    }

    /// Calls `see` for each word of the object's pages, and `table` for each of its tables.
    pub(crate) fn object_words(&self, object: &Object, see: &mut dyn FnMut(Word), table: &mut dyn FnMut(Frame)) {
        self.object_below(&object.root, object.height, see, table);
    }

    fn object_below(&self, entry: &Entry, level: u32, see: &mut dyn FnMut(Word), table: &mut dyn FnMut(Frame)) {
        let w = entry.load();
        if level == 0 {
            return see(w);
        }
        let Some(f) = w.frame() else { return };
        self.machine.table(f).iter().for_each(|e| self.object_below(e, level - 1, see, table));
        table(f);
    }
}
