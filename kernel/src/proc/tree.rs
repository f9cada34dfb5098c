//! Who is whose child: one lock over parents, children, groups and ids.

use super::exit;
use super::process::{Ended, Process, is_any_stopped};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::ops::Bound;
use core::sync::atomic::Ordering;
use linux_raw_sys::general::SIGSTOP;
use quire_base::errno::{EAGAIN, Errno};
use quire_base::lock::{Mutex, MutexGuard};
use quire_base::usage::Usage;
use quire_sched::{Thread, ThreadRef};

/// Largest id, as Linux's `pid_max` on 64-bit machines.
const PID_MAX: u32 = 4_194_304;
/// Ids below this are not given out again after a wrap, as on Linux.
const RESERVED: u32 = 300;

/// The links of one process; read and written only under the tree's lock, hence through a [`Tree`].
pub struct Family(UnsafeCell<Links>);

// SAFETY: `Links` is reached only through `Tree::links`, which needs the guard of the one lock.
unsafe impl Sync for Family {}
// SAFETY: the links are `Send`.
unsafe impl Send for Family {}

/// The contents of a [`Family`].
pub struct Links {
    /// Who waits for this process.
    pub parent: Weak<Process>,
    /// Living and dead children that were not waited for.
    pub children: Vec<Arc<Process>>,
    /// Process group.
    pub pgid: u32,
    /// Session.
    pub sid: u32,
    /// Set when the last thread is gone.
    pub ended: Option<Ended>,
    /// Signals that tell of its end, to its parent and to heirs, and are not sent yet. Whoever reaps it waits for them: who has reaped a
    /// child has its signal.
    pub telling: u32,
    /// The signal that tells the parent (0: none), from clone.
    pub exit_signal: u8,
    /// What it has used at the end, with its waited-for children.
    pub usage: Usage,
    /// The last stop or continue that was not waited for yet.
    pub job_event: Option<JobEvent>,
}

/// A change that WUNTRACED and WCONTINUED report.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum JobEvent {
    /// Stopped by this signal.
    Stopped(u8),
    /// Running again.
    Continued,
}

impl Family {
    /// Links of a new process.
    pub fn new(parent: Weak<Process>, pgid: u32, sid: u32) -> Self {
        Family(UnsafeCell::new(Links {
            parent,
            children: Vec::new(),
            pgid,
            sid,
            ended: None,
            telling: 0,
            exit_signal: linux_raw_sys::general::SIGCHLD as u8,
            usage: Usage::default(),
            job_event: None,
        }))
    }
}

/// Every process and thread by its id.
pub struct Tree {
    next: u32,
    /// Processes, zombies too.
    pub processes: BTreeMap<u32, Arc<Process>>,
    /// Threads that have not exited.
    pub threads: BTreeMap<u32, ThreadRef>,
    reserved: BTreeMap<u32, ()>,
}

/// What is known of a group that may be orphaned.
#[derive(Default)]
pub struct Suspect {
    tied: bool,
    stopped: bool,
}

/// Groups that may be orphaned.
pub type Suspects = BTreeMap<u32, Suspect>;

static TREE: Mutex<Tree> =
    Mutex::new(Tree { next: 2, processes: BTreeMap::new(), threads: BTreeMap::new(), reserved: BTreeMap::new() });

/// Takes the tree's lock.
pub fn lock() -> MutexGuard<'static, Tree> {
    TREE.lock()
}

impl Tree {
    /// The links of `process`. The borrow of the tree keeps the lock held and the links alone.
    #[allow(clippy::mut_from_ref, reason = "the tree's exclusive borrow is what makes the links exclusive")]
    pub fn links<'a>(&'a mut self, process: &'a Process) -> &'a mut Links {
        // SAFETY: `self` proves that the lock is held, and its exclusive borrow that no other links are borrowed.
        unsafe { &mut *process.family.0.get() }
    }

    /// The parent, while it lives.
    pub fn parent(&mut self, process: &Process) -> Option<Arc<Process>> {
        self.links(process).parent.upgrade()
    }

    /// Whether a process with parent `above` is what keeps its group from being orphaned: somebody of the session who is not of the group
    /// can continue it.
    fn ties(&mut self, process: &Process, above: &Process) -> bool {
        let (group, session) = (self.links(process).pgid, self.links(process).sid);
        let above = self.links(above);
        above.pgid != group && above.sid == session
    }

    /// Whether the parent of `process` keeps its group from being orphaned. Whoever runs the job stands for its shell.
    fn is_tied(&mut self, process: &Process) -> bool {
        let above = self.parent(process);
        let runs_job = above.as_ref().is_some_and(|above| above.pid == 1) && exit::is_job(process.pid);
        runs_job || above.is_some_and(|above| above.pid != 1 && self.ties(process, &above))
    }

    /// Whether nobody is left in the session, outside the group, whose child is in it: whoever stopped there would never go on.
    pub fn is_orphaned(&mut self, group: u32) -> bool {
        !self.any_living(|tree, process| tree.links(process).pgid == group && tree.is_tied(process))
    }

