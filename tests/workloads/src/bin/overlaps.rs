//! Random memory calls by many on overlapping ranges: threads, and children that they fork.
//!
//! No two runs are alike, so nothing is compared: every word says who wrote it when, and so whether whoever reads it may see it.
//! A word has four parts: the slot (the word of a page that one thread stores to), the process, the round, and a number that grows.
//!
//! * Nobody sees what is no such word, or a word in another's slot: a page of a stranger.
//! * When a round begins, all of both windows is replaced: nobody sees a word of an earlier round.
//! * In private memory a child sees what its parent wrote before the fork, and what it wrote itself; a parent never sees a child's words.
//! * In shared memory, page N of the window is page N of the file: a word never goes back to an older one, by whichever mapping or
//!   system call it is read; it only becomes zero where the file is cut or holed.
//!
//! Pages are mapped, unmapped, moved (with MREMAP_DONTUNMAP, too), protected, thrown away, paged out, locked, and brought in meanwhile.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use quire_workloads::area::{NONE, READ, READ_WRITE};
use quire_workloads::differ::touch;
use quire_workloads::process::{Pipe, no_core_files, try_fork};
use quire_workloads::{Area, Budget, PAGE, Random, Stop, canary, check, ok};

const THREADS: usize = 4;
const PAGES: usize = 16;
const STEPS: usize = 60;
/// The windows, each across the border of an arena of 512 GiB, and where threads move pages to: each time to another place, which has
/// no tables yet.
const PRIVATE: usize = 0x100_0000_0000 - PAGES / 2 * PAGE;
const SHARED: usize = 0x180_0000_0000 - PAGES / 2 * PAGE;
const ASIDE: usize = 0x200_0000_0000;
const ASIDE_OF_ONE: usize = 0x20_0000_0000;

const MAGIC: u64 = 0xa;

/// What a word says.
#[derive(Clone, Copy)]
struct Tag {
    slot: usize,
    process: u8,
    round: u16,
    number: u32,
}

impl Tag {
    fn word(self) -> u64 {
        MAGIC << 60
            | (self.slot as u64) << 56
            | u64::from(self.process) << 48
            | u64::from(self.round) << 32
            | u64::from(self.number)
    }

    fn of(word: u64) -> Self {
        Self {
            slot: (word >> 56 & 15) as usize,
            process: (word >> 48) as u8,
            round: (word >> 32) as u16,
            number: word as u32,
        }
    }
}

/// What all threads and children have in common.
struct Common {
    file: i32,
    /// Shared with children: the number of the last word, then that of the last child, then what each thread has seen.
    counters: Area,
}

impl Common {
    fn counter(&self, index: usize) -> &AtomicU64 {
        let at = self.counters.address(index * 8 / PAGE) + index * 8 % PAGE;
        // SAFETY: an aligned word of an area that lives as long as the process and is accessed in no other way.
        unsafe { AtomicU64::from_ptr(at as *mut u64) }
    }

    /// The newest number that thread `who` has seen in slot `slot` of page `page` of the file.
    fn seen(&self, who: usize, slot: usize, page: usize) -> &AtomicU64 {
        self.counter(2 + (who * THREADS + slot) * PAGES + page)
    }
}

/// One thread, or the child that does a thread's work while the thread waits.
struct Worker<'a> {
    common: &'a Common,
    slot: usize,
    process: u8,
    round: u16,
    /// In a child: the parent's words in private memory are older than this.
    born: Option<u32>,
    random: Random,
    pipe: Pipe,
    /// Moves aside so far.
    moves: usize,
}

