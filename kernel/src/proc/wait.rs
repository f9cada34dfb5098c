//! wait4 and waitid.

use super::process::{Ended, Process};
use super::signal::{Detail, SIGCHLD, SigInfo, send};
use super::sleep::wait_on;
use super::thread::current;
use super::tree::{self, JobEvent, Tree};
use crate::fs::pidfd;
use crate::mem::user::UserPtr;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as l;
use quire_arch::UserRegs;
use quire_base::errno::*;
use quire_base::usage::Rusage;
use quire_base::usage::Usage;

/// Which children are meant.
enum Which {
    Any,
    Process(Arc<Process>),
    Pid(u32),
    Group(u32),
}

/// What was found.
struct Found {
    pid: u32,
    /// The status word of wait4.
    status: i32,
    /// `si_code` and `si_status`.
    code: i32,
    value: i32,
    usage: Usage,
    /// The most pages of it, or of a child that it has waited for, that were resident.
    max_resident: u64,
}

impl Found {
    fn rusage(&self) -> Rusage {
        Rusage::new(self.usage, self.max_resident)
    }
}

/// Who inherits the children of `process`: the next subreaper above it, else pid 1.
pub fn heir(tree: &mut Tree, process: &Arc<Process>) -> Option<Arc<Process>> {
    let mut at = tree.parent(process);
    while let Some(above) = at {
        let alive = tree.links(&above).ended.is_none();
        if alive && (above.pid == 1 || above.subreaper.load(Ordering::Relaxed)) {
            return Some(above);
        }
        at = tree.parent(&above);
    }
    tree.processes.get(&1).cloned()
}

/// Forgets a dead process.
pub fn bury(tree: &mut Tree, parent: Option<&Arc<Process>>, process: &Arc<Process>) {
    if let Some(parent) = parent {
        tree.links(parent).children.retain(|c| !Arc::ptr_eq(c, process));
    }
    tree.processes.remove(&process.pid);
}

/// A child stopped or goes on: what its parent will find. Returns the parent, to be told when nothing is locked any more.
#[must_use]
pub fn set_job_event(process: &Arc<Process>, event: JobEvent) -> Option<Arc<Process>> {
    let mut tree = tree::lock();
    tree.links(process).job_event = Some(event);
    tree.parent(process)
}

/// Tells the parent of it.
pub fn tell_of(process: &Process, parent: Option<Arc<Process>>, event: JobEvent) {
    let Some(parent) = parent else { return };
    if parent.pid == 1 {
        return;
    }
    let action = parent.actions.lock().get(SIGCHLD);
    if !action.is_ignore() && action.flags & u64::from(l::SA_NOCLDSTOP) == 0 {
        let (code, status) = match event {
            JobEvent::Stopped(signal) => (5, i32::from(signal)),
            JobEvent::Continued => (6, 18),
        };
        let detail = Detail::Child { pid: process.pid, status, user: 0, system: 0 };
        // A merged SIGCHLD is as good.
        let _ = send::to_process(&parent, SigInfo { signal: SIGCHLD, errno: 0, code, detail });
    }
    parent.child_changed.wake_all();
}

/// What a look at the children finds.
enum Seen {
    /// A child of which there is something to tell.
    News(Found),
    /// Nothing yet.
    Nothing,
    /// Nothing, but the signal of one that has ended is on its way. A look that comes after it finds the child.
    Soon,
    /// No child of that kind.
    Nobody,
}

/// Looks through the children once.
fn scan(which: &Which, options: u32) -> Seen {
    let me = current();
    let mut tree = tree::lock();
    let (mut any, mut soon) = (false, false);
    for index in 0..tree.links(me).children.len() {
        let child = tree.links(me).children[index].clone();
        let links = tree.links(&child);
        let meant = match which {
            Which::Any => true,
            Which::Process(process) => Arc::ptr_eq(&child, process),
            Which::Pid(pid) => child.pid == *pid,
            Which::Group(group) => links.pgid == *group,
        };
        // Children made by clone without SIGCHLD are waited for only with __WCLONE or __WALL.
        let is_clone = links.exit_signal != SIGCHLD;
        let kind = options & l::__WALL != 0 || (options & l::__WCLONE != 0) == is_clone;
        if !meant || !kind {
            continue;
        }
        let keep = options & l::WNOWAIT != 0;
        if let Some(ended) = links.ended {
            // It will neither stop nor go on any more: to who waits for that alone it is no child.
            if options & l::WEXITED == 0 {
                continue;
            }
            any = true;
            if links.telling != 0 {
                soon = true;
                continue;
            }
            let usage = links.usage;
            let max_resident = child.max_resident_of_all();
            if !keep {
                bury(&mut tree, Some(me), &child);
                drop(tree);
                pidfd::changed();
                *me.child_usage.lock() += usage;
                me.child_max_resident.fetch_max(max_resident, Ordering::Relaxed);
            }
            let (code, value) = match ended {
                Ended::Exited(code) => (1, i32::from(code)),
                Ended::Killed(signal) => (2, i32::from(signal)),
            };
            return Seen::News(Found { pid: child.pid, status: ended.wait_status(), code, value, usage, max_resident });
        }
        any = true;
        let (status, code, value) = match links.job_event {
            Some(JobEvent::Stopped(signal)) if options & l::WUNTRACED != 0 => {
                (i32::from(signal) << 8 | 0x7f, 5, i32::from(signal))
            }
            Some(JobEvent::Continued) if options & l::WCONTINUED != 0 => (0xffff, 6, 18),
            _ => continue,
        };
        if !keep {
            links.job_event = None;
        }
        return Seen::News(Found { pid: child.pid, status, code, value, usage: Usage::default(), max_resident: 0 });
    }
    match (any, soon) {
        (false, _) => Seen::Nobody,
        (true, true) => Seen::Soon,
        (true, false) => Seen::Nothing,
    }
}

