//! fork, vfork, clone and clone3: new threads and new processes.

use super::policy;
use super::process::{Process, arc};
use super::signal::{self, Actions, SIGCHLD};
use super::sleep::wait_killable;
use super::thread::{self, UserThread, of};
use super::{tree, vm};
use crate::fs::{FileTable, pidfd};
use crate::mem::EditError;
use crate::mem::user::{USER_END, UserPtr, UserSlice};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};
use linux_raw_sys::general as l;
use quire_arch::UserRegs;
use quire_base::errno::*;
use quire_sched::{self as sched, WaitQueue};

const CLONE_VM: u64 = l::CLONE_VM as u64;
const CLONE_FS: u64 = l::CLONE_FS as u64;
const CLONE_FILES: u64 = l::CLONE_FILES as u64;
const CLONE_SIGHAND: u64 = l::CLONE_SIGHAND as u64;
const CLONE_VFORK: u64 = l::CLONE_VFORK as u64;
const CLONE_PARENT: u64 = l::CLONE_PARENT as u64;
const CLONE_THREAD: u64 = l::CLONE_THREAD as u64;
const CLONE_SETTLS: u64 = l::CLONE_SETTLS as u64;
const CLONE_PARENT_SETTID: u64 = l::CLONE_PARENT_SETTID as u64;
const CLONE_CHILD_CLEARTID: u64 = l::CLONE_CHILD_CLEARTID as u64;
const CLONE_CHILD_SETTID: u64 = l::CLONE_CHILD_SETTID as u64;
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_PIDFD: u64 = l::CLONE_PIDFD as u64;
const CLONE_DETACHED: u64 = l::CLONE_DETACHED as u64;
/// Namespaces and cgroups are not offered.
const REFUSED: u64 = (l::CLONE_NEWNS
    | l::CLONE_NEWCGROUP
    | l::CLONE_NEWUTS
    | l::CLONE_NEWIPC
    | l::CLONE_NEWUSER
    | l::CLONE_NEWPID
    | l::CLONE_NEWNET) as u64
    | 0x2_0000_0000;

/// All flags that there are, with what the last of them stands for: a cgroup for the child.
const KNOWN: u64 = 0xffff_ffff | CLONE_CLEAR_SIGHAND | 0x2_0000_0000;

/// What a new thread gets.
#[derive(Default)]
struct Request {
    flags: u64,
    exit_signal: u8,
    stack: u64,
    tls: u64,
    parent_tid: usize,
    child_tid: usize,
    pidfd: usize,
}

/// The parent of a vfork waits here until the child has left its memory.
pub struct VforkDone {
    done: AtomicBool,
    queue: WaitQueue,
}

impl VforkDone {
    /// The child has called execve or ended.
    pub fn signal(&self) {
        self.done.store(true, Ordering::Release);
        self.queue.wake_all();
    }
    fn wait(&self) {
        wait_killable(&self.queue, || self.done.load(Ordering::Acquire).then_some(()));
    }
}

/// `fork`
pub fn fork(r: &mut UserRegs) -> SysResult {
    create(r, Request { exit_signal: SIGCHLD, ..Request::default() })
}

/// `vfork`
pub fn vfork(r: &mut UserRegs) -> SysResult {
    create(r, Request { flags: CLONE_VM | CLONE_VFORK, exit_signal: SIGCHLD, ..Request::default() })
}

/// `clone`
pub fn clone(r: &mut UserRegs) -> SysResult {
    let flags = r.a0() as u64;
    let request = Request {
        flags: flags & 0xffff_ff00,
        exit_signal: flags as u8,
        stack: r.a1() as u64,
        parent_tid: r.a2(),
        child_tid: r.a3(),
        tls: r.a4() as u64,
        pidfd: r.a2(),
    };
    // One place for two numbers; and what the flag meant before it meant nothing.
    if flags & CLONE_PIDFD != 0 && flags & (CLONE_PARENT_SETTID | CLONE_DETACHED) != 0 {
        return Err(EINVAL);
    }
    create(r, request)
}

