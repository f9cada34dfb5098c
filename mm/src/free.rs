//! The free frames: a bitmap, and above it a cache of each CPU, with plain ones and ones that are zeroed already.
//!
//! Taking and giving back are a few plain instructions; the shared bitmap is met once a batch. Idle CPUs fill the zeroed list
//! ([`Memory::zero_ahead`](crate::Memory::zero_ahead)). A CPU that is short asks for everybody's caches by
//! [`Memory::drain_all`](crate::Memory::drain_all).

use crate::frames::{Bitmap, Frame, Role, bitmap};
use crate::machine::{CPUS, Machine};
use crate::percpu::PerCpu;
use crate::sizes::{CACHE_BATCH as BATCH, KEPT_PLAIN as PLAIN, KEPT_ZEROED as ZEROED};
use crate::stats::{Counter, Stats};
use crate::sync::{AtomicU64, Ordering::*};

/// A stack of frames.
#[derive(Debug)]
struct Stack<const N: usize> {
    len: usize,
    frames: [Frame; N],
}

impl<const N: usize> Stack<N> {
    const EMPTY: Self = Stack { len: 0, frames: [Frame(0); N] };

    #[inline]
    fn pop(&mut self) -> Option<Frame> {
        self.len = self.len.checked_sub(1)?;
        Some(self.frames[self.len])
    }

    #[inline]
    fn push(&mut self, f: Frame) -> bool {
        if self.len == N {
            return false;
        }
        self.frames[self.len] = f;
        self.len += 1;
        true
    }
}

/// One CPU's free frames.
#[derive(Debug)]
struct Cache {
    plain: Stack<PLAIN>,
    zeroed: Stack<ZEROED>,
    /// The block that served last: the next search begins there.
    hint: usize,
}

impl Cache {
    const fn new() -> Cache {
        Cache { plain: Stack::EMPTY, zeroed: Stack::EMPTY, hint: 0 }
    }

    fn len(&self) -> usize {
        self.plain.len + self.zeroed.len
    }
}

/// The free frames of a machine.
#[derive(Debug)]
pub(crate) struct Free {
    bitmap: Bitmap,
    caches: PerCpu<Cache>,
    /// Frames that the allocator was given.
    total: AtomicU64,
    /// While not zero, idle CPUs leave the frames alone.
    quiet: AtomicU64,
}

impl Free {
    pub fn new() -> Free {
        Free {
            bitmap: Bitmap::new(),
            caches: PerCpu::new(Cache::new),
            total: AtomicU64::new(0),
            quiet: AtomicU64::new(0),
        }
    }

    /// Adds one that was nobody's before.
    pub fn add<M: Machine>(&self, machine: &M, f: Frame) {
        self.bitmap.put(machine.blocks(), f.0 as usize);
        self.total.fetch_add(1, Relaxed);
    }

    /// How many were added.
    pub fn total(&self) -> u64 {
        self.total.load(Relaxed)
    }

    /// A frame whose content is arbitrary and whose word is nobody's. `None`: no memory but in other CPUs' caches.
    #[inline]
    pub fn take<M: Machine>(&self, machine: &M) -> Option<Frame> {
        self.caches.with(machine, |c| c.plain.pop()).or_else(|| self.refill(machine))
    }

    /// As [`Free::take`], where this CPU has no plain frame.
    #[cold]
    #[inline(never)]
    fn refill<M: Machine>(&self, machine: &M) -> Option<Frame> {
        self.caches.with(machine, |c| {
            let Cache { plain, hint, .. } = c;
            let n = self.bitmap.take(machine.blocks(), hint, BATCH as u64, |i| {
                plain.push(Frame(i as u32));
            });
            if n == 0 {
                return c.zeroed.pop();
            }
            c.plain.pop()
        })
    }

    /// A frame full of zeros.
    #[inline]
    pub fn take_zeroed<M: Machine>(&self, machine: &M) -> Option<Frame> {
        if let Some(f) = self.caches.with(machine, |c| c.zeroed.pop()) {
            return Some(f);
        }
        let f = self.take(machine)?;
        machine.zero(f);
        Some(f)
    }

