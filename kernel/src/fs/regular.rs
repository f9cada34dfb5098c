//! Regular files: a read-only image, or an object that grows. memfd and tmpfs files are the second kind.

use super::busy::Busy;
use super::io::short;
use super::stat::kind;
use super::{File, Stat, Times, UserIo, inode, walk};
use crate::mem::{ObjectRef, Quota, memory};
use crate::proc::charge::{self, Found};
use crate::proc::limits;
use crate::proc::process::arc;
use crate::proc::vm;
use crate::swap::above::See;
use crate::swap::area::open_pages;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use linux_raw_sys::general as l;
use quire_base::errno::*;
use quire_base::lock::Mutex;
use quire_sched::SleepMutex;

/// Largest file: what an object's table tree can hold.
pub const MAX_LEN: u64 = 512 << 30;

/// Pages of what stays when those have ended who made it: the tree's files, and System V's segments. Nobody gives them back by being
/// killed, so there is a limit to them.
pub static TREE: Quota = Quota::new();

/// As Linux's tmpfs, half of the memory; what goes to the swap area takes none of it, so half of that, too.
fn tree() -> Option<&'static Quota> {
    TREE.limit((memory().total_frames() + open_pages()) / 2);
    Some(&TREE)
}

/// References to a file's object while it is cut: the file's and the caller's. The others are mappings.
const HOLDERS: u64 = 2;

/// The objects of files in memory, by inode number. A leaf lock.
static WRITTEN: Mutex<BTreeMap<u64, Weak<SleepMutex<Option<ObjectRef>>>>> = Mutex::new(BTreeMap::new());

/// The files that programs have mapped, by their objects' identity. A leaf lock.
static MAPPED: Mutex<BTreeMap<u64, Weak<Regular>>> = Mutex::new(BTreeMap::new());

/// The path of the file that an object belongs to, for /proc.
pub fn path_of(object: &ObjectRef) -> Option<Vec<u8>> {
    let file = MAPPED.lock().get(&object.id())?.upgrade()?;
    let path = file.path.lock().clone()?;
    Some(if file.is_nameless() { walk::deleted(&path) } else { path.to_vec() })
}

/// Makes the bytes `from .. to` of what a mapping shows zeros, and gives their pages back: of a file, or of shared memory without
/// one.
pub fn punch_mapped(object: &ObjectRef, from: u64, to: u64) -> Result<(), Errno> {
    let file = MAPPED.lock().get(&object.id()).and_then(Weak::upgrade);
    match file {
        Some(file) => file.punch(from, to),
        None => vm::punch_object(object, from, to, 0),
    }
}

/// A file with contents.
pub struct Regular {
    ino: u64,
    /// Permissions.
    pub mode: AtomicU32,
    /// Links in the tree.
    pub links: AtomicU32,
    /// It has no name and may get its first one (O_TMPFILE without O_EXCL).
    linkable: AtomicBool,
    /// It was never in the tree (memfd).
    nameless: bool,
    /// Its times.
    pub times: Times,
    /// Contents that never change.
    image: Option<&'static [u8]>,
    /// The pages; an image has them once somebody maps it.
    object: Arc<SleepMutex<Option<ObjectRef>>>,
    /// Held by writes and truncation, so that appends do not meet.
    writing: SleepMutex<()>,
    /// The path by which it was mapped last.
    path: Mutex<Option<Arc<[u8]>>>,
    /// How often it is open.
    opens: AtomicU32,
    /// Whether it may be written, or run.
    pub busy: Busy,
    /// Its pages that somebody has beside it, as [`File::held`] has found.
    in_use: Found,
    /// F_ADD_SEALS of a memfd; changed by who holds `writing`.
    seals: AtomicU32,
}

/// What forbids writing.
const NO_WRITING: u32 = l::F_SEAL_WRITE | l::F_SEAL_FUTURE_WRITE;

