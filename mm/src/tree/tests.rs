//! The tree beside a plain model: a sorted vector of the same values.

use super::node::{Child, Entry, largest_gap};
use super::*;
use core::ptr::null_mut;
use std::boxed::Box;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::vec::Vec;

/// A range of one kind, numbered from `first` on if its kind is odd.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Run {
    start: u32,
    end: u32,
    kind: u32,
    first: u32,
    rest: [u64; 2],
}

impl Run {
    fn new(start: u32, end: u32, kind: u32) -> Run {
        Run { start, end, kind, first: if kind % 2 == 1 { start } else { 0 }, rest: [!0; 2] }
    }
}

impl Value for Run {
    fn start(&self) -> u32 {
        self.start
    }
    fn end(&self) -> u32 {
        self.end
    }
    fn from(&self, start: u32) -> Run {
        let skipped = if self.kind % 2 == 1 { start - self.start } else { 0 };
        Run { start, first: self.first + skipped, ..*self }
    }
    fn until(&self, end: u32) -> Run {
        Run { end, ..*self }
    }
    fn joins(&self, next: &Run) -> bool {
        let numbered = self.kind.is_multiple_of(2) || self.first + (self.end - self.start) == next.first;
        self.end == next.start && self.kind == next.kind && self.kind % 8 != 7 && numbered
    }
    fn owns(&self) -> bool {
        self.kind % 2 == 1
    }
}

/// Nodes from the heap, each of which is known as long as it is out.
#[derive(Default)]
struct Heap {
    out: RefCell<HashSet<*mut Node<Run>>>,
    /// Which of them own something.
    owned: RefCell<HashSet<*mut Node<Run>>>,
    /// How many may still be taken.
    left: Cell<Option<usize>>,
    taken: Cell<usize>,
}

impl Nodes<Run> for Heap {
    fn take(&self) -> Option<*mut Node<Run>> {
        if let Some(left) = self.left.get() {
            self.left.set(Some(left.checked_sub(1)?));
        }
        self.taken.set(self.taken.get() + 1);
        let mut node = Box::<Node<Run>>::new_uninit();
        // SAFETY: as many bytes as the node has.
        unsafe { node.as_mut_ptr().cast::<u8>().write_bytes(0xa5, size_of::<Node<Run>>()) };
        let at = Box::into_raw(node).cast::<Node<Run>>();
        assert!(self.out.borrow_mut().insert(at));
        Some(at)
    }

    fn own(&self, leaf: &Node<Run>) {
        assert!(self.owned.borrow_mut().insert(leaf as *const Node<Run> as *mut Node<Run>), "a leaf was owned twice");
    }

    unsafe fn give(&self, node: *mut Node<Run>) {
        assert!(self.out.borrow_mut().remove(&node), "a node was given back twice");
        // SAFETY: a node, by the trait's contract.
        assert_eq!(self.owned.borrow_mut().remove(&node), unsafe { (*node).owns });
        // SAFETY: from `take`; poisoned, for whoever still reads it.
        unsafe {
            node.cast::<u8>().write_bytes(0x5a, size_of::<Node<Run>>());
            drop(Box::from_raw(node.cast::<core::mem::MaybeUninit<Node<Run>>>()));
        }
    }
}

impl Heap {
    fn len(&self) -> usize {
        self.out.borrow().len()
    }

    fn free(&self, root: *mut Node<Run>) {
        // SAFETY: a tree that nobody else has.
        unsafe {
            if let Some(node) = root.as_ref() {
                if node.level != 0 {
                    node.children().for_each(|c| self.free(c));
                }
                self.give(root);
            }
        }
    }
}

/// A version that readers may still hold: its root, what is in it, and the nodes that go when it does.
struct Old {
    root: *mut Node<Run>,
    /// Of each tenth version.
    model: Option<Vec<Run>>,
    replaced: Vec<*mut Node<Run>>,
}

struct Both {
    heap: &'static Heap,
    root: *mut Node<Run>,
    model: Vec<Run>,
    old: Vec<Old>,
    edits: usize,
}

