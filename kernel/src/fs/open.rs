//! Open files: a thing that is read and written, its flags, its position.

use super::regular::Regular;
use super::{File, Inode, UserIo, locks};
use crate::proc::process::arc;
use crate::proc::signal::{SIGPIPE, SigInfo, code, send};
use crate::proc::sleep::SleepMutex;
use crate::sched;
use crate::sys::errno::*;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use linux_raw_sys::general as l;

/// What open, pipe and their kind return a descriptor of; dup and fork share it.
pub struct OpenFile {
    /// What it is.
    pub file: Arc<dyn File>,
    /// Access mode and status flags (O_APPEND, O_NONBLOCK ...).
    pub flags: AtomicU32,
    /// Position; held while a read or write at the position runs, as on Linux.
    pub position: SleepMutex<u64>,
    /// Absolute path, or a name such as `pipe:[7]`.
    pub path: Arc<[u8]>,
    /// It has had locks: they go with it.
    pub locked: AtomicBool,
    /// The node, if a path led here.
    pub inode: Option<Arc<Inode>>,
}

/// Flags that stay with the open file.
pub const STATUS: u32 = l::O_ACCMODE
    | l::O_APPEND
    | l::O_NONBLOCK
    | l::O_DSYNC
    | l::O_SYNC
    | l::O_DIRECT
    | l::O_NOATIME
    | l::O_PATH
    | l::O_LARGEFILE
    | l::O_DIRECTORY
    | l::FASYNC;

impl OpenFile {
    /// Opens `file`.
    pub fn new(file: Arc<dyn File>, flags: u32, path: &[u8], inode: Option<Arc<Inode>>) -> Result<Arc<Self>, Errno> {
        arc(OpenFile {
            file,
            flags: AtomicU32::new(flags & STATUS),
            position: SleepMutex::new(0),
            locked: AtomicBool::new(false),
            path: Arc::from(path),
            inode,
        })
    }
    /// Flags now.
    pub fn flags(&self) -> u32 {
        self.flags.load(Ordering::Relaxed)
    }
    /// Whether a call that would have to wait ends with EAGAIN.
    pub fn nonblock(&self) -> bool {
        self.flags() & l::O_NONBLOCK != 0
    }
    fn may(&self, write: bool) -> Result<(), Errno> {
        let flags = self.flags();
        let ok = flags & l::O_PATH == 0
            && match flags & l::O_ACCMODE {
                l::O_RDONLY => !write,
                l::O_WRONLY => write,
                _ => true,
            };
        if ok { Ok(()) } else { Err(EBADF) }
    }
    /// Whether it may be read.
    pub fn readable(&self) -> Result<(), Errno> {
        self.may(false)
    }
    /// Whether it may be written.
    pub fn writable(&self) -> Result<(), Errno> {
        self.may(true)
    }
    fn is_dir(&self) -> bool {
        self.inode.as_ref().is_some_and(|i| i.is_dir())
    }

    /// Reads at the position.
    pub fn read(&self, io: &mut UserIo) -> SysResult {
        self.readable()?;
        if self.is_dir() {
            return Err(EISDIR);
        }
        if !self.file.seekable() {
            return self.file.read(io, 0, self.nonblock());
        }
        let mut position = self.position.lock();
        let n = self.file.read(io, *position, self.nonblock())?;
        *position += n as u64;
        Ok(n)
    }
    /// Reads at `at`, leaving the position alone.
    pub fn read_at(&self, io: &mut UserIo, at: u64) -> SysResult {
        self.readable()?;
        if self.is_dir() {
            return Err(EISDIR);
        }
        if !self.file.seekable() {
            return Err(ESPIPE);
        }
        self.file.read(io, at, self.nonblock())
    }
    /// Writes at the position, or at the end with O_APPEND.
    pub fn write(&self, io: &mut UserIo) -> SysResult {
        self.writable()?;
        if !self.file.seekable() {
            return broken(self.file.write(io, 0, self.nonblock()));
        }
        let mut position = self.position.lock();
        if self.flags() & l::O_APPEND != 0
            && let Some(file) = self.file.as_any().downcast_ref::<Arc<Regular>>()
        {
            let (n, end) = file.append(io)?;
            *position = end;
            return Ok(n);
        }
        let n = self.file.write(io, *position, self.nonblock())?;
        *position += n as u64;
        Ok(n)
    }
    /// Writes at `at`, leaving the position alone.
    pub fn write_at(&self, io: &mut UserIo, at: u64) -> SysResult {
        self.writable()?;
        if !self.file.seekable() {
            return Err(ESPIPE);
        }
        // As on Linux, the end comes before any position.
        if self.flags() & l::O_APPEND != 0
            && let Some(file) = self.file.as_any().downcast_ref::<Arc<Regular>>()
        {
            return file.append(io).map(|(n, _)| n);
        }
        self.file.write(io, at, self.nonblock())
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        if *self.locked.get_mut() {
            locks::forget_open(self);
        }
    }
}

/// A write to a pipe that nobody reads raises SIGPIPE.
pub fn broken(result: SysResult) -> SysResult {
    if result == Err(EPIPE) {
        // A full queue cannot happen for a standard signal.
        let _ = send::to_thread(&sched::current_ref(), SigInfo::from_current(SIGPIPE, code::USER));
    }
    result
}
