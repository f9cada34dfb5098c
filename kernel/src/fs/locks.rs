//! The calls for locks on files: what they mean is said in [`quire_unix::locks`].

use super::OpenFile;
use super::stat::kind;
use crate::mem::user::{UserPtr, plain};
use crate::proc::process::Process;
use crate::proc::sleep::wait_on;
use crate::proc::thread::{current, user};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as l;
use quire_base::errno::*;
use quire_base::lock::Mutex;
use quire_sched::WaitQueue;
use quire_unix::locks::{self, END, Held, Key, Owner, Table};

/// A leaf lock.
static TABLE: Mutex<Table> = Mutex::new(Table::new());

/// Wakes who waits for a lock.
static CHANGED: WaitQueue = WaitQueue::new();

fn key(file: &OpenFile, of_ranges: bool) -> Key {
    let stat = file.stat();
    (stat.mode & kind::MASK, stat.ino, of_ranges)
}

/// Sets a lock. `None`: somebody else's is in the way. `waiter` waits then, and not otherwise: its process and thread.
fn try_set(key: Key, new: Held, waiter: Option<(u32, u32)>) -> Option<Result<(), Errno>> {
    let mut table = TABLE.lock();
    let result = table.set(key, new, waiter, crate::mem::heap_has);
    drop(table);
    if result == Some(Ok(())) {
        // A lock that was exclusive may be shared now.
        CHANGED.wake_all();
    }
    result
}

fn unset(key: Key, owner: Owner, from: u64, to: u64) -> Result<(), Errno> {
    let mut table = TABLE.lock();
    let result = table.unset(key, owner, from, to);
    drop(table);
    if result == Ok(true) {
        CHANGED.wake_all();
    }
    result.map(|_| ())
}

/// Takes all away that the owner has on a file. No piece comes out of the middle, so this needs no memory.
fn unset_all(key: Key, owner: Owner) {
    let _ = unset(key, owner, 0, END);
}

fn set(key: Key, new: Held, wait: bool) -> SysResult {
    let waiter = match new.owner {
        Owner::Process(pid) if wait => Some((pid, user().tid())),
        _ => None,
    };
    match try_set(key, new, waiter) {
        Some(result) => result,
        None if wait => {
            let result = wait_on(&CHANGED, None, || try_set(key, new, waiter));
            waiter.inspect(|waiter| TABLE.lock().stop_waiting(*waiter));
            result?
        }
        None => Err(EAGAIN),
    }?;
    Ok(0)
}

fn owner_of(file: &OpenFile) -> Owner {
    Owner::Open(file as *const OpenFile as usize)
}

/// `flock`
pub fn flock(file: &OpenFile, operation: u32) -> SysResult {
    let (key, owner) = (key(file, false), owner_of(file));
    let wait = operation & l::LOCK_NB == 0;
    let exclusive = match operation & !l::LOCK_NB {
        l::LOCK_UN => {
            unset_all(key, owner);
            return Ok(0);
        }
        l::LOCK_SH => false,
        l::LOCK_EX => true,
        _ => return Err(EINVAL),
    };
    file.locked.store(true, Ordering::Relaxed);
    let new = Held { owner, from: 0, to: END, exclusive };
    if let Some(result) = try_set(key, new, None) {
        return result.map(|()| 0);
    }
    // As on Linux, who asks for another kind and cannot have it has lost the one that it had.
    unset_all(key, owner);
    set(key, new, wait)
}

/// Linux's `struct flock`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Raw {
    kind: u16,
    whence: u16,
    pad: u32,
    start: i64,
    len: i64,
    pid: i32,
    pad2: u32,
}
plain!(Raw);

/// The bytes that a program means.
fn range(file: &OpenFile, raw: &Raw) -> Result<(u64, u64), Errno> {
    let base = match u32::from(raw.whence) {
        l::SEEK_SET => 0,
        l::SEEK_CUR => *file.position.lock() as i64,
        l::SEEK_END => file.stat().size as i64,
        _ => return Err(EINVAL),
    };
    locks::range(base, raw.start, raw.len)
}

/// `F_GETLK`, `F_SETLK`, `F_SETLKW` and those of open files.
pub fn of_range(file: &Arc<OpenFile>, fd: i32, command: u32, at: usize) -> SysResult {
    let of_open = matches!(command, l::F_OFD_GETLK | l::F_OFD_SETLK | l::F_OFD_SETLKW);
    let place = UserPtr::<Raw>::new(at);
    let mut raw = place.read()?;
    let (from, to) = range(file, &raw)?;
    if of_open && raw.pid != 0 {
        return Err(EINVAL);
    }
    let owner = if of_open { owner_of(file) } else { Owner::Process(current().pid) };
    let key = key(file, true);
    let exclusive = match u32::from(raw.kind) {
        l::F_RDLCK => false,
        l::F_WRLCK => true,
        // Asked for as this, one of its own is told.
        l::F_UNLCK if command == l::F_OFD_GETLK => false,
        l::F_UNLCK if command != l::F_GETLK => {
            return unset(key, owner, from, to).map(|()| 0);
        }
        _ => return Err(EINVAL),
    };
    let new = Held { owner, from, to, exclusive };
    if matches!(command, l::F_GETLK | l::F_OFD_GETLK) {
        let own = u32::from(raw.kind) == l::F_UNLCK;
        let table = TABLE.lock();
        let other = if own { table.own(key, &new) } else { table.in_the_way(key, &new) };
        drop(table);
        raw.kind = l::F_UNLCK as u16;
        if let Some(held) = other {
            raw.kind = if held.exclusive { l::F_WRLCK } else { l::F_RDLCK } as u16;
            (raw.whence, raw.start) = (l::SEEK_SET as u16, held.from as i64);
            raw.len = if held.to == END { 0 } else { (held.to - held.from) as i64 };
            raw.pid = if let Owner::Process(pid) = held.owner { pid as i32 } else { -1 };
        }
        place.write(raw)?;
        return Ok(0);
    }
    if exclusive {
        file.writable()?
    } else {
        file.readable()?
    }
    match of_open {
        true => file.locked.store(true, Ordering::Relaxed),
        false => current().has_locks.store(true, Ordering::Relaxed),
    }
    set(key, new, matches!(command, l::F_SETLKW | l::F_OFD_SETLKW))?;
    // Another thread may have closed the descriptor meanwhile, and the locks of its file have gone before this one was there. It has
    // taken the place of others, so all go.
    if !of_open && !user().files().get_any(fd).is_ok_and(|now| Arc::ptr_eq(&now, file)) {
        unset_all(key, owner);
        return Err(EBADF);
    }
    Ok(0)
}

/// An open file goes.
pub fn forget_open(file: &OpenFile) {
    for of_ranges in [false, true] {
        unset_all(key(file, of_ranges), owner_of(file));
    }
}

/// The current process has closed a descriptor of this file.
pub fn closed(file: &OpenFile) {
    if current().has_locks.load(Ordering::Relaxed) {
        unset_all(key(file, true), Owner::Process(current().pid));
    }
}

/// A process ends.
pub fn forget_process(process: &Process) {
    if process.has_locks.load(Ordering::Relaxed) {
        TABLE.lock().forget(Owner::Process(process.pid));
        CHANGED.wake_all();
    }
}
