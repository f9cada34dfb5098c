//! The names of flags, to be written and to be read.

/// What an argument of a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An address, see [`super::call::Address`].
    Address,
    /// A number of bytes, or a place in a file; written in pages (`3p+1`).
    Length,
    /// A plain number.
    Number,
    /// Which of the program's files.
    File,
    /// Bits with names.
    Bits(&'static [(&'static str, u64)]),
    /// One of several named values.
    One(&'static [(&'static str, u64)]),
}

macro_rules! names {
    ($($name:ident)*) => { &[$((stringify!($name), libc::$name as u64)),*] };
}

/// Of `mmap` and `mprotect`.
pub const PROT: &[(&str, u64)] = &[
    ("PROT_READ", 1),
    ("PROT_WRITE", 2),
    ("PROT_EXEC", 4),
    ("PROT_SEM", 8),
    ("PROT_GROWSDOWN", 0x0100_0000),
    ("PROT_GROWSUP", 0x0200_0000),
];
/// Of `mmap`; what shares bits with others comes first.
pub const MAP: &[(&str, u64)] = &[
    ("MAP_SHARED_VALIDATE", 3),
    ("MAP_SHARED", 1),
    ("MAP_PRIVATE", 2),
    ("MAP_FIXED", 0x10),
    ("MAP_ANONYMOUS", 0x20),
    ("MAP_32BIT", 0x40),
    ("MAP_GROWSDOWN", 0x100),
    ("MAP_DENYWRITE", 0x800),
    ("MAP_EXECUTABLE", 0x1000),
    ("MAP_LOCKED", 0x2000),
    ("MAP_NORESERVE", 0x4000),
    ("MAP_POPULATE", 0x8000),
    ("MAP_NONBLOCK", 0x1_0000),
    ("MAP_STACK", 0x2_0000),
    ("MAP_HUGETLB", 0x4_0000),
    ("MAP_SYNC", 0x8_0000),
    ("MAP_FIXED_NOREPLACE", 0x10_0000),
    ("MAP_UNINITIALIZED", 0x400_0000),
];
/// Of `mremap`.
pub const REMAP: &[(&str, u64)] = names!(MREMAP_MAYMOVE MREMAP_FIXED MREMAP_DONTUNMAP);
/// Of `mlock2`.
pub const LOCK: &[(&str, u64)] = &[("MLOCK_ONFAULT", 1)];
/// Of `mlockall`.
pub const LOCK_ALL: &[(&str, u64)] = names!(MCL_CURRENT MCL_FUTURE MCL_ONFAULT);
/// Of `msync`.
pub const SYNC: &[(&str, u64)] = names!(MS_ASYNC MS_INVALIDATE MS_SYNC);
/// Of `shmat`.
pub const ATTACH: &[(&str, u64)] = names!(SHM_RDONLY SHM_RND SHM_REMAP SHM_EXEC);
/// Of `fallocate`.
pub const ALLOCATE: &[(&str, u64)] =
    names!(FALLOC_FL_KEEP_SIZE FALLOC_FL_PUNCH_HOLE FALLOC_FL_COLLAPSE_RANGE FALLOC_FL_ZERO_RANGE);
/// Of `fcntl`.
pub const SEALS: &[(&str, u64)] =
    &[("F_SEAL_SEAL", 1), ("F_SEAL_SHRINK", 2), ("F_SEAL_GROW", 4), ("F_SEAL_WRITE", 8), ("F_SEAL_FUTURE_WRITE", 0x10)];
/// Of `lseek`, the unusual ones.
pub const WHENCE: &[(&str, u64)] = &[("SEEK_SET", 0), ("SEEK_END", 2), ("SEEK_DATA", 3), ("SEEK_HOLE", 4)];
/// Limits.
pub const LIMITS: &[(&str, u64)] = names!(RLIMIT_AS RLIMIT_DATA RLIMIT_MEMLOCK RLIMIT_FSIZE RLIMIT_STACK);
/// Of `madvise`, as far as Linux 6.12 knows them, whose release Quire names. Never MADV_HWPOISON and MADV_SOFT_OFFLINE: with root's rights they take frames from the machine for good.
pub const ADVICE: &[(&str, u64)] = &[
    ("MADV_NORMAL", 0),
    ("MADV_RANDOM", 1),
    ("MADV_SEQUENTIAL", 2),
    ("MADV_WILLNEED", 3),
    ("MADV_DONTNEED", 4),
    ("MADV_FREE", 8),
    ("MADV_REMOVE", 9),
    ("MADV_DONTFORK", 10),
    ("MADV_DOFORK", 11),
    ("MADV_MERGEABLE", 12),
    ("MADV_UNMERGEABLE", 13),
    ("MADV_HUGEPAGE", 14),
    ("MADV_NOHUGEPAGE", 15),
    ("MADV_DONTDUMP", 16),
    ("MADV_DODUMP", 17),
    ("MADV_WIPEONFORK", 18),
    ("MADV_KEEPONFORK", 19),
    ("MADV_COLD", 20),
    ("MADV_PAGEOUT", 21),
    ("MADV_POPULATE_READ", 22),
    ("MADV_POPULATE_WRITE", 23),
    ("MADV_DONTNEED_LOCKED", 24),
    ("MADV_COLLAPSE", 25),
];
/// The program's files.
pub const FILES: &[(&str, u64)] = &[
    ("anonymous", super::run::NO_FILE as u64),
    ("file", 0),
    ("file_read_only", 1),
    ("file_write_only", 2),
    ("memfd", 3),
    ("memfd_sealable", 4),
    ("sealable_read_only", 5),
    ("dev_zero", 6),
    ("pipe", 7),
    ("directory", 8),
    ("closed", 9),
];

const ALL: &[&[(&str, u64)]] =
    &[PROT, MAP, REMAP, LOCK, LOCK_ALL, SYNC, ATTACH, ALLOCATE, SEALS, WHENCE, LIMITS, ADVICE, FILES];

/// The value of a name of any kind.
pub fn value(name: &str) -> Option<u64> {
    ALL.iter().flat_map(|names| names.iter()).find(|(known, _)| *known == name).map(|&(_, value)| value)
}