fn main() {
    let budget = Budget::from_arguments(20);
    no_core_files();
    touch::install();
    // SAFETY: a name that ends with zero.
    let file = unsafe { libc::memfd_create(c"overlaps".as_ptr(), libc::MFD_CLOEXEC) };
    check!(file >= 0, "memfd_create: {}", std::io::Error::last_os_error());
    let common = Common { file, counters: Area::shared(8) };
    let (stop, end, start) = (Stop::new(), Stop::new(), Barrier::new(THREADS + 1));
    thread::scope(|scope| {
        scope.spawn(|| canary::watch(&stop, 23));
        for slot in 0..THREADS {
            let (common, end, start) = (&common, &end, &start);
            scope.spawn(move || {
                for round in 1.. {
                    start.wait();
                    if end.stopped() {
                        return;
                    }
                    let random = Random::new(u64::from(round) * 64 + slot as u64);
                    let mut worker =
                        Worker { common, slot, process: 0, round, born: None, random, pipe: Pipe::new(), moves: 0 };
                    (0..STEPS).for_each(|_| worker.step());
                    start.wait();
                }
            });
        }
        for _ in budget.rounds() {
            clear(&common);
            start.wait();
            start.wait();
        }
        end.stop();
        start.wait();
        stop.stop();
    });
    ok();
}

/// Both windows are fresh, the file is empty.
fn clear(common: &Common) {
    for length in [0, PAGES * PAGE] {
        // SAFETY: a file and a number.
        let done = unsafe { libc::ftruncate(common.file, length as i64) } == 0;
        check!(done, "ftruncate: {}", std::io::Error::last_os_error());
    }
    for index in 2..2 + THREADS * THREADS * PAGES {
        common.counter(index).store(0, Ordering::Relaxed);
    }
    // Their tables go, too: a round begins with first touches.
    for (at, bytes) in [(PRIVATE, PAGES * PAGE), (SHARED, PAGES * PAGE), (ASIDE, THREADS * ASIDE_OF_ONE)] {
        // SAFETY: the places of this program's own, where no reference points.
        unsafe { libc::munmap(at as *mut _, bytes) };
    }
    Area::mapped(PRIVATE, PAGES, READ_WRITE, libc::MAP_PRIVATE | libc::MAP_FIXED);
    Area::of_file(SHARED, common.file, PAGES, libc::MAP_SHARED | libc::MAP_FIXED);
}

