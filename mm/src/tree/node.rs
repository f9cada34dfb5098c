//! What a tree is made of, and how it is read.

use core::cell::Cell;
use core::mem::MaybeUninit;
use core::ops::{Deref, DerefMut};

/// Values of a leaf.
const LEAF: usize = 15;
/// Children of a node above.
pub(super) const INNER: usize = 20;

/// A range with something in it, 32 bytes at best.
pub(crate) trait Value: Copy + 'static {
    /// The first page.
    fn start(&self) -> u32;
    /// The page behind the last one.
    fn end(&self) -> u32;
    /// It, from `start` on.
    fn from(&self, start: u32) -> Self;
    /// It, up to `end`.
    fn until(&self, end: u32) -> Self;
    /// Whether `next` begins at its end and only continues it.
    fn joins(&self, next: &Self) -> bool;
    /// Whether a leaf owns something for it.
    fn owns(&self) -> bool;
}

/// An entry of a node: a value in a leaf, a child above.
pub(super) trait Entry<V: Value>: Copy {
    /// As many fit into a node.
    const MOST: usize;
    /// Neighbouring nodes with so many together are joined.
    const SMALL: usize;
    fn start(&self) -> u32;
    fn end(&self) -> u32;
    /// The largest hole inside.
    fn gap(&self) -> u32;
    fn first(&self) -> V;
    fn last(&self) -> V;
    fn owns(&self) -> bool;
    /// The lowest hole of `pages` inside, at or above `at`.
    fn hole(&self, pages: u32, at: u32) -> Option<u32>;
}

impl<V: Value> Entry<V> for V {
    const MOST: usize = LEAF;
    const SMALL: usize = 5;
    fn start(&self) -> u32 {
        Value::start(self)
    }
    fn end(&self) -> u32 {
        Value::end(self)
    }
    fn gap(&self) -> u32 {
        0
    }
    fn first(&self) -> V {
        *self
    }
    fn last(&self) -> V {
        *self
    }
    fn owns(&self) -> bool {
        Value::owns(self)
    }
    fn hole(&self, _: u32, _: u32) -> Option<u32> {
        None
    }
}

/// A node, and what its parent knows of it.
#[derive(Clone, Copy)]
pub(super) struct Child<V: Value> {
    pub start: u32,
    pub end: u32,
    pub gap: u32,
    pub at: *mut Node<V>,
}

impl<V: Value> Child<V> {
    /// Of a node with these entries.
    #[inline]
    pub fn of<T: Entry<V>>(node: &Node<V>, entries: &[T], gap: u32) -> Self {
        let (first, last) = (&entries[0], &entries[entries.len() - 1]);
        Child { start: first.start(), end: last.end(), gap, at: node as *const Node<V> as *mut Node<V> }
    }

    /// Of a root, for which nobody asks where it ends and what holes it has: as if it spanned everything.
    pub fn root(node: &Node<V>) -> Self {
        Child { start: 0, end: u32::MAX, gap: u32::MAX, at: node as *const Node<V> as *mut Node<V> }
    }

    /// Of any node.
    pub fn of_any(node: &Node<V>) -> Self {
        match node.level {
            0 => Self::of(node, node.entries::<V>(), largest_gap(node.entries::<V>())),
            _ => Self::of(node, node.entries::<Self>(), largest_gap(node.entries::<Self>())),
        }
    }

    pub fn node<'n>(&self) -> &'n Node<V> {
        // SAFETY: whoever has a child has it from a root that is valid, with all below it, for as long as he uses it.
        unsafe { &*self.at }
    }

    pub fn len(&self) -> usize {
        self.node().len()
    }

    /// [`Entry::SMALL`] of its entries.
    pub fn small(&self) -> usize {
        if self.node().level == 0 { <V as Entry<V>>::SMALL } else { Self::SMALL }
    }
}

impl<V: Value> Entry<V> for Child<V> {
    const MOST: usize = INNER;
    const SMALL: usize = 10;
    fn start(&self) -> u32 {
        self.start
    }
    fn end(&self) -> u32 {
        self.end
    }
    fn gap(&self) -> u32 {
        self.gap
    }
    fn first(&self) -> V {
        match self.node().level {
            0 => self.node().entries::<V>()[0],
            _ => self.node().entries::<Self>()[0].first(),
        }
    }
    fn last(&self) -> V {
        match self.node().level {
            0 => self.node().entries::<V>()[self.len() - 1],
            _ => self.node().entries::<Self>()[self.len() - 1].last(),
        }
    }
    fn owns(&self) -> bool {
        false
    }
    fn hole(&self, pages: u32, at: u32) -> Option<u32> {
        hole(self.node(), pages, at).ok()
    }
}