/// `clone3`
pub fn clone3(r: &mut UserRegs) -> SysResult {
    let (at, size) = (r.a0(), r.a1());
    if size < 64 {
        return Err(EINVAL);
    }
    if size > 4096 {
        return Err(E2BIG);
    }
    let mut raw = [0u8; 88];
    let known = size.min(raw.len());
    UserSlice::new(at, size)?.copy_in(&mut raw[..known])?;
    for more in raw.len()..size {
        if UserPtr::<u8>::new(at + more).read()? != 0 {
            return Err(E2BIG);
        }
    }
    let field = |i: usize| {
        let mut word = [0u8; 8];
        word.copy_from_slice(&raw[i * 8..i * 8 + 8]);
        u64::from_ne_bytes(word)
    };
    let (flags, exit_signal, stack, stack_size) = (field(0), field(4), field(5), field(6));
    if flags & 0xff != 0 || exit_signal > 64 || field(8) != 0 || field(9) != 0 {
        return Err(EINVAL);
    }
    if (stack == 0) != (stack_size == 0) {
        return Err(EINVAL);
    }
    // Whoever is nobody's child of its own tells with the signal of its maker.
    if flags & (CLONE_THREAD | CLONE_PARENT) != 0 && exit_signal != 0 || flags & !KNOWN != 0 {
        return Err(EINVAL);
    }
    let request = Request {
        flags,
        exit_signal: exit_signal as u8,
        stack: stack.wrapping_add(stack_size),
        tls: field(7),
        parent_tid: field(3) as usize,
        child_tid: field(2) as usize,
        pidfd: field(1) as usize,
    };
    let both = CLONE_PIDFD | CLONE_PARENT_SETTID;
    if flags & both == both && request.pidfd == request.parent_tid || flags & CLONE_DETACHED != 0 {
        return Err(EINVAL);
    }
    create(r, request)
}

fn check(flags: u64) -> Result<(), Errno> {
    let has = |bits: u64| flags & bits == bits;
    let wrong = (has(CLONE_SIGHAND) && !has(CLONE_VM))
        || (has(CLONE_THREAD) && !has(CLONE_SIGHAND))
        || (has(CLONE_SIGHAND) && has(CLONE_CLEAR_SIGHAND))
        // Descriptors of threads are not offered.
        || (has(CLONE_THREAD) && has(CLONE_PIDFD))
        || flags & REFUSED != 0;
    if wrong { Err(EINVAL) } else { Ok(()) }
}

/// Gives an id back unless the thread came to be.
struct ReservedId(u32);
impl Drop for ReservedId {
    fn drop(&mut self) {
        tree::lock().settle_id(self.0);
    }
}

/// The descriptor of the new process in its parent's table: it goes again unless there is a process.
struct Descriptor<'a> {
    table: &'a FileTable,
    fd: usize,
}

impl<'a> Descriptor<'a> {
    fn new(table: &'a FileTable, process: &Arc<Process>, at: usize) -> Result<Descriptor<'a>, Errno> {
        let fd = table.add(pidfd::open(process, 0)?, true)?;
        let descriptor = Descriptor { table, fd };
        UserPtr::<u32>::new(at).write(fd as u32)?;
        Ok(descriptor)
    }
}

impl Drop for Descriptor<'_> {
    fn drop(&mut self) {
        drop(self.table.remove(self.fd as i32));
    }
}

fn create(r: &mut UserRegs, request: Request) -> SysResult {
    let flags = request.flags;
    check(flags)?;
    if flags & CLONE_SETTLS != 0 && request.tls as usize >= USER_END {
        return Err(EPERM);
    }
    let parent = thread::user();
    let me = &parent.process;
    if crate::mem::heap_is_low() && !crate::swap::shortage::wait_for_frames() {
        return Err(ENOMEM);
    }
    let id = ReservedId(tree::lock().new_id()?);
    let tid = id.0;

    let memory = if flags & CLONE_VM != 0 { parent.memory().clone() } else { parent.memory().fork()? };
    let files = if flags & CLONE_FILES != 0 { parent.files().clone() } else { parent.files().copy()? };
    let fs = if flags & CLONE_FS != 0 { parent.fs.clone() } else { parent.fs.copy()? };
    let is_thread = flags & CLONE_THREAD != 0;
    let process = if is_thread { me.clone() } else { new_process(tid, me, &request, &memory)? };

    let name = *parent.name.lock();
    let blocked = parent.blocked.load(Ordering::Relaxed);
    let user = UserThread::new(tid, process.clone(), memory.clone(), files, fs, blocked, name);
    if flags & CLONE_CHILD_CLEARTID != 0 {
        user.clear_child_tid.store(request.child_tid as u64, Ordering::Relaxed);
    }
    *user.settings.lock() = parent.settings.lock().of_child();
    // The alternate stack goes with the memory, except into a thread that shares it.
    if flags & CLONE_VM == 0 || flags & CLONE_VFORK != 0 {
        user.signals.alt.set(parent.signals.alt.copy());
    }
    let vfork = if flags & CLONE_VFORK != 0 {
        let done = arc(VforkDone { done: AtomicBool::new(false), queue: WaitQueue::new() })?;
        *user.vfork.lock() = Some(done.clone());
        Some(done)
    } else {
        None
    };

    let descriptor = match flags & CLONE_PIDFD {
        0 => None,
        _ => Some(Descriptor::new(parent.files(), &process, request.pidfd)?),
    };

    let mut regs = *r;
    regs.rax = 0;
    if request.stack != 0 {
        regs.rsp = request.stack;
    }
    let fs_base = if flags & CLONE_SETTLS != 0 { request.tls } else { sched::current().fs_base() };
    if flags & CLONE_PARENT_SETTID != 0 {
        // Linux forgets a failure here.
        let _ = UserPtr::<u32>::new(request.parent_tid).write(tid);
    }
    if flags & CLONE_CHILD_SETTID != 0 {
        // The child stores it itself, in its own memory, before its first instruction.
        user.set_child_tid.store(request.child_tid as u64, Ordering::Relaxed);
    }
    let user = user.boxed().map_err(|_| EAGAIN)?;
    let new = sched::spawn_user(tid, user, &regs, fs_base, true).map_err(|_| EAGAIN)?;
    new.set_space(Some(memory.space.clone()));
    new.set_affinity(sched::current().affinity());
    policy::inherit(sched::current(), &new);

    let ready = vm::retry(|| if sched::prepare(&new) { Ok(()) } else { Err(EditError::OutOfFrames) });
    if let Err(error) = ready.and_then(|()| enlist(&process, &new, me, is_thread, flags)) {
        discard(&new);
        return Err(error);
    }
    core::mem::forget(descriptor);
    // Who has the memory is counted when the child ends.
    drop(memory);
    if flags & CLONE_CHILD_SETTID != 0 {
        new.attention().store(true, Ordering::SeqCst);
    }
    sched::start(&new);
    if let Some(done) = vfork {
        done.wait();
    }
    Ok(tid as usize)
}

