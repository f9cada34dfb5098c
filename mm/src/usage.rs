//! What a space costs: its pages, and what the memory manager needs for them. Counted by a walk, which answers other CPUs' shootdowns
//! after every table; so the parts of the sum are of different moments.

use crate::arena::Arena;
use crate::machine::Machine;
use crate::page::{ARENA_PAGES, LEVELS, PAGE, TABLE_BITS};
use crate::space::Space;
use crate::walk::{each_used, next_table};
use core::ops::AddAssign;

/// Frames and slots of a space. What several spaces share counts in each of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Pages in frames, the zero page excepted.
    pub resident: u64,
    /// Pages in swap slots.
    pub swapped: u64,
    /// Page tables.
    pub tables: u64,
    /// Nodes of segment lists, in frames, rounded up.
    pub nodes: u64,
}

impl Usage {
    /// Frames and slots together.
    pub fn sum(&self) -> u64 {
        self.resident + self.swapped + self.tables + self.nodes
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, more: Usage) {
        self.resident += more.resident;
        self.swapped += more.swapped;
        self.tables += more.tables;
        self.nodes += more.nodes;
    }
}

impl<M: Machine> Space<M> {
    /// Counts. The caller is in no read section, and holds nothing that others wait for.
    pub fn usage(&self) -> Usage {
        let mut sum = Usage { tables: self.top_frames().count() as u64, ..Usage::default() };
        let mut nodes = 0;
        for arena in self.each_arena() {
            nodes += 1 + {
                let pin = self.memory().pin();
                arena.list(&pin).nodes()
            };
            self.add_entries(arena, &mut sum);
        }
        sum.nodes = nodes.div_ceil((PAGE / crate::slab::NODE) as u64);
        sum
    }

    fn add_entries(&self, arena: &Arena, sum: &mut Usage) {
        let m = self.memory();
        let mut page = 0;
        while page < ARENA_PAGES {
            let missing = {
                let pin = m.pin();
                let leaf = arena.leaf(m, &pin, page);
                if let Ok(table) = leaf {
                    each_used(&m.machine, table, |w| {
                        sum.resident += w.frame().is_some_and(|f| f != m.zero_page()) as u64;
                        sum.swapped += w.is_swapped() as u64;
                    });
                }
                leaf.err()
            };
            // Each table above the missing one is counted at its first page, which the walk comes to.
            let there = missing.unwrap_or(0) + 1..=LEVELS;
            sum.tables += there.filter(|level| page & ((1 << (TABLE_BITS * level)) - 1) == 0).count() as u64;
            m.serve();
            page = next_table(page, missing, ARENA_PAGES);
        }
    }
}
