//! System V shared memory: segments of memory with a number, which last until they are removed *and* nobody shows them any more.
//!
//! A segment is a file outside the tree. How many attachments it has is not kept anywhere: that is what the spaces show of it, counted
//! when somebody asks, so `munmap`, `fork`, `execve` and the end of a process need not know of it. One that was removed goes with its
//! last attachment: whoever detaches looks, and so does the end of each memory. (A plain `munmap` does not: then it goes with the memory.)
//! Unlike on Linux, the end of a process is no detachment that `shm_lpid` and `shm_dtime` tell.

use super::memory;
use crate::fs::regular::Regular;
use crate::mem::ObjectRef;
use crate::proc::process::arc;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering};
use quire_base::errno::*;
use quire_base::lock::Mutex;
use quire_sched::timer;

/// As many as there may be: Linux's SHMMNI.
pub const MOST: usize = 4096;

/// The longest one: Linux's SHMMAX.
pub const LONGEST: u64 = u64::MAX - (1 << 24);

/// A segment.
#[derive(Clone)]
pub struct Segment {
    /// The key that finds it; 0, IPC_PRIVATE: none does.
    pub key: i32,
    /// Length in bytes, as it was asked for.
    pub len: u64,
    /// Permissions: kept and told, as everybody is root.
    pub mode: u32,
    /// Who made it, and who attached or detached it last.
    pub pids: [i32; 2],
    /// When it was last attached, detached and changed, in seconds.
    pub times: [u64; 3],
    /// It goes with its last attachment.
    pub removed: bool,
    /// The pages.
    pub object: ObjectRef,
    /// Keeps them where swapping finds them, and has their name.
    _file: Arc<Regular>,
    /// Attachments under way, and how many there were in all.
    attaching: [u32; 2],
}

/// By number. A leaf lock; segments are dropped outside of it.
static TABLE: Mutex<BTreeMap<i32, Segment>> = Mutex::new(BTreeMap::new());

/// Segments that were removed and are still there.
static REMOVED: AtomicUsize = AtomicUsize::new(0);

/// The number behind the last one given.
static NEXT: Mutex<i32> = Mutex::new(0);

fn now() -> u64 {
    timer::realtime_ns() / 1_000_000_000
}

/// The number of the segment with a key; 0 has none.
pub fn with_key(key: i32) -> Option<(i32, u64)> {
    let table = TABLE.lock();
    table.iter().find(|(_, s)| key != 0 && s.key == key).map(|(&id, s)| (id, s.len))
}

/// Makes a segment of `len` bytes. EEXIST: there is one with the key by now; ENOSPC: too many.
pub fn create(key: i32, len: u64, mode: u32, pid: i32) -> Result<i32, Errno> {
    let file = arc(Regular::segment(len.next_multiple_of(4096))?)?;
    let object = file.object()?;
    let name = alloc::format!("/SYSV{key:08x} (deleted)");
    file.note_mapped(&object, &Arc::from(name.into_bytes()));
    let times = [0, 0, now()];
    let new = Segment { key, len, mode, pids: [pid, 0], times, removed: false, object, _file: file, attaching: [0; 2] };
    if !crate::mem::heap_has(size_of::<Segment>() * 16) {
        return Err(ENOMEM);
    }
    let mut table = TABLE.lock();
    if key != 0 && table.values().any(|s| s.key == key) {
        return Err(EEXIST);
    }
    if table.len() >= MOST {
        return Err(ENOSPC);
    }
    let mut next = NEXT.lock();
    while table.contains_key(&next) {
        *next = (*next + 1) & i32::MAX;
    }
    let id = *next;
    *next = (id + 1) & i32::MAX;
    table.insert(id, new);
    Ok(id)
}

/// Calls `change` for a segment.
pub fn with<T>(id: i32, change: impl FnOnce(&mut Segment) -> T) -> Result<T, Errno> {
    TABLE.lock().get_mut(&id).map(change).ok_or(EINVAL)
}

