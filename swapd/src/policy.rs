//! What to evict, when, and what to read with it: pure functions, no state but what the caller keeps.

pub use quire_mm::Verdict;

/// How many free frames are few.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Watermarks {
    /// Below it, whoever wants a frame reclaims some himself.
    pub min: u64,
    /// Below it, the daemon begins.
    pub low: u64,
    /// The daemon stops here.
    pub high: u64,
}

/// How short of frames a machine is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Pressure {
    /// Not at all.
    None,
    /// Wake the daemon.
    Daemon,
    /// Reclaim before anything else.
    Direct,
}

impl Watermarks {
    /// For a machine of `total` frames: 1/128 of it is the minimum, at least 128 KiB and at most 16 MiB.
    pub const fn of(total: u64) -> Watermarks {
        let min = total / 128;
        let min = if min < 32 {
            32
        } else if min > 4096 {
            4096
        } else {
            min
        };
        Watermarks { min, low: 2 * min, high: 3 * min }
    }

    /// What `free` frames mean.
    pub const fn pressure(&self, free: u64) -> Pressure {
        if free < self.min {
            Pressure::Direct
        } else if free < self.low {
            Pressure::Daemon
        } else {
            Pressure::None
        }
    }
}

/// Rounds of a scan that found too little, from gentle to desperate. The daemon raises the round when a scan yields nothing.
pub const LAST_ROUND: u32 = 3;
/// Ages that a page can have.
pub const OLDEST: u8 = 3;

/// Second chance with ages: a page that was accessed since the last look is young again; one that was not grows older by one
/// look, and goes when it is older than the round allows. In the last round a page goes even if it was accessed: everything is
/// in use, and something must go.
pub const fn judge(accessed: bool, age: u8, round: u32) -> Verdict {
    if round >= LAST_ROUND {
        return Verdict::Evict;
    }
    if accessed {
        return Verdict::Keep(0);
    }
    let patience = if round == 0 { 1 } else { 0 };
    if age >= patience { Verdict::Evict } else { Verdict::Keep(if age < OLDEST { age + 1 } else { OLDEST }) }
}

/// A space's part of `want` pages, by what it has in frames: at least one, if it has any.
pub const fn part(want: u64, resident: u64, all: u64) -> u64 {
    if resident == 0 || all == 0 {
        return 0;
    }
    let part = (want as u128 * resident as u128 / all as u128) as u64;
    if part == 0 { 1 } else { part }
}

/// Most pages that are read with the one that is wanted.
pub const MOST_AHEAD: u32 = 31;

/// Where a reader has been and what reading ahead was good for: one word, so that it can be kept where faults race for it (a
/// lost update costs a guess).
///
/// ```text
///  63 ........... 16 | 15 .... 8 | 7 .... 0
///  last page wanted  | hits      | last window
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Readahead(pub u64);

impl Readahead {
    const fn new(page: u64, hits: u64, window: u64) -> Readahead {
        Readahead(page << 16 | (if hits > 255 { 255 } else { hits }) << 8 | window)
    }

    const fn last(self) -> u64 {
        self.0 >> 16
    }

    const fn hits(self) -> u64 {
        self.0 >> 8 & 255
    }

    const fn window(self) -> u64 {
        self.0 & 255
    }

    /// A page that was read ahead is wanted.
    pub const fn hit(self, page: u64) -> Readahead {
        Readahead::new(page, self.hits() + 1, self.window())
    }

    /// `page` has to be read: the pages to read with it, as a range that contains it, and what to remember.
    ///
    /// The window is two more than the hits since the last read, as a power of two; without hits it is one page unless this is the
    /// neighbour of the last page wanted; and it shrinks by half at most, so that one bad guess does not end a run. It lies ahead of a
    /// reader who goes forward, behind one who goes backward, and around one who jumps.
    pub fn read(self, page: u64) -> (core::ops::Range<u64>, Readahead) {
        let (last, hits) = (self.last(), self.hits());
        let next_to = page == last + 1 || page + 1 == last;
        let mut window = match hits {
            0 if next_to => 2,
            0 => 1,
            n => (n + 2).next_power_of_two().max(4),
        };
        window = window.max(self.window() / 2).clamp(1, MOST_AHEAD as u64 + 1);
        // A run of hits ends one page behind the last of them.
        let forward = page > last && page - last <= self.window().max(1);
        let backward = page < last && last - page <= self.window().max(1);
        let start = match (window, forward, backward) {
            (1, ..) | (_, true, _) => page,
            (_, _, true) => (page + 1).saturating_sub(window),
            _ => page.saturating_sub(window / 2),
        };
        (start..start + window, Readahead::new(page, 0, window))
    }
}