fn values(root: *mut Node<Run>) -> Vec<Run> {
    let mut all = Vec::new();
    // SAFETY: a valid tree.
    unsafe { Tree::new(root) }.each(0, u32::MAX, &mut |v| {
        all.push(*v);
        true
    });
    all
}

/// What the rules say of a node and all below it. Returns how many nodes there are.
fn check(root: *mut Node<Run>) -> usize {
    fn entries<T: Entry<Run>>(node: &Node<Run>) {
        let all = node.entries::<T>();
        assert!(!all.is_empty() && all.len() <= T::MOST);
        assert!(all.iter().all(|e| e.start() < e.end()));
        assert!(all.windows(2).all(|w| w[0].end() <= w[1].start()));
        assert!(node.owns || !all.iter().any(T::owns));
    }
    // SAFETY: a valid tree.
    let Some(node) = (unsafe { root.as_ref() }) else { return 0 };
    assert!((node.level as usize) < HEIGHT);
    if node.level == 0 {
        entries::<Run>(node);
        return 1;
    }
    entries::<Child<Run>>(node);
    let below = node.entries::<Child<Run>>();
    for c in below {
        let child = c.node();
        assert_eq!(child.level + 1, node.level);
        let of = Child::of_any(child);
        assert_eq!((c.start, c.end, c.gap), (of.start, of.end, of.gap));
    }
    assert!(below.windows(2).all(|w| w[0].len() + w[1].len() > w[0].small()), "small neighbours");
    1 + below.iter().map(|c| check(c.at)).sum::<usize>()
}

impl Both {
    fn new() -> Both {
        Both { heap: Box::leak(Box::default()), root: null_mut(), model: Vec::new(), old: Vec::new(), edits: 0 }
    }

    /// The edit in the model, and what it had seen.
    fn edit_model(&mut self, lo: u32, hi: u32, new: Option<Run>) -> Vec<Run> {
        let first = self.model.partition_point(|v| v.end <= lo);
        let behind = self.model.partition_point(|v| v.start < hi).max(first);
        let seen: Vec<Run> = self.model[first..behind].to_vec();
        let mut parts: Vec<Run> = Vec::new();
        let before = first.checked_sub(1).map(|i| self.model[i]);
        let after = self.model.get(behind).copied();
        let low = seen.first().filter(|v| v.start < lo).map(|v| v.until(lo));
        let high = seen.last().filter(|v| v.end > hi).map(|v| v.from(hi));
        for v in before.into_iter().chain(low).chain(new).chain(high).chain(after) {
            match parts.last_mut() {
                Some(last) if new.is_some() && last.joins(&v) => *last = last.until(v.end),
                _ => parts.push(v),
            }
        }
        let range = first - before.is_some() as usize..behind + after.is_some() as usize;
        self.model.splice(range, parts);
        seen
    }

    fn put(&mut self, lo: u32, hi: u32, new: Option<Run>) {
        self.edits += 1;
        let before = self.edits.is_multiple_of(10).then(|| self.model.clone());
        let old_len = self.model.len() as i64;
        let seen = self.edit_model(lo, hi, new);
        let mut version = Version::new(self.heap, lo, hi, new);
        let mut saw = Vec::new();
        let mut see = |v: &Run| {
            saw.push(*v);
            true
        };
        // SAFETY: the old version stays.
        let made = unsafe { version.put(self.root, &mut Some(&mut see)) };
        assert_eq!(made, Ok(()));
        saw.sort_by_key(|v| v.start);
        assert_eq!(saw, seen);
        assert_eq!(version.grown, self.model.len() as i64 - old_len);
        if new.is_none() {
            let (below, above) = self.model.split_at(self.model.partition_point(|v| v.end <= lo));
            if !seen.is_empty() {
                let around = (below.last().map_or(0, |v| v.end), above.first().map_or(u32::MAX, |v| v.start));
                assert_eq!((version.below, version.above), around);
            }
        }
        self.publish(version, before);
    }

