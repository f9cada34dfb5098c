//! What stat says, in Linux's three forms.

use super::times::Moments;
use crate::mem::user::{UserPtr, plain};
use quire_base::errno::Errno;

/// File types in `mode`.
pub mod kind {
    /// Named pipe.
    pub const FIFO: u32 = 0o010_000;
    /// Character device.
    pub const CHAR: u32 = 0o020_000;
    /// Directory.
    pub const DIR: u32 = 0o040_000;
    /// Block device.
    pub const BLOCK: u32 = 0o060_000;
    /// Regular file.
    pub const REG: u32 = 0o100_000;
    /// Symbolic link.
    pub const LINK: u32 = 0o120_000;
    /// Socket.
    pub const SOCK: u32 = 0o140_000;
    /// Mask of the type.
    pub const MASK: u32 = 0o170_000;
}

/// The attributes of a file.
#[derive(Clone, Copy, Default)]
pub struct Stat {
    /// Inode number.
    pub ino: u64,
    /// Type and permissions.
    pub mode: u32,
    /// Links.
    pub nlink: u32,
    /// Length in bytes.
    pub size: u64,
    /// Device number of a device file.
    pub rdev: u64,
    /// Pages that it has; of others than regular files 0.
    pub pages: u64,
    /// Its times.
    pub times: Moments,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct RawStat {
    dev: u64,
    ino: u64,
    nlink: u64,
    mode: u32,
    uid: u32,
    gid: u32,
    pad: u32,
    rdev: u64,
    size: u64,
    blksize: u64,
    blocks: u64,
    times: [i64; 6],
    unused: [u64; 3],
}
plain!(RawStat);

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct RawStatx {
    mask: u32,
    blksize: u32,
    attributes: u64,
    nlink: u32,
    uid: u32,
    gid: u32,
    mode: u16,
    pad: u16,
    ino: u64,
    size: u64,
    blocks: u64,
    attributes_mask: u64,
    /// Seconds, then nanoseconds in the low half: access, birth, change, modification.
    times: [i64; 8],
    rdev: [u32; 2],
    dev: [u32; 2],
    mnt_id: u64,
    spare: [u64; 13],
}
plain!(RawStatx);
const _: () = assert!(size_of::<RawStat>() == 144 && size_of::<RawStatx>() == 256);

/// The device number that all files report.
const DEVICE: u64 = 2;
/// STATX_BASIC_STATS | STATX_BTIME
const STATX_MASK: u32 = 0xfff;

/// Seconds and nanoseconds, the latter never negative.
fn split(ns: i64) -> [i64; 2] {
    [ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000)]
}

impl Stat {
    fn major_minor(&self) -> [u32; 2] {
        [((self.rdev >> 8) & 0xfff) as u32, (self.rdev & 0xff) as u32]
    }
    /// Stores a `struct stat`.
    pub fn store(&self, at: usize) -> Result<(), Errno> {
        let ([a, an], [m, mn], [c, cn]) =
            (split(self.times.access), split(self.times.modification), split(self.times.change));
        UserPtr::<RawStat>::new(at).write(RawStat {
            dev: DEVICE,
            ino: self.ino,
            nlink: u64::from(self.nlink),
            mode: self.mode,
            rdev: self.rdev,
            size: self.size,
            blksize: 4096,
            blocks: self.pages * 8,
            times: [a, an, m, mn, c, cn],
            ..RawStat::default()
        })
    }
    /// Stores a `struct statx`.
    pub fn store_x(&self, at: usize) -> Result<(), Errno> {
        let ([a, an], [b, bn]) = (split(self.times.access), split(self.times.birth));
        let ([c, cn], [m, mn]) = (split(self.times.change), split(self.times.modification));
        UserPtr::<RawStatx>::new(at).write(RawStatx {
            mask: STATX_MASK,
            blksize: 4096,
            nlink: self.nlink,
            mode: self.mode as u16,
            ino: self.ino,
            size: self.size,
            blocks: self.pages * 8,
            times: [a, an, b, bn, c, cn, m, mn],
            rdev: self.major_minor(),
            dev: [0, DEVICE as u32],
            mnt_id: 1,
            ..RawStatx::default()
        })
    }
}
