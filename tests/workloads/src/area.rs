//! Memory to be tortured: mapped, replaced, protected, moved and torn away under the threads that use it.
//!
//! No Rust reference ever points into an area; each access is one atomic access at an address. Whoever touches a page
//! that is not there, or not allowed, ends with SIGSEGV: that is what these programs are about.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes in a page.
pub const PAGE: usize = 4096;

/// May be read and written.
pub const READ_WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;
/// May be read.
pub const READ: i32 = libc::PROT_READ;
/// May not be touched.
pub const NONE: i32 = libc::PROT_NONE;

/// Far from where any system places mappings by itself, so that nobody else maps into the holes.
const FAR: usize = 0x20_0000_0000;
const FAR_STEP: usize = 0x1_0000_0000;

/// A run of pages.
#[derive(Clone, Copy, Debug)]
pub struct Area {
    start: usize,
    pages: usize,
}

impl Area {
    /// Fresh private pages, wherever the system likes.
    pub fn new(pages: usize) -> Self {
        Self::mapped(0, pages, READ_WRITE, libc::MAP_PRIVATE)
    }

    /// Fresh private pages at the `index`-th far place: what is torn out of this area stays a hole.
    pub fn far(index: usize, pages: usize) -> Self {
        Self::mapped(FAR + index * FAR_STEP, pages, READ_WRITE, libc::MAP_PRIVATE | libc::MAP_FIXED)
    }

    /// Fresh pages that stay shared with children.
    pub fn shared(pages: usize) -> Self {
        Self::mapped(0, pages, READ_WRITE, libc::MAP_SHARED)
    }

    /// Maps or ends the process.
    pub fn mapped(at: usize, pages: usize, rights: i32, flags: i32) -> Self {
        Self::try_mapped(at, pages, rights, flags)
            .unwrap_or_else(|error| crate::violated(format_args!("mmap of {pages} pages at {at:#x}: {error}")))
    }

    /// Anonymous pages.
    pub fn try_mapped(at: usize, pages: usize, rights: i32, flags: i32) -> io::Result<Self> {
        Self::map(at, pages, rights, flags | libc::MAP_ANONYMOUS, -1)
    }

    /// The first pages of a file, to be read and written.
    pub fn of_file(at: usize, file: i32, pages: usize, flags: i32) -> Self {
        Self::map(at, pages, READ_WRITE, flags, file)
            .unwrap_or_else(|error| crate::violated(format_args!("mmap of a file's {pages} pages: {error}")))
    }

