//! `swapon` and `swapoff`: Linux's argument checks around the one area.

use crate::fs::dev::Device;
use crate::fs::{Kind, base_of, resolve};
use crate::mem::user::read_path;
use crate::swap::{area, off};
use linux_raw_sys::general as l;
use quire_arch::UserRegs;
use quire_base::errno::*;

/// Linux's SWAP_FLAG_*: a priority with its flag, discard in three ways.
const KNOWN: usize = 0x7fff | 0x8000 | 0x1_0000 | 0x2_0000 | 0x4_0000;

/// Whether the path names the disk. Files are no swap areas here: only the disk is below nothing that swapping needs.
fn names_disk(path: usize) -> Result<bool, Errno> {
    let path = read_path(path)?;
    let base = base_of(l::AT_FDCWD, &path)?;
    let (inode, _) = resolve(&base, &path, true)?;
    Ok(matches!(inode.kind, Kind::Device(Device::Disk)))
}

/// `swapon`
pub fn swapon(r: &mut UserRegs) -> SysResult {
    let (path, flags) = (r.a0(), r.a1());
    if flags & !KNOWN != 0 {
        return Err(EINVAL);
    }
    if !names_disk(path)? {
        return Err(EINVAL);
    }
    area::open()?;
    Ok(0)
}

/// `swapoff`
pub fn swapoff(r: &mut UserRegs) -> SysResult {
    if !names_disk(r.a0())? {
        return Err(EINVAL);
    }
    off::close()?;
    Ok(0)
}
