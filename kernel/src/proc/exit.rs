//! The end of a thread, and of a process with its last thread.

use super::process::{Ended, Process};
use super::signal::{self, Detail, MAX, SIGCHLD, SIGCONT, SIGHUP, SigInfo, code, send};
use super::thread::{self, user};
use super::tree::{self, Suspects, Tree};
use super::{futex, wait};
use crate::mem::user::UserPtr;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use linux_raw_sys::general as l;
use quire_arch::UserRegs;
use quire_base::errno::SysResult;
use quire_base::units::TICK;
use quire_base::usage::Usage;
use quire_sched as sched;

/// `exit`: this thread only.
pub fn exit(r: &mut UserRegs) -> SysResult {
    thread(Ended::Exited(r.a0() as u8))
}

/// `exit_group`
pub fn exit_group(r: &mut UserRegs) -> SysResult {
    group(Ended::Exited(r.a0() as u8))
}

/// Tells every thread of the process to end; the first reason wins.
pub fn end_process(process: &Arc<Process>, ended: Ended) {
    // Under the lock, without a copy of the list: this must work without any memory.
    let mut threads = process.threads.lock();
    threads.ending.get_or_insert(ended);
    process.must_stop.store(true, Ordering::SeqCst);
    process.set_stopped(false);
    process.resumed.wake_all();
    threads.list.iter().for_each(send::poke);
}

/// Ends the whole group and this thread with it.
pub fn group(ended: Ended) -> ! {
    let process = thread::current();
    end_process(process, ended);
    let ended = process.threads.lock().ending.unwrap_or(ended);
    thread(ended)
}

/// Ends this thread if its group is ending or a sibling is in execve.
pub fn if_told() {
    let user = user();
    if !user.process.must_stop.load(Ordering::SeqCst) {
        return;
    }
    let told = {
        let threads = user.process.threads.lock();
        match (threads.ending, threads.exec) {
            (Some(ended), _) => Some(ended),
            (None, Some(tid)) if tid != user.tid() => Some(Ended::Killed(signal::SIGKILL)),
            _ => None,
        }
    };
    if let Some(ended) = told {
        thread(ended);
    }
}

/// The end of the current thread.
pub fn thread(ended: Ended) -> ! {
    finish(ended);
    sched::exit_current()
}

/// Everything but the switch away, so that all references held here are gone before it.
fn finish(ended: Ended) {
    let user = user();
    let process = user.process.clone();
    user.exiting.store(true, Ordering::SeqCst);
    send::pass_on(&process);
    leave_memory();
    drop(user.set_files(None));

    let me = sched::current_ref();
    let (usage, name) = (me.usage(), *user.name.lock());
    tree::lock().threads.remove(&user.tid());
    let last = {
        let mut threads = process.threads.lock();
        threads.list.retain(|t| !Arc::ptr_eq(t, &me));
        // With the list: who adds it all up counts each thread once.
        *process.gone_usage.lock() += usage;
        if user.tid() == process.pid {
            threads.leader_ended = Some(name);
        }
        threads.list.is_empty()
    };
    process.threads_gone.wake_all();
    if last {
        finish_process(&process, ended);
    }
}

/// What Linux calls releasing the mm: robust futexes, the joiner's word, the waiting vfork parent. Exec does it too.
pub fn leave_memory() {
    let user = user();
    if user.has_memory() {
        futex::release_robust_list(user.robust_list.swap(0, Ordering::Relaxed));
        let clear = user.clear_child_tid.swap(0, Ordering::Relaxed) as usize;
        // As on Linux, only when somebody is left who could see it: each thread has the memory, and each process once more.
        let of_process = user.process.memory.lock().as_ref().is_some_and(|memory| Arc::ptr_eq(memory, user.memory()));
        if clear != 0 && Arc::strong_count(user.memory()) > 1 + usize::from(of_process) {
            let _ = UserPtr::<u32>::new(clear).write(0);
            futex::wake_address(clear);
        }
    }
    sched::current().set_space(None);
    drop(user.set_memory(None));
    if let Some(done) = user.vfork.lock().take() {
        done.signal();
    }
}