    fn publish(&mut self, mut version: Version<'_, Run, Heap>, before: Option<Vec<Run>>) {
        let old = self.root;
        if version.root() == old {
            assert!(before.is_none_or(|model| model == self.model));
            return;
        }
        let root = version.root();
        // SAFETY: published right here.
        let chain = unsafe { version.published(old) };
        let mut replaced = Vec::new();
        let mut at = chain.first;
        while !at.is_null() {
            replaced.push(at);
            // SAFETY: the chain of replaced nodes.
            at = if at == chain.last { null_mut() } else { unsafe { (*at).next.get() } };
        }
        self.root = root;
        self.old.push(Old { root: old, model: before, replaced });
        if self.old.len() > 3 {
            self.forget();
        }
    }

    /// The oldest version goes; it was as it had been.
    fn forget(&mut self) {
        let Old { root, model, replaced } = self.old.remove(0);
        assert!(model.is_none_or(|model| values(root) == model));
        // SAFETY: no version that is left has them.
        replaced.into_iter().for_each(|n| unsafe { self.heap.give(n) });
    }

    fn check(&self) {
        assert_eq!(values(self.root), self.model);
        let waiting: usize = self.old.iter().map(|o| o.replaced.len()).sum();
        assert_eq!(check(self.root) + waiting, self.heap.len(), "nodes were lost");
    }

    fn finish(mut self) {
        self.check();
        while !self.old.is_empty() {
            self.forget();
        }
        self.heap.free(self.root);
        assert_eq!(self.heap.len(), 0);
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) % n as u64) as u32
    }
}

/// An edit of a tree of about `pages` pages.
fn edit(random: &mut Random, pages: u32, longest: u32) -> (u32, u32, Option<Run>) {
    let lo = random.below(pages);
    let len = if random.below(20) == 0 { 1 + random.below(longest) } else { 1 + random.below(3) };
    let hi = (lo + len).min(pages);
    let new = (random.below(10) < 6).then(|| Run::new(lo, hi, random.below(9)));
    (lo, hi, new)
}

#[test]
fn is_what_a_plain_list_is() {
    let mut random = Random(1);
    for (pages, longest, edits) in [(40, 40, 20_000), (600, 600, 20_000), (3000, 100, 20_000), (20_000, 20, 140_000)] {
        let mut both = Both::new();
        for i in 0..edits {
            let (lo, hi, new) = edit(&mut random, pages, longest);
            both.put(lo, hi, new);
            if pages < 1000 || i % 500 == 0 {
                both.check();
            }
            // SAFETY: the newest version.
            let tree = unsafe { Tree::new(both.root) };
            let page = random.below(pages);
            let above = &both.model[both.model.partition_point(|v| v.end <= page)..];
            assert_eq!(tree.find(page), above.first().filter(|v| v.start <= page));
            assert_eq!(tree.at_or_above(page), above.first());
            let want = 1 + random.below(30);
            let mut hole = page;
            for v in above {
                if v.start >= hole && v.start - hole >= want {
                    break;
                }
                hole = v.end;
            }
            assert_eq!(tree.hole(want, page, pages), (hole <= pages && pages - hole >= want).then_some(hole));
        }
        both.put(0, pages, None);
        both.finish();
    }
}

#[test]
fn an_edit_without_nodes_changes_nothing() {
    let (mut random, mut failed) = (Random(2), 0);
    let mut both = Both::new();
    for i in 0..6000 {
        let (lo, hi, new) = edit(&mut random, 4000, if i % 50 == 0 { 4000 } else { 60 });
        let before = both.heap.len();
        for left in 0.. {
            both.heap.left.set(Some(left));
            let mut version = Version::new(both.heap, lo, hi, new);
            // SAFETY: the old version stays.
            let made = unsafe { version.put(both.root, &mut None) };
            drop(version);
            assert_eq!(both.heap.len(), before);
            if made.is_ok() {
                break;
            }
            assert_eq!(made, Err(Stop::OutOfNodes));
            failed += 1;
        }
        both.heap.left.set(None);
        both.put(lo, hi, new);
        if i % 20 == 0 {
            both.check();
        }
    }
    assert!(failed > 6000, "{failed}");
    both.finish();
}

