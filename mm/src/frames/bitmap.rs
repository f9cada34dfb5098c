//! A lock-free bitmap under a tree of counters.
//!
//! A block has one bit for each frame of 2 MiB (512 bits, one cache line) and a counter beside it. The counter is the
//! promise, the bits are the goods:
//!
//! * Taking: one compare-and-swap takes `n` from a block's counter; then `n` set bits are cleared, one `fetch_and` a word.
//!   They exist, since the counter never exceeds the number of set bits, and nobody clears a bit without having reserved one.
//! * Putting: the bit is set first, then counted.
//!
//! There is no list and no next pointer, hence no ABA. Above the blocks, one counter for 64 of them only says where a search
//! is worth while; it may lag behind, so a search that finds nothing looks at every block before it gives up.
//!
//! Ordering: a put releases (counter and bit, AcqRel) what its owner did with the frame, a take acquires it.

pub use crate::sizes::BLOCK_BITS;
use crate::sizes::{BITMAP_GROUPS as GROUPS, WORD_BITS};
use crate::sync::{AtomicU64, Ordering::*, in_vain};
use core::sync::atomic::AtomicU64 as Plain;

const WORDS: usize = BLOCK_BITS / WORD_BITS;
/// Blocks under one counter of the upper level.
const GROUP: usize = 64;

/// 512 bits, and how many of them may still be taken.
#[derive(Debug)]
#[repr(C, align(128))]
pub struct Block {
    bits: [AtomicU64; WORDS],
    count: AtomicU64,
}

impl Block {
    /// A block with no bit set.
    pub fn new() -> Block {
        Block { bits: core::array::from_fn(|_| AtomicU64::new(0)), count: AtomicU64::new(0) }
    }

    /// Reserves up to `want`; returns how many. Counts the rounds that another CPU made vain.
    fn reserve(&self, want: u64, retries: &Plain) -> u64 {
        let mut n = self.count.load(Relaxed);
        loop {
            let take = n.min(want);
            if take == 0 {
                return 0;
            }
            match self.count.compare_exchange(n, n - take, AcqRel, Relaxed) {
                Ok(_) => return take,
                Err(now) => {
                    retries.fetch_add(1, Relaxed);
                    n = now;
                }
            }
        }
    }

    /// Clears `left` set bits that were reserved, starting at the lowest.
    fn collect(&self, mut left: u64, mut got: impl FnMut(usize)) {
        loop {
            for (i, word) in self.bits.iter().enumerate() {
                let mut seen = word.load(Relaxed);
                while seen != 0 && left != 0 {
                    let mut want = 0;
                    let mut rest = seen;
                    for _ in 0..left.min(seen.count_ones() as u64) {
                        want |= rest & rest.wrapping_neg();
                        rest &= rest - 1;
                    }
                    let old = word.fetch_and(!want, AcqRel);
                    let mut mine = old & want;
                    left -= mine.count_ones() as u64;
                    while mine != 0 {
                        got(i * WORD_BITS + mine.trailing_zeros() as usize);
                        mine &= mine - 1;
                    }
                    seen = old & !want;
                }
            }
            if left == 0 {
                return;
            }
            // Another CPU that reserved before us took a bit we saw, and a bit set behind our back is ours now: look again.
            in_vain();
        }
    }

    /// Sets a bit that the caller owns, then counts it.
    fn put(&self, bit: usize) {
        let old = self.bits[bit / WORD_BITS].fetch_or(1 << (bit % WORD_BITS), AcqRel);
        debug_assert!(old & (1 << (bit % WORD_BITS)) == 0, "freed twice");
        self.count.fetch_add(1, AcqRel);
    }

    /// Takes this very bit, if it is set and not promised to others.
    fn take(&self, bit: usize, retries: &Plain) -> bool {
        if self.reserve(1, retries) == 0 {
            return false;
        }
        let mask = 1 << (bit % WORD_BITS);
        if self.bits[bit / WORD_BITS].fetch_and(!mask, AcqRel) & mask != 0 {
            return true;
        }
        self.count.fetch_add(1, AcqRel);
        false
    }
}

impl Default for Block {
    fn default() -> Self {
        Self::new()
    }
}

/// The upper level over a slice of blocks, which the machine owns.
#[derive(Debug)]
pub struct Bitmap {
    groups: [AtomicU64; GROUPS],
    /// Compare-and-swaps of a block's counter that failed. Statistics only: nothing is ordered by it.
    retries: Plain,
}

impl Bitmap {
    /// A bitmap whose blocks have no bit set.
    pub fn new() -> Bitmap {
        Bitmap { groups: core::array::from_fn(|_| AtomicU64::new(0)), retries: Plain::new(0) }
    }

    fn group(&self, block: usize) -> &AtomicU64 {
        &self.groups[block / GROUP % GROUPS]
    }

