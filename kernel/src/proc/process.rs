//! The process: what its threads share.

use super::clock::CpuClock;
use super::interval::Timers;
use super::itimer::Places;
use super::limits::Limits;
use super::signal::{Actions, Pending};
use super::{Memory, tree};
use crate::fs::Inode;
use crate::fs::busy::Running;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering};
use quire_base::errno::{ENOMEM, Errno};
use quire_base::lock::Mutex;
use quire_base::usage::Usage;
use quire_sched::{ThreadRef, WaitQueue, timer};

/// What root may do: all that Linux knows.
pub const ALL_CAPABILITIES: u64 = 0x1ff_ffff_ffff;

/// How a process or thread ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// By exit with this status.
    Exited(u8),
    /// By this signal.
    Killed(u8),
}

impl Ended {
    /// The status word that wait4 gives.
    pub fn wait_status(self) -> i32 {
        match self {
            Ended::Exited(code) => (code as i32) << 8,
            Ended::Killed(signal) => signal as i32,
        }
    }
}

/// What a program was started with, as /proc shows it: each string with the zero behind it.
pub struct Arguments {
    /// `/proc/self/cmdline`
    pub args: Vec<u8>,
    /// `/proc/self/environ`
    pub envs: Vec<u8>,
}

/// Working directory and file mode mask; shared by CLONE_FS.
pub struct FsContext {
    /// The working directory, and the path by which it was entered.
    pub cwd: Mutex<(Arc<Inode>, Vec<u8>)>,
    /// The umask.
    pub umask: AtomicU32,
}

impl FsContext {
    /// A context of its own with the same contents.
    pub fn copy(&self) -> Result<Arc<Self>, Errno> {
        let cwd = self.cwd.lock().clone();
        arc(FsContext { cwd: Mutex::new(cwd), umask: AtomicU32::new(self.umask.load(Ordering::Relaxed)) })
    }
}

/// The living threads of a process, and what is to become of them.
pub struct Threads {
    /// Every thread that has been created and has not finished exiting.
    pub list: Vec<ThreadRef>,
    /// Set once: the whole group ends, with this status.
    pub ending: Option<Ended>,
    /// A thread is in execve and waits for the others to end; its tid.
    pub exec: Option<u32>,
    /// What the leader was called, once it is gone.
    pub leader_ended: Option<[u8; 16]>,
}

/// What a process runs.
#[derive(Clone)]
pub struct Exe {
    /// Absolute path, as it was when the program was started.
    pub path: Arc<[u8]>,
    /// The file, until the process has no memory any more.
    pub file: Option<Running>,
}

/// A thread group.
pub struct Process {
    /// The process id.
    pub pid: u32,
    /// Parent, children, groups: under the lock of [`tree`].
    pub family: tree::Family,
    /// Living threads.
    pub threads: Mutex<Threads>,
    /// `threads.ending` or `threads.exec` is set: every thread looks before it returns to user mode.
    pub must_stop: AtomicBool,
    /// Wakes an execve that waits for its siblings to end.
    pub threads_gone: WaitQueue,
    /// Signal actions (shared by CLONE_SIGHAND).
    pub actions: Mutex<Arc<Actions>>,
    /// Signals sent to the process.
    pub pending: Mutex<Pending>,
    /// It has been ending for too long while memory was short (`oom`).
    pub stuck: AtomicBool,
    /// Bits of `pending`, so that threads can look without the lock.
    pub pending_bits: AtomicU64,
    /// Job control: stopped by a stop signal.
    pub stopped: AtomicBool,
    /// How often SIGCONT or SIGKILL has cancelled stop signals. `stopped` and the last job event change under this lock (but at the
    /// process's end); inside it the sets of pending signals and the tree may be locked.
    pub continued: Mutex<u64>,
    /// Wakes stopped threads.
    pub resumed: WaitQueue,
    /// Wakes wait4 and waitid of this process.
    pub child_changed: WaitQueue,
    /// Resource limits.
    pub limits: Limits,
    /// The memory, for others to look at (statistics, the out-of-memory choice); `None` once it is given back.
    pub memory: Mutex<Option<Arc<Memory>>>,
    /// The program.
    pub exe: Mutex<Exe>,
    /// What the program was started with; shared with children until they start another one.
    pub arguments: Mutex<Arc<Arguments>>,
    /// What threads that are gone have used.
    pub gone_usage: Mutex<Usage>,
    /// What waited-for children have used.
    pub child_usage: Mutex<Usage>,
    /// Largest resident set ever seen, in pages.
    pub max_resident: AtomicU64,
    /// The largest among waited-for children and theirs.
    pub child_max_resident: AtomicU64,
    /// The timers of alarm and setitimer.
    pub itimers: Places,
    /// Its processor clocks.
    pub clock: CpuClock,
    /// The timers that it has made.
    pub intervals: Mutex<Timers>,
    /// The parent's id, for getppid; changed under the tree's lock.
    pub parent_pid: AtomicU32,
    /// When it was started.
    pub started: u64,
    /// PR_SET_DUMPABLE.
    pub dumpable: AtomicBool,
    /// The signal that it wants when its parent ends (PR_SET_PDEATHSIG); 0: none.
    pub parent_death: AtomicU8,
    /// It has had locks on ranges of files: they go with it.
    pub has_locks: AtomicBool,
    /// `oom_score_adj`: how willingly it is ended when memory runs out.
    pub oom_adj: AtomicI32,
    /// Whether execve has been called since fork (setpgid refuses then).
    pub did_exec: AtomicBool,
    /// Orphans below this process come to it (PR_SET_CHILD_SUBREAPER).
    pub subreaper: AtomicBool,
}

