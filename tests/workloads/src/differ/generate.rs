//! A program from a seed.

use super::call::{Address, Call, Step};
use super::names;
use super::run::NO_FILE;
use super::{PAGES, Program, WINDOWS};
use crate::Random;

const PAGE: u64 = 4096;

/// Odd addresses: low, last, behind the user half, not canonical, the kernel's, the end.
const RAW: [u64; 8] = [
    0,
    PAGE,
    0x7fff_ffff_f000,
    0x8000_0000_0000,
    0x4000_0000_0000_0000,
    0xffff_8000_0000_0000,
    0xffff_ffff_ffff_f000,
    0xffff_ffff_ffff_fff8,
];

/// How often each call is made.
const CALLS: [(Call, u32); 30] = [
    (Call::Mmap, 160),
    (Call::Munmap, 50),
    (Call::Mprotect, 80),
    (Call::Mremap, 90),
    (Call::Madvise, 120),
    (Call::Mlock, 20),
    (Call::Mlock2, 14),
    (Call::Munlock, 16),
    (Call::Mlockall, 5),
    (Call::Munlockall, 3),
    (Call::Msync, 14),
    (Call::Mincore, 16),
    (Call::Brk, 18),
    (Call::Shmat, 10),
    (Call::Shmdt, 8),
    (Call::Store, 150),
    (Call::Load, 50),
    (Call::Run, 16),
    (Call::Pread, 28),
    (Call::Pwrite, 28),
    (Call::PipeWrite, 22),
    (Call::Ftruncate, 22),
    (Call::Fallocate, 20),
    (Call::AddSeals, 10),
    (Call::Lseek, 6),
    (Call::Limit, 16),
    (Call::Fork, 20),
    (Call::Exit, 20),
    (Call::LookByLoads, 12),
    (Call::LookByKernel, 16),
];

/// A length that is no longer than `most`, or wraps around the end of all addresses.
fn bounded(bytes: u64, most: u64) -> u64 {
    if bytes <= 1 << 63 { bytes.min(most) } else { bytes }
}

struct Maker {
    random: Random,
    /// Which pages of the window are likely to be mapped: most steps are to find something.
    mapped: [bool; PAGES as usize],
    /// Pages where something began or ended: the next step is likely to meet it there.
    edges: Vec<i64>,
}

/// The program of a seed.
pub fn program(seed: u64) -> Program {
    let mut random = Random::new(seed);
    // The first numbers of neighbouring seeds are alike.
    (0..8).for_each(|_| _ = random.draw());
    let window = random.below(WINDOWS.len());
    // The long ones meet more; the short ones are more.
    let length = if random.below(4) == 0 { 40 + random.below(60) } else { 6 + random.below(24) };
    let edges = vec![PAGES as i64 / 2, PAGES as i64 / 2 - 4];
    let mut maker = Maker { random, mapped: [false; PAGES as usize], edges };
    let mut steps: Vec<Step> = (0..2 + maker.below(4)).map(|_| maker.first()).collect();
    while steps.len() < length {
        let call = maker.call();
        steps.push(maker.step(call));
    }
    Program { window, steps }
}

impl Maker {
    fn below(&mut self, bound: u64) -> u64 {
        self.random.below(bound as usize) as u64
    }