#[test]
fn what_is_refused_changes_nothing() {
    let mut random = Random(3);
    let mut both = Both::new();
    for _ in 0..5000 {
        let (lo, hi, new) = edit(&mut random, 3000, 300);
        let (there, at) = (both.model.iter().filter(|v| v.end > lo && v.start < hi).count(), both.heap.len());
        let allowed = random.below(4) as usize;
        let (mut seen, mut version) = (0, Version::new(both.heap, lo, hi, new));
        let mut see = |_: &Run| {
            seen += 1;
            seen <= allowed
        };
        // SAFETY: the old version stays.
        let made = unsafe { version.put(both.root, &mut Some(&mut see)) };
        assert_eq!(made, if there > allowed { Err(Stop::Refused) } else { Ok(()) });
        drop(version);
        assert_eq!(both.heap.len(), at);
        both.put(lo, hi, new);
    }
    both.finish();
}

/// A small store of nodes.
struct Store<'a>(&'a Heap);

impl Nodes<Run> for Store<'_> {
    const JOINS: bool = false;
    fn take(&self) -> Option<*mut Node<Run>> {
        self.0.take()
    }
    fn own(&self, leaf: &Node<Run>) {
        self.0.own(leaf);
    }
    unsafe fn give(&self, node: *mut Node<Run>) {
        // SAFETY: the trait's contract.
        unsafe { self.0.give(node) };
    }
}

impl Both {
    /// How many nodes it needs to put `new`, or nothing, in the place of the value at `lo`, without joins: no more than are put aside.
    /// Nothing is published.
    fn needs(&mut self, lo: u32, new: Option<Run>) -> usize {
        self.heap.taken.set(0);
        self.heap.left.set(Some(REPLACING));
        let store = Store(self.heap);
        let mut version = Version::new(&store, lo, lo + 1, new);
        // SAFETY: the old version stays.
        assert_eq!(unsafe { version.put(self.root, &mut None) }, Ok(()));
        self.heap.left.set(None);
        if self.edits.is_multiple_of(100) {
            let model = self.model.clone();
            self.edit_model(lo, lo + 1, new);
            assert_eq!(values(version.root()), core::mem::replace(&mut self.model, model));
        }
        drop(version);
        self.heap.taken.get()
    }

    /// Puts a value behind all others.
    fn append(&mut self, new: Run) {
        self.model.push(new);
        let mut version = Version::new(self.heap, new.start, new.end, Some(new));
        // SAFETY: the old version stays.
        assert_eq!(unsafe { version.put(self.root, &mut None) }, Ok(()));
        self.publish(version, None);
    }

    /// Leaves one value between two pages.
    fn thin(&mut self, (start, end): (u32, u32)) {
        let keep = start + (end - start) / 2;
        [(start, keep), (keep + 1, end)]
            .into_iter()
            .filter(|(lo, hi)| lo < hi)
            .for_each(|(lo, hi)| self.put(lo, hi, None));
    }
}

/// The second publish of a replacement: whatever merges, it needs no more than was put aside.
#[test]
fn replacing_one_value_needs_few_nodes() {
    let mut random = Random(4);
    let (mut most, mut both) = (0, Both::new());
    for i in 0..60_000u32 {
        // Kind 7 stays alone.
        let lo = random.below(3000);
        both.put(lo, lo + 1, Some(Run::new(lo, lo + 1, 7)));
        let kind = if i / 3000 % 2 == 0 { 2 * random.below(2) } else { 2 * random.below(4) };
        let new = (random.below(3) != 0).then(|| Run::new(lo, lo + 1, kind));
        most = most.max(both.needs(lo, new));
        both.put(lo, lo + 1, new);
        if i % 100 == 0 {
            both.check();
        }
    }
    assert!(most > 3, "{most}");
    both.finish();
}

