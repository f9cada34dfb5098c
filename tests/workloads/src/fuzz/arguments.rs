//! What a victim's calls are given: descriptors, memory, names, and numbers.

use quire_workloads::Random;

const PAGE: usize = 4096;
/// Where the memory to point into lies: eight pages that may be written, two read-only ones, two to keep away from, a hole.
const MEMORY: usize = 0x30_0000_0000;

/// What a victim has.
pub struct World {
    files: Vec<i32>,
    parent: i32,
}

impl World {
    /// Descriptors of every kind, and memory, in the directory `place`.
    pub fn new(place: &str) -> Option<Self> {
        std::env::set_current_dir(place).ok()?;
        let mut files = Vec::new();
        let mut pair = [0; 2];
        // SAFETY: names that end with zero, whole structures, and memory where nobody else has any.
        unsafe {
            let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
            // What it prints is no output of the workload's.
            (0..3).for_each(|fd| _ = libc::dup2(null, fd));
            for name in [c"/proc/self/maps", c"/proc/self/status", c"/proc/meminfo", c"/dev/zero", c"/dev/urandom"] {
                files.push(libc::open(name.as_ptr(), libc::O_RDONLY));
            }
            files.push(libc::open(c".".as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY));
            files.push(libc::open(c"a".as_ptr(), libc::O_RDWR | libc::O_CREAT, 0o600));
            files.push(libc::open(c"a".as_ptr(), libc::O_RDONLY));
            files.push(libc::open(c"b".as_ptr(), libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND, 0o600));
            files.push(libc::memfd_create(c"fuzz".as_ptr(), libc::MFD_ALLOW_SEALING));
            files.push(libc::eventfd(0, libc::EFD_NONBLOCK));
            files.push(libc::eventfd(1, 0));
            files.push(libc::timerfd_create(libc::CLOCK_MONOTONIC, 0));
            files.push(libc::epoll_create1(0));
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigaddset(&raw mut set, libc::SIGUSR1);
            files.push(libc::signalfd(-1, &raw const set, 0));
            for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_SEQPACKET] {
                if libc::socketpair(libc::AF_UNIX, kind, 0, pair.as_mut_ptr()) == 0 {
                    files.extend(pair);
                }
            }
            files.push(libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0));
            for flags in [0, libc::O_NONBLOCK] {
                if libc::pipe2(pair.as_mut_ptr(), flags) == 0 {
                    files.extend(pair);
                }
            }
            files.retain(|fd| *fd >= 0);
            files.extend([-1, libc::AT_FDCWD, 0, 1, 95, 1000, i32::MAX]);
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
            let got = libc::mmap(MEMORY as *mut _, 12 * PAGE, 3, flags, -1, 0);
            if got == libc::MAP_FAILED {
                super::give_up("mmap");
            }
            fill();
            libc::mprotect((MEMORY + 8 * PAGE) as *mut _, 2 * PAGE, 1);
            libc::mprotect((MEMORY + 10 * PAGE) as *mut _, 2 * PAGE, 0);
        }
        // SAFETY: no arguments.
        Some(Self { files, parent: unsafe { libc::getppid() } })
    }

    /// A descriptor, most likely an open one.
    pub fn file(&self, random: &mut Random) -> u64 {
        match random.below(12) {
            0 => random.below(100) as u64,
            _ => self.files[random.below(self.files.len())] as u64,
        }
    }

    /// A process: itself, its group, nobody; never its parent, and never all.
    pub fn process(&self, random: &mut Random) -> u64 {
        // SAFETY: no arguments.
        let own = unsafe { libc::getpid() };
        [0, own, own, -own, own + 1, 4_000_000, i32::MIN][random.below(7)] as u64
    }

    /// Whether a number means processes that matter.
    pub fn is_forbidden(&self, process: u64) -> bool {
        let process = process as i32;
        process == -1 || process.unsigned_abs() <= self.parent.unsigned_abs() && process != 0
    }
}

