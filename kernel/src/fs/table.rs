//! File descriptors.

use super::OpenFile;
use crate::debug::lock::Mutex;
use crate::proc::charge::{self, Found};
use crate::proc::process::arc;
use crate::proc::thread::current;
use crate::sys::errno::*;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general as l;

#[derive(Clone)]
struct Slot {
    file: Arc<OpenFile>,
    close_on_exec: bool,
}

/// How many descriptors the current process may have.
fn limit() -> u64 {
    current().limit(l::RLIMIT_NOFILE).min(1 << 20)
}

/// The descriptors of a process (or of several: CLONE_FILES). The lock is held for a look-up only; files are used, and
/// dropped, outside it.
pub struct FileTable {
    slots: Mutex<Vec<Option<Slot>>>,
    /// What [`FileTable::held`] has found.
    held: Found,
}

impl FileTable {
    /// No descriptors.
    pub fn new() -> Self {
        Self::of(Vec::new())
    }

    fn of(slots: Vec<Option<Slot>>) -> Self {
        FileTable { slots: Mutex::new(slots), held: Found::new() }
    }

    /// A table of its own with the same open files.
    pub fn copy(&self) -> Result<Arc<Self>, Errno> {
        let mut slots = Vec::new();
        let len = self.slots.lock().len();
        slots.try_reserve(len).map_err(|_| ENOMEM)?;
        slots.extend(self.slots.lock().iter().take(len).cloned());
        arc(Self::of(slots))
    }

    /// The file behind a descriptor, to be used: one that only names its file (O_PATH) is refused.
    #[inline]
    pub fn get(&self, fd: i32) -> Result<Arc<OpenFile>, Errno> {
        self.get_any(fd).and_then(|file| if file.flags() & l::O_PATH == 0 { Ok(file) } else { Err(EBADF) })
    }

    /// The file behind a descriptor, even one that only names it.
    #[inline]
    pub fn get_any(&self, fd: i32) -> Result<Arc<OpenFile>, Errno> {
        let slots = self.slots.lock();
        match slots.get(fd as usize) {
            Some(Some(slot)) if fd >= 0 => Ok(slot.file.clone()),
            _ => Err(EBADF),
        }
    }

    /// Gives the file the lowest free descriptor from `from` on.
    pub fn add_from(&self, from: usize, file: Arc<OpenFile>, close_on_exec: bool) -> SysResult {
        self.add_below(from, limit() as usize, file, close_on_exec)
    }

    fn add_below(&self, from: usize, limit: usize, file: Arc<OpenFile>, close_on_exec: bool) -> SysResult {
        let mut slots = self.slots.lock();
        let free = (from..slots.len()).find(|i| slots[*i].is_none()).unwrap_or(slots.len().max(from));
        if free >= limit {
            return Err(EMFILE);
        }
        if free >= slots.len() {
            let more = free + 1 - slots.len();
            slots.try_reserve(more).map_err(|_| ENOMEM)?;
            slots.resize(free + 1, None);
        }
        slots[free] = Some(Slot { file, close_on_exec });
        Ok(free)
    }

    /// Whether the current process may have one more descriptor. Asked before something is made that would have to be unmade.
    pub fn has_room(&self) -> Result<(), Errno> {
        let slots = self.slots.lock();
        let free = slots.iter().position(|slot| slot.is_none()).unwrap_or(slots.len());
        if free as u64 >= limit() { Err(EMFILE) } else { Ok(()) }
    }

    /// Gives the file the lowest free descriptor.
    pub fn add(&self, file: Arc<OpenFile>, close_on_exec: bool) -> SysResult {
        self.add_from(0, file, close_on_exec)
    }

    /// The first descriptors of a new process, before it has limits.
    pub fn add_first(&self, file: Arc<OpenFile>) -> SysResult {
        self.add_below(0, 16, file, false)
    }

    /// Puts the file at this descriptor; what was there is returned, to be dropped outside the lock.
    pub fn put(&self, fd: usize, file: Arc<OpenFile>, close_on_exec: bool) -> Result<Option<Arc<OpenFile>>, Errno> {
        if fd as u64 >= limit() {
            return Err(EBADF);
        }
        let mut slots = self.slots.lock();
        if fd >= slots.len() {
            let more = fd + 1 - slots.len();
            slots.try_reserve(more).map_err(|_| ENOMEM)?;
            slots.resize(fd + 1, None);
        }
        Ok(slots[fd].replace(Slot { file, close_on_exec }).map(|s| s.file))
    }

    /// Takes a descriptor away; the caller drops the file.
    pub fn remove(&self, fd: i32) -> Result<Arc<OpenFile>, Errno> {
        let mut slots = self.slots.lock();
        let slot = slots.get_mut(usize::try_from(fd).map_err(|_| EBADF)?).ok_or(EBADF)?;
        slot.take().map(|s| s.file).ok_or(EBADF)
    }

    /// FD_CLOEXEC of a descriptor.
    pub fn close_on_exec_of(&self, fd: i32) -> Result<bool, Errno> {
        match self.slots.lock().get(fd as usize) {
            Some(Some(slot)) if fd >= 0 => Ok(slot.close_on_exec),
            _ => Err(EBADF),
        }
    }

    /// Sets FD_CLOEXEC.
    pub fn set_close_on_exec(&self, fd: i32, on: bool) -> Result<(), Errno> {
        match self.slots.lock().get_mut(fd as usize) {
            Some(Some(slot)) if fd >= 0 => {
                slot.close_on_exec = on;
                Ok(())
            }
            _ => Err(EBADF),
        }
    }

    /// Closes what execve closes.
    pub fn close_on_exec(&self) {
        let len = self.slots.lock().len();
        for fd in 0..len {
            let gone = {
                let mut slots = self.slots.lock();
                match slots.get_mut(fd) {
                    Some(slot) if slot.as_ref().is_some_and(|s| s.close_on_exec) => slot.take(),
                    _ => None,
                }
            };
            gone.iter().for_each(|slot| super::locks::closed(&slot.file));
        }
    }

    /// Bytes that go with the table: its own, and its share of what is open.
    pub fn held(&self) -> u64 {
        self.held.get(|| {
            let len = self.slots.lock().len();
            let mut sum = (len * size_of::<Option<Slot>>()) as u64;
            for fd in 0..len {
                // Nothing is locked while a file is looked at.
                let file = self.get_any(fd as i32);
                sum += file.map_or(0, |file| file.held(true) / charge::shares(&file));
                if !charge::go_on(fd) {
                    return None;
                }
            }
            Some(sum)
        })
    }

    /// The first descriptor in use from `from` on.
    pub fn next(&self, from: usize) -> Option<usize> {
        let slots = self.slots.lock();
        (from..slots.len()).find(|fd| slots[*fd].is_some())
    }
}