impl Regular {
    /// A file of the initramfs.
    pub fn image(bytes: &'static [u8], mode: u32, mtime: u64) -> Self {
        Regular {
            ino: inode::new_number(),
            mode: AtomicU32::new(mode & 0o7777),
            links: AtomicU32::new(1),
            linkable: AtomicBool::new(false),
            nameless: false,
            times: Times::at(mtime as i64 * 1_000_000_000),
            image: Some(bytes),
            object: Arc::new(SleepMutex::new(None)),
            writing: SleepMutex::new(()),
            path: Mutex::new(None),
            opens: AtomicU32::new(0),
            busy: Busy::new(),
            in_use: Found::new(),
            seals: AtomicU32::new(l::F_SEAL_SEAL),
        }
    }

    /// An empty file of the tree, charged to it.
    pub fn empty(mode: u32) -> Result<Self, Errno> {
        Self::new(mode, (0, MAX_LEN), tree())
    }

    /// An empty file outside the tree (memfd), as large as memory allows.
    pub fn memfd() -> Result<Self, Errno> {
        Self::new(0o777, (0, MAX_LEN), None)
    }

    /// A segment of System V's, which keeps its length: no limit of the program's concerns it. It is charged to the tree.
    pub fn segment(len: u64) -> Result<Self, Errno> {
        Self::new(0o777, (len, len), tree())
    }

    fn new(mode: u32, (len, most): (u64, u64), quota: Option<&'static Quota>) -> Result<Self, Errno> {
        let ino = inode::new_number();
        let object = arc(SleepMutex::new(Some(vm::new_object_within(len, most, &[], quota)?)))?;
        WRITTEN.lock().insert(ino, Arc::downgrade(&object));
        Ok(Regular {
            ino,
            mode: AtomicU32::new(mode & 0o7777),
            links: AtomicU32::new(1),
            linkable: AtomicBool::new(false),
            nameless: quota.is_none(),
            times: Times::new(),
            image: None,
            object,
            writing: SleepMutex::new(()),
            path: Mutex::new(None),
            opens: AtomicU32::new(0),
            busy: Busy::new(),
            in_use: Found::new(),
            seals: AtomicU32::new(l::F_SEAL_SEAL),
        })
    }

    /// Makes a new file of no tree one that can be sealed, and its permissions final if it is no program.
    pub fn allow_seals(&self, no_program: bool) {
        if no_program {
            self.mode.store(self.mode.load(Ordering::Relaxed) & !0o111, Ordering::Relaxed);
        }
        self.seals.store(if no_program { l::F_SEAL_EXEC } else { 0 }, Ordering::Relaxed);
    }

    /// Makes a new file of the tree one without a name.
    pub fn unname(&self, linkable: bool) {
        self.links.store(0, Ordering::Relaxed);
        self.linkable.store(linkable, Ordering::Relaxed);
    }

