//! `process_vm_readv` and `process_vm_writev`: copies between the memories of two programs.
//!
//! For each piece the thread enters the other space as a thread of that program would, so whatever its faults need comes as always; the
//! piece waits in a buffer of the kernel's. Rights are the other program's: where it may not read or write, nobody does it for it.

use crate::fs::{MAX_PARTS, UserIo};
use crate::mem::Space;
use crate::mem::user::{UserPtr, UserSlice};
use crate::proc::thread::user;
use crate::proc::tree;
use alloc::sync::Arc;
use alloc::vec::Vec;
use quire_arch::UserRegs;
use quire_base::errno::*;
use quire_sched as sched;

/// Bytes that are copied at once.
const PIECE: usize = 16 << 10;

/// `process_vm_readv`
pub fn process_vm_readv(r: &mut UserRegs) -> SysResult {
    transfer(r, false)
}

/// `process_vm_writev`
pub fn process_vm_writev(r: &mut UserRegs) -> SysResult {
    transfer(r, true)
}

fn transfer(r: &UserRegs, write: bool) -> SysResult {
    if r.a5() != 0 {
        return Err(EINVAL);
    }
    // In Linux's order: our parts, which may be nothing; the other's; the other.
    let mut io = UserIo::vector(r.a1(), r.a2())?;
    if io.left() == 0 {
        return Ok(0);
    }
    let parts = other_parts(r.a3(), r.a4())?;
    if parts.iter().all(|[_, len]| *len == 0) {
        return Ok(0);
    }
    let process = tree::process_of(r.a0() as u32).ok_or(ESRCH)?;
    let memory = process.memory.lock().clone().ok_or(ESRCH)?;
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(PIECE).map_err(|_| ENOMEM)?;
    buffer.resize(PIECE, 0);
    let mut done = 0;
    for [mut at, mut len] in parts {
        while len > 0 && io.left() > 0 {
            let piece = &mut buffer[..len.min(io.left()).min(PIECE)];
            let moved = match write {
                true => {
                    let got = io.get(piece);
                    inside(&memory.space, || UserSlice::new(at, got).map_or(0, |to| to.copy_out_some(&piece[..got])))
                }
                false => {
                    let got = inside(&memory.space, || {
                        UserSlice::new(at, piece.len()).map_or(0, |from| from.copy_in_some(piece))
                    });
                    io.put(&piece[..got])
                }
            };
            done += moved;
            if moved < piece.len() {
                // On either side a page is missing: what lies before it is done.
                return if done > 0 { Ok(done) } else { Err(EFAULT) };
            }
            (at, len) = (at + moved, len - moved);
        }
    }
    Ok(done)
}

/// The other program's addresses and lengths.
fn other_parts(at: usize, count: usize) -> Result<Vec<[usize; 2]>, Errno> {
    if count > MAX_PARTS {
        return Err(EINVAL);
    }
    let parts = UserPtr::<[usize; 2]>::new(at).read_vec(count)?;
    if parts.iter().any(|[_, len]| *len > isize::MAX as usize) { Err(EINVAL) } else { Ok(parts) }
}

/// Does something inside another space, whose memory the caller holds.
fn inside<T>(space: &Arc<Space>, act: impl FnOnce() -> T) -> T {
    let (thread, own) = (sched::current(), user().memory().space.clone());
    thread.set_space(Some(space.clone()));
    let result = act();
    thread.set_space(Some(own));
    result
}
