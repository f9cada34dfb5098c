//! Memory larger than the machine's: every word of every page is written and checked.
//!
//! A page is filled from its number and a round, so a page that is lost, stale, torn or another's is told from the right one,
//! and by how it differs.

use std::fmt::Display;
use std::io;

use crate::PAGE;
use crate::area::READ_WRITE;

/// Words of a page.
pub const WORDS: usize = PAGE / 8;
/// Pages of a MiB.
pub const MIB: usize = (1 << 20) / PAGE;

/// A run of pages that lives as long as the process, or until it is unmapped.
#[derive(Debug)]
pub struct Large {
    start: usize,
    pages: usize,
}

impl Large {
    /// Fresh private pages; without a reserve, as their number may exceed what the system promises.
    pub fn new(pages: usize) -> Self {
        Self::mapped(pages, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE, -1)
    }

    /// Pages of a file, shared.
    pub fn of_file(fd: i32, pages: usize) -> Self {
        Self::mapped(pages, libc::MAP_SHARED, fd)
    }

    fn mapped(pages: usize, flags: i32, fd: i32) -> Self {
        // SAFETY: a fresh mapping touches nothing that exists.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), pages * PAGE, READ_WRITE, flags, fd, 0) };
        if start == libc::MAP_FAILED {
            crate::violated(format_args!("mmap of {pages} pages: {}", io::Error::last_os_error()));
        }
        // Huge pages would hide what is tried here. A refusal does not matter.
        // SAFETY: the mapping is this value's own.
        unsafe { libc::madvise(start, pages * PAGE, libc::MADV_NOHUGEPAGE) };
        Self { start: start as usize, pages }
    }

    /// Number of pages.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// Address of a page.
    pub fn address(&self, page: usize) -> usize {
        assert!(page < self.pages);
        self.start + page * PAGE
    }

    /// Consecutive runs of about the same length, one for each of `n`.
    pub fn split(&self, n: usize) -> Vec<Large> {
        let cut = |i: usize| self.pages * i / n;
        (0..n).map(|i| Large { start: self.start + cut(i) * PAGE, pages: cut(i + 1) - cut(i) }).collect()
    }

    fn words(&self, page: usize) -> *mut u64 {
        self.address(page) as *mut u64
    }

    /// Writes all words of a page.
    pub fn fill(&self, page: usize, stamp: u64) {
        let words = self.words(page);
        for i in 0..WORDS {
            // SAFETY: inside the mapping; volatile, so that each word is really written.
            unsafe { words.add(i).write_volatile(word(stamp, i)) };
        }
    }

    /// The first word of a page that is wrong, with what it is.
    pub fn wrong(&self, page: usize, stamp: u64) -> Option<(usize, u64)> {
        let words = self.words(page);
        (0..WORDS)
            // SAFETY: inside the mapping.
            .map(|i| (i, unsafe { words.add(i).read_volatile() }))
            .find(|&(i, found)| found != word(stamp, i))
    }

    /// Ends the process if a word of the page is wrong.
    pub fn expect(&self, page: usize, stamp: u64, what: impl Display) {
        if let Some((i, found)) = self.wrong(page, stamp) {
            let expected = word(stamp, i);
            crate::violated(format_args!(
                "{what}: word {i} of page {page} ({:#x}) is {found:#018x}, not {expected:#018x}",
                self.address(page)
            ));
        }
    }

    /// Gives an advice about some pages; the error if it is refused.
    pub fn advise(&self, first: usize, pages: usize, advice: i32) -> io::Result<()> {
        assert!(first + pages <= self.pages);
        // SAFETY: inside the mapping, and no advice that is used here takes content away.
        match unsafe { libc::madvise((self.start + first * PAGE) as *mut _, pages * PAGE, advice) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Gives the pages back.
    pub fn unmap(self) {
        // SAFETY: the mapping is this value's own, which ends here.
        unsafe { libc::munmap(self.start as *mut _, self.pages * PAGE) };
    }
}

/// What a page is filled with, by its number and a round.
pub fn stamp(page: usize, round: u64) -> u64 {
    (page as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ round.wrapping_mul(0xd134_2543_de82_ef95)
}

#[inline(always)]
fn word(stamp: u64, i: usize) -> u64 {
    stamp.wrapping_add((i as u64).wrapping_mul(0x0101_0101_0101_0101))
}

/// All numbers below `n`, each once, in an order that jumps about.
pub fn shuffled(n: usize, seed: u64) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n as u32).collect();
    let mut random = crate::Random::new(seed);
    for i in (1..n).rev() {
        order.swap(i, random.below(i + 1));
    }
    order
}

/// The `n`-th argument as a number, or what is usual.
pub fn argument(n: usize, usual: usize) -> usize {
    let Some(text) = std::env::args().nth(n) else { return usual };
    text.parse().unwrap_or_else(|_| {
        eprintln!("{}: argument {n} is not a number: {text}", crate::name());
        std::process::exit(2)
    })
}