/// Which is the first of these entries that ends behind `page`.
#[inline]
pub(super) fn first_behind<V: Value, T: Entry<V>>(entries: &[T], page: u32) -> usize {
    let mut i = 0;
    while i + 4 <= entries.len() && entries[i + 3].end() <= page {
        i += 4;
    }
    while i < entries.len() && entries[i].end() <= page {
        i += 1;
    }
    i
}

/// The largest hole between these entries or inside them.
#[inline]
pub(super) fn largest_gap<V: Value, T: Entry<V>>(entries: &[T]) -> u32 {
    let Some(first) = entries.first() else { return 0 };
    let (mut end, mut gap) = (first.end(), first.gap());
    for e in &entries[1..] {
        gap = gap.max(e.start() - end).max(e.gap());
        end = e.end();
    }
    gap
}

/// A node. Nothing of it changes once it is published, apart from the link.
#[repr(C)]
pub(crate) struct Node<V: Value> {
    /// The chain of the version that makes it, later of whoever retires it. Readers do not look at it.
    pub next: Cell<*mut Node<V>>,
    /// 0 for a leaf.
    pub level: u16,
    len: u16,
    /// Whether a value of this leaf may own something.
    pub owns: bool,
    alive: crate::sync::Alive,
    body: Body<V>,
}

/// The entries, valid up to the node's length; reached by their address.
#[expect(dead_code, reason = "says how large it is")]
pub(crate) union Body<V: Value> {
    leaf: [MaybeUninit<V>; LEAF],
    inner: [MaybeUninit<Child<V>>; INNER],
}

impl<V: Value> Node<V> {
    /// Makes an empty node.
    ///
    /// # Safety
    ///
    /// `at` is memory for a node, the caller's alone.
    #[inline]
    pub(super) unsafe fn init<'a>(at: *mut Node<V>, level: usize, next: *mut Node<V>) -> &'a mut Node<V> {
        // SAFETY: this function's contract. The entries stay uninitialised behind `len`, where they are never read.
        unsafe {
            (&raw mut (*at).next).write(Cell::new(next));
            (&raw mut (*at).level).write(level as u16);
            (&raw mut (*at).len).write(0);
            (&raw mut (*at).owns).write(false);
            (&raw mut (*at).alive).write(crate::sync::Alive::new());
            &mut *at
        }
    }

    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// The values of a leaf.
    pub fn values(&self) -> &[V] {
        self.entries()
    }

    /// The nodes below it.
    pub fn children(&self) -> impl Iterator<Item = *mut Node<V>> {
        let below = if self.level == 0 { &[] } else { self.entries::<Child<V>>() };
        below.iter().map(|c| c.at)
    }

    #[inline(always)]
    pub(super) fn entries<T: Entry<V>>(&self) -> &[T] {
        debug_assert!((self.level == 0) == (T::MOST == LEAF));
        self.alive.check();
        // SAFETY: a leaf has values, another node children, initialised up to `len`.
        unsafe { core::slice::from_raw_parts((&raw const self.body).cast(), self.len()) }
    }

    pub(super) fn body(&self) -> *const Body<V> {
        &raw const self.body
    }

    pub(super) fn body_mut(&mut self) -> *mut Body<V> {
        &raw mut self.body
    }

    /// For the maker of a node: it has `len` entries, of which those that are not there yet are to be written next.
    pub(super) fn set_len(&mut self, len: usize) {
        debug_assert!(len <= if self.level == 0 { LEAF } else { INNER });
        self.len = len as u16;
    }

    /// For the maker of a node: puts one entry where the entry `at` is.
    #[inline]
    pub(super) fn set<T: Entry<V>>(&mut self, at: usize, entry: T) {
        assert!(at < self.len());
        // SAFETY: inside the body, by the assertion.
        unsafe { self.body_mut().cast::<T>().add(at).write(entry) };
    }

    /// For the maker of a node: puts `entries` where the entry `at` is.
    #[inline]
    pub(super) fn write<T: Entry<V>>(&mut self, at: usize, entries: &[T]) {
        assert!(at + entries.len() <= self.len());
        let to = self.body_mut().cast::<T>();
        // SAFETY: inside the body, by the assertion; old entries are never the new node's.
        unsafe { core::ptr::copy_nonoverlapping(entries.as_ptr(), to.add(at), entries.len()) };
    }

    /// For the maker of a node: fills it with the entries `from .. to` of `parts`, seen as one.
    pub(super) fn fill<T: Entry<V>>(&mut self, parts: [&[T]; 3], from: usize, to: usize) {
        let (mut before, mut len) = (0, 0);
        self.set_len(to - from);
        for part in parts {
            let first = from.saturating_sub(before).min(part.len());
            let behind = to.saturating_sub(before).min(part.len());
            let part_here = &part[first..behind];
            self.write(len, part_here);
            (before, len) = (before + part.len(), len + part_here.len());
        }
    }

    /// It is about to be freed: the model checker finds whoever reads it afterwards.
    pub fn end(&self) {
        self.alive.end();
    }
}

