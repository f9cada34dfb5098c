//! The edit: down to what changes, and up again with what becomes of it.

use super::node::{Child, Entry, Few, INNER, Node, Value, first_behind, largest_gap};
use super::{HEIGHT, Level, Nodes, Stop, Version};

/// What is shown each value that an edit takes out or cuts, if it matters; false: it must not.
pub(crate) type See<'s, V> = Option<&'s mut dyn FnMut(&V) -> bool>;

impl<'a, V: Value, N: Nodes<V>> Version<'a, V, N> {
    /// Makes the version of `old` in which the range holds the new value, or nothing. `see` is shown each value that is there, in no
    /// particular order, and may refuse it.
    ///
    /// # Safety
    ///
    /// `old` is null or a root that stays valid, with all below it, as long as this version.
    #[inline]
    pub unsafe fn put(&mut self, old: *mut Node<V>, see: &mut See<'_, V>) -> Result<(), Stop> {
        // SAFETY: null, or valid by this function's contract.
        let Some(node) = (unsafe { old.as_ref() }) else { return self.put_first() };
        let top = Child::root(node);
        let mut at = &top;
        // Down, as long as what is beside one child does not matter.
        while let Some((i, child)) = self.inside(at.node()) {
            self.levels.push(Level { first: at.start, last: at.start, node: at.at, gap: at.gap, child: i });
            at = child;
        }
        let depth = self.levels.len();
        self.levels.push(Level { first: at.start, last: at.start, node: at.at, gap: at.gap, child: 0 });
        (0..at.node().level).for_each(|_| self.levels.push(Level::UNTOUCHED));
        let mut new = Few::new();
        let mut shrunk = self.change(at, &mut new, see)?;
        if matches!(*new, [one] if one.at == at.at) {
            self.root = old;
            return Ok(());
        }
        // And up, with what it has become in its place.
        let mut d = depth;
        loop {
            if let [mut one] = *new {
                while d > 0 {
                    let (node, level) = self.above(d);
                    if shrunk && self.is_joined(node, level.child, &one) {
                        break;
                    }
                    let i = level.child;
                    one = self.exchange(node, level.gap, (i, i + 1), &[one])?;
                    (shrunk, d) = (false, d - 1);
                }
                if d == 0 {
                    self.root = self.lowered(&one);
                    return Ok(());
                }
                new[0] = one;
            }
            if d == 0 {
                return self.put_root(&new);
            }
            let (node, Level { gap, child, .. }) = self.above(d);
            let below = core::mem::replace(&mut new, Few::new());
            shrunk = self.change_number(node, gap, (child, child + 1), shrunk, &below, &mut new)?;
            d -= 1;
        }
    }

