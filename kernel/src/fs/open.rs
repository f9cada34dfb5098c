//! Open files: a thing that is read and written, its flags, its position.

use super::busy::Writing;
use super::directory::Directory;
use super::regular::Regular;
use super::walk::shown_path;
use super::{File, Inode, Kind, Stat, Times, UserIo, locks};
use crate::proc::process::arc;
use crate::proc::signal::{SIGPIPE, SigInfo, code, send};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use linux_raw_sys::general as l;
use quire_base::errno::*;
use quire_sched as sched;
use quire_sched::SleepMutex;

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
    /// Of a file with contents that may be written here: no program is made of it.
    _writing: Option<Writing>,
}

/// Bytes of an open file with nothing in it, what it is included.
const OPEN: u64 = size_of::<OpenFile>() as u64 + 256;

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
    | l::O_NOFOLLOW
    | l::__O_TMPFILE
    | l::FASYNC;

impl OpenFile {
    /// Opens `file`. ETXTBSY: it is to be written, and is some program's.
    pub fn new(file: Arc<dyn File>, flags: u32, path: &[u8], inode: Option<Arc<Inode>>) -> Result<Arc<Self>, Errno> {
        let writes = flags & l::O_PATH == 0 && matches!(flags & l::O_ACCMODE, l::O_WRONLY | l::O_RDWR);
        let regular = file.as_any().downcast_ref().filter(|_| writes);
        let writing = regular.map(Writing::new).transpose()?;
        Self::make(file, flags, path, inode, writing)
    }

    /// The descriptor of a new memfd, which may be run although this one may write it, as on Linux.
    pub fn of_memfd(file: Arc<dyn File>, path: &[u8]) -> Result<Arc<Self>, Errno> {
        Self::make(file, l::O_RDWR | l::O_LARGEFILE, path, None, None)
    }

