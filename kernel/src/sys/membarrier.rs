//! `membarrier`: every other CPU passes a full barrier, by an interrupt.

use crate::proc::thread::user;
use core::arch::x86_64::__cpuid;
use core::sync::atomic::Ordering;
use quire_arch::UserRegs;
use quire_arch::smp::barrier;
use quire_base::errno::*;

// Linux's <linux/membarrier.h>. The two about restartable sequences are unknown, as on a Linux that offers none.
const QUERY: u32 = 0;
const GLOBAL: u32 = 1;
const GLOBAL_EXPEDITED: u32 = 1 << 1;
const REGISTER_GLOBAL: u32 = 1 << 2;
const PRIVATE: u32 = 1 << 3;
const REGISTER_PRIVATE: u32 = 1 << 4;
const SYNC_CORE: u32 = 1 << 5;
const REGISTER_SYNC_CORE: u32 = 1 << 6;
const REGISTRATIONS: u32 = 1 << 9;
const ALL: u32 = GLOBAL
    | GLOBAL_EXPEDITED
    | REGISTER_GLOBAL
    | PRIVATE
    | REGISTER_PRIVATE
    | SYNC_CORE
    | REGISTER_SYNC_CORE
    | REGISTRATIONS;

/// `membarrier`
pub fn membarrier(r: &mut UserRegs) -> SysResult {
    if r.a1() as u32 != 0 {
        return Err(EINVAL);
    }
    let registered = &user().memory().barriers;
    // ordering: Relaxed; a registration promises nothing but an answer, and threads that tell each other of it order that themselves.
    let has = |bit: u32| if registered.load(Ordering::Relaxed) & bit != 0 { Ok(()) } else { Err(EPERM) };
    match r.a0() as u32 {
        QUERY => return Ok(ALL as usize),
        REGISTRATIONS => {
            let bits = registered.load(Ordering::Relaxed);
            // As Linux tells it, though the one does not allow the other.
            return Ok((bits | if bits & REGISTER_SYNC_CORE != 0 { REGISTER_PRIVATE } else { 0 }) as usize);
        }
        command @ (REGISTER_GLOBAL | REGISTER_PRIVATE | REGISTER_SYNC_CORE) => {
            registered.fetch_or(command, Ordering::Relaxed);
        }
        GLOBAL | GLOBAL_EXPEDITED => barrier(),
        PRIVATE => {
            has(REGISTER_PRIVATE)?;
            barrier();
        }
        SYNC_CORE => {
            has(REGISTER_SYNC_CORE)?;
            barrier();
            // The others return from an interrupt, which serialises; so does this.
            __cpuid(0);
        }
        _ => return Err(EINVAL),
    }
    Ok(0)
}