fn wait(which: &Which, options: u32) -> Result<Option<Found>, Errno> {
    let queue = &current().child_changed;
    let news = || match scan(which, options) {
        Seen::News(found) => Some(Ok(Some(found))),
        Seen::Nobody => Some(Err(ECHILD)),
        Seen::Nothing | Seen::Soon => None,
    };
    // By somebody who does not wait, or whom a signal has interrupted: it may be the one of a child.
    let now = || match scan(which, options) {
        Seen::News(found) => Some(Ok(Some(found))),
        Seen::Nobody => Some(Err(ECHILD)),
        Seen::Nothing => Some(Ok(None)),
        Seen::Soon => None,
    };
    let look = || queue.wait(None, false, now).unwrap_or(Err(EINTR));
    if options & l::WNOHANG != 0 {
        return look();
    }
    match wait_on(queue, None, news) {
        Ok(answer) => answer,
        Err(why) => match look() {
            Ok(None) => Err(why),
            found => found,
        },
    }
}

/// `wait4`
pub fn wait4(r: &mut UserRegs) -> SysResult {
    let (pid, status_at, options, usage_at) = (r.a0() as i32, r.a1(), r.a2() as u32, r.a3());
    if options & !(l::WNOHANG | l::WUNTRACED | l::WCONTINUED | l::__WNOTHREAD | l::__WCLONE | l::__WALL) != 0 {
        return Err(EINVAL);
    }
    let which = match pid {
        i32::MIN => return Err(ESRCH),
        -0x7fff_ffff..=-2 => Which::Group(pid.unsigned_abs()),
        -1 => Which::Any,
        0 => Which::Group(tree::group_of(current())),
        _ => Which::Pid(pid as u32),
    };
    let Some(found) = wait(&which, options | l::WEXITED)? else { return Ok(0) };
    UserPtr::<i32>::new(status_at).write_opt(found.status)?;
    UserPtr::<Rusage>::new(usage_at).write_opt(found.rusage())?;
    Ok(found.pid as usize)
}

/// `waitid`. What is told about a child is written whatever comes, zeros where there is none.
pub fn waitid(r: &mut UserRegs) -> SysResult {
    let (info_at, usage_at) = (r.a2(), r.a4());
    let found = find(r.a0() as u32, r.a1() as i32, r.a3() as u32);
    if let Ok(Some(found)) = &found {
        UserPtr::<Rusage>::new(usage_at).write_opt(found.rusage())?;
    }
    if info_at != 0 {
        let info = match &found {
            Ok(Some(f)) => {
                let detail = Detail::Child { pid: f.pid, status: f.value, user: 0, system: 0 };
                SigInfo { signal: SIGCHLD, errno: 0, code: f.code, detail }.encode()
            }
            _ => [0; 128],
        };
        // The fields up to the status; the rest of the structure is left alone.
        let mut head = [0u8; 28];
        head.copy_from_slice(&info[..28]);
        UserPtr::<[u8; 28]>::new(info_at).write(head)?;
    }
    found.map(|_| 0)
}

/// What waitid waits for.
fn find(kind: u32, id: i32, options: u32) -> Result<Option<Found>, Errno> {
    let known =
        l::WNOHANG | l::WNOWAIT | l::WEXITED | l::WSTOPPED | l::WCONTINUED | l::__WNOTHREAD | l::__WCLONE | l::__WALL;
    if options & !known != 0 || options & (l::WEXITED | l::WSTOPPED | l::WCONTINUED) == 0 {
        return Err(EINVAL);
    }
    let (mut options, mut nonblock) = (options, false);
    let which = match kind {
        l::P_ALL => Which::Any,
        l::P_PID if id > 0 => Which::Pid(id as u32),
        l::P_PGID if id >= 0 => Which::Group(if id == 0 { tree::group_of(current()) } else { id as u32 }),
        l::P_PIDFD if id >= 0 => {
            let (process, now) = pidfd::process_of(id)?;
            // A wait that the descriptor says not to make: it tells so.
            nonblock = now && options & l::WNOHANG == 0;
            options |= if now { l::WNOHANG } else { 0 };
            Which::Process(process)
        }
        _ => return Err(EINVAL),
    };
    let found = wait(&which, options)?;
    if found.is_none() && nonblock {
        return Err(EAGAIN);
    }
    Ok(found)
}