/// Structures to point to: page 1 has names, page 2 vectors, page 3 times, page 4 sets of signals, page 5 numbers of descriptors.
unsafe fn fill() {
    let page = |index: usize| (MEMORY + index * PAGE) as *mut u64;
    // SAFETY: the caller has mapped the pages.
    unsafe {
        for (index, name) in NAMES.iter().enumerate() {
            std::ptr::copy_nonoverlapping(name.as_ptr(), page(1).cast::<u8>().add(index * 64), name.len());
        }
        let mut random = Random::new(7);
        for index in 0..128 {
            page(2).add(index * 2).write(pointer(&mut random));
            page(2).add(index * 2 + 1).write([0, 1, 8, 4096, 9000, 65536, u64::MAX][random.below(7)]);
            page(3).add(index).write([0, 0, 1, 1000, 999_999_999, 1_000_000_000, u64::MAX][random.below(7)]);
            page(4).add(index).write(random.draw());
            page(5).cast::<i32>().add(index).write(random.below(32) as i32);
        }
    }
}

/// Names in the victim's directory, and some that are not.
const NAMES: [&[u8]; 16] = [
    b"a\0",
    b"b\0",
    b"c\0",
    b"d\0",
    b"d/e\0",
    b".\0",
    b"\0",
    b"a/b\0",
    b"/proc/self/maps\0",
    b"/proc/self/fd/5\0",
    b"/proc/self/status\0",
    b"/nowhere\0",
    b"/proc/self/task\0",
    b"c/../a\0",
    b"a-rather-long-name-that-still-fits-into-its-place\0",
    b"fifo\0",
];

/// A name.
pub fn name(random: &mut Random) -> u64 {
    match random.below(10) {
        0 => pointer(random),
        _ => (MEMORY + PAGE + random.below(NAMES.len()) * 64) as u64,
    }
}

/// The page with structures of one kind, or any pointer.
pub fn structure(random: &mut Random, page: usize) -> u64 {
    match random.below(8) {
        0 => pointer(random),
        _ => (MEMORY + page * PAGE + random.below(100) * 8) as u64,
    }
}

/// An address: good, read-only, forbidden, missing, across borders, the kernel's, not canonical.
pub fn pointer(random: &mut Random) -> u64 {
    let at = |page: usize, offset: usize| (MEMORY + page * PAGE + offset) as u64;
    match random.below(24) {
        0..=9 => at(random.below(8), random.below(510) * 8),
        10 => at(random.below(8), random.below(PAGE)),
        11 => at(6, 0),
        12 => at(8, random.below(PAGE)),
        13 => at(8, 0) - 1 - random.below(16) as u64,
        14 => at(10, 0) - 1 - random.below(16) as u64,
        15 => at(10, random.below(PAGE)),
        16 => at(12, 0) - random.below(16) as u64,
        17 => at(13, random.below(PAGE)),
        18 => 0xffff_8000_0000_0000 + random.below(1 << 20) as u64,
        19 => 0xffff_ffff_8010_0000 + random.below(1 << 20) as u64,
        20 => 0x8000_0000_0000 - random.below(16) as u64,
        21 => 0x1234_5678_0000_0000,
        22 => u64::MAX - random.below(4096) as u64,
        _ => 0,
    }
}

/// A length or an offset.
pub fn size(random: &mut Random) -> u64 {
    match random.below(12) {
        0..=3 => random.below(64) as u64,
        4..=6 => (1 + random.below(16)) as u64 * PAGE as u64,
        7 => random.below(1 << 16) as u64,
        8 => random.below(1 << 21) as u64,
        9 => [i32::MAX as u64, u32::MAX as u64, 1 << 31, 1 << 40, 1 << 47, i64::MAX as u64, 1 << 63][random.below(7)],
        10 => u64::MAX - random.below(8192) as u64,
        _ => 0,
    }
}

/// Bits: none, one, few.
pub fn bits(random: &mut Random) -> u64 {
    let mut bits = 0;
    for _ in 0..random.below(4) {
        let bound = if random.below(8) == 0 { 64 } else { 24 };
        bits |= 1 << random.below(bound);
    }
    bits
}

/// A small number.
pub fn small(random: &mut Random) -> u64 {
    match random.below(10) {
        0 => u64::MAX,
        _ => random.below(70) as u64,
    }
}
