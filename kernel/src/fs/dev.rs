//! Devices: null, zero, full, random, and the disk's name for swapon.

use super::io::short;
use super::stat::{Stat, kind};
use super::{File, UserIo};
use crate::mem::ObjectRef;
use crate::proc::vm;
use core::any::Any;
use quire_base::errno::*;
use quire_base::random::fill;

/// The devices in /dev.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// Takes everything, gives nothing.
    Null,
    /// Gives zeros.
    Zero,
    /// Gives zeros, takes nothing.
    Full,
    /// Gives random bytes.
    Random,
    /// The same; Linux too makes no difference any more.
    Urandom,
    /// The disk, if there is one. Programs only name it.
    Disk,
}

impl Device {
    /// All of them.
    pub const ALL: [Device; 6] =
        [Device::Null, Device::Zero, Device::Full, Device::Random, Device::Urandom, Device::Disk];

    /// Where it is.
    pub fn path(self) -> &'static [u8] {
        match self {
            Device::Null => b"dev/null",
            Device::Zero => b"dev/zero",
            Device::Full => b"dev/full",
            Device::Random => b"dev/random",
            Device::Urandom => b"dev/urandom",
            Device::Disk => b"dev/vda",
        }
    }
    /// Whether this machine has it.
    pub fn is_there(self) -> bool {
        self != Device::Disk || crate::swap::disk::facts().is_some()
    }
    /// Its file type and permissions.
    pub fn mode(self) -> u32 {
        if self == Device::Disk { kind::BLOCK | 0o600 } else { kind::CHAR | 0o666 }
    }
    /// Linux's device number.
    pub fn number(self) -> u64 {
        let minor = match self {
            // The number that Linux gives the first virtio disk.
            Device::Disk => return 254 << 8,
            Device::Null => 3,
            Device::Zero => 5,
            Device::Full => 7,
            Device::Random => 8,
            Device::Urandom => 9,
        };
        1 << 8 | minor
    }
}

impl File for Device {
    fn read(&self, io: &mut UserIo, _: u64, _: bool) -> SysResult {
        match self {
            Device::Null => Ok(0),
            Device::Zero | Device::Full => {
                let want = io.left();
                let done = io.put_zeros(want);
                if done < want { short(done) } else { Ok(done) }
            }
            Device::Random | Device::Urandom => random(io),
            Device::Disk => Err(EPERM),
        }
    }
    fn write(&self, io: &mut UserIo, _: u64, _: bool) -> SysResult {
        match self {
            Device::Full if io.left() > 0 => Err(ENOSPC),
            Device::Disk => Err(EPERM),
            _ => Ok(io.discard()),
        }
    }
    fn stat(&self) -> Stat {
        Stat { ino: 1000 + self.number(), mode: self.mode(), nlink: 1, rdev: self.number(), ..Stat::default() }
    }
    fn can_wait(&self) -> bool {
        matches!(self, Device::Random | Device::Urandom)
    }
    fn stays(&self) -> bool {
        *self != Device::Disk
    }
    fn seekable(&self) -> bool {
        true
    }
    fn object(&self) -> Result<ObjectRef, Errno> {
        match self {
            // A mapping of /dev/zero is anonymous memory; mmap grows the object as it needs.
            Device::Zero => vm::new_object(0, super::regular::MAX_LEN, &[]),
            _ => Err(ENODEV),
        }
    }
    fn takes_copies(&self) -> bool {
        *self != Device::Full
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Fills the program's buffers with random bytes.
pub fn random(io: &mut UserIo) -> SysResult {
    let mut done = 0;
    let mut chunk = [0u8; 256];
    while io.left() > 0 {
        let n = io.left().min(chunk.len());
        fill(&mut chunk[..n]);
        let put = io.put(&chunk[..n]);
        done += put;
        if put < n {
            return super::io::short(done);
        }
    }
    Ok(done)
}