/// A thread that will never run gives back what it holds.
fn discard(new: &sched::ThreadRef) {
    let user = of(new);
    new.set_space(None);
    drop(user.set_memory(None));
    drop(user.set_files(None));
}

/// Puts the thread where others find it, unless its process is ending.
fn enlist(
    process: &Arc<Process>,
    new: &sched::ThreadRef,
    me: &Arc<Process>,
    is_thread: bool,
    flags: u64,
) -> Result<(), Errno> {
    {
        let mut threads = process.threads.lock();
        if threads.ending.is_some() || threads.exec.is_some() {
            return Err(EAGAIN);
        }
        threads.list.try_reserve(1).map_err(|_| ENOMEM)?;
        threads.list.push(new.clone());
    }
    let mut tree = tree::lock();
    if !is_thread {
        let parent = if flags & CLONE_PARENT != 0 { tree.parent(me) } else { Some(me.clone()) };
        if let Some(parent) = parent {
            let children = &mut tree.links(&parent).children;
            if children.try_reserve(1).is_err() {
                drop(tree);
                process.threads.lock().list.clear();
                return Err(ENOMEM);
            }
            children.push(process.clone());
            tree.links(process).parent = Arc::downgrade(&parent);
            process.parent_pid.store(parent.pid, Ordering::Relaxed);
        }
        tree.processes.insert(process.pid, process.clone());
    }
    tree.threads.insert(of(new).tid(), new.clone());
    Ok(())
}

#[inline(never)]
fn new_process(
    pid: u32,
    me: &Arc<Process>,
    request: &Request,
    memory: &Arc<super::Memory>,
) -> Result<Arc<Process>, Errno> {
    let shared = me.actions.lock().clone();
    let actions = if request.flags & CLONE_SIGHAND != 0 {
        shared
    } else if request.flags & CLONE_CLEAR_SIGHAND != 0 {
        signal::actions_for_exec(&shared)?
    } else {
        let copy = arc(Actions::new())?;
        // In place: the table is too large to travel over the stack.
        copy.0.lock().copy_from_slice(&*shared.0.lock());
        copy
    };
    let (pgid, sid) = {
        let mut tree = tree::lock();
        let links = tree.links(me);
        (links.pgid, links.sid)
    };
    let (exe, arguments) = (me.exe.lock().clone(), me.arguments.lock().clone());
    let process = Process::new(pid, Arc::downgrade(me), pgid, sid, actions, exe, arguments)?;
    process.limits.inherit(&me.limits);
    *process.memory.lock() = Some(memory.clone());
    process.oom_adj.store(me.oom_adj.load(Ordering::Relaxed), Ordering::Relaxed);
    process.dumpable.store(me.dumpable.load(Ordering::Relaxed), Ordering::Relaxed);
    let mut tree = tree::lock();
    let by_parent = tree.links(me).exit_signal;
    tree.links(&process).exit_signal = if request.flags & CLONE_PARENT == 0 { request.exit_signal } else { by_parent };
    drop(tree);
    Ok(process)
}
