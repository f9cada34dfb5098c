//! Devices: null, zero, full, random.

use super::io::short;
use super::stat::{Stat, kind};
use super::{File, UserIo};
use crate::mem::ObjectRef;
use crate::proc::vm;
use crate::sys::errno::*;
use crate::sys::random;
use core::any::Any;
use linux_raw_sys::general as l;

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
}

impl Device {
    /// All of them.
    pub const ALL: [Device; 5] = [Device::Null, Device::Zero, Device::Full, Device::Random, Device::Urandom];

    /// Where it is.
    pub fn path(self) -> &'static [u8] {
        match self {
            Device::Null => b"dev/null",
            Device::Zero => b"dev/zero",
            Device::Full => b"dev/full",
            Device::Random => b"dev/random",
            Device::Urandom => b"dev/urandom",
        }
    }
    /// Linux's device number.
    pub fn number(self) -> u64 {
        let minor = match self {
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
            Device::Random | Device::Urandom => random::to_user(io),
        }
    }
    fn write(&self, io: &mut UserIo, _: u64, _: bool) -> SysResult {
        match self {
            Device::Full if io.left() > 0 => Err(ENOSPC),
            _ => Ok(io.discard()),
        }
    }
    fn stat(&self) -> Stat {
        Stat { ino: 1000 + self.number(), mode: kind::CHAR | 0o666, nlink: 1, size: 0, rdev: self.number(), mtime: 0 }
    }
    fn poll(&self) -> u32 {
        l::POLLIN | l::POLLOUT | l::POLLRDNORM | l::POLLWRNORM
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
    fn as_any(&self) -> &dyn Any {
        self
    }
}
