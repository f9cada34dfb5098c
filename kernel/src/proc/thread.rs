//! What a user thread owns beside its registers.

use super::clock::CpuClock;
use super::process::{FsContext, Process};
use super::signal::{self, Pending, ThreadSignals};
use super::{Memory, futex};
use crate::fs::FileTable;
use crate::mem::heap_has;
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use quire_base::errno::{ENOMEM, Errno};
use quire_base::lock::Mutex;
use quire_sched::{self as sched, Part, Thread};

/// A value that only the thread it belongs to reads or writes (or whoever builds the thread, before it starts).
///
/// That rule replaces a lock: the kernel is not preempted in the middle of an access, and no other CPU looks.
pub struct Own<T>(UnsafeCell<T>);

// SAFETY: by the rule above no two threads ever access the value at once.
unsafe impl<T: Send> Sync for Own<T> {}

impl<T> Own<T> {
    /// Wraps the first value.
    pub const fn new(value: T) -> Self {
        Own(UnsafeCell::new(value))
    }
    /// The value. Only the owning thread calls this; the reference must not live across a [`Own::set`].
    #[inline]
    pub fn get(&self) -> &T {
        // SAFETY: only the owning thread gets here, and it does not replace the value while it holds the reference.
        unsafe { &*self.0.get() }
    }
    /// Replaces the value and returns the old one. Only the owning thread calls this.
    pub fn set(&self, value: T) -> T {
        // SAFETY: only the owning thread gets here and it holds no reference from `get` at this moment.
        unsafe { core::mem::replace(&mut *self.0.get(), value) }
    }
    /// A copy of the value.
    #[inline]
    pub fn copy(&self) -> T
    where
        T: Copy,
    {
        *self.get()
    }
}

/// What prctl and personality set for a thread and only tells again: nothing here depends on it.
#[derive(Clone, Copy)]
pub struct Settings {
    /// PR_SET_TIMERSLACK, and what its 0 means: that of the thread which has made this one.
    pub slack: [u64; 2],
    /// PR_SET_KEEPCAPS
    pub keep_caps: bool,
    /// PR_SET_NO_NEW_PRIVS
    pub no_new_privs: bool,
    /// What `personality` sets.
    pub personality: u32,
}

impl Settings {
    /// Those of the first thread.
    pub const fn new() -> Self {
        Settings { slack: [50_000; 2], keep_caps: false, no_new_privs: false, personality: 0 }
    }
    /// Those of a thread that one with these makes.
    pub fn of_child(&self) -> Self {
        Settings { slack: [self.slack[0]; 2], ..*self }
    }
}

/// The part of a [`Thread`] that belongs to this layer.
pub struct UserThread {
    /// The thread group.
    pub process: Arc<Process>,
    tid: AtomicU32,
    /// The address space with its brk; `None` once the thread is on its way out.
    memory: Own<Option<Arc<Memory>>>,
    files: Own<Option<Arc<FileTable>>>,
    /// The same, for others to look at.
    shown: Mutex<Weak<FileTable>>,
    /// Working directory and umask.
    pub fs: Arc<FsContext>,
    /// Its processor clocks.
    pub clock: CpuClock,
    /// When it was started.
    pub started: u64,
    /// Signals sent to this thread alone.
    pub pending: Mutex<Pending>,
    /// Blocked signals; written only by the thread itself, read by senders.
    pub blocked: AtomicU64,
    /// Signals that the thread waits for in sigtimedwait, blocked or not; written only by the thread itself.
    pub awaited: AtomicU64,
    /// What signal delivery keeps for the thread itself.
    pub signals: ThreadSignals,
    /// The trap that the next signal frame reports.
    pub trap: signal::frame::TrapCell,
    /// Address to clear and wake when the thread ends (0: none).
    pub clear_child_tid: AtomicU64,
    /// Address where the new thread stores its id before it begins (0: none).
    pub set_child_tid: AtomicU64,
    /// Head of the robust futex list (0: none).
    pub robust_list: AtomicU64,
    /// The name that prctl and /proc show.
    pub name: Mutex<[u8; 16]>,
    /// Where this thread waits, if it waits on a futex.
    pub futex: futex::Waiting,
    /// The policy of scheduling: see `sys::policy`.
    pub policy: AtomicU64,
    /// What prctl sets.
    pub settings: Mutex<Settings>,
    /// Set once the thread is past the point of no return.
    pub exiting: AtomicBool,
    /// A vfork parent waits for this child to leave its memory.
    pub vfork: Mutex<Option<Arc<super::clone::VforkDone>>>,
}