    fn map(at: usize, pages: usize, rights: i32, flags: i32, file: i32) -> io::Result<Self> {
        // SAFETY: without MAP_FIXED nothing existing is touched; with it callers stay inside areas of their own.
        let start = unsafe { libc::mmap(at as *mut _, pages * PAGE, rights, flags, file, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { start: start as usize, pages })
    }

    /// Some of the pages of another area.
    pub fn part(whole: &Self, pages: Range<usize>) -> Self {
        assert!(pages.end <= whole.pages, "{pages:?} of {}", whole.pages);
        Self { start: whole.address(pages.start), pages: pages.len() }
    }

    /// Number of pages.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// Address of a page.
    pub fn address(&self, page: usize) -> usize {
        assert!(page < self.pages, "page {page} of {}", self.pages);
        self.start + page * PAGE
    }

    fn word(&self, page: usize, word: usize) -> *mut u64 {
        assert!(word < PAGE / 8, "word {word}");
        (self.address(page) + word * 8) as *mut u64
    }

    /// One word.
    pub fn read(&self, page: usize, word: usize) -> u64 {
        // SAFETY: aligned, inside the area, and never accessed otherwise than atomically. If the page is not mapped,
        // the process ends.
        unsafe { AtomicU64::from_ptr(self.word(page, word)).load(Ordering::Acquire) }
    }

    /// One word.
    pub fn write(&self, page: usize, word: usize, value: u64) {
        // SAFETY: as in `read`.
        unsafe { AtomicU64::from_ptr(self.word(page, word)).store(value, Ordering::Release) }
    }

    /// Adds to one word, returns what was there.
    pub fn add(&self, page: usize, word: usize, value: u64) -> u64 {
        // SAFETY: as in `read`.
        unsafe { AtomicU64::from_ptr(self.word(page, word)).fetch_add(value, Ordering::AcqRel) }
    }

    /// Writes a value to the first and the last word of every page of the range.
    pub fn fill(&self, pages: Range<usize>, value: u64) {
        for page in pages {
            self.write(page, 0, value);
            self.write(page, PAGE / 8 - 1, value);
        }
    }

    /// Checks what `fill` wrote.
    pub fn expect(&self, pages: Range<usize>, value: u64, what: &str) {
        for page in pages {
            for word in [0, PAGE / 8 - 1] {
                let found = self.read(page, word);
                crate::check!(found == value, "{what}: page {page} word {word} holds {found:#x}, not {value:#x}");
            }
        }
    }

    /// Fresh pages in place of what is there.
    pub fn replace(&self, pages: Range<usize>, rights: i32) {
        if !pages.is_empty() {
            let flags = libc::MAP_PRIVATE | libc::MAP_FIXED;
            Self::mapped(self.address(pages.start), pages.len(), rights, flags);
        }
    }

    /// A hole in place of what is there.
    pub fn unmap(&self, pages: Range<usize>) {
        // SAFETY: the range lies inside this area, and no reference points there.
        let done =
            pages.is_empty() || unsafe { libc::munmap(self.address(pages.start) as *mut _, pages.len() * PAGE) } == 0;
        crate::check!(done, "munmap: {}", io::Error::last_os_error());
    }

    /// Other rights.
    pub fn protect(&self, pages: Range<usize>, rights: i32) {
        let done = self.try_protect(pages, rights);
        crate::check!(done.is_ok(), "mprotect: {done:?}");
    }

    /// Other rights, where the system can.
    pub fn try_protect(&self, pages: Range<usize>, rights: i32) -> io::Result<()> {
        // SAFETY: the range lies inside this area, and no reference points there.
        match unsafe { libc::mprotect(self.address(pages.start) as *mut _, pages.len() * PAGE, rights) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Contents thrown away (MADV_DONTNEED).
    pub fn discard(&self, pages: Range<usize>) {
        let (start, length) = (self.address(pages.start), pages.len() * PAGE);
        // SAFETY: the range lies inside this area, and no reference points there.
        let done = unsafe { libc::madvise(start as *mut _, length, libc::MADV_DONTNEED) } == 0;
        crate::check!(done, "madvise: {}", io::Error::last_os_error());
    }

    /// Moves the whole area onto the start of another one, whose pages it replaces.
    pub fn move_onto(&self, other: &Self) {
        assert!(self.pages <= other.pages, "a move into something smaller");
        let (length, flags) = (self.pages * PAGE, libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED);
        // SAFETY: both ranges belong to areas, and no reference points there.
        let at = unsafe { libc::mremap(self.start as *mut _, length, length, flags, other.start) };
        crate::check!(at as usize == other.start, "mremap: {}", io::Error::last_os_error());
    }

    /// Lets the kernel write the time into two words of a page, the third and the second last (the last is `fill`'s):
    /// false where it may not (EFAULT).
    pub fn kernel_write(&self, page: usize) -> bool {
        let at = self.word(page, PAGE / 8 - 3);
        // SAFETY: the kernel checks the address itself; the sixteen bytes lie inside the page.
        if unsafe { libc::syscall(libc::SYS_clock_gettime, libc::CLOCK_MONOTONIC, at) } == 0 {
            return true;
        }
        let error = io::Error::last_os_error();
        crate::check!(error.raw_os_error() == Some(libc::EFAULT), "clock_gettime: {error}");
        false
    }

    /// Lets the kernel read a word of a page, through a pipe: `None` where it may not (EFAULT).
    pub fn kernel_read(&self, pipe: &crate::process::Pipe, page: usize) -> Option<u64> {
        // SAFETY: the kernel checks the address itself.
        if unsafe { libc::write(pipe.writer(), self.word(page, 0).cast(), 8) } == 8 {
            let mut value = 0u64;
            // SAFETY: eight bytes into eight bytes.
            let length = unsafe { libc::read(pipe.reader(), (&raw mut value).cast(), 8) };
            crate::check!(length == 8, "the pipe lost what was written");
            return Some(value);
        }
        let error = io::Error::last_os_error();
        crate::check!(error.raw_os_error() == Some(libc::EFAULT), "write to a pipe: {error}");
        None
    }
}
