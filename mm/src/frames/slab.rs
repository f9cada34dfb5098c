//! Nodes: 512-byte pieces of frames for what the memory manager itself needs (segment lists, arenas, objects).
//!
//! A CPU keeps a stack of free nodes. When it is full, half goes back: each node's bit is set in its frame's word, and a frame
//! with free nodes is known by one bit of the *slabs* bitmap. Rules:
//!
//! 1. Whoever turns a mask from zero to something sets the frame's bit in the bitmap afterwards.
//! 2. Only the one who cleared the frame's bit may take its nodes, and takes all.
//! 3. A mask that has become full is tried at once: if the bit can be cleared, the frame is free again. The one who sets the
//!    bit (rule 1) looks for a full mask too, for the mask may have become full before the bit was set.

use super::{Frame, Role};
use crate::machine::Machine;
use crate::memory::Memory;
use crate::page::PAGE;
use crate::sizes::KEPT_NODES;
pub use crate::sizes::NODE;

const PER_FRAME: u32 = (PAGE / NODE) as u32;
const FULL: u32 = (1 << PER_FRAME) - 1;

/// One CPU's free nodes.
#[derive(Debug)]
pub struct NodeCache {
    len: usize,
    nodes: [(Frame, u32); KEPT_NODES],
    hint: usize,
}

impl NodeCache {
    /// No nodes.
    pub const fn new() -> NodeCache {
        NodeCache { len: 0, nodes: [(Frame(0), 0); KEPT_NODES], hint: 0 }
    }

    fn push_mask(&mut self, frame: Frame, mut mask: u32) {
        while mask != 0 {
            self.nodes[self.len] = (frame, mask.trailing_zeros());
            self.len += 1;
            mask &= mask - 1;
        }
    }

    /// How many nodes it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Default for NodeCache {
    fn default() -> Self {
        Self::new()
    }
}

/// A node's place: its frame and its number in it. Kept inside the node by its user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodePlace {
    frame: Frame,
    index: u32,
}

impl<M: Machine> Memory<M> {
    /// Memory for a node: [`NODE`] bytes, aligned to them, content arbitrary.
    #[inline]
    pub fn alloc_node(&self) -> Option<(*mut u8, NodePlace)> {
        let (frame, index) = self.nodes.with(&self.machine, |c| {
            if c.len == 0 {
                self.fill_cache(c)?;
            }
            c.len -= 1;
            Some(c.nodes[c.len])
        })?;
        // SAFETY: the frame is a slab, `index` below PER_FRAME: inside the frame.
        Some((unsafe { self.machine.page(frame).add(index as usize * NODE) }, NodePlace { frame, index }))
    }

    /// Puts the nodes of a slab, or of a fresh frame, into an empty cache.
    #[cold]
    fn fill_cache(&self, c: &mut NodeCache) -> Option<()> {
        let mut found = None;
        if self.slabs.count_hint() != 0 {
            let mut hint = c.hint;
            self.slabs.take(self.machine.slabs(), &mut hint, 1, |i| found = Some(Frame(i as u32)));
            c.hint = hint;
        }
        match found {
            Some(f) => c.push_mask(f, self.frame_word(f).take_nodes()),
            None => {
                let f = self.alloc()?;
                self.frame_word(f).set(Role::Slab, 0);
                c.push_mask(f, FULL);
            }
        }
        Some(())
    }

    /// Gives a node back.
    ///
    /// # Safety
    ///
    /// It came from [`Memory::alloc_node`], nobody uses it any more, and it is given back once.
    #[inline]
    pub unsafe fn free_node(&self, place: NodePlace) {
        self.nodes.with(&self.machine, |c| {
            if c.len == KEPT_NODES {
                self.empty_cache(c);
            }
            c.nodes[c.len] = (place.frame, place.index);
            c.len += 1;
        });
    }

    /// Gives half of a full cache back.
    #[cold]
    fn empty_cache(&self, c: &mut NodeCache) {
        for _ in 0..KEPT_NODES / 2 {
            c.len -= 1;
            let (f, i) = c.nodes[c.len];
            self.return_node(f, i);
        }
    }

    /// Rules 1 and 3.
    fn return_node(&self, f: Frame, index: u32) {
        let old = self.frame_word(f).add_nodes(1 << index);
        if old == 0 {
            self.slabs.put(self.machine.slabs(), f.0 as usize);
        }
        if (old == 0 || old | 1 << index == FULL)
            && self.frame_word(f).upper() == FULL
            && self.slabs.take_this(self.machine.slabs(), f.0 as usize)
        {
            let mask = self.frame_word(f).take_nodes();
            if mask == FULL {
                self.free(f);
            } else if mask != 0 && self.frame_word(f).add_nodes(mask) == 0 {
                // Somebody else took them between our look and our claim of the bit, and others came back since.
                self.slabs.put(self.machine.slabs(), f.0 as usize);
            }
        }
    }

    /// Gives all free nodes of this CPU back to their frames.
    pub fn drain_nodes(&self) {
        loop {
            let next = self.nodes.with(&self.machine, |c| {
                c.len = c.len.checked_sub(1)?;
                Some(c.nodes[c.len])
            });
            let Some((f, i)) = next else { return };
            self.return_node(f, i);
        }
    }
}
