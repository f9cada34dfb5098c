//! Extended attributes: files have none, and can have none. So programs hear from Linux's file systems without them.

use super::path::exists;
use super::readwrite::file;
use crate::mem::user::read_cstr;
use quire_arch::UserRegs;
use quire_base::errno::*;

/// Longest name of an attribute.
const NAME_LIMIT: usize = 255;

/// One attribute of a file that is there: not supported.
fn refused(r: &UserRegs) -> SysResult {
    match read_cstr(r.a1(), NAME_LIMIT) {
        Ok(name) if name.is_empty() => Err(ERANGE),
        Ok(_) => Err(EOPNOTSUPP),
        Err(why) if why == ENAMETOOLONG => Err(ERANGE),
        Err(why) => Err(why),
    }
}

/// `getxattr`, `setxattr`, `removexattr`
pub fn by_path(r: &mut UserRegs) -> SysResult {
    exists(r.a0(), true)?;
    refused(r)
}
/// `lgetxattr`, `lsetxattr`, `lremovexattr`
pub fn by_link(r: &mut UserRegs) -> SysResult {
    exists(r.a0(), false)?;
    refused(r)
}
/// `fgetxattr`, `fsetxattr`, `fremovexattr`
pub fn by_descriptor(r: &mut UserRegs) -> SysResult {
    file(r.a0())?;
    refused(r)
}
/// `listxattr`: an empty list.
pub fn list_by_path(r: &mut UserRegs) -> SysResult {
    exists(r.a0(), true)
}
/// `llistxattr`
pub fn list_by_link(r: &mut UserRegs) -> SysResult {
    exists(r.a0(), false)
}
/// `flistxattr`
pub fn list_by_descriptor(r: &mut UserRegs) -> SysResult {
    file(r.a0())?;
    Ok(0)
}
