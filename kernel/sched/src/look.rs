//! What a report may see of the scheduler while it runs: nothing here takes a lock that it would have to wait for, and everything
//! may have changed by the time it is shown.

use crate::machine::{REGS, Trace, UserRegs, stack};
use crate::thread::{EXITED, PARKED, Thread};
use crate::{SCHED, ThreadRef};
use arrayvec::ArrayVec;
use core::sync::atomic::Ordering;
use quire_base::lock::Mutex;

/// The kernel's own threads, which live for ever.
static KERNEL: Mutex<ArrayVec<ThreadRef, 16>> = Mutex::new(ArrayVec::new_const());

/// Remembers a thread of the kernel. One too many is not shown, that is all.
pub(super) fn add_kernel(t: &ThreadRef) {
    let _ = KERNEL.lock().try_push(t.clone());
}

/// Calls `f` with the kernel's own threads, unless somebody changes the list at this moment.
pub fn each_kernel_thread(f: impl FnMut(&Thread)) {
    if let Some(list) = KERNEL.try_lock() {
        list.iter().map(|t| &**t).for_each(f);
    }
}

/// How often a CPU has switched, and how many threads are in its queue.
pub fn progress(cpu: usize) -> (u64, usize) {
    // ordering: Relaxed; for a report.
    (SCHED[cpu].switches.load(Ordering::Relaxed), SCHED[cpu].len.load(Ordering::Relaxed))
}

/// A thread that is on no CPU.
pub struct Parked {
    /// It waits for a CPU, not for something else.
    pub runnable: bool,
    /// When it left its CPU.
    pub since: u64,
    /// The word of its last entry into the kernel, if it is a program's: a system call's number or a trap's error code.
    pub entry: Option<u64>,
    /// Where it stands.
    pub trace: Trace,
}

impl Thread {
    /// Where the thread stands, if it is on no CPU. The caller makes sure that it does not exit meanwhile.
    pub fn parked(&self) -> Option<Parked> {
        // ordering: Relaxed; for a report.
        if self.on.load(Ordering::Relaxed) != 0 || self.state.load(Ordering::Relaxed) == EXITED {
            return None;
        }
        let inner = self.inner.get();
        // SAFETY: plain words, read once each; the thread may start to run, and they change then.
        let (rsp, top) =
            unsafe { ((&raw const (*inner).rsp).read_volatile(), (&raw const (*inner).top).read_volatile()) };
        let stack = stack::around(rsp)?;
        let (mut trace, mut entry) = (Trace::empty(), None);
        // `switch` has left six registers and the address where it goes on.
        if rsp.is_multiple_of(8) && rsp + 56 <= stack.end {
            // SAFETY: on a mapped stack.
            let [rbp, rip] = unsafe { ((rsp + 40) as *const [u64; 2]).read_volatile() };
            trace = Trace::walk(rip, rsp + 56, rbp);
        }
        if self.is_user() && top == stack.end {
            // SAFETY: the top of the thread's stack, which is mapped.
            entry = Some(unsafe { (&raw const (*((top - REGS as u64) as *const UserRegs)).orig_rax).read_volatile() });
        }
        Some(Parked {
            runnable: self.state.load(Ordering::Relaxed) != PARKED,
            since: self.changed.load(Ordering::Relaxed),
            entry,
            trace,
        })
    }
}
