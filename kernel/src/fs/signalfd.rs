//! signalfd: signals that are read from a descriptor.
//!
//! Whoever reads or polls sees what is pending for itself: the descriptor is no more than a set of signals.

use super::stat::Stat;
use super::{File, OpenFile, UserIo, poll};
use crate::proc::process::arc;
use crate::proc::signal::{self, calls};
use crate::proc::thread::user;
use core::any::Any;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use linux_raw_sys::general as l;
use quire_arch::UserRegs;
use quire_base::errno::*;

/// Bytes of Linux's `signalfd_siginfo`.
const RECORD: usize = 128;

/// Descriptors that there are: senders tell pollers only then.
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// Signals sent while there was one, for [`File::edges`].
static SENT: AtomicU64 = AtomicU64::new(0);

/// A signal has been put into a set.
pub fn sent() {
    // ordering: Relaxed; `poll::notify` orders it for those who poll.
    if COUNT.load(Ordering::Relaxed) != 0 {
        SENT.fetch_add(1, Ordering::Relaxed);
        poll::notify();
    }
}

/// A set of signals behind a descriptor.
pub struct SignalFd(AtomicU64);

impl SignalFd {
    fn new(set: u64) -> Self {
        COUNT.fetch_add(1, Ordering::SeqCst);
        SignalFd(AtomicU64::new(set))
    }
}

impl Drop for SignalFd {
    fn drop(&mut self) {
        COUNT.fetch_sub(1, Ordering::SeqCst);
    }
}

impl File for SignalFd {
    fn read(&self, io: &mut UserIo, _: u64, nonblock: bool) -> SysResult {
        if io.left() < RECORD {
            return Err(EINVAL);
        }
        let mut done = 0;
        while io.left() >= RECORD {
            let set = self.0.load(Ordering::Relaxed);
            // Only the first one is waited for.
            let info = match signal::take_pending(set) {
                Some(info) => info,
                None if done > 0 => break,
                None if nonblock => return Err(EAGAIN),
                None => signal::wait_for(set, None)?,
            };
            if io.put(&info.record()) < RECORD {
                return if done > 0 { Ok(done) } else { Err(EFAULT) };
            }
            done += RECORD;
        }
        Ok(done)
    }
    fn stat(&self) -> Stat {
        Stat { ino: 903, mode: 0o600, nlink: 1, ..Stat::default() }
    }
    fn poll(&self) -> u32 {
        let user = user();
        let pending = user.pending.lock().bits() | user.process.pending_bits.load(Ordering::SeqCst);
        if pending & self.0.load(Ordering::Relaxed) != 0 { l::POLLIN } else { 0 }
    }
    fn refuses(&self, write: bool) -> bool {
        write
    }
    fn stays(&self) -> bool {
        true
    }
    fn edges(&self) -> [u64; 2] {
        [SENT.load(Ordering::Relaxed), 0]
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn set(fd: i32, at: usize, size: usize, flags: u32) -> SysResult {
    if flags & !(l::O_CLOEXEC | l::O_NONBLOCK) != 0 {
        return Err(EINVAL);
    }
    let set = calls::read_mask(at, size)? & !signal::UNBLOCKABLE;
    if fd != -1 {
        let file = user().files().get(fd)?;
        file.file.as_any().downcast_ref::<SignalFd>().ok_or(EINVAL)?.0.store(set, Ordering::Relaxed);
        poll::notify();
        return Ok(fd as usize);
    }
    let file = arc(SignalFd::new(set))?;
    let file = OpenFile::new(file, l::O_RDWR | flags & l::O_NONBLOCK, b"anon_inode:[signalfd]", None)?;
    user().files().add(file, flags & l::O_CLOEXEC != 0)
}

/// `signalfd`
pub fn create_old(r: &mut UserRegs) -> SysResult {
    set(r.a0() as i32, r.a1(), r.a2(), 0)
}

/// `signalfd4`
pub fn create(r: &mut UserRegs) -> SysResult {
    set(r.a0() as i32, r.a1(), r.a2(), r.a3() as u32)
}
