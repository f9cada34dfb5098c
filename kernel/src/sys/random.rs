//! Random numbers for programs.

use crate::fs::UserIo;
use crate::fs::dev::random;
use quire_arch::UserRegs;
use quire_base::errno::*;

/// `getrandom`
pub fn getrandom(r: &mut UserRegs) -> SysResult {
    let flags = r.a2() as u32;
    if flags & !7 != 0 || flags & 6 == 6 {
        return Err(EINVAL);
    }
    random(&mut UserIo::single(r.a0(), r.a1())?)
}