/// A tree as a reader holds it. `'a` is how long its nodes stay.
#[derive(Clone, Copy)]
pub(crate) struct Tree<'a, V: Value>(Option<&'a Node<V>>);

impl<'a, V: Value> Tree<'a, V> {
    /// # Safety
    ///
    /// `root` is null, or it and all below it stay as they are during `'a`.
    pub unsafe fn new(root: *mut Node<V>) -> Self {
        // SAFETY: this function's contract.
        Tree(unsafe { root.as_ref() })
    }

    /// Its root, or null.
    pub fn root(self) -> *mut Node<V> {
        self.0.map_or(core::ptr::null_mut(), |root| root as *const Node<V> as *mut Node<V>)
    }

    /// The value whose range contains `page`.
    #[inline]
    pub fn find(self, page: u32) -> Option<&'a V> {
        self.at_or_above(page).filter(|v| v.start() <= page)
    }

    /// Calls `see` for the values that touch `lo .. hi`, in order, until it says false. False if it did.
    pub fn each(self, lo: u32, hi: u32, see: &mut dyn FnMut(&V) -> bool) -> bool {
        self.0.is_none_or(|root| each(root, lo, hi, see))
    }

    /// The first value that ends behind `page`.
    #[inline]
    pub fn at_or_above(self, page: u32) -> Option<&'a V> {
        let mut node = self.0?;
        while node.level != 0 {
            let below = node.entries::<Child<V>>();
            node = below.get(first_behind(below, page))?.node();
        }
        node.values().get(first_behind(node.values(), page))
    }

    /// Whether nothing is in `lo .. hi`.
    pub fn is_free(self, lo: u32, hi: u32) -> bool {
        self.at_or_above(lo).is_none_or(|v| v.start() >= hi)
    }

    /// The lowest hole of `pages` pages at or above `from` and below `limit`.
    #[inline]
    pub fn hole(self, pages: u32, from: u32, limit: u32) -> Option<u32> {
        let at = self.0.map_or(from, |root| hole(root, pages, from).unwrap_or_else(|end| end));
        (at <= limit && limit - at >= pages).then_some(at)
    }

    /// How many nodes it has. Leaves are not looked at.
    pub fn nodes(self) -> u64 {
        fn below<V: Value>(node: &Node<V>) -> u64 {
            match node.level {
                0 => 1,
                1 => 1 + node.len() as u64,
                _ => 1 + node.entries::<Child<V>>().iter().map(|c| below(c.node())).sum::<u64>(),
            }
        }
        self.0.map_or(0, below)
    }
}

fn each<V: Value>(node: &Node<V>, lo: u32, hi: u32, see: &mut dyn FnMut(&V) -> bool) -> bool {
    if node.level == 0 {
        return node.values().iter().skip_while(|v| v.end() <= lo).take_while(|v| v.start() < hi).all(see);
    }
    let below = node.entries::<Child<V>>().iter();
    below.skip_while(|c| c.end <= lo).take_while(|c| c.start < hi).all(|c| each(c.node(), lo, hi, see))
}

/// From `at` on, the lowest hole of `pages` before or between the values below a node; or where they all end.
fn hole<V: Value>(node: &Node<V>, pages: u32, at: u32) -> Result<u32, u32> {
    match node.level {
        0 => hole_among(node.entries::<V>(), pages, at),
        _ => hole_among(node.entries::<Child<V>>(), pages, at),
    }
}

#[inline]
fn hole_among<V: Value, T: Entry<V>>(entries: &[T], pages: u32, mut at: u32) -> Result<u32, u32> {
    for e in entries {
        if e.start() >= at && e.start() - at >= pages {
            return Ok(at);
        }
        if e.end() > at {
            if e.gap() >= pages
                && let Some(found) = e.hole(pages, at)
            {
                return Ok(found);
            }
            at = e.end();
        }
    }
    Err(at)
}

/// Up to `N` things, on the stack.
pub(super) struct Few<T, const N: usize = 5> {
    len: usize,
    things: [MaybeUninit<T>; N],
}

impl<T: Copy, const N: usize> Few<T, N> {
    #[inline]
    pub fn new() -> Self {
        Few { len: 0, things: [const { MaybeUninit::uninit() }; N] }
    }

    #[inline]
    pub fn push(&mut self, thing: T) {
        self.things[self.len].write(thing);
        self.len += 1;
    }
}

impl<T, const N: usize> Deref for Few<T, N> {
    type Target = [T];
    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: initialised up to `len`.
        unsafe { core::slice::from_raw_parts(self.things.as_ptr().cast(), self.len) }
    }
}

impl<T, const N: usize> DerefMut for Few<T, N> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: initialised up to `len`.
        unsafe { core::slice::from_raw_parts_mut(self.things.as_mut_ptr().cast(), self.len) }
    }
}