    /// The node on the way down above the depth `depth`, and what is known of it.
    #[inline]
    fn above<'n>(&self, depth: usize) -> (&'n Node<V>, Level<V>) {
        let level = self.levels[depth - 1];
        // SAFETY: a node of the old version.
        (unsafe { &*level.node }, level)
    }

    /// The first value of a tree.
    #[inline]
    fn put_first(&mut self) -> Result<(), Stop> {
        if let Some(new) = self.new {
            self.grown = 1;
            let node = self.take(0)?;
            node.set_len(1);
            node.set(0, new);
            self.own(node, new.owns());
            self.root = node;
        }
        Ok(())
    }

    /// The child of `at` that has all of the range. If there is a new value, only if the child has values on both sides of the range: else
    /// the new value may merge with one of the next child.
    #[inline(always)]
    fn inside<'n>(&mut self, at: &'n Node<V>) -> Option<(usize, &'n Child<V>)> {
        if at.level == 0 {
            return None;
        }
        let below = at.entries::<Child<V>>();
        let i = first_behind(below, self.lo);
        let child = below.get(i)?;
        if child.start < self.lo && self.hi < child.end {
            return Some((i, child));
        }
        if self.new.is_some() || child.start > self.lo || self.hi > child.end {
            return None;
        }
        if i > 0 {
            self.below = below[i - 1].end;
        }
        if let Some(next) = below.get(i + 1) {
            self.above = next.start;
        }
        Some((i, child))
    }

    /// Whether `new` in the place of child `i` is joined with a neighbour.
    #[inline]
    fn is_joined(&self, at: &Node<V>, i: usize, new: &Child<V>) -> bool {
        let old = at.entries::<Child<V>>();
        let joins = |c: &Child<V>| is_small(c, new);
        N::JOINS && new.len() < new.small() && (i > 0 && joins(&old[i - 1]) || old.get(i + 1).is_some_and(joins))
    }

    /// A root above what the old one has become, if that is several nodes or none.
    #[cold]
    fn put_root(&mut self, top: &[Child<V>]) -> Result<(), Stop> {
        let [one, ..] = top else { return Ok(()) };
        let level = one.node().level as usize + 1;
        if level == HEIGHT {
            return Err(Stop::TooHigh);
        }
        let node = self.take(level)?;
        node.fill([top, &[], &[]], 0, top.len());
        self.root = node;
        Ok(())
    }

    /// A root with a single child is none: the child is.
    #[inline]
    fn lowered(&mut self, top: &Child<V>) -> *mut Node<V> {
        let mut root = top.node();
        while root.level != 0 && root.len() == 1 {
            let only = root.entries::<Child<V>>()[0].node();
            self.replace_any(&Child::of_any(root));
            root = only;
        }
        root as *const Node<V> as *mut Node<V>
    }

    /// Makes the change below `at`, in the part of the range that it has. `out` gets the nodes that take its place: none, one or two.
    /// True: there is less in them than it had, so one may be small enough for a join.
    #[inline(always)]
    fn change(&mut self, at: &Child<V>, out: &mut Few<Child<V>>, see: &mut See<'_, V>) -> Result<bool, Stop> {
        if at.node().level == 0 { self.change_leaf(at, out, see) } else { self.change_above(at, out, see) }
    }

    /// As [`Version::change`], of a node with children.
    #[cold]
    fn change_above(&mut self, at: &Child<V>, out: &mut Few<Child<V>>, see: &mut See<'_, V>) -> Result<bool, Stop> {
        let old = at.node().entries::<Child<V>>();
        let (mut i, mut j) = self.touched(old);
        if i == j {
            if !self.insert {
                out.push(*at);
                return Ok(false);
            }
            // Into a hole by the child on the left of it, if there is one.
            (i, j) = (i.saturating_sub(1), i.max(1));
        }
        let (mut new, mut right) = (Few::new(), Few::new());
        if j - i > 1 {
            // The right end comes first: what is there may lengthen the new value, which the left one gets.
            let insert = core::mem::take(&mut self.insert);
            self.replace(&old[j - 1]);
            self.change(&old[j - 1], &mut right, see)?;
            self.insert = insert;
            old[i + 1..j - 1].iter().try_for_each(|c| self.remove(c, see))?;
        }
        self.replace(&old[i]);
        let shrunk = self.change(&old[i], &mut new, see)? || j - i > 1;
        right.iter().for_each(|c| new.push(*c));
        if matches!(*new, [one] if one.at == old[i].at) {
            out.push(*at);
            return Ok(false);
        }
        self.change_number(at.node(), at.gap, (i, j), shrunk, &new, out)
    }

    /// The node `at`, whose largest hole was `gap`, with `new` in the place of its children `i .. j`, if that fits.
    #[inline(always)]
    fn exchange(&mut self, at: &Node<V>, gap: u32, (i, j): (usize, usize), new: &[Child<V>]) -> Result<Child<V>, Stop> {
        let old = at.entries::<Child<V>>();
        let last = i + new.len();
        let node = self.copy_of(at, old.len() - (j - i) + new.len())?;
        node.write(i, new);
        if last != j {
            node.write(last, &old[j..]);
        }
        let all = node.entries::<Child<V>>();
        // Elsewhere there are the same holes as before; beside one child, too, if its ends have not moved.
        let one = (i + 1, new.len()) == (j, 1);
        let (was, is) = match one && (old[i].start, old[i].end) == (new[0].start, new[0].end) {
            true => (old[i].gap, new[0].gap),
            false => (largest_gap(around(old, i, j)), largest_gap(around(all, i, last))),
        };
        let gap = if was < gap || is >= gap { is.max(gap) } else { largest_gap(all) };
        Ok(Child::of(node, all, gap))
    }

    /// The node `at` with `new` in the place of its children `i .. j`, one of which may have become smaller if `shrunk`. Whether it has fewer
    /// children now.
    #[cold]
    fn change_number(
        &mut self,
        at: &Node<V>,
        gap: u32,
        (i, j): (usize, usize),
        shrunk: bool,
        new: &[Child<V>],
        out: &mut Few<Child<V>>,
    ) -> Result<bool, Stop> {
        let old = at.entries::<Child<V>>();
        // Rule 3: with the neighbours on both sides.
        let (first, behind) = if shrunk && N::JOINS { (i.saturating_sub(1), (j + 1).min(old.len())) } else { (i, j) };
        let mut all: Few<Child<V>> = Few::new();
        for next in old[first..i].iter().chain(new).chain(&old[j..behind]) {
            match all.last_mut() {
                Some(last) if N::JOINS && is_small(last, next) => *last = self.join(last, next)?,
                _ => all.push(*next),
            }
        }
        let len = old.len() - (behind - first) + all.len();
        if len == 0 || len > INNER {
            self.fill([&old[..first], &all, &old[behind..]], at.level as usize, false, out)?;
        } else {
            out.push(self.exchange(at, gap, (first, behind), &all)?);
        }
        Ok(len < old.len())
    }

    /// As [`Version::change`], of a leaf.
    #[inline(always)]
    fn change_leaf(&mut self, at: &Child<V>, out: &mut Few<Child<V>>, see: &mut See<'_, V>) -> Result<bool, Stop> {
        let from = at.node();
        let old = from.entries::<V>();
        let (i, j) = self.touched(old);
        if i == j && !self.insert {
            out.push(*at);
            return Ok(false);
        }
        let (lo, hi) = self.range;
        if let Some(see) = see
            && !old[i..j].iter().all(|v| v.end() <= lo || v.start() >= hi || see(v))
        {
            return Err(Stop::Refused);
        }
        let owns = from.owns || self.insert && self.new.as_ref().is_some_and(V::owns);
        if matches!(&old[i..j], [one] if self.insert && (one.start(), one.end()) == (self.lo, self.hi)) {
            // A value for another one between the same ends.
            let node = self.copy_of(from, old.len())?;
            self.put_new(node, i);
            self.own(node, owns);
            out.push(Child { at: node, ..*at });
            return Ok(false);
        }
        // What is left of the values at both ends, as far as that does not merge with the new one.
        let left = i < j && old[i].start() < self.lo && !self.merged_below(&old[i].until(self.lo));
        let right = i < j && old[j - 1].end() > self.hi && !self.merged_above(&old[j - 1].from(self.hi));
        if left {
            self.below = self.lo;
        }
        if right {
            self.above = self.hi;
        }
        let count = left as usize + self.insert as usize + right as usize;
        let len = old.len() - (j - i) + count;
        self.grown += len as i64 - old.len() as i64;
        if len == 0 {
            return Ok(true);
        }
        if len > V::MOST {
            let mut new: Few<V> = Few::new();
            if left {
                new.push(old[i].until(self.lo));
            }
            self.new.iter().filter(|_| self.insert).for_each(|v| new.push(*v));
            if right {
                new.push(old[j - 1].from(self.hi));
            }
            self.fill([&old[..i], &new, &old[j..]], 0, owns, out)?;
            return Ok(false);
        }
        let node = self.copy_of(from, len)?;
        let mut k = i;
        if left {
            node.set(k, old[i].until(self.lo));
            k += 1;
        }
        if self.insert {
            self.put_new(node, k);
            k += 1;
        }
        if right {
            node.set(k, old[j - 1].from(self.hi));
            k += 1;
        }
        if k != j {
            node.write(k, &old[j..]);
        }
        self.own(node, owns);
        let all = node.entries::<V>();
        out.push(Child::of(node, all, self.gap(at, all)));
        Ok(k < j)
    }

    /// Puts the new value into a new leaf.
    #[inline]
    fn put_new(&self, leaf: &mut Node<V>, i: usize) {
        if let Some(new) = &self.new {
            leaf.set(i, *new);
        }
    }

    /// The entries `i .. j` that the range touches, after rule 2.
    #[inline(always)]
    fn touched<T: Entry<V>>(&mut self, old: &[T]) -> (usize, usize) {
        let mut i = first_behind(old, self.lo);
        let mut j = i;
        while j < old.len() && old[j].start() < self.hi {
            j += 1;
        }
        if self.new.is_some() {
            if i > 0 && old[i - 1].end() == self.lo && self.merged_below(&old[i - 1].last()) {
                i -= 1;
            }
            if j < old.len() && old[j].start() == self.hi && self.merged_above(&old[j].first()) {
                j += 1;
            }
        }
        if i > 0 {
            self.below = old[i - 1].end();
        }
        if j < old.len() {
            self.above = old[j].start();
        }
        (i, j)
    }

    /// Whether the new value continues `v`: then `v` becomes part of it.
    #[inline]
    fn merged_below(&mut self, v: &V) -> bool {
        let joined = self.new.as_ref().filter(|new| v.joins(new)).map(|new| v.until(new.end()));
        if joined.is_some() {
            (self.lo, self.new) = (v.start(), joined);
        }
        joined.is_some()
    }

    /// Whether `v` continues the new value, as [`Version::merged_below`].
    #[inline]
    fn merged_above(&mut self, v: &V) -> bool {
        let joined = self.new.as_ref().filter(|new| new.joins(v)).map(|new| new.until(v.end()));
        if joined.is_some() {
            (self.hi, self.new) = (v.end(), joined);
        }
        joined.is_some()
    }

    /// Takes a whole subtree out.
    fn remove(&mut self, child: &Child<V>, see: &mut See<'_, V>) -> Result<(), Stop> {
        self.replace(child);
        let node = child.node();
        if node.level != 0 {
            let mut below = node.entries::<Child<V>>().iter();
            return below.try_for_each(|c| self.remove(c, see));
        }
        self.grown -= node.len() as i64;
        if see.as_mut().is_none_or(|see| node.entries::<V>().iter().all(see)) { Ok(()) } else { Err(Stop::Refused) }
    }

    /// One node of two. So the last child of one and the first of the other come below one parent: they may have to be joined, too.
    fn join(&mut self, left: &Child<V>, right: &Child<V>) -> Result<Child<V>, Stop> {
        let (a, b) = (left.node(), right.node());
        let mut out = Few::new();
        if a.level == 0 {
            self.fill::<V>([a.entries(), b.entries(), &[]], 0, a.owns || b.owns, &mut out)?;
        } else {
            let (a, b) = (a.entries::<Child<V>>(), b.entries::<Child<V>>());
            let ([a @ .., last], [first, b @ ..]) = (a, b) else { unreachable!("a node without entries") };
            let mut seam: Few<Child<V>> = Few::new();
            seam.push(*last);
            if is_small(last, first) {
                seam[0] = self.join(last, first)?
            } else {
                seam.push(*first)
            }
            self.fill([a, &seam, b], left.node().level as usize, false, &mut out)?;
        }
        self.replace_any(left);
        self.replace_any(right);
        Ok(out[0])
    }

    /// Rule 1: adds to `out` a node with the entries `parts`, or two, or none. `owns`: some of these may own something.
    fn fill<T: Entry<V>>(
        &mut self,
        parts: [&[T]; 3],
        level: usize,
        owns: bool,
        out: &mut Few<Child<V>>,
    ) -> Result<(), Stop> {
        let len = parts.iter().map(|part| part.len()).sum();
        let half = if len > T::MOST { len / 2 } else { len };
        for (first, behind) in [(0, half), (half, len)] {
            if first < behind {
                let node = self.take(level)?;
                node.fill(parts, first, behind);
                let all = node.entries::<T>();
                let owns = owns && all.iter().any(T::owns);
                out.push(Child::of(node, all, largest_gap(all)));
                self.own(node, owns);
            }
        }
        Ok(())
    }

    /// The largest hole of a leaf that has the values `all` now. Only between the range's neighbours are other holes than before.
    #[inline]
    fn gap(&self, was: &Child<V>, all: &[V]) -> u32 {
        let (start, end) = (all[0].start(), all[all.len() - 1].end());
        let (lo, hi) = (self.below.max(was.start.min(start)), self.above.min(was.end.max(end)));
        let room = hi.saturating_sub(lo);
        if room < was.gap {
            was.gap
        } else if self.new.is_none() && start < lo && hi < end {
            room
        } else {
            largest_gap(all)
        }
    }
}

/// The entries `i .. j`, and one beside them on both sides, if there are.
fn around<T>(entries: &[T], i: usize, j: usize) -> &[T] {
    &entries[i.saturating_sub(1)..(j + 1).min(entries.len())]
}

/// Rule 3: whether two neighbours are too small.
#[inline]
fn is_small<V: Value>(a: &Child<V>, b: &Child<V>) -> bool {
    a.len() + b.len() <= a.small()
}