    /// `process` stops, unless nobody could continue it. Returns whether it does.
    pub fn stop(&mut self, process: &Process, signal: u8) -> bool {
        let group = self.links(process).pgid;
        if u32::from(signal) != SIGSTOP && self.is_orphaned(group) {
            return false;
        }
        process.set_stopped(true);
        true
    }

    /// `above`, the parent of `process` until now, may have been the last that kept its group from being orphaned.
    pub fn suspect(&mut self, process: &Process, above: &Process, suspects: &mut Suspects) {
        // Hardly ever is somebody stopped, who would have to be told.
        if is_any_stopped() && above.pid != 1 && self.ties(process, above) {
            suspects.entry(self.links(process).pgid).or_default();
        }
    }

    /// Leaves those groups that are orphaned now, and in which somebody is stopped: they are to be told (SIGHUP, SIGCONT). One look at
    /// each process, however many groups there are.
    pub fn keep_orphaned(&mut self, suspects: &mut Suspects) {
        if suspects.is_empty() {
            return;
        }
        self.any_living(|tree, process| {
            let group = tree.links(process).pgid;
            if let Some(suspect) = suspects.get_mut(&group) {
                suspect.tied = suspect.tied || tree.is_tied(process);
                suspect.stopped |= process.stopped.load(Ordering::SeqCst);
            }
            false
        });
        suspects.retain(|_, suspect| suspect.stopped && !suspect.tied);
    }

    /// Whether a living process is in the group.
    pub fn has_group(&mut self, group: u32) -> bool {
        self.any_living(|tree, process| tree.links(process).pgid == group)
    }

    /// Whether a living process satisfies `test`. Takes no memory: processes that end ask.
    fn any_living(&mut self, mut test: impl FnMut(&mut Tree, &Process) -> bool) -> bool {
        let mut after = Bound::Unbounded;
        while let Some((&pid, process)) = self.processes.range((after, Bound::Unbounded)).next() {
            let process = process.clone();
            if self.links(&process).ended.is_none() && test(self, &process) {
                return true;
            }
            after = Bound::Excluded(pid);
        }
        false
    }

    /// Reserves an id that no process, thread, group or session uses.
    pub fn new_id(&mut self) -> Result<u32, Errno> {
        for _ in 0..PID_MAX {
            let id = self.next;
            self.next = if id + 1 >= PID_MAX { RESERVED } else { id + 1 };
            if !self.processes.contains_key(&id) && !self.threads.contains_key(&id) && !self.reserved.contains_key(&id)
            {
                self.reserved.insert(id, ());
                return Ok(id);
            }
        }
        Err(EAGAIN)
    }

    /// Gives a reserved id back: its thread or process is now listed, or was never made.
    pub fn settle_id(&mut self, id: u32) {
        self.reserved.remove(&id);
    }
}

/// The process with this id, zombie or not.
pub fn process(pid: u32) -> Option<Arc<Process>> {
    lock().processes.get(&pid).cloned()
}

/// How far a process's life has come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It has a thread.
    Living,
    /// Its last thread is gone.
    Ended,
    /// It has been waited for: its id may be another's.
    Gone,
}

/// How far the process has come.
pub fn state(process: &Arc<Process>) -> State {
    let mut tree = lock();
    if tree.links(process).ended.is_none() {
        return State::Living;
    }
    let known = tree.processes.get(&process.pid).is_some_and(|p| Arc::ptr_eq(p, process));
    if known { State::Ended } else { State::Gone }
}

/// The process with this id, or that of the living thread with this id: as on Linux, where calls take either.
pub fn process_of(id: u32) -> Option<Arc<Process>> {
    let tree = lock();
    let of_thread = || tree.threads.get(&id).map(|t| super::thread::of(t).process.clone());
    tree.processes.get(&id).cloned().or_else(of_thread)
}

/// The living thread with this id.
pub fn thread(tid: u32) -> Option<ThreadRef> {
    lock().threads.get(&tid).cloned()
}

/// Calls `f` with every living thread of a program. False: the tree is locked. For reports, which must not wait.
pub fn each_thread(f: impl FnMut(&Thread)) -> bool {
    TREE.try_lock().is_some_and(|tree| {
        tree.threads.values().map(|t| &**t).for_each(f);
        true
    })
}

/// The parent's id (0 for the first process).
#[inline]
pub fn parent_pid(process: &Process) -> u32 {
    // ordering: Relaxed; it may change at any moment anyway.
    process.parent_pid.load(Ordering::Relaxed)
}

/// Every process that satisfies `choose`, living ones only.
pub fn living(mut choose: impl FnMut(&Process, &Links) -> bool) -> Vec<Arc<Process>> {
    let mut tree = lock();
    let all: Vec<_> = tree.processes.values().cloned().collect();
    all.into_iter()
        .filter(|p| {
            let links = tree.links(p);
            links.ended.is_none() && choose(p, links)
        })
        .collect()
}

/// The process group of a process.
pub fn group_of(process: &Process) -> u32 {
    lock().links(process).pgid
}