    /// Sets bit `i`, which the caller owns.
    pub fn put(&self, blocks: &[Block], i: usize) {
        blocks[i / BLOCK_BITS].put(i % BLOCK_BITS);
        self.group(i / BLOCK_BITS).fetch_add(1, Relaxed);
    }

    /// Clears up to `want` bits, from one block near `hint` (a block number, updated); tells each to `got` and returns how many.
    /// Zero only when every block was empty at the moment it was looked at.
    pub fn take(&self, blocks: &[Block], hint: &mut usize, want: u64, mut got: impl FnMut(usize)) -> u64 {
        let n = blocks.len();
        let start = if *hint < n { *hint } else { 0 };
        for sure in [false, true] {
            let mut k = 0;
            while k < n {
                let b = (start + k) % n;
                // A group whose counter is zero or less (it lags) is skipped as a whole in the first round.
                if !sure && self.group(b).load(Relaxed) as i64 <= 0 {
                    k += (GROUP - b % GROUP).min(n - b);
                    continue;
                }
                let taken = blocks[b].reserve(want, &self.retries);
                if taken != 0 {
                    self.group(b).fetch_sub(taken, Relaxed);
                    blocks[b].collect(taken, |bit| got(b * BLOCK_BITS + bit));
                    *hint = b;
                    return taken;
                }
                k += 1;
            }
        }
        0
    }

    /// Clears `n` neighbouring bits, `n` at most 64 and inside one word of a block. Returns the first.
    pub fn take_run(&self, blocks: &[Block], n: usize) -> Option<usize> {
        if n == 0 || n > WORD_BITS {
            return None;
        }
        let run = u64::MAX >> (64 - n);
        for (b, block) in blocks.iter().enumerate().rev() {
            for (i, word) in block.bits.iter().enumerate() {
                let seen = word.load(Relaxed);
                let Some(at) = (0..=WORD_BITS - n).find(|at| seen >> at & run == run) else { continue };
                let got = block.reserve(n as u64, &self.retries);
                if got < n as u64 {
                    block.count.fetch_add(got, AcqRel);
                    break;
                }
                let mask = run << at;
                let mine = word.fetch_and(!mask, AcqRel) & mask;
                if mine == mask {
                    self.group(b).fetch_sub(n as u64, Relaxed);
                    return Some(b * BLOCK_BITS + i * WORD_BITS + at);
                }
                // Somebody took one of them: all back, bits first.
                word.fetch_or(mine, AcqRel);
                block.count.fetch_add(n as u64, AcqRel);
            }
        }
        None
    }

    /// Clears `n` neighbouring whole blocks. Returns the first bit.
    pub fn take_blocks(&self, blocks: &[Block], n: usize) -> Option<usize> {
        let all = BLOCK_BITS as u64;
        let mut have = 0;
        for (b, block) in blocks.iter().enumerate().rev() {
            if block.count.compare_exchange(all, 0, AcqRel, Relaxed).is_ok() {
                have += 1;
                if have == n {
                    for (k, block) in blocks[b..b + n].iter().enumerate() {
                        self.group(b + k).fetch_sub(all, Relaxed);
                        block.collect(all, |_| ());
                    }
                    return Some(b * BLOCK_BITS);
                }
            } else {
                // The run ends here: the promises go back, the bits were not touched.
                blocks[b + 1..b + 1 + have].iter().for_each(|block| _ = block.count.fetch_add(all, AcqRel));
                have = 0;
            }
        }
        blocks[..have].iter().for_each(|block| _ = block.count.fetch_add(all, AcqRel));
        None
    }

    /// Clears this very bit if it is set and nobody else takes it first.
    pub fn take_this(&self, blocks: &[Block], i: usize) -> bool {
        let taken = blocks[i / BLOCK_BITS].take(i % BLOCK_BITS, &self.retries);
        if taken {
            self.group(i / BLOCK_BITS).fetch_sub(1, Relaxed);
        }
        taken
    }

    /// How many bits may still be taken. Exact when nobody takes or puts.
    pub fn count(&self, blocks: &[Block]) -> u64 {
        blocks.iter().map(|b| b.count.load(Acquire)).sum()
    }

    /// Whether bit `i` is set. For the audit.
    pub fn is_set(&self, blocks: &[Block], i: usize) -> bool {
        let bit = i % BLOCK_BITS;
        blocks[i / BLOCK_BITS].bits[bit / WORD_BITS].load(Acquire) >> (bit % WORD_BITS) & 1 != 0
    }
}

impl Default for Bitmap {
    fn default() -> Self {
        Self::new()
    }
}

impl Bitmap {
    /// How often a CPU had to reserve again because another one was faster.
    pub fn retries(&self) -> u64 {
        self.retries.load(Relaxed)
    }

    /// About how many bits are set, from the upper level alone.
    pub fn count_hint(&self) -> u64 {
        self.groups.iter().map(|g| (g.load(Relaxed) as i64).max(0) as u64).sum()
    }
}