/// How many processes are stopped now.
static STOPPED: AtomicU32 = AtomicU32::new(0);

/// Whether a process is stopped now. One that is being stopped is seen under the tree's lock.
pub fn is_any_stopped() -> bool {
    STOPPED.load(Ordering::SeqCst) != 0
}

impl Process {
    /// Stops it, or lets it go on; whether it was stopped before.
    pub fn set_stopped(&self, stopped: bool) -> bool {
        let before = self.stopped.swap(stopped, Ordering::SeqCst);
        match (before, stopped) {
            (false, true) => _ = STOPPED.fetch_add(1, Ordering::SeqCst),
            (true, false) => _ = STOPPED.fetch_sub(1, Ordering::SeqCst),
            _ => {}
        }
        before
    }

    /// A process without threads. It is not in the tree yet.
    pub fn new(
        pid: u32,
        parent: Weak<Process>,
        pgid: u32,
        sid: u32,
        actions: Arc<Actions>,
        exe: Exe,
        arguments: Arc<Arguments>,
    ) -> Result<Arc<Self>, Errno> {
        arc(Process {
            pid,
            family: tree::Family::new(parent, pgid, sid),
            threads: Mutex::new(Threads { list: Vec::new(), ending: None, exec: None, leader_ended: None }),
            must_stop: AtomicBool::new(false),
            threads_gone: WaitQueue::new(),
            actions: Mutex::new(actions),
            pending: Mutex::new(Pending::new()),
            stuck: AtomicBool::new(false),
            pending_bits: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            continued: Mutex::new(0),
            resumed: WaitQueue::new(),
            child_changed: WaitQueue::new(),
            limits: Limits::new(),
            memory: Mutex::new(None),
            exe: Mutex::new(exe),
            arguments: Mutex::new(arguments),
            gone_usage: Mutex::new(Usage::default()),
            child_usage: Mutex::new(Usage::default()),
            max_resident: AtomicU64::new(0),
            child_max_resident: AtomicU64::new(0),
            itimers: [const { Mutex::new(None) }; 3],
            clock: CpuClock::new(),
            intervals: Mutex::new(Timers::new()),
            parent_pid: AtomicU32::new(0),
            started: timer::now_ns(),
            dumpable: AtomicBool::new(true),
            parent_death: AtomicU8::new(0),
            has_locks: AtomicBool::new(false),
            oom_adj: AtomicI32::new(0),
            did_exec: AtomicBool::new(false),
            subreaper: AtomicBool::new(false),
        })
    }

    /// The soft limit of a resource.
    #[inline]
    pub fn limit(&self, resource: u32) -> u64 {
        self.limits.soft(resource)
    }

    /// A snapshot of the threads, taken so that they can be poked outside the lock.
    pub fn thread_list(&self) -> Vec<ThreadRef> {
        self.threads.lock().list.clone()
    }

    /// The thread that has the process's number, while it lives: what it has is what /proc shows of the process.
    pub fn leader(&self) -> Option<ThreadRef> {
        self.threads.lock().list.iter().find(|t| super::thread::of(t).tid() == self.pid).cloned()
    }

    /// Whether its leader is gone. The first process has never had one.
    pub fn has_lost_leader(&self) -> bool {
        self.threads.lock().leader_ended.is_some()
    }

    /// How many threads /proc counts: a leader that is gone stays until the process is waited for.
    pub fn thread_count(&self) -> usize {
        let threads = self.threads.lock();
        threads.list.len() + usize::from(threads.leader_ended.is_some())
    }

    /// Its memory as /proc shows it: none once its leader is gone, unless it is asked about another thread.
    pub fn shown_memory(&self, thread: Option<&ThreadRef>) -> Option<Arc<Memory>> {
        let shown = thread.is_some() || self.leader().is_some();
        let memory = self.memory.lock().clone();
        memory.filter(|_| shown)
    }

    /// What all threads have used, past and present.
    pub fn usage(&self) -> Usage {
        let threads = self.threads.lock();
        let mut sum = *self.gone_usage.lock();
        for thread in threads.list.iter() {
            sum += thread.usage();
        }
        sum
    }

    /// Whether it has its parent's memory until execve: a vfork has made it.
    pub fn is_in_vfork(&self) -> bool {
        self.threads.lock().list.iter().any(|thread| super::thread::of(thread).vfork.lock().is_some())
    }

    /// The largest resident set of this process and of those that it has waited for, as wait4 tells it.
    pub fn max_resident_of_all(&self) -> u64 {
        let of_children = self.child_max_resident.load(Ordering::Relaxed);
        self.max_resident.load(Ordering::Relaxed).max(of_children)
    }

    /// Notes the resident set for `ru_maxrss`, and says what else the memory uses.
    pub fn note_resident(&self) -> quire_mm::Usage {
        let memory = self.memory.lock().clone();
        let usage = memory.map(|memory| memory.space.usage()).unwrap_or_default();
        self.max_resident.fetch_max(usage.resident, Ordering::Relaxed);
        usage
    }
}

/// `Arc::new` that reports exhaustion instead of aborting: the memory is tried for first. Not inlined, and in place: what is
/// put into an `Arc` is often large, and kernel stacks are small.
#[inline(never)]
pub fn arc<T>(value: T) -> Result<Arc<T>, Errno> {
    if !crate::mem::heap_has(size_of::<(T, [usize; 2])>()) {
        return Err(ENOMEM);
    }
    let mut place = Arc::<T>::new_uninit();
    if let Some(place) = Arc::get_mut(&mut place) {
        place.write(value);
    }
    // SAFETY: it was just made, so `get_mut` gave it to us and it is written.
    Ok(unsafe { place.assume_init() })
}
