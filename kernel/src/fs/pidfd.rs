//! pidfd: a process behind a descriptor.
//!
//! It means one process for ever. An id is given again when its process has been waited for; whoever holds the descriptor is told ESRCH.

use super::entry::{ProcEntry, Who};
use super::stat::{Stat, kind};
use super::{File, Kind, OpenFile, poll};
use crate::mem::user::UserPtr;
use crate::proc::process::{Process, arc};
use crate::proc::signal::{SigInfo, calls, code, send};
use crate::proc::thread::{current, user};
use crate::proc::tree;
use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::{AtomicUsize, Ordering};
use linux_raw_sys::general as l;
use quire_arch::UserRegs;
use quire_base::errno::*;

/// Descriptors that there are: ends are told to pollers only then.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Bytes that only the descriptor may hold, when the process has gone.
const HELD: u64 = (size_of::<Process>() + size_of::<PidFd>()) as u64;

/// A process has ended, or has been waited for. The tree is not locked.
pub fn changed() {
    // ordering: Relaxed; `poll::notify` orders it for those who poll.
    if COUNT.load(Ordering::Relaxed) != 0 {
        poll::notify();
    }
}

/// The descriptor.
pub struct PidFd(Arc<Process>);

impl PidFd {
    fn new(process: Arc<Process>) -> PidFd {
        COUNT.fetch_add(1, Ordering::SeqCst);
        PidFd(process)
    }
}

impl Drop for PidFd {
    fn drop(&mut self) {
        COUNT.fetch_sub(1, Ordering::SeqCst);
    }
}

impl File for PidFd {
    fn refuses(&self, _: bool) -> bool {
        true
    }
    fn stat(&self) -> Stat {
        // The same for each descriptor of the process, and another one for whoever has the id later.
        let ino = self.0.started << 22 | u64::from(self.0.pid);
        Stat { ino, mode: kind::REG | 0o700, nlink: 1, ..Stat::default() }
    }
    fn poll(&self) -> u32 {
        match tree::state(&self.0) {
            tree::State::Living => 0,
            tree::State::Ended => l::POLLIN | l::POLLRDNORM,
            tree::State::Gone => l::POLLIN | l::POLLRDNORM | l::POLLHUP,
        }
    }
    fn edges(&self) -> [u64; 2] {
        [tree::state(&self.0) as u64, 0]
    }
    fn held(&self, _: bool) -> u64 {
        HELD
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Opens a process.
pub fn open(process: &Arc<Process>, flags: u32) -> Result<Arc<OpenFile>, Errno> {
    let file = arc(PidFd::new(process.clone()))?;
    OpenFile::new(file, l::O_RDWR | flags, b"anon_inode:[pidfd]", None)
}

/// The process that a descriptor means, and whether waits for it are to say EAGAIN.
pub fn process_of(fd: i32) -> Result<(Arc<Process>, bool), Errno> {
    let file = user().files().get(fd)?;
    let PidFd(process) = file.file.as_any().downcast_ref().ok_or(EBADF)?;
    Ok((process.clone(), file.nonblock()))
}

/// `pidfd_open`
pub fn pidfd_open(r: &mut UserRegs) -> SysResult {
    let (pid, flags) = (r.a0() as i32, r.a1() as u32);
    // Threads are not offered.
    if flags & !l::O_NONBLOCK != 0 || pid <= 0 {
        return Err(EINVAL);
    }
    let process = tree::process_of(pid as u32).ok_or(ESRCH)?;
    if process.pid != pid as u32 {
        return Err(EINVAL);
    }
    user().files().add(open(&process, flags)?, true)
}

/// `pidfd_send_signal`
pub fn send_signal(r: &mut UserRegs) -> SysResult {
    let (fd, signal, info_at, flags) = (r.a0() as i32, r.a1(), r.a2(), r.a3());
    if flags as u32 != 0 {
        return Err(EINVAL);
    }
    let file = user().files().get_any(fd)?;
    let directory = file.inode.as_ref().and_then(|node| match node.kind {
        Kind::Proc(ProcEntry::Process(who)) => Some(who),
        _ => None,
    });
    let process = match (file.file.as_any().downcast_ref(), directory) {
        (Some(PidFd(process)), _) => process.clone(),
        (None, Some(who)) => who.process().ok_or(ESRCH)?,
        (None, None) => return Err(EBADF),
    };
    let info = if info_at == 0 {
        calls::number(signal)?.map(|s| SigInfo::from_current(s, code::USER))
    } else {
        if UserPtr::<u32>::new(info_at).read()? != signal as u32 {
            return Err(EINVAL);
        }
        let info = calls::number(signal)?.map(|s| calls::read_info(s, info_at)).transpose()?;
        if process.pid != current().pid && info.as_ref().is_some_and(calls::is_forged) {
            return Err(EPERM);
        }
        info
    };
    if tree::state(&process) == tree::State::Gone {
        return Err(ESRCH);
    }
    if let Some(info) = info {
        send::to_process(&process, info)?;
    }
    Ok(0)
}

/// `pidfd_getfd`
pub fn getfd(r: &mut UserRegs) -> SysResult {
    let (fd, wanted, flags) = (r.a0() as i32, r.a1() as i32, r.a2() as u32);
    if flags != 0 {
        return Err(EINVAL);
    }
    let (process, _) = process_of(fd)?;
    // Whoever is ending has no descriptors any more.
    let files = Who::of(&process).files().map_err(|_| ESRCH)?;
    user().files().add(files.get_any(wanted)?, true)
}