impl Worker<'_> {
    fn step(&mut self) {
        let page = self.random.below(PAGES);
        let pages = 1 + self.random.below(8.min(PAGES - page));
        if self.random.below(2) == 0 {
            self.private(page, pages)
        } else {
            self.shared(page, pages)
        }
        if self.born.is_none() && self.random.below(40) == 0 {
            self.child();
        }
    }

    /// What is refused has a reason that somebody else may have made.
    fn refused(&self, what: &str) {
        let error = std::io::Error::last_os_error();
        let code = error.raw_os_error().unwrap_or(0);
        let known = [libc::ENOMEM, libc::EINVAL, libc::EFAULT, libc::EAGAIN, libc::EBUSY, libc::EACCES];
        check!(known.contains(&code), "{what}: {error}");
    }

    fn tag(&self) -> Tag {
        let number = self.common.counter(0).fetch_add(1, Ordering::SeqCst) + 1;
        Tag { slot: self.slot, process: self.process, round: self.round, number: number as u32 }
    }

    /// A child goes on as this thread, which waits for it.
    fn child(&mut self) {
        let process = 1 + (self.common.counter(1).fetch_add(1, Ordering::Relaxed) % 255) as u8;
        let (common, slot, round, seed) = (self.common, self.slot, self.round, self.random.draw());
        let child = try_fork(|| {
            let born = Some(common.counter(0).load(Ordering::SeqCst) as u32);
            let mut worker =
                Worker { common, slot, process, round, born, random: Random::new(seed), pipe: Pipe::new(), moves: 0 };
            (0..STEPS / 2).for_each(|_| worker.step());
            0
        });
        match child {
            Ok(child) => child.expect_success("a child"),
            Err(_) => self.refused("fork"),
        }
    }

    /// A word of a page by a load, or as the kernel copies it; none where it cannot be had.
    fn word(&mut self, base: usize, page: usize, slot: usize) -> Option<u64> {
        let at = base + page * PAGE + slot * 8;
        if self.random.below(2) == 0 {
            return touch::load(at as u64).ok();
        }
        let mut value = 0u64;
        // SAFETY: the kernel checks the address; eight bytes into eight bytes.
        let read = unsafe {
            libc::write(self.pipe.writer(), at as *const _, 8) == 8
                && libc::read(self.pipe.reader(), (&raw mut value).cast(), 8) == 8
        };
        read.then_some(value)
    }

    fn is_ours(&self, value: u64, slot: usize, place: &str) -> Tag {
        let tag = Tag::of(value);
        check!(value >> 60 == MAGIC && tag.slot == slot, "{place}, slot {slot}: {value:#x} is nobody's word");
        check!(
            tag.round == self.round,
            "{place}, slot {slot}: {value:#x} is of round {}, not {}",
            tag.round,
            self.round
        );
        tag
    }

    fn look_private(&mut self, page: usize) {
        for slot in 0..THREADS {
            let Some(value) = self.word(PRIVATE, page, slot).filter(|value| *value != 0) else { continue };
            let tag = self.is_ours(value, slot, "private memory");
            match self.born {
                None => check!(tag.process == 0, "the parent sees a child's word {value:#x}"),
                Some(_) if tag.process == self.process && slot == self.slot => {}
                Some(born) => {
                    check!(tag.process == 0 && tag.number <= born, "a child born at {born:#x} sees {value:#x}")
                }
            }
        }
    }

    fn look_shared(&mut self, base: usize, page: usize) {
        for slot in 0..THREADS {
            let before = self.common.seen(self.slot, slot, page).load(Ordering::Relaxed);
            let Some(value) = self.word(base, page, slot) else { continue };
            self.has_seen(value, slot, page, before, if base == SHARED { "the window" } else { "a place aside" });
            let mut value = 0u64;
            let at = (page * PAGE + slot * 8) as i64;
            let before = self.common.seen(self.slot, slot, page).load(Ordering::Relaxed);
            // SAFETY: eight bytes into eight bytes.
            if unsafe { libc::pread(self.common.file, (&raw mut value).cast(), 8, at) } == 8 {
                self.has_seen(value, slot, page, before, "the file");
            }
        }
    }

    fn has_seen(&self, value: u64, slot: usize, page: usize, before: u64, place: &str) {
        if value != 0 {
            let number = u64::from(self.is_ours(value, slot, place).number);
            check!(
                number >= before,
                "{place}, page {page}: thread {} of process {} sees {number:#x} in slot {slot}, older than {before:#x}",
                self.slot,
                self.process
            );
            self.common.seen(self.slot, slot, page).store(number, Ordering::Relaxed);
        }
    }

    fn private(&mut self, page: usize, pages: usize) {
        let (at, bytes) = (PRIVATE + page * PAGE, pages * PAGE);
        let flags = libc::MAP_PRIVATE | libc::MAP_FIXED;
        match self.random.below(20) {
            0..=4 => {
                let value = self.tag().word();
                let _ = touch::store((at + self.slot * 8) as u64, value);
            }
            5..=9 => self.look_private(page),
            10 => self.done(Area::try_mapped(at, pages, READ_WRITE, flags).is_ok(), "mmap"),
            // SAFETY: the window of this program, where no reference points.
            11 => self.done(unsafe { libc::munmap(at as *mut _, bytes) } == 0, "munmap"),
            12 => self.protect(at, bytes),
            13..=16 => {
                let kept = if self.random.below(3) == 0 { libc::MREMAP_DONTUNMAP } else { 0 };
                let to = PRIVATE + self.random.below(PAGES - pages + 1) * PAGE;
                if self.random.below(2) == 0 {
                    self.remap(at, bytes, to, kept);
                } else {
                    let aside = self.aside();
                    if self.remap(at, bytes, aside, kept) {
                        self.remap(aside, bytes, to, 0);
                    }
                }
            }
            17 => {
                let longer = (pages + self.random.below(3)).min(PAGES - page) * PAGE;
                // SAFETY: as above; without MAYMOVE it stays in the window.
                self.done(unsafe { libc::mremap(at as *mut _, bytes, longer, 0) } != libc::MAP_FAILED, "mremap");
            }
            _ => self.advise(at, bytes),
        }
    }

    fn shared(&mut self, page: usize, pages: usize) {
        let (at, bytes) = (SHARED + page * PAGE, pages * PAGE);
        match self.random.below(20) {
            0..=4 => {
                let tag = self.tag();
                if touch::store((at + self.slot * 8) as u64, tag.word()).is_ok() {
                    self.common.seen(self.slot, self.slot, page).store(u64::from(tag.number), Ordering::Relaxed);
                }
            }
            5..=9 => self.look_shared(SHARED, page),
            10 | 11 => self.map_file(page, pages),
            // SAFETY: the window of this program, where no reference points.
            12 => self.done(unsafe { libc::munmap(at as *mut _, bytes) } == 0, "munmap"),
            13 => self.protect(at, bytes),
            14 | 15 => {
                // Away, a look, and back.
                let base = self.aside();
                let aside = base + page * PAGE;
                let kept = if self.random.below(3) == 0 { libc::MREMAP_DONTUNMAP } else { 0 };
                if self.remap(at, bytes, aside, kept) {
                    self.look_shared(base, page);
                    self.remap(aside, bytes, at, 0);
                }
            }
            16 => {
                let (flags, from) = (libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, page * PAGE);
                // SAFETY: a file and numbers.
                self.done(
                    unsafe { libc::fallocate(self.common.file, flags, from as i64, bytes as i64) } == 0,
                    "fallocate",
                );
            }
            17 => {
                for length in [page, PAGES] {
                    // SAFETY: a file and a number.
                    self.done(unsafe { libc::ftruncate(self.common.file, (length * PAGE) as i64) } == 0, "ftruncate");
                }
            }
            _ => self.advise(at, bytes),
        }
    }

    /// A place without tables.
    fn aside(&mut self) -> usize {
        self.moves += 1;
        let moves = self.moves % (ASIDE_OF_ONE >> 30);
        let at = ASIDE + self.slot * ASIDE_OF_ONE + (moves << 30) + self.moves % 7 * (2 << 20);
        // SAFETY: a place of this program's own, where no reference points.
        unsafe { libc::munmap(at as *mut _, PAGES * PAGE) };
        at
    }

    fn done(&self, done: bool, what: &str) {
        if !done {
            self.refused(what);
        }
    }

    fn map_file(&mut self, page: usize, pages: usize) {
        let (at, flags) = (SHARED + page * PAGE, libc::MAP_SHARED | libc::MAP_FIXED);
        let (bytes, from) = (pages * PAGE, (page * PAGE) as i64);
        let populate = if self.random.below(4) == 0 { libc::MAP_POPULATE } else { 0 };
        // SAFETY: the window of this program, where no reference points.
        let got = unsafe { libc::mmap(at as *mut _, bytes, READ_WRITE, flags | populate, self.common.file, from) };
        self.done(got != libc::MAP_FAILED, "mmap of the file");
    }

    fn protect(&mut self, at: usize, bytes: usize) {
        let rights = [READ_WRITE, READ_WRITE, READ, NONE][self.random.below(4)];
        // SAFETY: a window of this program, where no reference points.
        self.done(unsafe { libc::mprotect(at as *mut _, bytes, rights) } == 0, "mprotect");
    }

    fn remap(&self, at: usize, bytes: usize, to: usize, kept: i32) -> bool {
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | kept;
        // SAFETY: places of this program, where no reference points.
        let moved = unsafe { libc::mremap(at as *mut _, bytes, bytes, flags, to) } != libc::MAP_FAILED;
        self.done(moved, "mremap");
        moved
    }

    fn advise(&mut self, at: usize, bytes: usize) {
        let advice = [
            libc::MADV_DONTNEED,
            libc::MADV_DONTNEED,
            libc::MADV_FREE,
            libc::MADV_PAGEOUT,
            libc::MADV_COLD,
            libc::MADV_WILLNEED,
            libc::MADV_POPULATE_READ,
            libc::MADV_POPULATE_WRITE,
        ];
        let advice = advice[self.random.below(advice.len())];
        // SAFETY: a window of this program, where no reference points.
        unsafe {
            match self.random.below(10) {
                0 => self.done(libc::mlock(at as *const _, bytes) == 0, "mlock"),
                1 => self.done(libc::munlock(at as *const _, bytes) == 0, "munlock"),
                _ => self.done(libc::madvise(at as *mut _, bytes, advice) == 0, "madvise"),
            }
        }
    }
}
