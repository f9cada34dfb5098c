//! Whom the files of /proc are about.

use super::entry::{ProcEntry, Who};
use super::{FileTable, OpenFile};
use crate::proc::process::{FsContext, Process};
use crate::proc::thread::of;
use crate::proc::tree;
use alloc::sync::Arc;
use quire_base::errno::*;
use quire_sched::ThreadRef;

impl Who {
    /// The process, as one.
    pub fn of(process: &Process) -> Self {
        Who { pid: process.pid, tid: 0, began: process.started }
    }

    /// As a list names it: it has its numbers alone, and nobody is found by it.
    pub fn listed(pid: u32, tid: u32) -> Self {
        Who { pid, tid, began: 0 }
    }

    /// A thread of the process. A leader that is gone stays until the process is waited for.
    pub fn thread_of(self, tid: u32) -> Option<Self> {
        let process = self.process()?;
        if tid == self.pid {
            return Some(Who { tid, ..self });
        }
        let thread = tree::thread(tid).filter(|thread| Arc::ptr_eq(&of(thread).process, &process))?;
        Some(Who { pid: self.pid, tid, began: of(&thread).started })
    }

    /// Whether it is the process as one, or its leader.
    fn is_led(self) -> bool {
        self.tid == 0 || self.tid == self.pid
    }

    /// The process, until it has been waited for; of another thread than the leader while that lives.
    pub fn process(self) -> Option<Arc<Process>> {
        if self.is_led() {
            return tree::process(self.pid).filter(|process| process.started == self.began);
        }
        let thread = tree::thread(self.tid).filter(|thread| of(thread).started == self.began)?;
        Some(of(&thread).process.clone()).filter(|process| process.pid == self.pid)
    }

    /// The process, and the thread that it is about while that lives; none where it is about all.
    pub fn with_thread(self) -> Option<(Arc<Process>, Option<ThreadRef>)> {
        let process = self.process()?;
        let thread = if self.tid == 0 { None } else { tree::thread(self.tid) };
        let thread = thread.filter(|thread| Arc::ptr_eq(&of(thread).process, &process));
        // It may have ended just now.
        if thread.is_none() && !self.is_led() { None } else { Some((process, thread)) }
    }

    /// The thread whose things are shown.
    fn shown(self) -> Option<ThreadRef> {
        let (process, thread) = self.with_thread()?;
        thread.or_else(|| process.leader())
    }

    /// Its descriptors.
    pub fn files(self) -> Result<Arc<FileTable>, Errno> {
        self.shown().and_then(|thread| of(&thread).shown_files()).ok_or(ENOENT)
    }

    /// What one of its descriptors means.
    pub fn file(self, fd: i32) -> Result<Arc<OpenFile>, Errno> {
        self.files()?.get_any(fd).map_err(|_| ENOENT)
    }

    /// Its directory and umask. The first process, which has no thread, has none, but is not gone: `None`.
    pub fn fs(self) -> Result<Option<Arc<FsContext>>, Errno> {
        match self.shown() {
            Some(thread) => Ok(Some(of(&thread).fs.clone())),
            None if self.process().is_some_and(|process| !process.has_lost_leader()) => Ok(None),
            None => Err(ENOENT),
        }
    }
}

impl ProcEntry {
    /// Whether it is still there: whom it is about may be gone, and another one have the number.
    pub fn is_there(&self) -> bool {
        self.who().is_none_or(|who| who.process().is_some())
    }
}
