//! File descriptors.

use super::OpenFile;
use crate::proc::charge::{self, Found};
use crate::proc::process::arc;
use crate::proc::thread::current;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general as l;
use quire_base::errno::*;
use quire_base::lock::Mutex;

#[derive(Clone)]
struct Slot {
    file: Arc<OpenFile>,
    close_on_exec: bool,
}

/// The descriptors, as far as one was ever used.
struct Slots {
    list: Vec<Option<Slot>>,
    /// For so many Linux has room: a power of two from 64 on, which grows with the highest descriptor.
    room: usize,
}

/// Linux's room for so many descriptors.
fn room_for(count: usize) -> usize {
    count.next_power_of_two().max(64)
}

impl Slots {
    /// Makes the list reach as far as `fd`.
    fn reach(&mut self, fd: usize) -> Result<(), Errno> {
        if fd >= self.list.len() {
            let more = fd + 1 - self.list.len();
            self.list.try_reserve(more).map_err(|_| ENOMEM)?;
            self.list.resize(fd + 1, None);
        }
        self.room = self.room.max(room_for(fd + 1));
        Ok(())
    }
}

/// How many descriptors the current process may have.
fn limit() -> u64 {
    current().limit(l::RLIMIT_NOFILE).min(1 << 20)
}

/// The descriptors of a process (or of several: CLONE_FILES). The lock is held for a look-up only; files are used, and
/// dropped, outside it.
pub struct FileTable {
    slots: Mutex<Slots>,
    /// What [`FileTable::held`] has found.
    held: Found,
}

impl FileTable {
    /// No descriptors.
    pub fn new() -> Self {
        Self::of(Vec::new())
    }

    fn of(list: Vec<Option<Slot>>) -> Self {
        let used = list.iter().rposition(|slot| slot.is_some()).map_or(0, |last| last + 1);
        // As Linux's copy: its words of 64 bits up to the last that is in use.
        let room = room_for(used.next_multiple_of(64));
        FileTable { slots: Mutex::new(Slots { list, room }), held: Found::new() }
    }

    /// For so many descriptors Linux would have room: higher ones do not exist for select.
    pub fn room(&self) -> usize {
        self.slots.lock().room
    }

    /// It takes the place of another one, which had more room.
    pub fn keep_room_of(&self, old: &FileTable) {
        let room = old.room();
        let mut slots = self.slots.lock();
        slots.room = slots.room.max(room);
    }

    /// A table of its own with the same open files.
    pub fn copy(&self) -> Result<Arc<Self>, Errno> {
        let mut slots = Vec::new();
        let len = self.slots.lock().list.len();
        slots.try_reserve(len).map_err(|_| ENOMEM)?;
        slots.extend(self.slots.lock().list.iter().take(len).cloned());
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
        match slots.list.get(fd as usize) {
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
        let len = slots.list.len();
        let free = (from..len).find(|i| slots.list[*i].is_none()).unwrap_or(len.max(from));
        if free >= limit {
            return Err(EMFILE);
        }
        slots.reach(free)?;
        slots.list[free] = Some(Slot { file, close_on_exec });
        Ok(free)
    }

    /// Whether the current process may have one more descriptor. Asked before something is made that would have to be unmade.
    pub fn has_room(&self) -> Result<(), Errno> {
        let slots = self.slots.lock();
        let free = slots.list.iter().position(|slot| slot.is_none()).unwrap_or(slots.list.len());
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
        slots.reach(fd)?;
        Ok(slots.list[fd].replace(Slot { file, close_on_exec }).map(|s| s.file))
    }

    /// Takes a descriptor away; the caller drops the file.
    pub fn remove(&self, fd: i32) -> Result<Arc<OpenFile>, Errno> {
        let mut slots = self.slots.lock();
        let slot = slots.list.get_mut(usize::try_from(fd).map_err(|_| EBADF)?).ok_or(EBADF)?;
        slot.take().map(|s| s.file).ok_or(EBADF)
    }

    /// FD_CLOEXEC of a descriptor.
    pub fn close_on_exec_of(&self, fd: i32) -> Result<bool, Errno> {
        match self.slots.lock().list.get(fd as usize) {
            Some(Some(slot)) if fd >= 0 => Ok(slot.close_on_exec),
            _ => Err(EBADF),
        }
    }

    /// Sets FD_CLOEXEC.
    pub fn set_close_on_exec(&self, fd: i32, on: bool) -> Result<(), Errno> {
        match self.slots.lock().list.get_mut(fd as usize) {
            Some(Some(slot)) if fd >= 0 => {
                slot.close_on_exec = on;
                Ok(())
            }
            _ => Err(EBADF),
        }
    }

    /// Closes what execve closes.
    pub fn close_on_exec(&self) {
        let len = self.slots.lock().list.len();
        for fd in 0..len {
            let gone = {
                let mut slots = self.slots.lock();
                match slots.list.get_mut(fd) {
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
            let len = self.slots.lock().list.len();
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
        (from..slots.list.len()).find(|fd| slots.list[*fd].is_some())
    }
}