/// The last thread is gone: children find a new parent, the parent is told.
fn finish_process(process: &Arc<Process>, ended: Ended) {
    super::itimer::forget(process);
    crate::fs::locks::forget_process(process);
    end_memory(process);
    // Whatever ended all of them, or else the last of them, as on Linux.
    let ended = process.threads.lock().ending.unwrap_or(ended);
    let ends = *process.gone_usage.lock();
    let of_children = *process.child_usage.lock();
    let mut heirloom = Heirloom::default();
    let parent;
    let (exit_signal, telling);
    {
        let mut tree = tree::lock();
        hand_children_on(&mut tree, process, &mut heirloom);
        let links = tree.links(process);
        links.ended = Some(ended);
        links.usage = ends;
        links.usage += of_children;
        exit_signal = links.exit_signal;
        parent = links.parent.upgrade();
        telling = parent.as_ref().is_some_and(|parent| is_told(parent, exit_signal));
        links.telling += u32::from(telling);
        if let Some(parent) = &parent {
            tree.suspect(process, parent, &mut heirloom.orphaned);
        }
        tree.keep_orphaned(&mut heirloom.orphaned);
        if parent.as_ref().is_none_or(|parent| forgets(parent, process.pid, exit_signal)) {
            wait::bury(&mut tree, parent.as_ref(), process);
        }
    }
    crate::fs::pidfd::changed();
    let mut waits = parent;
    if let Some(parent) = waits.as_ref().filter(|_| telling) {
        // SIGCHLD merges, and without a place only a real-time exit signal is lost.
        let _ = send::to_process(parent, end_of(process.pid, exit_signal, ended, ends));
        waits = told(process);
    }
    if let Some(parent) = waits {
        parent.child_changed.wake_all();
    }
    for (heir, child, info) in heirloom.tell {
        let _ = send::to_process(&heir, info);
        if let Some(parent) = told(&child) {
            parent.child_changed.wake_all();
        }
    }
    // Somebody inherits what has ended, and may not have been told of it by a signal.
    if let Some(heir) = heirloom.waits {
        heir.child_changed.wake_all();
    }
    for group in heirloom.orphaned.into_keys() {
        send::to_group(group, SigInfo::kernel(SIGHUP));
        send::to_group(group, SigInfo::kernel(SIGCONT));
    }
    for (orphan, wish) in heirloom.orphans {
        let _ = send::to_process(&orphan, SigInfo::from_current(wish, code::USER));
    }
}

/// The space of a process ends, unless somebody shares it; its pages are counted while they are freed.
fn end_memory(process: &Process) {
    // Before the process has no memory any more: who looks for memory meanwhile finds the one or the other.
    let clearing = crate::mem::memory().about_to_clear();
    let memory = process.memory.lock().take();
    let file = process.exe.lock().file.take();
    drop(file);
    // In place: a space is too large to travel over the stack.
    if let Some(Some(mut memory)) = memory.map(Arc::into_inner)
        && let Some(space) = Arc::get_mut(&mut memory.space)
    {
        process.max_resident.fetch_max(space.destroy(), Ordering::Relaxed);
    }
    drop(clearing);
}

/// What is left to do for a dead process's children, without the tree's lock.
#[derive(Default)]
struct Heirloom {
    /// Heirs, the children that had ended, and what tells of that.
    tell: Vec<(Arc<Process>, Arc<Process>, SigInfo)>,
    /// Who wants a signal at the end of the parent, and which.
    orphans: Vec<(Arc<Process>, u8)>,
    /// Groups in which somebody is stopped, and that nobody could continue any more.
    orphaned: Suspects,
    /// The heir of some that have ended.
    waits: Option<Arc<Process>>,
    /// Whom nobody waits for: dropped where no lock is held.
    buried: Vec<Arc<Process>>,
}

