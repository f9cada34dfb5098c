//! Locks on files: those of `flock` on a whole file, and those of `fcntl` on ranges of bytes. The two kinds do not see each other,
//! as on Linux.
//!
//! A lock belongs to an open file (`flock`, `F_OFD_SETLK`) and goes with it, or to a process (`F_SETLK`) and goes when the process
//! closes any descriptor of the file, or ends. A process that would wait, directly or through others, for itself gets EDEADLK; who
//! waits for whom is not known where open files own the locks.

use super::OpenFile;
use super::stat::kind;
use crate::mem::user::{UserPtr, plain};
use crate::proc::process::Process;
use crate::proc::sleep::wait_on;
use crate::proc::thread::{current, user};
use crate::sched::WaitQueue;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as l;
use quire_base::errno::*;
use quire_base::lock::Mutex;

/// The file: type and inode number, and which kind of locks.
type Key = (u32, u64, bool);

/// Whose it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    Process(u32),
    /// The address of an [`OpenFile`] that gives its locks back before it goes.
    Open(usize),
}

/// A lock on the bytes `from .. to`.
#[derive(Clone, Copy)]
struct Held {
    owner: Owner,
    from: u64,
    to: u64,
    exclusive: bool,
}

struct Table {
    held: BTreeMap<Key, Vec<Held>>,
    /// What each process waits for: one entry for each thread that does. Who has it is looked up when it is asked: whoever was in the way
    /// may have given it back, and the thread does not know yet.
    waiting: BTreeMap<(u32, u32), (Key, Held)>,
}

impl Table {
    /// A lock of somebody else's that is in the way of `new`.
    fn in_the_way(&self, key: Key, new: &Held) -> Option<Held> {
        self.held.get(&key)?.iter().find(|held| held.conflicts(new)).copied()
    }

    /// The first lock that the owner has in a range.
    fn own(&self, key: Key, range: &Held) -> Option<Held> {
        let own = self.held.get(&key)?.iter().filter(|held| held.owner == range.owner && held.meets(range));
        own.min_by_key(|held| held.from).copied()
    }
}

/// A leaf lock.
static TABLE: Mutex<Table> = Mutex::new(Table { held: BTreeMap::new(), waiting: BTreeMap::new() });

/// As on Linux: longer chains of waiting processes are not followed.
const LONGEST_CHAIN: usize = 11;
/// Most locks of a kind on one file: who looks through them has locked all others out. Linux has no such limit, but this error.
const MOST: usize = 1 << 13;
/// Wakes who waits for a lock.
static CHANGED: WaitQueue = WaitQueue::new();

/// Behind the last byte.
const END: u64 = i64::MAX as u64 + 1;

fn key(file: &OpenFile, of_ranges: bool) -> Key {
    let stat = file.stat();
    (stat.mode & kind::MASK, stat.ino, of_ranges)
}

impl Held {
    fn meets(&self, other: &Held) -> bool {
        self.from < other.to && other.from < self.to
    }
    fn conflicts(&self, other: &Held) -> bool {
        self.owner != other.owner && self.meets(other) && (self.exclusive || other.exclusive)
    }
}

/// Takes what the owner has in `from .. to` away. The list has room for one more.
fn carve(list: &mut Vec<Held>, owner: Owner, from: u64, to: u64) {
    let mut at = 0;
    while at < list.len() {
        let held = list[at];
        if held.owner != owner || held.to <= from || held.from >= to {
            at += 1;
            continue;
        }
        list.swap_remove(at);
        if held.from < from {
            list.push(Held { to: from, ..held });
        }
        if held.to > to {
            list.push(Held { from: to, ..held });
        }
    }
}

/// Whether `other` waits, directly or through others, for process `pid`.
fn waits_for(table: &Table, mut other: Owner, pid: u32) -> bool {
    for _ in 0..LONGEST_CHAIN {
        let Owner::Process(waiter) = other else { return false };
        let Some((_, (key, wish))) = table.waiting.range((waiter, 0)..=(waiter, u32::MAX)).next() else { return false };
        let Some(next) = table.in_the_way(*key, wish) else { return false };
        if next.owner == Owner::Process(pid) {
            return true;
        }
        other = next.owner;
    }
    false
}

/// Sets a lock. `None`: somebody else's is in the way. `waiter` waits then, and not otherwise: its process and thread.
fn try_set(key: Key, mut new: Held, waiter: Option<(u32, u32)>) -> Option<Result<(), Errno>> {
    let mut guard = TABLE.lock();
    let table = &mut *guard;
    if let Some(held) = table.in_the_way(key, &new) {
        let waiter = waiter?;
        if waits_for(table, held.owner, waiter.0) {
            table.waiting.remove(&waiter);
            return Some(Err(EDEADLK));
        }
        if !crate::mem::heap_has(size_of::<((u32, u32), Key, Held)>() * 16) {
            return Some(Err(ENOLCK));
        }
        table.waiting.insert(waiter, (key, new));
        return None;
    }
    // It waits no more: were it known to until it runs, whom it is now in the way of would seem to wait for itself.
    waiter.inspect(|waiter| _ = table.waiting.remove(waiter));
    let list = table.held.entry(key).or_default();
    if list.len() + 2 > MOST || !crate::mem::heap_has(size_of::<Held>()) || list.try_reserve(2).is_err() {
        return Some(Err(ENOLCK));
    }
    carve(list, new.owner, new.from, new.to);
    // Neighbours of the same kind are one lock.
    list.retain(|held| {
        let joins = held.owner == new.owner && held.exclusive == new.exclusive;
        let (before, behind) = (joins && held.to == new.from, joins && held.from == new.to);
        new.from = if before { held.from } else { new.from };
        new.to = if behind { held.to } else { new.to };
        !before && !behind
    });
    list.push(new);
    drop(guard);
    // A lock that was exclusive may be shared now.
    CHANGED.wake_all();
    Some(Ok(()))
}

fn unset(key: Key, owner: Owner, from: u64, to: u64) -> Result<(), Errno> {
    let mut table = TABLE.lock();
    let Some(list) = table.held.get_mut(&key) else { return Ok(()) };
    // Only to take a piece out of the middle.
    let splits = list.iter().any(|held| held.owner == owner && held.from < from && to < held.to);
    if splits && (list.len() + 1 > MOST || list.try_reserve(1).is_err()) {
        return Err(ENOLCK);
    }
    carve(list, owner, from, to);
    if list.is_empty() {
        table.held.remove(&key);
    }
    drop(table);
    CHANGED.wake_all();
    Ok(())
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
            waiter.inspect(|waiter| _ = TABLE.lock().waiting.remove(waiter));
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
    let start = base.checked_add(raw.start).ok_or(EOVERFLOW)?;
    // In both directions; a length of 0 is as far as it goes.
    let (from, to) = match raw.len {
        0 => (start, None),
        1.. => (start, Some(start.checked_add(raw.len - 1).ok_or(EOVERFLOW)?)),
        _ => (start.checked_add(raw.len).ok_or(EINVAL)?, Some(start.checked_sub(1).ok_or(EINVAL)?)),
    };
    if from < 0 { Err(EINVAL) } else { Ok((from as u64, to.map_or(END, |last| last as u64 + 1))) }
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
        TABLE.lock().held.retain(|_, list| {
            list.retain(|held| held.owner != Owner::Process(process.pid));
            !list.is_empty()
        });
        CHANGED.wake_all();
    }
}
