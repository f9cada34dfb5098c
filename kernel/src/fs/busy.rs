//! Who may write a file, and who runs it: never both at once (Linux's `i_writecount`).
//!
//! One number in the file says how many may write it: open descriptors ([`Writing`]), and calls that cut it. Below zero it says how
//! many programs are made of it ([`Running`]). Whoever changes its sign looks and changes in one step, so of a writer and a program that
//! come at once one is refused: ETXTBSY.
//!
//! On Linux a private mapping counts, too, since it keeps the descriptor open by which it was made; here it keeps the pages alone.
//! As on Linux, the descriptor that memfd_create gives does not count, and what is mapped by it neither.
//!
//! A shared mapping outlives the descriptor by which it was made. It counts in the object, before that descriptor can be closed; the
//! program looks there once it has the number below zero, and from then on no descriptor comes by which one could be made.

use super::{Inode, Regular};
use crate::proc::vm;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicI32, Ordering};
use quire_base::errno::{EACCES, ETXTBSY, Errno};

/// The number.
pub struct Busy(AtomicI32);

impl Busy {
    /// Neither.
    pub const fn new() -> Self {
        Busy(AtomicI32::new(0))
    }

    /// One more step away from zero, if the number is not on the other side.
    fn enter(&self, step: i32) -> Result<(), Errno> {
        // ordering: Acquire, and Release in `leave`: who finds no writer sees the mappings that the writers have made.
        let entered =
            self.0.fetch_update(Ordering::Acquire, Ordering::Relaxed, |n| (n.signum() != -step).then_some(n + step));
        entered.map(|_| ()).map_err(|_| ETXTBSY)
    }

    fn leave(&self, step: i32) {
        self.0.fetch_sub(step, Ordering::Release);
    }
}

/// Leave to write a file, or to cut it. No program is made of it meanwhile.
pub struct Writing(Arc<Regular>);

impl Writing {
    /// ETXTBSY: it is some program's.
    pub fn new(file: &Arc<Regular>) -> Result<Self, Errno> {
        file.busy.enter(1)?;
        Ok(Writing(file.clone()))
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.0.busy.leave(1);
    }
}

/// A program's file, and the node by which it was found. Nobody writes it meanwhile.
pub struct Running(Arc<Regular>, Arc<Inode>);

impl Running {
    /// ETXTBSY: somebody may write it. EACCES: it is no file.
    pub fn new(node: &Arc<Inode>) -> Result<Self, Errno> {
        let file = node.regular().ok_or(EACCES)?;
        file.busy.enter(-1)?;
        let running = Running(file.clone(), node.clone());
        if file.counts_writers() && vm::has_writers(&*file.object()?) {
            return Err(ETXTBSY);
        }
        Ok(running)
    }

    /// The file.
    pub fn file(&self) -> &Arc<Regular> {
        &self.0
    }

    /// Its node.
    pub fn node(&self) -> &Arc<Inode> {
        &self.1
    }
}

impl Clone for Running {
    fn clone(&self) -> Self {
        // Below zero it is already: the number needs no look.
        self.0.busy.0.fetch_sub(1, Ordering::Relaxed);
        Running(self.0.clone(), self.1.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.busy.leave(-1);
    }
}
