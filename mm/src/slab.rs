//! Nodes: 512-byte pieces of frames for what the memory manager itself needs (segment lists, arenas, objects).
//!
//! A CPU keeps a stack of free nodes. When it is full, half goes back: each node's bit is set in its frame's word, and a frame
//! with free nodes is known by one bit of the *slabs* bitmap. Rules:
//!
//! 1. Whoever turns a mask from zero to something sets the frame's bit in the bitmap afterwards.
//! 2. Only the one who cleared the frame's bit may take its nodes, and takes all.
//! 3. A mask that has become full is tried at once: if the bit can be cleared, the frame is free again. The one who sets the
//!    bit (rule 1) looks for a full mask too, for the mask may have become full before the bit was set.

use crate::frames::{Bitmap, Frame, Role};
use crate::free::Free;
use crate::machine::Machine;
use crate::page::PAGE;
use crate::percpu::PerCpu;
use crate::sizes::KEPT_NODES;
pub use crate::sizes::NODE;

const PER_FRAME: u32 = (PAGE / NODE) as u32;
const FULL: u32 = (1 << PER_FRAME) - 1;

/// One CPU's free nodes.
#[derive(Debug)]
struct NodeCache {
    len: usize,
    nodes: [(Frame, u32); KEPT_NODES],
    hint: usize,
}

impl NodeCache {
    const fn new() -> NodeCache {
        NodeCache { len: 0, nodes: [(Frame(0), 0); KEPT_NODES], hint: 0 }
    }

    fn push_mask(&mut self, frame: Frame, mut mask: u32) {
        while mask != 0 {
            self.nodes[self.len] = (frame, mask.trailing_zeros());
            self.len += 1;
            mask &= mask - 1;
        }
    }
}

/// A node's place: its frame and its number in it. Kept inside the node by its user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodePlace {
    frame: Frame,
    index: u32,
}

/// The slabs of a machine.
#[derive(Debug)]
pub(crate) struct Slabs {
    /// Those that have free nodes.
    bitmap: Bitmap,
    nodes: PerCpu<NodeCache>,
}

impl Slabs {
    pub fn new() -> Slabs {
        Slabs { bitmap: Bitmap::new(), nodes: PerCpu::new(NodeCache::new) }
    }

    /// Memory for a node: [`NODE`] bytes, aligned to them, content arbitrary.
    #[inline(always)]
    pub fn take<M: Machine>(&self, machine: &M, free: &Free) -> Option<(*mut u8, NodePlace)> {
        let (frame, index) = self.nodes.with(machine, |c| {
            if c.len == 0 {
                self.fill_cache(machine, free, c)?;
            }
            c.len -= 1;
            Some(c.nodes[c.len])
        })?;
        // SAFETY: the frame is a slab, `index` below PER_FRAME: inside the frame.
        Some((unsafe { machine.page(frame).add(index as usize * NODE) }, NodePlace { frame, index }))
    }

    /// Puts the nodes of a slab, or of a fresh frame, into an empty cache.
    #[cold]
    fn fill_cache<M: Machine>(&self, machine: &M, free: &Free, c: &mut NodeCache) -> Option<()> {
        let mut found = None;
        if self.bitmap.count_hint() != 0 {
            let mut hint = c.hint;
            self.bitmap.take(machine.slabs(), &mut hint, 1, |i| found = Some(Frame(i as u32)));
            c.hint = hint;
        }
        match found {
            Some(f) => c.push_mask(f, machine.frame_word(f).take_nodes()),
            None => {
                let f = free.take(machine)?;
                machine.frame_word(f).set(Role::Slab, 0);
                c.push_mask(f, FULL);
            }
        }
        Some(())
    }

    /// Gives a node back.
    ///
    /// # Safety
    ///
    /// It came from [`Slabs::take`], nobody uses it any more, and it is given back once.
    #[inline(always)]
    pub unsafe fn put<M: Machine>(&self, machine: &M, free: &Free, place: NodePlace) {
        self.nodes.with(machine, |c| {
            if c.len == KEPT_NODES {
                self.empty_cache(machine, free, c);
            }
            c.nodes[c.len] = (place.frame, place.index);
            c.len += 1;
        });
    }

    /// Gives half of a full cache back.
    #[cold]
    fn empty_cache<M: Machine>(&self, machine: &M, free: &Free, c: &mut NodeCache) {
        for _ in 0..KEPT_NODES / 2 {
            c.len -= 1;
            let (f, i) = c.nodes[c.len];
            self.return_node(machine, free, f, i);
        }
    }

    /// Rules 1 and 3.
    fn return_node<M: Machine>(&self, machine: &M, free: &Free, f: Frame, index: u32) {
        let old = machine.frame_word(f).add_nodes(1 << index);
        if old == 0 {
            self.bitmap.put(machine.slabs(), f.0 as usize);
        }
        if (old == 0 || old | 1 << index == FULL)
            && machine.frame_word(f).upper() == FULL
            && self.bitmap.take_this(machine.slabs(), f.0 as usize)
        {
            let mask = machine.frame_word(f).take_nodes();
            if mask == FULL {
                free.put(machine, f);
            } else if mask != 0 && machine.frame_word(f).add_nodes(mask) == 0 {
                // Somebody else took them between our look and our claim of the bit, and others came back since.
                self.bitmap.put(machine.slabs(), f.0 as usize);
            }
        }
    }

    /// Gives all free nodes of this CPU back to their frames.
    pub fn drain<M: Machine>(&self, machine: &M, free: &Free) {
        loop {
            let next = self.nodes.with(machine, |c| {
                c.len = c.len.checked_sub(1)?;
                Some(c.nodes[c.len])
            });
            let Some((f, i)) = next else { return };
            self.return_node(machine, free, f, i);
        }
    }

    /// Whether a frame is a slab that is known to have free nodes.
    #[cfg(loom)]
    pub fn knows<M: Machine>(&self, machine: &M, f: Frame) -> bool {
        self.bitmap.is_set(machine.slabs(), f.0 as usize)
    }

    /// Rounds that other CPUs have made vain.
    pub fn retries(&self) -> u64 {
        self.bitmap.retries()
    }
}
