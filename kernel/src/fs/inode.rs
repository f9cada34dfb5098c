//! What a path names.

use super::dev::Device;
use super::entry::ProcEntry;
use super::stat::{Stat, kind};
use super::{OpenFile, Regular, Times, pipe};
use crate::mem::{heap_has, memory};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use quire_base::errno::Errno;
use quire_base::lock::Mutex;

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
    /// An open file that no path names, as /proc/self/fd leads to it.
    Open(Arc<OpenFile>),
}

/// A node of the tree.
pub struct Inode {
    /// Its number.
    pub ino: u64,
    /// Permissions (regular files keep their own).
    pub mode: AtomicU32,
    times: Times,
    /// What it is.
    pub kind: Kind,
}

static NEXT: AtomicU64 = AtomicU64::new(1);

/// A fresh inode number.
pub fn new_number() -> u64 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Bytes of kernel memory that all nodes take, about.
static WEIGHT: AtomicU64 = AtomicU64::new(0);

impl Kind {
    /// Bytes that a node of this kind takes, with its name and its share of a directory.
    fn weight(&self) -> u64 {
        let target = if let Kind::Link(target) = self { target.len() } else { 0 };
        (size_of::<Inode>() + target + 512) as u64
    }
}

/// Whether there is room for one more. Nodes may take half of what the heap may: who fills the tree can still open and delete.
pub fn has_room() -> bool {
    WEIGHT.load(Ordering::Relaxed) < memory().total_frames() * 4096 / 8 && heap_has(size_of::<Inode>() + 4096)
}

/// Number of the last node that no program has made.
static LAST_OF_BOOT: AtomicU64 = AtomicU64::new(u64::MAX);

/// What is made from now on is made by programs.
pub fn end_of_boot() {
    LAST_OF_BOOT.store(NEXT.load(Ordering::Relaxed), Ordering::Relaxed);
}

impl Inode {
    /// Whether a program has made it. Entries of /proc have numbers of their own, and programs make none.
    pub fn is_of_program(&self) -> bool {
        !matches!(self.kind, Kind::Proc(_)) && self.ino > LAST_OF_BOOT.load(Ordering::Relaxed)
    }
    /// Makes a node.
    pub fn new(kind: Kind, mode: u32) -> Arc<Self> {
        WEIGHT.fetch_add(kind.weight(), Ordering::Relaxed);
        // One number, whether the file is asked by its name, when it is open, or when it is listed.
        let ino = match &kind {
            Kind::Regular(file) => file.number(),
            Kind::Fifo(pipe) => pipe.number(),
            Kind::Proc(entry) => entry.number().unwrap_or_else(new_number),
            _ => new_number(),
        };
        Arc::new(Inode { ino, mode: AtomicU32::new(mode), times: Times::new(), kind })
    }
    /// Its times.
    pub fn times(&self) -> &Times {
        match &self.kind {
            Kind::Regular(file) => &file.times,
            _ => &self.times,
        }
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
    /// Its type in `mode`.
    pub fn file_type(&self) -> u32 {
        match &self.kind {
            Kind::Dir(_) => kind::DIR,
            Kind::Regular(_) => kind::REG,
            Kind::Link(_) => kind::LINK,
            Kind::Device(device) => device.mode() & kind::MASK,
            Kind::Proc(entry) => entry.file_type(),
            Kind::Fifo(_) => kind::FIFO,
            Kind::Open(open) => open.file.stat().mode & kind::MASK,
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
    pub fn set_mode(&self, mode: u32) -> Result<(), Errno> {
        let mode = mode & 0o7777;
        match &self.kind {
            Kind::Regular(file) => file.set_mode(mode)?,
            _ => self.mode.store(mode, Ordering::Relaxed),
        }
        self.times().changed();
        Ok(())
    }
    /// Attributes.
    pub fn stat(&self) -> Stat {
        let plain = |size: u64| Stat {
            ino: self.ino,
            mode: self.file_type() | self.mode(),
            nlink: 1,
            size,
            times: self.times.moments(),
            ..Stat::default()
        };
        match &self.kind {
            Kind::Regular(file) => file.attributes(),
            Kind::Dir(entries) => {
                let dirs = entries.lock().values().filter(|e| e.is_dir()).count();
                Stat { nlink: 2 + dirs as u32, ..plain(0) }
            }
            Kind::Link(target) => plain(target.len() as u64),
            Kind::Device(device) => Stat { rdev: device.number(), ..plain(0) },
            Kind::Proc(_) | Kind::Fifo(_) => plain(0),
            Kind::Open(open) => open.file.stat(),
        }
    }
}

/// A tree of directories goes without recursion: a program chooses its depth, and the kernel's stacks are small.
impl Drop for Inode {
    fn drop(&mut self) {
        WEIGHT.fetch_sub(self.kind.weight(), Ordering::Relaxed);
        let Kind::Dir(entries) = &self.kind else { return };
        let mut todo = alloc::vec![core::mem::take(&mut *entries.lock())];
        while let Some(mut level) = todo.pop() {
            let Some((_, node)) = level.pop_first() else { continue };
            if !level.is_empty() {
                todo.push(level);
            }
            // Whoever else holds the directory keeps what is in it.
            if let Some(node) = Arc::into_inner(node)
                && let Kind::Dir(entries) = &node.kind
            {
                todo.push(core::mem::take(&mut *entries.lock()));
            }
        }
    }
}
