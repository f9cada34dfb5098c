//! The daemon that keeps some frames free: one step, driven by a thread of the kernel.
//!
//! It begins below the low watermark and stops at the high one. A page whose write is under way counts as nearly free, so the
//! daemon does not evict more than it needs because the disk is slow; while the disk takes no more, it waits for completions.
//! Scans that find nothing raise the round, from pages not used for a while to whatever there is
//! ([`judge`](crate::policy::judge)).

use crate::io::Disk;
use crate::policy::{LAST_ROUND, Watermarks};
use crate::swap::{Host, Swap};
use quire_mm::sync::Ordering::Relaxed;

/// Pages that one step evicts at most: a few full requests.
pub const BATCH: u64 = 128;
/// Slots looked at for a page that is wanted.
const TRIM: u64 = 8;

/// The scan of page tables, which the memory manager has.
pub trait Reclaim {
    /// Free frames, those in CPUs' caches included.
    fn free_frames(&self) -> u64;
    /// Evicts up to `want` pages, looking at pages as [`judge`](crate::policy::judge) says for `round`, from where the last scan
    /// ended, at most once around. The pages' slots are answered ([`Swap::answered`]). Returns how many pages went.
    fn evict(&self, want: u64, round: u32) -> u64;
}

/// What the daemon's thread does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Another step.
    Again,
    /// Sleep until frames are few again.
    Sleep,
    /// Sleep until the disk has completed something.
    Wait,
    /// Nothing can be evicted and nothing is on its way: memory or the area is full. Sleep a little; whoever needs frames now has
    /// to choose a victim.
    Exhausted,
}

/// The daemon.
#[derive(Debug)]
pub struct Daemon {
    /// When it works.
    pub marks: Watermarks,
    round: u32,
}

impl Daemon {
    /// A daemon for these watermarks.
    pub const fn new(marks: Watermarks) -> Daemon {
        Daemon { marks, round: 0 }
    }

    /// Works a little.
    pub fn step<H: Host, D: Disk>(&mut self, swap: &Swap<'_, H, D>, reclaim: &impl Reclaim) -> Next {
        swap.poll();
        swap.write_out();
        let free = reclaim.free_frames();
        let writing = swap.stats.writing.load(Relaxed);
        if free >= self.marks.high {
            self.round = 0;
            return if swap.has_pending() { Next::Wait } else { Next::Sleep };
        }
        if swap.has_pending() || free + writing >= self.marks.high {
            return if writing != 0 { Next::Wait } else { Next::Exhausted };
        }
        let want = (self.marks.high - free - writing).min(BATCH);
        if shrink(swap, reclaim, want, self.round) != 0 {
            self.round = self.round.saturating_sub(1);
            return Next::Again;
        }
        if self.round < LAST_ROUND {
            self.round += 1;
            return Next::Again;
        }
        if writing != 0 { Next::Wait } else { Next::Exhausted }
    }
}

/// Makes up to `want` pages go: cached frames that nobody took, then pages. What must be written is on its way afterwards. Direct
/// reclaim calls it too. Returns how many frames are free or will be.
pub fn shrink<H: Host, D: Disk>(swap: &Swap<'_, H, D>, reclaim: &impl Reclaim, want: u64, round: u32) -> u64 {
    let trimmed = swap.trim((want * TRIM) as usize, round >= LAST_ROUND - 1);
    let evicted = if trimmed < want { reclaim.evict(want - trimmed, round) } else { 0 };
    swap.write_out();
    trimmed + evicted
}
