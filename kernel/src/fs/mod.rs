//! Files: one tree in memory, filled from the initramfs, and everything else that has a file descriptor.
//!
//! * [`Inode`] is what a path names; [`OpenFile`] is what open made of it; [`FileTable`] maps descriptors to those.
//! * [`File`] is what reads and writes come down to. Its methods may block and touch user memory, so nothing here calls
//!   them with a spin lock held.
//! * The tree is like Linux's rootfs: files from the initramfs are read-only images, whatever programs create is anonymous
//!   memory that goes away with the job.

pub mod busy;
pub mod console;
pub mod dev;
pub mod directory;
mod entry;
pub mod epoll;
pub mod eventfd;
pub mod initramfs;
pub mod inode;
pub mod io;
pub mod locks;
pub mod open;
pub mod pidfd;
pub mod pipe;
pub mod poll;
mod proc_text;
pub mod procfs;
pub mod regular;
pub mod rights;
pub mod signalfd;
pub mod snapshot;
pub mod socket;
pub mod stat;
pub mod table;
pub mod text;
pub mod timerfd;
pub mod times;
pub mod walk;
pub mod who;

pub use inode::{Inode, Kind};
pub use io::{MAX_PARTS, UserIo};
pub use open::{OpenFile, broken};
pub use regular::Regular;
pub use stat::Stat;
pub use table::FileTable;
pub use times::Times;
pub use walk::{base_of, resolve};

use crate::mem::ObjectRef;
use core::any::Any;
use core::fmt;
use linux_raw_sys::general as l;
use quire_base::errno::*;

/// What poll says of files that are never waited for.
const ALWAYS_READY: u32 = l::POLLIN | l::POLLOUT | l::POLLRDNORM | l::POLLWRNORM;

/// What an open file does.
pub trait File: Send + Sync + Any {
    /// Reads from position `at` (streams ignore it). 0 is the end of the file.
    fn read(&self, _io: &mut UserIo, _at: u64, _nonblock: bool) -> SysResult {
        Err(EINVAL)
    }
    /// Writes at position `at` (streams ignore it).
    fn write(&self, _io: &mut UserIo, _at: u64, _nonblock: bool) -> SysResult {
        Err(EINVAL)
    }
    /// What fstat says.
    fn stat(&self) -> Stat;
    /// What poll says: POLLIN and so on. A file that is always ready cannot be in a set of epoll.
    fn poll(&self) -> u32 {
        ALWAYS_READY
    }
    /// Whether it can be waited for.
    fn can_wait(&self) -> bool {
        true
    }
    /// Whether it cannot be read (or written) at all, whatever it was opened for: EINVAL before anything else is looked at.
    fn refuses(&self, _write: bool) -> bool {
        false
    }
    /// How often something came to be read, and room to be written. Edge-triggered polling reports each time, even when
    /// what came before is still there. It counts when what came is there, not before.
    fn edges(&self) -> [u64; 2] {
        [0, 0]
    }
    /// Whether sendfile can write to it: not where it comes down to single calls, on Linux.
    fn takes_copies(&self) -> bool {
        true
    }
    /// Whether it has positions.
    fn seekable(&self) -> bool {
        false
    }
    /// Whether lseek moves nothing and says 0, where Linux does so: descriptors that are no streams and have no contents.
    fn stays(&self) -> bool {
        false
    }
    /// Device controls.
    fn ioctl(&self, _command: u32, _argument: usize) -> SysResult {
        Err(ENOTTY)
    }
    /// Sets the length.
    fn truncate(&self, _len: u64) -> Result<(), Errno> {
        Err(EINVAL)
    }
    /// Bytes that go with the file when nobody has it open; of one that is open several times, the part of one. With `deep`, files that
    /// are on their way through it count, too. Waits for nobody, but lets interrupts in.
    fn held(&self, _deep: bool) -> u64 {
        0
    }
    /// What a mapping of it shows.
    fn object(&self) -> Result<ObjectRef, Errno> {
        Err(ENODEV)
    }
    /// For those few who must know what it is.
    fn as_any(&self) -> &dyn Any;
}

/// Bytes for the log, whatever they are.
pub struct Printable<'a>(pub &'a [u8]);
impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{}", b.escape_ascii()))
    }
}