impl UserThread {
    /// The parts of a new thread; everything else starts empty.
    pub fn new(
        tid: u32,
        process: Arc<Process>,
        memory: Arc<Memory>,
        files: Arc<FileTable>,
        fs: Arc<FsContext>,
        blocked: u64,
        name: [u8; 16],
    ) -> Self {
        UserThread {
            process,
            tid: AtomicU32::new(tid),
            memory: Own::new(Some(memory)),
            shown: Mutex::new(Arc::downgrade(&files)),
            files: Own::new(Some(files)),
            fs,
            clock: CpuClock::new(),
            started: quire_sched::timer::now_ns(),
            pending: Mutex::new(Pending::new()),
            blocked: AtomicU64::new(blocked),
            awaited: AtomicU64::new(0),
            signals: ThreadSignals::new(),
            trap: Own::new(None),
            clear_child_tid: AtomicU64::new(0),
            set_child_tid: AtomicU64::new(0),
            robust_list: AtomicU64::new(0),
            name: Mutex::new(name),
            futex: futex::Waiting::new(),
            policy: AtomicU64::new(0),
            settings: Mutex::new(Settings::new()),
            exiting: AtomicBool::new(false),
            vfork: Mutex::new(None),
        }
    }

    /// In a place of its own, for the thread to keep.
    pub fn boxed(self) -> Result<Box<Self>, Errno> {
        if heap_has(size_of::<Self>()) { Ok(Box::new(self)) } else { Err(ENOMEM) }
    }

    /// The thread's id. It changes when a thread that does not lead its group calls execve.
    pub fn tid(&self) -> u32 {
        self.tid.load(Ordering::Relaxed)
    }
    /// Gives the thread another id (execve).
    pub fn set_tid(&self, tid: u32) {
        self.tid.store(tid, Ordering::Relaxed);
    }
    /// The thread's memory. Only the thread itself asks, and not after it began to exit.
    #[inline]
    pub fn memory(&self) -> &Arc<Memory> {
        match self.memory.get() {
            Some(memory) => memory,
            None => unreachable!("a thread that has given its memory back runs no system call"),
        }
    }
    /// Replaces the memory (execve, exit).
    pub fn set_memory(&self, memory: Option<Arc<Memory>>) -> Option<Arc<Memory>> {
        self.memory.set(memory)
    }
    /// Whether the thread still has memory to touch.
    pub fn has_memory(&self) -> bool {
        self.memory.get().is_some()
    }
    /// The thread's file table. Only the thread itself asks, and not after it began to exit.
    #[inline]
    pub fn files(&self) -> &Arc<FileTable> {
        match self.files.get() {
            Some(files) => files,
            None => unreachable!("a thread that has given its files back runs no system call"),
        }
    }
    /// Replaces the file table (execve, unshare, exit).
    pub fn set_files(&self, files: Option<Arc<FileTable>>) -> Option<Arc<FileTable>> {
        let shown = files.as_ref().map_or(Weak::new(), Arc::downgrade);
        let before = core::mem::replace(&mut *self.shown.lock(), shown);
        drop(before);
        self.files.set(files)
    }
    /// The thread's file table, for others to look at; `None` once it is on its way out.
    pub fn shown_files(&self) -> Option<Arc<FileTable>> {
        let shown = self.shown.lock().clone();
        shown.upgrade()
    }
}

// SAFETY: no other type implements it.
unsafe impl Part for UserThread {}

/// A thread's user part, if it has one.
#[inline]
pub fn part(thread: &Thread) -> Option<&UserThread> {
    thread.part()
}

/// The current thread's user part. Called only on behalf of a user thread.
#[inline]
pub fn user() -> &'static UserThread {
    match part(sched::current()) {
        Some(user) => user,
        None => unreachable!("a kernel thread makes no system call"),
    }
}

/// The current process.
#[inline]
pub fn current() -> &'static Arc<Process> {
    &user().process
}

/// The user part of a thread that is known to be a user thread.
#[inline]
pub fn of(thread: &Thread) -> &UserThread {
    match part(thread) {
        Some(user) => user,
        None => unreachable!("only user threads are listed in a process"),
    }
}