    /// Counts a name that is about to be made, and says whether it is the first of a file that had none. ENOENT: it has none any
    /// more, or must not get one.
    pub fn add_link(&self) -> Result<bool, Errno> {
        // ordering: Relaxed; the count alone decides, and each first name is taken once.
        let counted = self.links.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n > 0).then_some(n + 1));
        if counted.is_ok() {
            return Ok(false);
        }
        if !self.linkable.swap(false, Ordering::Relaxed) {
            return Err(ENOENT);
        }
        self.links.fetch_add(1, Ordering::Relaxed);
        Ok(true)
    }

    /// The name was not made after all.
    pub fn drop_link(&self, was_first: bool) {
        self.links.fetch_sub(1, Ordering::Relaxed);
        self.linkable.store(was_first, Ordering::Relaxed);
    }

    /// Whether it has no name, not any more or not yet.
    pub fn is_nameless(&self) -> bool {
        self.links.load(Ordering::Relaxed) == 0
    }

    /// The seals.
    pub fn seals(&self) -> u32 {
        self.seals.load(Ordering::Relaxed)
    }

    /// Whether no new mapping may write it. It is decided when one comes: see [`Regular::add_seals`].
    pub fn is_sealed(&self) -> bool {
        self.seals() & NO_WRITING != 0
    }

    /// Adds seals, for ever. Writes and changes of the length that are under way end before, and find the seals afterwards; EBUSY as
    /// long as a shared mapping may write what is to be sealed.
    pub fn add_seals(&self, mut new: u32) -> Result<(), Errno> {
        let _writing = self.writing.lock();
        let old = self.seals();
        if old & l::F_SEAL_SEAL != 0 {
            return Err(EPERM);
        }
        // Whoever seals a program as one seals its contents, too.
        if new & l::F_SEAL_EXEC != 0 && self.mode.load(Ordering::Relaxed) & 0o111 != 0 {
            new |= l::F_SEAL_SHRINK | l::F_SEAL_GROW | NO_WRITING;
        }
        if new & !old & l::F_SEAL_WRITE != 0 && !vm::close_object(&*self.object()?) {
            return Err(EBUSY);
        }
        self.seals.fetch_or(new, Ordering::Relaxed);
        Ok(())
    }

    /// Sets the permissions.
    pub fn set_mode(&self, mode: u32) -> Result<(), Errno> {
        let _writing = self.writing.lock();
        if self.seals() & l::F_SEAL_EXEC != 0 && (self.mode.load(Ordering::Relaxed) ^ mode) & 0o111 != 0 {
            return Err(EPERM);
        }
        self.mode.store(mode, Ordering::Relaxed);
        Ok(())
    }

    /// Whether mappings that may write it keep it from being run: not those of a memfd, and of an image there are none.
    pub fn counts_writers(&self) -> bool {
        !self.nameless && self.image.is_none()
    }

    /// Whether it came with the initramfs and cannot be written.
    pub fn is_image(&self) -> bool {
        self.image.is_some()
    }

    /// Length in bytes.
    #[allow(clippy::len_without_is_empty, reason = "nobody asks whether it is empty")]
    pub fn len(&self) -> u64 {
        match self.image {
            Some(bytes) => bytes.len() as u64,
            None => self.object.lock().as_ref().map_or(0, |o| o.len()),
        }
    }

    /// What mappings show; made when the first one of an image comes.
    pub fn object(&self) -> Result<ObjectRef, Errno> {
        let mut object = self.object.lock();
        if let Some(object) = &*object {
            return Ok(object.clone());
        }
        let image = self.image.unwrap_or(&[]);
        let new = vm::new_object(image.len() as u64, 0, image)?;
        *object = Some(new.clone());
        Ok(new)
    }

    /// A program maps it.
    pub fn note_mapped(self: &Arc<Self>, object: &ObjectRef, path: &Arc<[u8]>) {
        *self.path.lock() = Some(path.clone());
        MAPPED.lock().insert(object.id(), Arc::downgrade(self));
    }

    /// It is open once more, or not any more.
    pub fn opened(&self, yes: bool) {
        // ordering: Relaxed; only for an estimate.
        match yes {
            true => self.opens.fetch_add(1, Ordering::Relaxed),
            false => self.opens.fetch_sub(1, Ordering::Relaxed),
        };
    }

    /// Pages of an object that go with it, and that no space counts, because it maps them.
    fn kept(&self, object: &ObjectRef) -> u64 {
        let in_use = self.in_use.get(|| {
            let (mut sum, mut from) = (0, 0);
            for n in 0.. {
                let Some((pages, behind)) = memory().object_pages_in_use(object, from) else { break };
                (sum, from) = (sum + pages, behind);
                if !charge::go_on(n) {
                    return None;
                }
            }
            Some(sum)
        });
        // Counted, not found: a file that grows between two looks weighs what it is.
        (object.held() + object.tables()).saturating_sub(in_use)
    }

    /// Its object goes.
    fn forget_mapped(&self) {
        if self.path.lock().take().is_some()
            && let Some(object) = &*self.object.lock()
        {
            MAPPED.lock().remove(&object.id());
        }
    }

    /// Gives the pages of an image back (between jobs).
    pub fn forget_pages(&self) {
        if self.image.is_some() {
            self.forget_mapped();
            let object = self.object.lock().take();
            drop(object);
        }
    }

    /// The first byte from `at` on that is in a page (`data`), or in a hole; the end counts as a hole. ENXIO: there is none.
    pub fn seek(&self, at: u64, data: bool) -> Result<u64, Errno> {
        let len = self.len();
        if at >= len {
            return Err(ENXIO);
        }
        let found = match self.image {
            Some(_) => {
                if data {
                    at
                } else {
                    len
                }
            }
            None => (memory().object_next(&*self.object()?, at / 4096, data) * 4096).clamp(at, len),
        };
        if data && found == len { Err(ENXIO) } else { Ok(found) }
    }

    /// Reads into kernel memory; returns the number of bytes.
    pub fn read_at(&self, at: u64, to: &mut [u8]) -> SysResult {
        let len = self.len();
        if at >= len {
            return Ok(0);
        }
        let n = to.len().min((len - at) as usize);
        if let Some(image) = self.image {
            to[..n].copy_from_slice(&image[at as usize..at as usize + n]);
            return Ok(n);
        }
        let object = self.object()?;
        let mut done = 0;
        while done < n {
            let chunk = (n - done).min(4096 - ((at as usize + done) % 4096));
            vm::read_object(&object, at + done as u64, &mut to[done..done + chunk])?;
            done += chunk;
        }
        Ok(n)
    }

    fn write_locked(&self, io: &mut UserIo, at: u64) -> SysResult {
        if self.image.is_some() {
            return Err(EROFS);
        }
        let object = self.object()?;
        if io.left() == 0 {
            return Ok(0);
        }
        io.shorten(limits::file_room(at)?.min(MAX_LEN.checked_sub(at).filter(|n| *n > 0).ok_or(EFBIG)?));
        if self.is_sealed() {
            return Err(EPERM);
        }
        let end = at + io.left() as u64;
        if end > object.len() && self.seals() & l::F_SEAL_GROW != 0 {
            // As on Linux: of the pages that are there, all that fits; nothing of the one in which the end would move.
            let fits = object.len().max(at) & !4095;
            if fits <= at {
                return Err(EPERM);
            }
            io.shorten(fits - at);
        }
        let mut done = 0usize;
        let mut chunk = [0u8; 1024];
        while io.left() > 0 {
            let here = at + done as u64;
            let room = chunk.len().min(4096 - (here % 4096) as usize).min(io.left());
            let n = io.get(&mut chunk[..room]);
            if n > 0 {
                // Longer first: the page must be inside the object to be held.
                let old = object.len();
                if here + n as u64 > old {
                    // Growing never fails below the largest length, which was looked at.
                    let _ = vm::set_object_len(&object, here + n as u64, HOLDERS);
                }
                match vm::write_object(&object, here, &chunk[..n]) {
                    Ok(()) => done += n,
                    Err(why) => {
                        // What was not written is not there. Shorter never fails where no page is.
                        if object.len() > old {
                            let _ = vm::set_object_len(&object, old, HOLDERS);
                        }
                        match done {
                            0 => return Err(why),
                            _ => break,
                        }
                    }
                }
            }
            if n < room {
                break;
            }
        }
        if done == 0 {
            return Err(EFAULT);
        }
        self.touch();
        Ok(done)
    }

    /// Appends: at the end, whatever position the caller has. Returns the bytes and the new position.
    pub fn append(&self, io: &mut UserIo) -> Result<(usize, u64), Errno> {
        let _writing = self.writing.lock();
        let at = self.len();
        let n = self.write_locked(io, at)?;
        Ok((n, at + n as u64))
    }

    fn touch(&self) {
        self.times.modified();
    }
    /// Its number.
    pub fn number(&self) -> u64 {
        self.ino
    }
    /// Pages that are no holes.
    fn pages(&self) -> u64 {
        match (self.image, &*self.object.lock()) {
            (Some(image), _) => (image.len() as u64).div_ceil(4096),
            (None, object) => object.as_ref().map_or(0, |object| object.held()),
        }
    }
    /// Attributes.
    pub fn attributes(&self) -> Stat {
        Stat {
            ino: self.ino,
            mode: kind::REG | self.mode.load(Ordering::Relaxed),
            nlink: self.links.load(Ordering::Relaxed),
            size: self.len(),
            pages: self.pages(),
            times: self.times.moments(),
            ..Stat::default()
        }
    }
    /// Sets the length.
    pub fn set_len(&self, len: u64) -> Result<(), Errno> {
        let _writing = self.writing.lock();
        self.may_have(len)?;
        self.resize(len)
    }

    /// fallocate: makes it at least as long as `to`; or (`keep`) only finds out whether that may be. Pages come when they are written.
    pub fn set_aside(&self, from: u64, to: u64, keep: bool) -> Result<(), Errno> {
        let _writing = self.writing.lock();
        let grows = to > self.len();
        if grows {
            self.may_have(to)?;
        }
        if !self.nameless && to.div_ceil(4096) - from / 4096 > TREE.most() {
            return Err(ENOSPC);
        }
        match grows && !keep {
            true => self.resize(to),
            false => {
                self.touch();
                Ok(())
            }
        }
    }

    /// Whether the limit and the seals let it have a length. `writing` is held.
    fn may_have(&self, len: u64) -> Result<(), Errno> {
        if self.image.is_some() {
            return Err(EROFS);
        }
        let (old, seals) = (self.len(), self.seals());
        // The limit first, as on Linux.
        if len > old {
            limits::file_room(len - 1)?;
        }
        if (len < old && seals & l::F_SEAL_SHRINK != 0) || (len > old && seals & l::F_SEAL_GROW != 0) {
            return Err(EPERM);
        }
        Ok(())
    }

    /// Gives it a length that it may have. `writing` is held.
    fn resize(&self, len: u64) -> Result<(), Errno> {
        if len > MAX_LEN {
            return Err(EFBIG);
        }
        vm::set_object_len(&*self.object()?, len, HOLDERS)?;
        self.touch();
        Ok(())
    }

    /// Makes the bytes `from .. to` zeros, and gives their pages back. The length stays.
    pub fn punch(&self, from: u64, to: u64) -> Result<(), Errno> {
        let _writing = self.writing.lock();
        if self.image.is_some() {
            return Err(EROFS);
        }
        if self.is_sealed() {
            return Err(EPERM);
        }
        vm::punch_object(&*self.object()?, from, to, HOLDERS)?;
        self.touch();
        Ok(())
    }
}

