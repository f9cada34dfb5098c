//! One value per CPU, each on its own cache line, reached only by its CPU.

use crate::machine::{CPUS, Machine};
use core::cell::UnsafeCell;
use crossbeam_utils::CachePadded;

/// One `T` per CPU.
#[derive(Debug)]
pub struct PerCpu<T>([CachePadded<UnsafeCell<T>>; CPUS]);

// SAFETY: `with` lets each CPU reach only its own value, and code on one CPU runs to its end before other code there
// (`Machine`: not preempted, `cpu` unique among running threads).
unsafe impl<T: Send> Sync for PerCpu<T> {}

impl<T> PerCpu<T> {
    /// A value for each CPU.
    pub fn new(mut make: impl FnMut() -> T) -> Self {
        PerCpu(core::array::from_fn(|_| CachePadded::new(UnsafeCell::new(make()))))
    }

    /// Works on the calling CPU's value. `work` must not call `with` on the same values again and must not pause.
    #[inline]
    pub fn with<M: Machine, R>(&self, machine: &M, work: impl FnOnce(&mut T) -> R) -> R {
        // SAFETY: see `Sync`; `work` does not come back here (checked by the callers in this crate: none pauses inside).
        work(unsafe { &mut *self.0[machine.cpu()].get() })
    }

    /// A look at another CPU's value.
    ///
    /// # Safety
    ///
    /// That CPU does not run code of this crate meanwhile, or `T` is made of atomics only.
    pub unsafe fn peek(&self, cpu: usize) -> &T {
        // SAFETY: by this function's contract nobody changes the value meanwhile.
        unsafe { &*self.0[cpu].get() }
    }
}