/// Changes a segment's permissions.
pub fn set_mode(id: i32, mode: u32) -> Result<(), Errno> {
    with(id, |s| {
        s.mode = s.mode & !0o777 | mode & 0o777;
        s.times[2] = now();
    })
}

/// The segments' numbers, ascending, from one on.
pub fn first_from(id: i32) -> Option<i32> {
    TABLE.lock().range(id..).next().map(|(&id, _)| id)
}

/// How many there are, their pages, and those of them in memory.
pub fn total() -> [u64; 3] {
    let table = TABLE.lock();
    let pages = |of: fn(&Segment) -> u64| table.values().map(of).sum();
    [table.len() as u64, pages(|s| s.len.div_ceil(4096)), pages(|s| s.object.resident())]
}

/// The number of the segment whose object a mapping shows.
pub fn showing(object: &ObjectRef) -> Option<i32> {
    TABLE.lock().iter().find(|(_, s)| s.object.id() == object.id()).map(|(&id, _)| id)
}

/// Begins to attach a segment: it stays until [`attached`].
pub fn attach(id: i32) -> Result<(ObjectRef, u64), Errno> {
    with(id, |s| {
        s.attaching = [s.attaching[0] + 1, s.attaching[1].wrapping_add(1)];
        (s.object.clone(), s.len)
    })
}

/// Ends what [`attach`] began, by a process that shows it now, or failed.
pub fn attached(id: i32, pid: Option<i32>) {
    let _ = with(id, |s| {
        s.attaching[0] -= 1;
        if let Some(pid) = pid {
            s.pids[1] = pid;
            s.times[0] = now();
        }
    });
    collect();
}

/// A process has detached it.
pub fn detached(id: i32, pid: i32) {
    let _ = with(id, |s| {
        s.pids[1] = pid;
        s.times[1] = now();
    });
    collect();
}

/// The segments of all spaces that show it.
pub fn attachments(object: &ObjectRef) -> u64 {
    let mut count = 0;
    memory::each(|memory| count += memory.space.views(object));
    count
}

/// No key finds it any more, and it goes as soon as nobody shows it.
pub fn remove(id: i32) -> Result<(), Errno> {
    with(id, |s| {
        s.key = 0;
        if !core::mem::replace(&mut s.removed, true) {
            REMOVED.fetch_add(1, Ordering::SeqCst);
        }
    })?;
    collect();
    Ok(())
}

/// Lets those go that were removed and that nobody shows.
pub fn collect() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    // ordering: SeqCst, all; nothing depends on more than one word.
    if REMOVED.load(Ordering::SeqCst) == 0 || ASKED.fetch_add(1, Ordering::SeqCst) != 0 {
        // Who is at it looks again: it may be this very CPU, as the last one to hold a memory that it has counted.
        return;
    }
    loop {
        let asked = ASKED.load(Ordering::SeqCst);
        let mut from = 0;
        while let Some(id) = first_from(from) {
            collect_one(id);
            let Some(next) = id.checked_add(1) else { break };
            from = next;
        }
        if ASKED.compare_exchange(asked, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            return;
        }
    }
}

fn collect_one(id: i32) {
    let Ok(Some((object, before))) = with(id, |s| s.removed.then(|| (s.object.clone(), s.attaching))) else { return };
    if before[0] != 0 || attachments(&object) != 0 {
        return;
    }
    let gone = {
        let mut table = TABLE.lock();
        // Nobody has attached it since it was counted.
        table.get(&id).is_some_and(|s| s.attaching == before).then(|| table.remove(&id)).flatten()
    };
    if gone.is_some() {
        REMOVED.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Removes all (between jobs).
pub fn clean() {
    let all = core::mem::take(&mut *TABLE.lock());
    REMOVED.store(0, Ordering::SeqCst);
    drop(all);
}