impl Drop for Regular {
    fn drop(&mut self) {
        self.forget_mapped();
        if self.image.is_none() {
            WRITTEN.lock().remove(&self.ino);
        }
    }
}

/// Visits the object of each file that is no image, in order, from the one behind number `after` on; `see` says whether to go on.
/// Nothing is locked meanwhile. For swapping: pages of files that nobody maps are found by no other way.
pub fn each_written(mut after: u64, see: See<'_>) -> Result<(), Errno> {
    loop {
        let next = WRITTEN.lock().range(after + 1..).next().map(|(&ino, cell)| (ino, cell.upgrade()));
        let Some((ino, cell)) = next else { return Ok(()) };
        after = ino;
        let object = cell.and_then(|cell| cell.lock().clone());
        if let Some(object) = object {
            see(ino, &object)?;
        }
    }
}

impl File for Arc<Regular> {
    fn read(&self, io: &mut UserIo, at: u64, _: bool) -> SysResult {
        let mut done = 0;
        if let Some(image) = self.image {
            let from = image.get(at.min(image.len() as u64) as usize..).unwrap_or(&[]);
            let want = from.len().min(io.left());
            done = io.put(&from[..want]);
            return if done < want { short(done) } else { Ok(done) };
        }
        let mut chunk = [0u8; 1024];
        while io.left() > 0 {
            let here = at + done as u64;
            let room = chunk.len().min(io.left());
            let n = self.read_at(here, &mut chunk[..room])?;
            if n == 0 {
                break;
            }
            let put = io.put(&chunk[..n]);
            done += put;
            if put < n {
                return short(done);
            }
        }
        Ok(done)
    }
    fn write(&self, io: &mut UserIo, at: u64, _: bool) -> SysResult {
        let _writing = self.writing.lock();
        self.write_locked(io, at)
    }
    fn stat(&self) -> Stat {
        self.attributes()
    }
    fn can_wait(&self) -> bool {
        false
    }
    fn held(&self, _: bool) -> u64 {
        // What has a name stays, whoever ends.
        if self.image.is_some() || !(self.nameless || self.is_nameless()) {
            return 0;
        }
        let object = self.object.try_lock().and_then(|object| object.clone());
        let opens = u64::from(self.opens.load(Ordering::Relaxed).max(1));
        object.map_or(0, |object| self.kept(&object) * 4096 / opens)
    }
    fn seekable(&self) -> bool {
        true
    }
    fn truncate(&self, len: u64) -> Result<(), Errno> {
        self.set_len(len)
    }
    fn object(&self) -> Result<ObjectRef, Errno> {
        Regular::object(self)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