    /// Gives a frame back. The caller is its only user, and no CPU has a translation to it.
    #[inline]
    pub fn put<M: Machine>(&self, machine: &M, f: Frame) {
        machine.freed(f);
        // For the audit: a free frame is nothing special. Relaxed: the frame is the caller's alone.
        machine.frame_word(f).set(Role::Page, 0);
        if !self.caches.with(machine, |c| c.plain.push(f)) {
            self.spill(machine, f);
        }
    }

    /// As [`Free::put`], where this CPU has all the plain frames that it keeps.
    #[cold]
    #[inline(never)]
    fn spill<M: Machine>(&self, machine: &M, f: Frame) {
        self.caches.with(machine, |c| {
            for _ in 0..BATCH {
                if let Some(old) = c.plain.pop() {
                    self.bitmap.put(machine.blocks(), old.0 as usize);
                }
            }
            c.plain.push(f);
        });
    }

    /// `n` neighbouring frames: within 64, or in whole blocks.
    pub fn take_run<M: Machine>(&self, machine: &M, n: usize) -> Option<Frame> {
        let blocks = machine.blocks();
        let size = bitmap::BLOCK_BITS;
        let (first, got) = match n {
            1 => (self.take(machine)?.0 as usize, 1),
            _ if n * 8 <= size => (self.bitmap.take_run(blocks, n)?, n),
            _ => (self.bitmap.take_blocks(blocks, n.div_ceil(size))?, n.next_multiple_of(size)),
        };
        (first + n..first + got).for_each(|i| self.put(machine, Frame(i as u32)));
        Some(Frame(first as u32))
    }

    /// Zeroes one frame for later. False when there is enough, nothing to zero, or an audit is near.
    pub fn zero_ahead<M: Machine>(&self, machine: &M, stats: &Stats) -> bool {
        if self.is_quiet() || self.caches.with(machine, |c| c.zeroed.len == ZEROED) {
            return false;
        }
        // Leave the last memory to those who need it now.
        if self.bitmap.count_hint() < 4 * ZEROED as u64 {
            return false;
        }
        let Some(f) = self.take(machine) else { return false };
        machine.zero(f);
        stats.add(machine, Counter::ZeroedAhead, 1);
        if !self.caches.with(machine, |c| c.zeroed.push(f)) {
            self.put(machine, f);
        }
        true
    }

    /// Keeps idle CPUs from moving frames about; `false` ends it.
    pub fn set_quiet(&self, on: bool) {
        self.quiet.store(on as u64, Release);
    }

    /// Whether they are kept from it.
    pub fn is_quiet(&self) -> bool {
        self.quiet.load(Relaxed) != 0
    }

    /// Puts all frames of this CPU's caches back into the bitmap.
    pub fn drain<M: Machine>(&self, machine: &M) {
        self.caches.with(machine, |c| {
            while let Some(f) = c.plain.pop().or_else(|| c.zeroed.pop()) {
                self.bitmap.put(machine.blocks(), f.0 as usize);
            }
        });
    }

    /// How many there are, those in caches included, as far as it can be known while others work.
    pub fn count<M: Machine>(&self, machine: &M) -> u64 {
        // SAFETY: the lengths are read while their owners may change them: a stale figure in an estimate. Word-sized loads.
        let cached: usize = (0..CPUS).map(|c| unsafe { self.caches.peek(c) }.len()).sum();
        self.bitmap.count(machine.blocks()) + cached as u64
    }

    /// Whether a frame is free, and in no cache.
    pub fn has<M: Machine>(&self, machine: &M, f: Frame) -> bool {
        self.bitmap.is_set(machine.blocks(), f.0 as usize)
    }

    /// Rounds that other CPUs have made vain.
    pub fn retries(&self) -> u64 {
        self.bitmap.retries()
    }
}