/// The children of `process` get its heir for a parent. Nobody waits for those that have ended and that the heir would forget.
fn hand_children_on(tree: &mut Tree, process: &Arc<Process>, left: &mut Heirloom) {
    let children = core::mem::take(&mut tree.links(process).children);
    if children.is_empty() {
        return;
    }
    let heir = wait::heir(tree, process);
    for child in children {
        child.parent_pid.store(heir.as_ref().map_or(0, |h| h.pid), Ordering::Relaxed);
        let links = tree.links(&child);
        links.parent = heir.as_ref().map_or_else(alloc::sync::Weak::new, Arc::downgrade);
        // Who inherits a child waits for it as for any other.
        links.exit_signal = SIGCHLD;
        let (ended, usage) = (links.ended, links.usage);
        let wish = child.parent_death.load(Ordering::Relaxed);
        if wish != 0 && ended.is_none() {
            left.orphans.push((child.clone(), wish));
        }
        if let (Some(ended), Some(heir)) = (ended, heir.as_ref().filter(|heir| is_told(heir, SIGCHLD))) {
            links.telling += 1;
            left.tell.push((heir.clone(), child.clone(), end_of(child.pid, SIGCHLD, ended, usage)));
        }
        tree.suspect(&child, process, &mut left.orphaned);
        match &heir {
            Some(heir) if ended.is_none() || !forgets(heir, child.pid, SIGCHLD) => {
                if ended.is_some() {
                    left.waits = Some(heir.clone());
                }
                tree.links(heir).children.push(child);
            }
            _ => {
                if ended.is_some() {
                    tree.processes.remove(&child.pid);
                }
                left.buried.push(child);
            }
        }
    }
}

/// A signal that told of a process's end is sent. Who waits for the process now: the parent that was told may have ended meanwhile, and
/// its heir waits for this moment.
fn told(process: &Process) -> Option<Arc<Process>> {
    let mut tree = tree::lock();
    tree.links(process).telling -= 1;
    tree.parent(process)
}

/// The process of the job that runs: pid 1 waits for this child itself.
pub static JOB: AtomicU32 = AtomicU32::new(0);

/// Whether that is the job's process.
pub fn is_job(pid: u32) -> bool {
    JOB.load(Ordering::Relaxed) == pid
}

/// Whether a signal tells `parent` of a child's end. Who ignores SIGCHLD does not get it even where it is blocked, as on Linux; pid 1 is
/// the kernel's own; and clone takes any byte for a signal.
fn is_told(parent: &Process, exit_signal: u8) -> bool {
    let ignores = || exit_signal == SIGCHLD && parent.actions.lock().get(SIGCHLD).is_ignore();
    parent.pid != 1 && (1..=MAX).contains(&exit_signal) && !ignores()
}

/// Whether nobody will wait for a child of `parent` that has ended.
fn forgets(parent: &Process, pid: u32, exit_signal: u8) -> bool {
    // Pid 1 is the kernel's own: orphans are buried at once, the job's process is waited for.
    if parent.pid == 1 {
        return !is_job(pid);
    }
    let action = parent.actions.lock().get(SIGCHLD);
    exit_signal == SIGCHLD && (action.is_ignore() || action.flags & u64::from(l::SA_NOCLDWAIT) != 0)
}

/// What tells of a process's end.
fn end_of(pid: u32, signal: u8, ended: Ended, usage: Usage) -> SigInfo {
    let (code, status) = match ended {
        Ended::Exited(code) => (1, i32::from(code)),
        Ended::Killed(signal) => (2, i32::from(signal)),
    };
    let detail = Detail::Child { pid, status, user: usage.user / TICK, system: usage.system / TICK };
    SigInfo { signal, errno: 0, code, detail }
}
