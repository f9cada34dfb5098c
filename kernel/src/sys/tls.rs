//! arch_prctl: the FS base, which holds thread-local storage.

use crate::mem::user::{USER_END, UserPtr};
use quire_arch::UserRegs;
use quire_base::errno::*;
use quire_sched as sched;

const ARCH_SET_GS: u32 = 0x1001;
const ARCH_SET_FS: u32 = 0x1002;
const ARCH_GET_FS: u32 = 0x1003;
const ARCH_GET_GS: u32 = 0x1004;
const ARCH_CPUID_STATUS: u32 = 0x1011;

/// `arch_prctl`
pub fn arch_prctl(r: &mut UserRegs) -> SysResult {
    let (code, value) = (r.a0() as u32, r.a1());
    match code {
        ARCH_SET_FS => {
            if value >= USER_END {
                return Err(EPERM);
            }
            sched::current().set_fs_base(value as u64);
            Ok(0)
        }
        ARCH_GET_FS => {
            UserPtr::<u64>::new(value).write(sched::current().fs_base())?;
            Ok(0)
        }
        ARCH_SET_GS => {
            if value >= USER_END {
                return Err(EPERM);
            }
            sched::current().set_gs_base(value as u64);
            Ok(0)
        }
        ARCH_GET_GS => {
            UserPtr::<u64>::new(value).write(sched::current().gs_base())?;
            Ok(0)
        }
        ARCH_CPUID_STATUS => Ok(1),
        _ => Err(EINVAL),
    }
}