    fn make(
        file: Arc<dyn File>,
        flags: u32,
        path: &[u8],
        inode: Option<Arc<Inode>>,
        writing: Option<Writing>,
    ) -> Result<Arc<Self>, Errno> {
        let open = arc(OpenFile {
            file,
            flags: AtomicU32::new(flags & STATUS),
            position: SleepMutex::new(0),
            locked: AtomicBool::new(false),
            path: Arc::from(path),
            inode,
            _writing: writing,
        })?;
        open.regular().inspect(|file| file.opened(true));
        Ok(open)
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
                l::O_RDWR => true,
                // Linux's fourth mode is for controls only.
                _ => false,
            };
        if ok { Ok(()) } else { Err(EBADF) }
    }
    /// Bytes that go with it; see [`File::held`].
    pub fn held(&self, deep: bool) -> u64 {
        OPEN + self.file.held(deep)
    }

    /// Whether it may be read.
    pub fn readable(&self) -> Result<(), Errno> {
        self.may(false)
    }
    /// Whether it may be written.
    pub fn writable(&self) -> Result<(), Errno> {
        self.may(true)
    }
    /// What fstat says: what its path says, if one led here.
    pub fn stat(&self) -> Stat {
        self.inode.as_ref().map_or_else(|| self.file.stat(), |inode| inode.stat())
    }
    /// The file with contents, if it is one.
    pub fn regular(&self) -> Option<&Arc<Regular>> {
        self.file.as_any().downcast_ref()
    }
    /// The node that it is, as a link of /proc leads to it, and as an empty path means it.
    pub fn node(self: &Arc<Self>) -> Arc<Inode> {
        match (&self.inode, self.regular(), self.file.as_any().downcast_ref::<Directory>()) {
            (Some(inode), ..) => inode.clone(),
            // A file without a name can be opened again, and be given one.
            (None, Some(regular), _) => Inode::new(Kind::Regular(regular.clone()), 0),
            // One that only names another file is that one: however often it is opened in this way, nothing gets deeper.
            (None, _, Some(names)) => names.inode().clone(),
            _ => Inode::new(Kind::Open(self.clone()), 0),
        }
    }
    /// Its path as /proc shows it.
    pub fn shown_path(&self) -> Result<Vec<u8>, Errno> {
        self.inode.as_ref().map_or_else(|| Ok(self.path.to_vec()), |inode| shown_path(inode, &self.path))
    }
    fn is_dir(&self) -> bool {
        self.inode.as_ref().is_some_and(|i| i.is_dir())
    }
    /// Its times, if somebody may ask for them later.
    pub fn times(&self) -> Option<&Times> {
        let inode = self.inode.as_ref().map(|inode| inode.times());
        inode.or_else(|| self.regular().map(|file| &file.times))
    }
    /// The contents were looked at.
    pub fn accessed(&self) {
        if self.flags() & l::O_NOATIME == 0
            && let Some(times) = self.times()
        {
            times.accessed();
        }
    }

    /// Whether it can be read (or written) as it was opened; looked at before anything else.
    pub fn begin(&self, write: bool) -> Result<(), Errno> {
        self.may(write)?;
        if self.file.refuses(write) { Err(EINVAL) } else { Ok(()) }
    }

    /// Reads at the position.
    pub fn read(&self, io: &mut UserIo) -> SysResult {
        self.read_now(io, self.nonblock())
    }
    /// Reads at the position, and waits if it must or not.
    pub fn read_now(&self, io: &mut UserIo, nonblock: bool) -> SysResult {
        self.begin(false)?;
        if self.is_dir() {
            return Err(EISDIR);
        }
        if !self.file.seekable() {
            let done = self.file.read(io, 0, nonblock)?;
            self.moved(done, false);
            return Ok(done);
        }
        let mut position = self.position.lock();
        verify(*position, io)?;
        let n = self.file.read(io, *position, nonblock)?;
        *position += n as u64;
        self.accessed();
        Ok(n)
    }
    /// Reads at `at`, leaving the position alone.
    pub fn read_at(&self, io: &mut UserIo, at: u64) -> SysResult {
        if !self.file.seekable() {
            return Err(ESPIPE);
        }
        self.begin(false)?;
        verify(at, io)?;
        if self.is_dir() {
            return Err(EISDIR);
        }
        let n = self.file.read(io, at, self.nonblock())?;
        self.accessed();
        Ok(n)
    }
    /// Writes at the position, or at the end with O_APPEND.
    pub fn write(&self, io: &mut UserIo) -> SysResult {
        self.write_now(io, self.nonblock(), self.appends())
    }
    /// Whether writes go to the end.
    pub fn appends(&self) -> bool {
        self.flags() & l::O_APPEND != 0
    }
    /// Writes at the position or at the end, and waits if it must or not.
    pub fn write_now(&self, io: &mut UserIo, nonblock: bool, append: bool) -> SysResult {
        self.begin(true)?;
        if !self.file.seekable() {
            let done = broken(self.file.write(io, 0, nonblock))?;
            self.moved(done, true);
            return Ok(done);
        }
        let mut position = self.position.lock();
        verify(*position, io)?;
        if append && let Some(file) = self.regular() {
            let (n, end) = file.append(io)?;
            *position = end;
            return Ok(n);
        }
        let n = self.file.write(io, *position, nonblock)?;
        *position += n as u64;
        Ok(n)
    }
    /// Writes at `at`, or at the end, leaving the position alone.
    pub fn write_at(&self, io: &mut UserIo, at: u64, append: bool) -> SysResult {
        if !self.file.seekable() {
            return Err(ESPIPE);
        }
        self.begin(true)?;
        verify(at, io)?;
        if append && let Some(file) = self.regular() {
            return file.append(io).map(|(n, _)| n);
        }
        self.file.write(io, at, self.nonblock())
    }

    /// Bytes went through a named pipe: its times move.
    fn moved(&self, done: usize, write: bool) {
        let Some(inode) = &self.inode else { return };
        if done > 0 && matches!(inode.kind, Kind::Fifo(_)) {
            if write { inode.times().modified() } else { self.accessed() }
        }
    }
}

/// Positions end where Linux's numbers do.
fn verify(at: u64, io: &UserIo) -> Result<(), Errno> {
    if at + io.left() as u64 > i64::MAX as u64 { Err(EINVAL) } else { Ok(()) }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.regular().inspect(|file| file.opened(false));
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
