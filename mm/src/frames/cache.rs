//! Per-CPU caches of free frames: plain ones, and ones that are zeroed already.
//!
//! Taking and giving back are a few plain instructions; the shared bitmap is met once a batch. Idle CPUs fill the zeroed list
//! ([`Memory::zero_ahead`]). A CPU that is short asks for everybody's caches by [`Memory::drain_all`](crate::Memory::drain_all).

use super::{Frame, Role};
use crate::machine::Machine;
use crate::memory::Memory;
use crate::sizes::{CACHE_BATCH as BATCH, KEPT_PLAIN as PLAIN, KEPT_ZEROED as ZEROED};
use crate::stats::Counter;
use crate::sync::Ordering::Relaxed;

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
pub struct Cache {
    plain: Stack<PLAIN>,
    zeroed: Stack<ZEROED>,
    /// The block that served last: the next search begins there.
    hint: usize,
}

impl Cache {
    /// An empty cache.
    pub const fn new() -> Cache {
        Cache { plain: Stack::EMPTY, zeroed: Stack::EMPTY, hint: 0 }
    }

    /// How many frames it holds.
    pub fn len(&self) -> usize {
        self.plain.len + self.zeroed.len
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self::new()
    }
}

impl<M: Machine> Memory<M> {
    /// A frame whose content is arbitrary and whose word is nobody's. `None`: no memory but in other CPUs' caches.
    pub fn alloc(&self) -> Option<Frame> {
        self.caches.with(&self.machine, |c| {
            if let Some(f) = c.plain.pop() {
                return Some(f);
            }
            let Cache { plain, hint, .. } = c;
            let n = self.free.take(self.machine.blocks(), hint, BATCH as u64, |i| {
                plain.push(Frame(i as u32));
            });
            if n == 0 {
                return c.zeroed.pop();
            }
            c.plain.pop()
        })
    }

    /// A frame full of zeros.
    pub fn alloc_zeroed(&self) -> Option<Frame> {
        if let Some(f) = self.caches.with(&self.machine, |c| c.zeroed.pop()) {
            return Some(f);
        }
        let f = self.alloc()?;
        self.machine.zero(f);
        Some(f)
    }

    /// Gives a frame back. The caller is its only user, and no CPU has a translation to it.
    pub fn free(&self, f: Frame) {
        self.machine.freed(f);
        // For the audit: a free frame is nothing special. Relaxed: the frame is the caller's alone.
        self.frame_word(f).set(Role::Page, 0);
        self.caches.with(&self.machine, |c| {
            if c.plain.push(f) {
                return;
            }
            for _ in 0..BATCH {
                if let Some(old) = c.plain.pop() {
                    self.free.put(self.machine.blocks(), old.0 as usize);
                }
            }
            c.plain.push(f);
        });
    }

    /// `n` neighbouring frames for kernel memory, content arbitrary: within 64, or in whole blocks. Given back one by one with
    /// [`Memory::free`].
    pub fn alloc_run(&self, n: usize) -> Option<Frame> {
        let blocks = self.machine.blocks();
        let size = super::bitmap::BLOCK_BITS;
        let (first, got) = match n {
            1 => (self.alloc()?.0 as usize, 1),
            _ if n * 8 <= size => (self.free.take_run(blocks, n)?, n),
            _ => (self.free.take_blocks(blocks, n.div_ceil(size))?, n.next_multiple_of(size)),
        };
        for i in first..first + got {
            let f = Frame(i as u32);
            if i < first + n { self.frame_word(f).set(Role::Kernel, 0) } else { self.free(f) }
        }
        Some(Frame(first as u32))
    }

    /// One frame for the kernel's own use, content arbitrary. Given back with [`Memory::free`].
    pub fn alloc_kernel(&self) -> Option<Frame> {
        let f = self.alloc()?;
        self.frame_word(f).set(Role::Kernel, 0);
        Some(f)
    }

    /// Zeroes one frame for later, on an idle CPU. False when there is enough, nothing to zero, or an audit is near.
    pub fn zero_ahead(&self) -> bool {
        if self.quiet.load(Relaxed) != 0 || self.caches.with(&self.machine, |c| c.zeroed.len == ZEROED) {
            return false;
        }
        // Leave the last memory to those who need it now.
        if self.free.count_hint() < 4 * ZEROED as u64 {
            return false;
        }
        let Some(f) = self.alloc() else { return false };
        self.machine.zero(f);
        self.stats.add(&self.machine, Counter::ZeroedAhead, 1);
        if !self.caches.with(&self.machine, |c| c.zeroed.push(f)) {
            self.free(f);
        }
        true
    }

    /// Puts all frames of this CPU's caches back into the bitmap.
    pub fn drain_cache(&self) {
        self.caches.with(&self.machine, |c| {
            while let Some(f) = c.plain.pop().or_else(|| c.zeroed.pop()) {
                self.free.put(self.machine.blocks(), f.0 as usize);
            }
        });
    }

    /// Free frames, those in caches included, as far as it can be known while others work.
    pub fn free_frames(&self) -> u64 {
        // SAFETY: the lengths are read while their owners may change them: a stale figure in an estimate. Word-sized loads.
        let cached: usize = (0..crate::machine::CPUS).map(|c| unsafe { self.caches.peek(c) }.len()).sum();
        self.free.count(self.machine.blocks()) + cached as u64
    }
}
