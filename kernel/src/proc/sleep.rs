//! Waiting as system calls wait: until something happens, a time comes, or a signal must be handled.

use super::signal;
use core::sync::atomic::Ordering;
use quire_base::errno::{EINTR, ETIMEDOUT, Errno};
use quire_sched::{self as sched, WaitError, WaitQueue};

/// Waits on `queue` until `ready` answers. `ETIMEDOUT` when `deadline` (a `now_ns` value) passes first; `EINTR` when a
/// signal must be handled or the process is ending. A wake-up for a signal that turns out to need nothing goes on waiting.
pub fn wait_on<T>(queue: &WaitQueue, deadline: Option<u64>, mut ready: impl FnMut() -> Option<T>) -> Result<T, Errno> {
    loop {
        match queue.wait(deadline, true, &mut ready) {
            Ok(value) => return Ok(value),
            Err(WaitError::TimedOut) => return Err(ETIMEDOUT),
            Err(WaitError::Interrupted) => {
                if signal::must_interrupt() {
                    return Err(EINTR);
                }
            }
        }
    }
}

/// Waits on `queue` until `ready` answers, whatever signals come; `None`: the process is being killed.
///
/// The attention flag is lowered in between, so it is looked again *at everything* that may have raised it before this returns: whoever
/// lowers the flag owes that, and [`signal::must_interrupt`] pays.
pub fn wait_killable<T>(queue: &WaitQueue, mut ready: impl FnMut() -> Option<T>) -> Option<T> {
    let answer = loop {
        let look = || ready().map(Some).or_else(|| signal::is_dying().then_some(None));
        match queue.wait(None, true, look) {
            Ok(answer) => break answer,
            // By something that does not kill.
            Err(_) => sched::current().attention().store(false, Ordering::SeqCst),
        }
    };
    signal::must_interrupt();
    answer
}

/// Sleeps until `deadline`. `Ok` when it has passed, `EINTR` as for [`wait_on`].
pub fn sleep_until(deadline: Option<u64>) -> Result<(), Errno> {
    // A queue of one's own: nobody wakes it but time and signals.
    let queue = WaitQueue::new();
    match wait_on::<()>(&queue, deadline, || None) {
        Err(e) if e == ETIMEDOUT => Ok(()),
        Err(e) => Err(e),
        Ok(()) => Ok(()),
    }
}