    /// With so many chances in a hundred.
    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.random.below(of.len())]
    }

    fn call(&mut self) -> Call {
        let mut at = self.below(CALLS.iter().map(|(_, weight)| u64::from(*weight)).sum());
        for (call, weight) in CALLS {
            match at.checked_sub(u64::from(weight)) {
                Some(rest) => at = rest,
                None => return call,
            }
        }
        Call::Store
    }

    fn page(&mut self) -> i64 {
        let near = match self.below(20) {
            0..=10 => {
                let mapped: Vec<usize> = (0..PAGES as usize).filter(|&page| self.mapped[page]).collect();
                if mapped.is_empty() { 32 } else { self.one(&mapped) as i64 }
            }
            11..=16 => {
                let edge = self.random.below(self.edges.len());
                self.edges[edge]
            }
            _ => self.below(PAGES) as i64,
        };
        (near + self.one(&[0, 0, 0, 0, -1, 1, -2])).clamp(-8, PAGES as i64)
    }

    fn pages(&mut self) -> u64 {
        match self.below(10) {
            0..=5 => 1 + self.below(4),
            6..=8 => 1 + self.below(12),
            _ => 1 + self.below(PAGES),
        }
    }

    /// A page and a number of pages.
    fn span(&mut self) -> (i64, u64) {
        let (mut page, mut pages) = (self.page(), self.pages());
        if self.chance(25) {
            // Ends at an edge instead.
            page -= pages as i64;
        }
        if self.chance(70) && page >= 0 {
            // Without holes.
            let run = self.mapped.iter().skip(page as usize).take_while(|mapped| **mapped).count() as u64;
            if run > 0 {
                pages = pages.min(run);
            }
        }
        self.edges.extend([page, page + pages as i64]);
        if self.edges.len() > 12 {
            self.edges.drain(..2);
        }
        (page, pages)
    }

    /// An address and a length, most of them aligned, inside the window, and short.
    fn range(&mut self) -> (u64, u64) {
        let (page, pages) = self.span();
        let offset = page * PAGE as i64;
        let address = match self.below(400) {
            0..=4 => Address::Raw(self.one(&RAW)),
            5..=8 => Address::Window(offset + self.below(PAGE) as i64),
            9..=20 => Address::Heap(self.below(12) as i64 * PAGE as i64),
            _ => Address::Window(offset),
        };
        let bytes = match self.below(200) {
            0..=1 => 0,
            // From low on, that would be everything.
            2 if !matches!(address, Address::Raw(_)) => {
                self.one(&[u64::MAX, u64::MAX - 4094, u64::MAX - 4095, 1 << 47, (1 << 47) - PAGE, 1 << 63, 1 << 40])
            }
            3..=12 => pages * PAGE - 1 - self.below(PAGE - 1),
            _ => pages * PAGE,
        };
        (address.encode(), bytes)
    }

    /// Notes that a step has mapped a range, or unmapped it.
    fn note(&mut self, address: u64, bytes: u64, there: bool) {
        let Address::Window(offset) = Address::decode(address) else { return };
        let pages = (bytes / PAGE).min(PAGES) as i64;
        let first = offset / PAGE as i64;
        for page in (first..first + pages).filter(|page| (0..PAGES as i64).contains(page)) {
            self.mapped[page as usize] = there;
        }
    }

    /// A mapping that succeeds, most likely.
    fn first(&mut self) -> Step {
        let mut step = self.step(Call::Mmap);
        let pages = 2 + self.below(20);
        step.arguments[0] = Address::Window(self.below(PAGES - pages) as i64 * PAGE as i64).encode();
        step.arguments[1] = pages * PAGE;
        step.arguments[3] |= 0x10;
        self.note(step.arguments[0], step.arguments[1], true);
        step
    }

    /// A short range, to be touched or copied.
    fn touched(&mut self) -> (u64, u64) {
        let page = self.page() * PAGE as i64;
        let address = match self.below(60) {
            0 => Address::Raw(self.one(&RAW)),
            1..=3 => Address::Heap(self.below(12) as i64 * PAGE as i64),
            _ => Address::Window(page),
        };
        (address.encode(), 1 + self.below(6))
    }

    fn bits(&mut self, known: &[(&str, u64)], percent: u64) -> u64 {
        let mut bits = 0;
        for &(_, bit) in known {
            if self.chance(percent) {
                bits |= bit;
            }
        }
        if self.chance(1) { bits | 1 << self.below(32) } else { bits }
    }

    fn protection(&mut self) -> u64 {
        let rights = match self.below(20) {
            0..=9 => 3,
            10..=13 => 1,
            14..=15 => 0,
            16 => 5,
            17 => 7,
            18 => 2,
            _ => 6,
        };
        // PROT_EXEC alone depends on the processor: some have protection keys, which make it so.
        if self.chance(3) { rights | self.one(&[8, 0x0100_0000, 0x0200_0000, 0x10, 0x8000_0000]) } else { rights }
    }

    fn file(&mut self) -> u64 {
        match self.below(40) {
            0..=7 => 0,
            8..=11 => 1,
            12 => 2,
            13..=20 => 3,
            21..=30 => 4,
            31..=34 => 5,
            35..=36 => 6,
            37 => self.one(&[7, 8, 3, 4]),
            38 => self.one(&[9, 0, 1]),
            _ => 3,
        }
    }

    fn flags_of_map(&mut self, anonymous: bool) -> u64 {
        let mut flags = match self.below(40) {
            0..=23 => 2,
            24..=37 => 1,
            38 => 3,
            _ => self.one(&[0, 4, 3]),
        };
        flags |= match self.below(20) {
            0..=14 => 0x10,
            15 => 0x10_0000,
            _ => 0,
        };
        flags |= if anonymous { 0x20 } else { 0 };
        if self.chance(8) {
            flags |= 0x100;
        }
        for (_, bit) in names::MAP.iter().filter(|(_, bit)| *bit > 0x100 && *bit != 0x10_0000) {
            // MAP_HUGETLB depends on what the machine has set aside.
            if self.chance(3) && *bit != 0x4_0000 {
                flags |= bit;
            }
        }
        if self.chance(1) { flags | 1 << self.below(32) & !0x4_0040 } else { flags }
    }

    fn step(&mut self, call: Call) -> Step {
        let step = self.draw(call);
        let [at, bytes, new_bytes, flags, new, _] = step.arguments;
        match call {
            Call::Mmap if flags & 0x10 != 0 => self.note(at, bytes, true),
            Call::Munmap => self.note(at, bytes, false),
            Call::Mremap if flags & 2 != 0 => {
                self.note(at, bytes, flags & 4 != 0);
                self.note(new, new_bytes, true);
            }
            _ => {}
        }
        step
    }

    fn draw(&mut self, call: Call) -> Step {
        let (at, bytes) = match call {
            Call::Store | Call::Load | Call::Run | Call::Pread | Call::Pwrite | Call::PipeWrite => self.touched(),
            _ => self.range(),
        };
        let arguments: &[u64] = match call {
            Call::Mmap => {
                let anonymous = self.chance(60);
                let file = if anonymous && !self.chance(3) { u64::from(NO_FILE) } else { self.file() };
                let offset =
                    if self.chance(3) { self.below(3 * PAGE) } else { self.one(&[0, 0, 0, 1, 2, 5, 7, 9]) * PAGE };
                &[at, bytes, self.protection(), self.flags_of_map(anonymous), file, offset]
            }
            Call::Mprotect => &[at, bytes, self.protection()],
            Call::Mremap => {
                let flags = match self.below(20) {
                    0..=4 => 1,
                    5..=12 => 3,
                    13..=15 => 7,
                    16 => 5,
                    17..=18 => 0,
                    _ => self.below(16),
                };
                let new = match self.below(10) {
                    0..=4 => bytes,
                    5..=7 => self.pages() * PAGE,
                    8 => bytes.wrapping_add(self.below(4) * PAGE),
                    _ => self.range().1,
                };
                let old = if self.chance(5) { 0 } else { bytes };
                &[at, old, new, flags, self.range().0]
            }
            Call::Madvise => {
                let advice = match self.below(40) {
                    0..=14 => self.one(&[4, 4, 9, 22, 23, 18, 10, 20, 24]),
                    15 => self.one(&[5, 7, 26, 99, 1 << 31]),
                    _ => self.one(names::ADVICE).1,
                };
                // These split mappings, which can only be seen with mremap, and cannot be taken back.
                let advice = if matches!(advice, 14 | 15) { 0 } else { advice };
                // What lies far behind the window is the process's own: its contents are to stay, and the kernel's pages there answer
                // as they like.
                let bytes = bounded(bytes, 1 << 40);
                &[at, bytes, advice]
            }
            Call::Mlock2 => &[at, bytes, self.bits(names::LOCK, 60)],
            Call::Mlockall => &[self.one(&[2, 2, 6, 1, 3, 7, 0, 4, 8])],
            Call::Msync => &[at, bytes, self.bits(names::SYNC, 40)],
            Call::Mincore => {
                let to = if self.chance(80) { Address::Raw(1).encode() } else { self.touched().0 };
                // Room for the answer is looked for first, and there is some behind the program's.
                &[at, bounded(bytes, 1 << 24), to]
            }
            Call::Brk => {
                let bytes = self.below(12) * PAGE + if self.chance(20) { self.below(PAGE) } else { 0 };
                &[Address::Heap(bytes as i64).encode()]
            }
            Call::Shmat => &[at, self.bits(names::ATTACH, 40) & !0x8000 | self.one(&[0, 0x4000, 0x6000, 0])],
            Call::Pread | Call::Pwrite => {
                let odd = if self.chance(40) { self.below(PAGE) } else { 0 };
                let file = self.file();
                // The other files have no contents, or it would wait.
                let file = if file >= 6 { file % 5 } else { file };
                &[file, at.wrapping_add(odd), (bytes * PAGE).wrapping_sub(odd / 2), self.below(10 * PAGE)]
            }
            Call::PipeWrite => &[at.wrapping_add(if self.chance(40) { self.below(PAGE) } else { 0 }), bytes * PAGE],
            Call::Ftruncate => {
                &[self.file(), self.below(12) * PAGE + if self.chance(30) { self.below(PAGE) } else { 0 }]
            }
            Call::Fallocate => {
                let mode = self.one(&[3, 3, 3, 1, 0, 2, 8, 0x10, 0x11]);
                let (from, length) = if self.chance(60) {
                    (self.below(9) * PAGE, self.pages() * PAGE)
                } else {
                    (self.below(9 * PAGE), self.below(4 * PAGE))
                };
                &[self.file(), mode, from, length]
            }
            Call::AddSeals => &[self.one(&[4, 4, 4, 5, 3, 0]), self.bits(names::SEALS, 30)],
            Call::Lseek => &[self.one(&[0, 3, 4]), self.below(10 * PAGE), self.one(names::WHENCE).1],
            Call::Limit => &[self.one(names::LIMITS).1, self.below(24) * PAGE],
            Call::Munlockall | Call::Fork | Call::Exit | Call::LookByLoads | Call::LookByKernel => &[],
            // Which instruction fails where a jump's target is not canonical depends on the processor.
            Call::Run if matches!(Address::decode(at), Address::Raw(_)) => &[Address::Window(0).encode()],
            Call::Shmdt | Call::Run => &[at],
            Call::Munmap | Call::Mlock | Call::Munlock | Call::Store | Call::Load => &[at, bytes],
        };
        Step::new(call, arguments)
    }
}
