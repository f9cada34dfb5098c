//! What a path names.

use super::dev::Device;
use super::procfs::ProcEntry;
use super::stat::{Stat, kind};
use super::{Regular, pipe};
use crate::debug::lock::Mutex;
use crate::sched::timer;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The entries of a directory.
pub type Entries = BTreeMap<Vec<u8>, Arc<Inode>>;

/// What kind of thing it is.
pub enum Kind {
    /// A directory.
    Dir(Mutex<Entries>),
    /// A file with contents.
    Regular(Arc<Regular>),
    /// A symbolic link.
    Link(Vec<u8>),
    /// A device.
    Device(Device),
    /// Something of /proc, made when it is looked at.
    Proc(ProcEntry),
    /// A named pipe.
    Fifo(Arc<pipe::Pipe>),
}

/// A node of the tree.
pub struct Inode {
    /// Its number.
    pub ino: u64,
    /// Permissions (regular files keep their own).
    pub mode: AtomicU32,
    /// When it was made.
    pub mtime: u64,
    /// What it is.
    pub kind: Kind,
}

static NEXT: AtomicU64 = AtomicU64::new(1);

/// A fresh inode number.
pub fn new_number() -> u64 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Inode {
    /// Makes a node.
    pub fn new(kind: Kind, mode: u32) -> Arc<Self> {
        Arc::new(Inode { ino: new_number(), mode: AtomicU32::new(mode), mtime: timer::realtime_ns(), kind })
    }
    /// An empty directory.
    pub fn directory(mode: u32) -> Arc<Self> {
        Self::new(Kind::Dir(Mutex::new(Entries::new())), mode)
    }
    /// The file, if it is one.
    pub fn regular(&self) -> Option<Arc<Regular>> {
        match &self.kind {
            Kind::Regular(file) => Some(file.clone()),
            _ => None,
        }
    }
    /// Whether it has entries.
    pub fn is_dir(&self) -> bool {
        match &self.kind {
            Kind::Dir(_) => true,
            Kind::Proc(entry) => entry.is_dir(),
            _ => false,
        }
    }
    /// Permissions.
    pub fn mode(&self) -> u32 {
        match &self.kind {
            Kind::Regular(file) => file.mode.load(Ordering::Relaxed),
            _ => self.mode.load(Ordering::Relaxed),
        }
    }
    /// Sets the permissions.
    pub fn set_mode(&self, mode: u32) {
        let mode = mode & 0o7777;
        match &self.kind {
            Kind::Regular(file) => file.mode.store(mode, Ordering::Relaxed),
            _ => self.mode.store(mode, Ordering::Relaxed),
        }
    }
    /// Attributes.
    pub fn stat(&self) -> Stat {
        let plain = |kind: u32, size: u64| Stat {
            ino: self.ino,
            mode: kind | self.mode(),
            nlink: 1,
            size,
            rdev: 0,
            mtime: self.mtime,
        };
        match &self.kind {
            Kind::Regular(file) => file.attributes(),
            Kind::Dir(entries) => {
                let dirs = entries.lock().values().filter(|e| e.is_dir()).count();
                Stat { nlink: 2 + dirs as u32, ..plain(kind::DIR, 0) }
            }
            Kind::Link(target) => plain(kind::LINK, target.len() as u64),
            Kind::Device(device) => Stat { rdev: device.number(), ..plain(device.mode() & kind::MASK, 0) },
            Kind::Proc(entry) => plain(entry.file_type(), 0),
            Kind::Fifo(_) => plain(kind::FIFO, 0),
        }
    }
}
