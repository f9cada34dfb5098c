//! The end of a space: everything that it has goes back.

use crate::entry::{Table, Word};
use crate::frames::{Frame, Left};
use crate::list::Node;
use crate::machine::Machine;
use crate::page::LEVELS;
use crate::space::Space;
use crate::sync::Ordering::*;
use crate::walk::each_used;
use core::ptr::null_mut;

impl<M: Machine> Space<M> {
    /// Frees a list that nobody reads any more.
    pub(crate) fn free_list(&self, node: *mut Node) {
        if node.is_null() {
            return;
        }
        // SAFETY: the space is being dropped: no reader, no editor is left, and each node is linked once.
        unsafe {
            (*node).children().for_each(|child| self.free_list(child));
            self.memory.release_node(node);
        }
    }

    /// Frees the table of `level` that `word` leads to, and all below it, of which the space was the only user. Returns how many pages that were.
    fn free_tables(&self, word: Word, level: u32) -> u64 {
        let Some(f) = word.frame() else { return 0 };
        let table = self.memory.machine.table(f);
        let mut pages = 0;
        if level == 1 {
            pages = self.free_pages(table);
        } else {
            each_used(&self.memory.machine, table, |w| {
                if w.is_present() {
                    pages += self.free_tables(w, level - 1);
                }
            });
        }
        self.memory.serve();
        self.memory.free(f);
        pages
    }

    /// Drops what the entries of a leaf table refer to. Returns how many pages that were.
    fn free_pages(&self, table: &Table) -> u64 {
        let (machine, zero) = (&self.memory.machine, self.memory.zero_page());
        let words = machine.frame_words();
        let mut pages = 0;
        each_used(machine, table, |w| {
            if !w.is_present() {
                pages += self.free_absent(w);
            } else if w.page_frame() != zero {
                pages += 1;
                let left = words[w.page_frame().0 as usize].unref_shared();
                if left != Left::Others {
                    self.free_page(w.page_frame(), left);
                }
            }
        });
        pages
    }

    #[inline(never)]
    fn free_page(&self, page: Frame, left: Left) {
        self.memory.free_left(page, left);
    }

    /// As [`Space::free_pages`], for one entry that is not present.
    #[inline]
    fn free_absent(&self, w: Word) -> u64 {
        if w.is_hidden() {
            self.memory.release(w.page_frame());
            return (w.page_frame() != self.memory.zero_page()) as u64;
        }
        if w.is_swapped() {
            self.memory.release_slot(w);
        }
        0
    }

    /// Frees everything, and tells how many pages were in frames. As dropping, which finds nothing to do afterwards.
    pub fn destroy(&mut self) -> u64 {
        self.clear()
    }

    /// Nobody runs in the space and no CPU has its tables loaded, so nothing needs to be shot down, and nobody reads its lists
    /// or tables. What is freed is forgotten, so a second call finds nothing.
    fn clear(&mut self) -> u64 {
        debug_assert!(self.active.bits() == 0, "a space was dropped while a CPU is active in it");
        let mut pages = 0;
        for i in self.known_arenas() {
            let arena = self.arenas[i].swap(null_mut(), AcqRel);
            // SAFETY: null, or an arena that lives until freed below.
            if let Some(a) = unsafe { arena.as_ref() } {
                pages += self.free_tables(a.table.load(), LEVELS);
                self.free_list(a.list.load(Acquire));
                // SAFETY: this was the last reference to it.
                unsafe { self.free_arena(arena) };
            }
        }
        for t in &mut self.tops {
            let f = t.load(Acquire) as u32;
            if f != 0 {
                t.store(0, Relaxed);
                self.memory.free(Frame(f));
            }
        }
        pages
    }
}

impl<M: Machine> Drop for Space<M> {
    fn drop(&mut self) {
        let _clearing = self.memory.about_to_clear();
        self.clear();
    }
}