/// As above, in a high tree whose nodes beside the value are all so small that an edit with joins would join them on every level,
/// and again below each of these.
#[test]
fn replacing_one_value_among_thin_nodes_needs_few_nodes() {
    let mut both = Both::new();
    (0..60_000).for_each(|page| both.append(Run::new(page, page + 1, 7)));
    let mut thin = Vec::new();
    // SAFETY: the newest version.
    let mut at = unsafe { &*both.root };
    let top = at.level;
    while at.level > 0 {
        let below = at.entries::<Child<Run>>();
        let beside = if at.level == top { [2, 4].to_vec() } else { [0, 2, 4, below.len() - 1].to_vec() };
        thin.extend(beside.into_iter().map(|i| (below[i].start, below[i].end)));
        at = below[3].node();
    }
    let leaf: Vec<Run> = at.values().to_vec();
    thin.into_iter().for_each(|range| both.thin(range));
    [0, 1, 7].into_iter().for_each(|i| both.put(leaf[i].start, leaf[i].end, None));
    let page = leaf[4].start;
    [page - 1, page + 1].into_iter().for_each(|page| both.put(page, page + 1, Some(Run::new(page, page + 1, 2))));
    both.check();
    for new in [None, Some(Run::new(page, page + 1, 2))] {
        both.needs(page, new);
        // With joins: more than are put aside.
        both.heap.taken.set(0);
        let mut version = Version::new(both.heap, page, page + 1, new);
        // SAFETY: the old version stays.
        assert_eq!(unsafe { version.put(both.root, &mut None) }, Ok(()));
        drop(version);
        assert!(both.heap.taken.get() > REPLACING, "{}", both.heap.taken.get());
    }
    both.finish();
}

/// Trees that are thinned out in every order stay low.
#[test]
fn thinned_out_trees_stay_low() {
    for order in 0..4 {
        let mut both = Both::new();
        let mut random = Random(order);
        for round in 0..2u32 {
            for i in 0..8000 {
                both.put(2 * i, 2 * i + 1, Some(Run::new(2 * i, 2 * i + 1, 0)));
            }
            for k in 0..8000 {
                let i = match order {
                    0 => k,
                    1 => 7999 - k,
                    2 => k * 4799 % 8000,
                    _ => random.below(8000),
                };
                if i % 15 != round {
                    both.put(2 * i, 2 * i + 1, None);
                }
            }
            both.check();
            // SAFETY: the newest version.
            let (nodes, left) = (unsafe { Tree::new(both.root) }.nodes(), both.model.len() as u64);
            assert!(nodes <= left / 2 + 3, "{nodes} nodes for {left} values");
        }
        both.put(0, 16_000, None);
        assert!(both.root.is_null());
        both.finish();
    }
}

#[test]
fn a_copy_is_the_same_and_packed() {
    let mut random = Random(5);
    for size in [0, 1, 13, 14, 200, 5000] {
        let mut both = Both::new();
        for i in 0..size {
            both.put(i, i + 1, Some(Run::new(i, i + 1, random.below(7))));
        }
        // SAFETY: the newest version.
        let tree = unsafe { Tree::new(both.root) };
        let mut want: Vec<Run> = Vec::new();
        let keep = |v: &Run| (v.kind != 6).then_some(Run { kind: v.kind & !2, ..*v });
        for v in both.model.iter().filter_map(keep) {
            match want.last_mut() {
                Some(last) if last.joins(&v) => last.end = v.end,
                _ => want.push(v),
            }
        }
        for left in (0..).step_by(7) {
            let before = both.heap.len();
            both.heap.left.set(Some(left));
            let mut version = Version::new(both.heap, 0, 1, None);
            let made = version.copy(tree, &keep);
            if made.is_err() {
                drop(version);
                assert_eq!(both.heap.len(), before);
                continue;
            }
            assert_eq!(version.grown, want.len() as i64);
            let root = version.root();
            // SAFETY: as good as published.
            assert!(unsafe { version.published(null_mut()) }.first.is_null());
            assert_eq!(values(root), want);
            let nodes = check(root);
            assert_eq!(nodes + before, both.heap.len());
            assert!(nodes <= want.len() / 13 + want.len() / 13 / 18 + 4);
            both.heap.free(root);
            break;
        }
        both.heap.left.set(None);
        both.finish();
    }
}

#[test]
fn holes_are_measured() {
    assert_eq!(largest_gap::<Run, Run>(&[]), 0);
    assert_eq!(largest_gap(&[Run::new(0, 2, 0), Run::new(5, 6, 0), Run::new(7, 9, 0)]), 3);
}
