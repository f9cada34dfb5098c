//! Step 2 of a splice: the new leaf, filled from left to right.
//!
//! It holds what lies below the range, what the edit makes of the range, and what lies above; a segment that only continues the one
//! before lengthens it. A leaf that is full becomes two, once. The old leaf is only read.

use super::{Act, Splice, Spliced, Stop};
use crate::list::{LEAF, Node};
use crate::machine::Machine;
use crate::page::TABLE_BITS;
use crate::segment::Part;

/// More segments than this are copied faster with the whole of their leaf.
const MANY: usize = 5;

impl<M: Machine> Splice<'_, M> {
    /// Step 2.
    #[inline]
    pub(super) fn fill(&mut self, lo: u32, hi: u32, act: &mut Act<'_>) -> Result<(), Stop> {
        // SAFETY: null, or a leaf that the caller of `make` keeps valid.
        let parts = match unsafe { self.path.leaf.as_ref() } {
            Some(leaf) => {
                self.objects = leaf.objects;
                leaf.parts()
            }
            None => &[],
        };
        // The segments in the range are `i .. j`.
        let i = parts.iter().position(|p| p.end > lo).unwrap_or(parts.len());
        let j = parts[i..].iter().position(|p| p.start >= hi).map_or(parts.len(), |n| i + n);
        self.grown = -(parts.len() as i64);
        match act {
            Act::Insert(_) if i != j => return Err(Stop(Spliced::Occupied)),
            Act::Remove if i == j => return Err(Stop(Spliced::Free)),
            Act::Remove => {
                self.bare = self.leaves_bare(parts, i, j, lo, hi);
                if j - i == parts.len() && parts[i].start >= lo && parts[j - 1].end <= hi {
                    return Ok(());
                }
            }
            Act::Each(f) if j - i == 1 && parts[i].start == lo && parts[i].end == hi => {
                let new = f(&parts[i]).ok_or(Stop(Spliced::Refused))?;
                if new.prot == parts[i].prot && new.flags == parts[i].flags {
                    return Err(Stop(Spliced::Same));
                }
                let joins = i > 0 && parts[i - 1].joins(&new) || j < parts.len() && new.joins(&parts[j]);
                if !joins {
                    return self.exchange(i, &new, parts.len());
                }
            }
            _ => {}
        }
        self.leaf = self.node(0)?;
        if i > MANY {
            // SAFETY: both bodies are leaves', and as large as this; what lies behind `len` is copied, but never read.
            unsafe { self.memory.machine.copy_body(Node::leaf_body(self.path.leaf), self.at(0).cast()) };
            self.len = i;
        } else {
            self.copy(&parts[..i])?;
        }
        match act {
            Act::Insert(p) => {
                self.objects |= !p.object.is_null();
                self.push(p)?;
            }
            Act::Remove => {
                self.push_below(&parts[i], lo)?;
                self.push_above(&parts[j - 1], hi)?;
            }
            Act::Each(f) => {
                let (mut at, mut same) = (lo, true);
                for p in &parts[i..j] {
                    if p.start > at {
                        return Err(Stop(Spliced::Hole));
                    }
                    self.push_below(p, lo)?;
                    let new = f(p).ok_or(Stop(Spliced::Refused))?;
                    same &= new.prot == p.prot && new.flags == p.flags;
                    self.push(&new.clip(lo, hi))?;
                    at = p.end;
                }
                if at < hi {
                    return Err(Stop(Spliced::Hole));
                }
                if same {
                    return Err(Stop(Spliced::Same));
                }
                self.push_above(&parts[j - 1], hi)?;
            }
        }
        if let Some((next, rest)) = parts[j..].split_first() {
            self.push(next)?;
            self.copy(rest)?;
        }
        self.end_leaf(self.leaf, self.len);
        Ok(())
    }

    /// What [`Splice::is_bare`] says, where the segments `i .. j` lose what they have in `lo .. hi`.
    #[inline]
    fn leaves_bare(&self, parts: &[Part], i: usize, j: usize, lo: u32, hi: u32) -> bool {
        // The last page mapped below the range, and the first one above.
        let below = if parts[i].start < lo {
            Some(lo - 1)
        } else if i > 0 {
            Some(parts[i - 1].end - 1)
        } else {
            self.path.below().map(|end| end - 1)
        };
        let above = if parts[j - 1].end > hi {
            Some(hi)
        } else if j < parts.len() {
            Some(parts[j].start)
        } else {
            self.path.above()
        };
        let same = |a: u32, b: u32| (a ^ b) >> TABLE_BITS == 0;
        let (left, right) = (below.is_some_and(|p| same(p, lo)), above.is_some_and(|p| same(p, hi - 1)));
        if same(lo, hi - 1) { !left && !right } else { !left || !right }
    }

    /// Makes a leaf that differs from the old one, of `len` segments, in the rights and flags of segment `i` only.
    #[inline]
    fn exchange(&mut self, i: usize, new: &Part, len: usize) -> Result<(), Stop> {
        self.leaf = self.node(0)?;
        // SAFETY: both bodies are leaves', and as large as this; what lies behind `len` is copied, but never read.
        unsafe {
            self.memory.machine.copy_body(Node::leaf_body(self.path.leaf), self.at(0).cast());
            (*self.at(i)).prot = new.prot;
            (*self.at(i)).flags = new.flags;
        }
        self.end_leaf(self.leaf, len);
        Ok(())
    }

    /// A leaf under construction is complete.
    #[inline]
    fn end_leaf(&mut self, leaf: *mut Node, len: usize) {
        debug_assert!(len != 0 && len <= LEAF);
        self.grown += len as i64;
        // SAFETY: the node is ours, filled up to `len`.
        let leaf = unsafe { &mut *leaf };
        leaf.len = len as u16;
        // What came from a leaf with objects need not have any.
        leaf.objects = self.objects && leaf.parts().iter().any(|p| !p.object.is_null());
    }

    /// The place of segment `i` in the leaf under construction.
    #[inline]
    fn at(&self, i: usize) -> *mut Part {
        debug_assert!(i < LEAF);
        // SAFETY: the leaf is ours; `i` is inside its body.
        unsafe { (*self.leaf).parts_mut().add(i) }
    }

    /// Adds segments as they are.
    #[inline]
    fn copy(&mut self, parts: &[Part]) -> Result<(), Stop> {
        if self.len + parts.len() > LEAF {
            return parts.iter().try_for_each(|p| self.push(p));
        }
        if !parts.is_empty() {
            // SAFETY: they fit; an old leaf is not a new one.
            unsafe { core::ptr::copy_nonoverlapping(parts.as_ptr(), self.at(self.len), parts.len()) };
            self.len += parts.len();
        }
        Ok(())
    }

    /// Adds a segment, or lengthens the last one that it continues.
    #[inline]
    fn push(&mut self, p: &Part) -> Result<(), Stop> {
        if self.len != 0 {
            // SAFETY: initialised below `len`.
            let last = unsafe { &mut *self.at(self.len - 1) };
            if last.end == p.start && last.joins(p) {
                last.end = p.end;
                return Ok(());
            }
            if self.len == LEAF {
                self.split()?;
            }
        }
        // SAFETY: inside the body.
        unsafe { self.at(self.len).write(*p) };
        self.len += 1;
        Ok(())
    }

    /// Adds what `p` has below `lo`.
    #[inline]
    fn push_below(&mut self, p: &Part, lo: u32) -> Result<(), Stop> {
        if p.start < lo { self.push(&Part { end: lo, ..*p }) } else { Ok(()) }
    }

    /// Adds what `p` has above `hi`.
    #[inline]
    fn push_above(&mut self, p: &Part, hi: u32) -> Result<(), Stop> {
        if p.end > hi { self.push(&p.clip(hi, p.end)) } else { Ok(()) }
    }

    /// The leaf is full: its upper half goes to a second one.
    #[cold]
    fn split(&mut self) -> Result<(), Stop> {
        const KEPT: usize = LEAF / 2;
        if !self.left.is_null() {
            return Err(Stop(Spliced::Larger));
        }
        self.left = self.leaf;
        self.leaf = self.node(0)?;
        // SAFETY: both leaves are ours; the ranges lie inside their bodies.
        unsafe {
            core::ptr::copy_nonoverlapping((*self.left).parts_mut().add(KEPT), self.at(0), LEAF - KEPT);
        }
        self.len = LEAF - KEPT;
        self.end_leaf(self.left, KEPT);
        Ok(())
    }
}
