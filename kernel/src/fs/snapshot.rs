//! A file of /proc that is open: its text as it was when it was last read from its beginning, and what is written to it.

use super::entry::{ProcEntry, System, Text};
use super::io::short;
use super::procfs::{always_looks, contents, opens};
use super::stat::{Stat, kind};
use super::{File, Inode, UserIo};
use crate::mem::memory;
use crate::proc::oom;
use crate::proc::thread::{self, of};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::Ordering;
use quire_base::errno::*;
use quire_sched::SleepMutex;

/// Takes what was written to a file.
fn set(entry: &ProcEntry, text: &[u8]) -> Result<(), Errno> {
    match entry {
        ProcEntry::Of(who, Text::Comm) => {
            // A process may name its own threads.
            let (process, thread) = who.with_thread().ok_or(ESRCH)?;
            let thread = thread.or_else(|| process.leader()).ok_or(ESRCH)?;
            if of(&thread).process.pid != thread::current().pid {
                return Err(EINVAL);
            }
            let mut name = [0; 16];
            let len = text.iter().position(|b| *b == 0).unwrap_or(text.len()).min(15);
            name[..len].copy_from_slice(&text[..len]);
            *of(&thread).name.lock() = name;
        }
        ProcEntry::Of(who, _) => {
            let adj = i32::try_from(number_in(text)?).ok();
            let adj = adj.filter(|adj| (oom::NEVER..=oom::FIRST).contains(adj)).ok_or(EINVAL)?;
            oom::adjust(&who.process().ok_or(ESRCH)?, adj);
        }
        ProcEntry::System(System::MaxMapCount) => {
            let most = i32::try_from(number_in(text)?).ok().and_then(|most| u64::try_from(most).ok());
            memory().set_most_segments(most.ok_or(EINVAL)?);
        }
        _ => return Err(EINVAL),
    }
    Ok(())
}

/// A decimal number with blanks around it, as Linux reads one.
fn number_in(text: &[u8]) -> Result<i64, Errno> {
    let text = core::str::from_utf8(text).map_err(|_| EINVAL)?;
    text.trim_end_matches('\0').trim().parse().map_err(|_| EINVAL)
}

/// An open file of /proc: its text is made anew whenever it is read from its beginning.
pub struct Snapshot {
    ino: u64,
    mode: u32,
    entry: ProcEntry,
    /// As it was then; `None`: it was not read.
    bytes: SleepMutex<Option<Vec<u8>>>,
}

impl Snapshot {
    /// Opens it, if there will be something to read.
    pub fn open(inode: &Inode, entry: &ProcEntry) -> Result<Self, Errno> {
        opens(entry)?;
        Ok(Snapshot {
            ino: inode.ino,
            mode: inode.mode.load(Ordering::Relaxed),
            entry: *entry,
            bytes: SleepMutex::new(None),
        })
    }
}

impl File for Snapshot {
    fn read(&self, io: &mut UserIo, at: u64, _: bool) -> SysResult {
        let mut bytes = self.bytes.lock();
        if io.left() == 0 && !always_looks(&self.entry) {
            return Ok(0);
        }
        if at == 0 {
            *bytes = None;
        }
        let text = match &*bytes {
            Some(text) => text,
            None => bytes.insert(contents(&self.entry)?),
        };
        let from = text.get(at.min(text.len() as u64) as usize..).unwrap_or(&[]);
        let want = from.len().min(io.left());
        let done = io.put(&from[..want]);
        if done < want { short(done) } else { Ok(done) }
    }
    fn write(&self, io: &mut UserIo, _: u64, _: bool) -> SysResult {
        if !self.entry.is_written() {
            return Ok(io.discard());
        }
        let (mut text, all) = ([0; 32], io.left());
        let want = all.min(text.len());
        if io.get(&mut text[..want]) < want {
            return Err(EFAULT);
        }
        set(&self.entry, &text[..want])?;
        io.discard();
        *self.bytes.lock() = None;
        Ok(all)
    }
    fn stat(&self) -> Stat {
        Stat { ino: self.ino, mode: kind::REG | self.mode, nlink: 1, ..Stat::default() }
    }
    fn can_wait(&self) -> bool {
        false
    }
    fn held(&self, _: bool) -> u64 {
        self.bytes.try_lock().map_or(0, |bytes| bytes.as_ref().map_or(0, |bytes| bytes.capacity()) as u64)
    }
    fn seekable(&self) -> bool {
        true
    }
    fn takes_copies(&self) -> bool {
        false
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
