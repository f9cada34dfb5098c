//! Robust futexes: what a thread that dies holds is marked, and somebody is told.

use super::{read_word, wake_address};
use crate::mem::user::{self as umem, UserPtr};
use crate::proc::thread::{of, user};
use crate::proc::{tree, vm};
use core::sync::atomic::Ordering;
use linux_raw_sys::general as l;
use quire_arch::UserRegs;
use quire_base::errno::*;

/// `set_robust_list`
pub fn set_robust_list(r: &mut UserRegs) -> SysResult {
    if r.a1() != 24 {
        return Err(EINVAL);
    }
    user().robust_list.store(r.a0() as u64, Ordering::Relaxed);
    Ok(0)
}

/// `get_robust_list`
pub fn get_robust_list(r: &mut UserRegs) -> SysResult {
    let head = match r.a0() as i32 {
        0 => user().robust_list.load(Ordering::Relaxed),
        tid if tid > 0 => {
            let thread = tree::thread(tid as u32).ok_or(ESRCH)?;
            of(&thread).robust_list.load(Ordering::Relaxed)
        }
        _ => return Err(ESRCH),
    };
    UserPtr::<u64>::new(r.a1()).write(head)?;
    UserPtr::<u64>::new(r.a2()).write(24)?;
    Ok(0)
}

/// Longest robust list that is followed, as on Linux.
const ROBUST_LIMIT: usize = 2048;

/// A dying thread's robust futexes: each is marked and one waiter woken. The list is the program's, so it may be wrong
/// in any way; the walk ends at the first thing that cannot be read.
pub fn release_robust_list(head: u64) {
    if head == 0 {
        return;
    }
    let read = |at: u64| UserPtr::<u64>::new(at as usize).read().ok();
    let (Some(first), Some(offset), Some(pending)) =
        (read(head), read(head.wrapping_add(8)), read(head.wrapping_add(16)))
    else {
        return;
    };
    let mut at = first & !1;
    for _ in 0..ROBUST_LIMIT {
        if at == head || at == 0 {
            break;
        }
        let next = read(at);
        if at != pending & !1 {
            owner_died(at.wrapping_add(offset) as usize);
        }
        match next {
            Some(next) => at = next & !1,
            None => return,
        }
    }
    if pending & !1 != 0 {
        owner_died((pending & !1).wrapping_add(offset) as usize);
    }
}

fn owner_died(address: usize) {
    if !address.is_multiple_of(4) || !umem::in_range(address, 4) {
        return;
    }
    let tid = user().tid();
    loop {
        let Ok(word) = read_word(address) else { return };
        if word & l::FUTEX_TID_MASK != tid {
            return;
        }
        let new = (word & l::FUTEX_WAITERS) | l::FUTEX_OWNER_DIED;
        match umem::cmpxchg_u32_nofault(address, word, new) {
            Some(seen) if seen == word => {
                if word & l::FUTEX_WAITERS != 0 {
                    wake_address(address);
                }
                return;
            }
            Some(_) => {}
            None => {
                if vm::touch_write(address).is_err() {
                    return;
                }
            }
        }
    }
}
