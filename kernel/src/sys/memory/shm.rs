//! `shmget`, `shmat`, `shmdt`, `shmctl`: Linux's argument checks and layouts around [`crate::proc::shm`].

use super::{PAGE, aligned, bring_in_mapped, hopeless};
use crate::mem::user::{USER_END, UserPtr};
use crate::mem::{Backing, EditError, Flags, ObjectRef, Page, PageRange, Place, Prot, Space};
use crate::proc::account::{self, More};
use crate::proc::thread::{current, user};
use crate::proc::{shm, vm};
use quire_arch::UserRegs;
use quire_base::errno::*;

// Linux's <linux/ipc.h> and <linux/shm.h>.
const IPC_CREAT: u32 = 0o1000;
const IPC_EXCL: u32 = 0o2000;
const IPC_RMID: u32 = 0;
const IPC_SET: u32 = 1;
const IPC_STAT: u32 = 2;
const IPC_INFO: u32 = 3;
const IPC_64: u32 = 0x100;
const SHM_LOCK: u32 = 11;
const SHM_UNLOCK: u32 = 12;
const SHM_STAT: u32 = 13;
const SHM_INFO: u32 = 14;
const SHM_STAT_ANY: u32 = 15;
const SHM_HUGETLB: u32 = 0o4000;
const SHM_RDONLY: u32 = 0o10000;
const SHM_RND: u32 = 0o20000;
const SHM_REMAP: u32 = 0o40000;
const SHM_EXEC: u32 = 0o100000;
const SHM_DEST: u32 = 0o1000;
const SHM_LOCKED: u32 = 0o2000;

fn pid() -> i32 {
    current().pid as i32
}

/// `shmget`
pub fn shmget(r: &mut UserRegs) -> SysResult {
    let (key, len, flags) = (r.a0() as i32, r.a1() as u64, r.a2() as u32);
    loop {
        if let Some((id, there)) = shm::with_key(key) {
            return match flags {
                f if f & (IPC_CREAT | IPC_EXCL) == IPC_CREAT | IPC_EXCL => Err(EEXIST),
                _ if len > there => Err(EINVAL),
                _ => Ok(id as usize),
            };
        }
        if key != 0 && flags & IPC_CREAT == 0 {
            return Err(ENOENT);
        }
        if len == 0 || len > shm::LONGEST {
            return Err(EINVAL);
        }
        if flags & SHM_HUGETLB != 0 || hopeless(len.div_ceil(PAGE as u64)) {
            return Err(ENOMEM);
        }
        match shm::create(key, len, flags & 0o777, pid()) {
            // Another one was faster.
            Err(EEXIST) => {}
            made => return made.map(|id| id as usize),
        }
    }
}

/// `shmat`: the address.
pub fn shmat(r: &mut UserRegs) -> SysResult {
    let (id, mut address, flags) = (r.a0() as i32, r.a1(), r.a2() as u32);
    if address != 0 {
        if flags & SHM_RND != 0 {
            address -= address % PAGE;
        }
        aligned(address)?;
    }
    if address == 0 && flags & SHM_REMAP != 0 {
        return Err(EINVAL);
    }
    // Rounded down it may be 0, which is an address nevertheless.
    let at = (r.a1() != 0).then_some(address);
    let (object, len) = shm::attach(id)?;
    let done = map(Backing::Object { object, offset: 0, shared: true }, len, at, flags);
    shm::attached(id, done.is_ok().then(pid));
    done
}

fn map(backing: Backing, len: u64, at: Option<usize>, flags: u32) -> SysResult {
    let memory = user().memory();
    let space = &memory.space;
    let pages = len.div_ceil(PAGE as u64);
    let mut prot = Prot::READ;
    prot.set(Prot::WRITE, flags & SHM_RDONLY == 0);
    prot.set(Prot::EXEC, flags & SHM_EXEC != 0);
    let kind = if flags & SHM_RDONLY != 0 { Flags::READ_ONLY } else { Flags::empty() };
    let replaces = flags & SHM_REMAP != 0;
    if let Some(address) = at
        && (address > USER_END || pages as usize > (USER_END - address) / PAGE)
    {
        let wraps = address.checked_add(len as usize).is_none();
        return Err(if wraps && !replaces { EINVAL } else { ENOMEM });
    }
    let place = match at {
        None => Place::Shared,
        // As Linux, which does not look what is at address 0.
        Some(address) if replaces || address == 0 => Place::Fixed(Page::containing(address as u64)),
        Some(address) => Place::FixedNoReplace(Page::containing(address as u64)),
    };
    // Decided by the edit; but if so, it is said before what the limits say.
    if let Place::FixedNoReplace(page) = place
        && PageRange::new(page, pages).is_some_and(|range| !space.is_free(range))
    {
        return Err(EINVAL);
    }
    let more = || {
        let replaced = match place {
            Place::Fixed(page) => PageRange::new(page, pages).map_or(0, |range| memory.counts_in(range).all),
            _ => 0,
        };
        More { pages: pages.saturating_sub(replaced), is_data: false }
    };
    let map = || {
        vm::retry(|| match space.map(place, pages, prot, &backing, kind) {
            // As Linux, which says so about everything that is in the way.
            Err(EditError::Exists) => Ok(Err(EINVAL)),
            done => done.map(Ok),
        })
    };
    let at = account::within(memory, more, map)??;
    bring_in_mapped(space, at, at, pages, false);
    Ok(at.addr() as usize)
}

/// `shmdt`: all that is left of the attachment which began at the address.
pub fn shmdt(r: &mut UserRegs) -> SysResult {
    let address = r.a0();
    aligned(address)?;
    let space = &user().memory().space;
    // What is found is a guess, by which the edit knows what to look for. Where nothing of it is left by then, another one may be there.
    let start = Page::containing(address as u64);
    while let Some((object, id, end)) = attached_at(space, start) {
        let Ok(len) = shm::with(id, |s| s.len) else { continue };
        // What was found goes whole, though it may have grown; of the rest, what lies in the attachment's length.
        let pages = len.div_ceil(PAGE as u64).max(end.0 - start.0);
        let whole = PageRange::new(start, pages).ok_or(EINVAL)?;
        let mut found = false;
        vm::retry(|| space.unmap_view(whole, &object, &mut found))?;
        if found {
            shm::detached(id, pid());
            return Ok(0);
        }
    }
    Err(EINVAL)
}

/// The first thing above an address that shows what an attachment which began there would show: its number, and where it ends.
fn attached_at(space: &Space, start: Page) -> Option<(ObjectRef, i32, Page)> {
    let mut at = start;
    while let Some(s) = space.find_arrived(at) {
        if let Backing::Object { object, offset, shared: true } = &s.backing
            && s.range.start.0.checked_sub(start.0) == Some(*offset)
            && let Some(id) = shm::showing(object)
        {
            return Some((object.clone(), id, s.range.end));
        }
        at = s.range.end;
    }
    None
}

/// `shmctl`
pub fn shmctl(r: &mut UserRegs) -> SysResult {
    let (id, command, at) = (r.a0() as i32, r.a1() as u32 & !IPC_64, r.a2());
    let to = UserPtr::<u64>::new(at);
    let put = |words: &[u64]| words.iter().enumerate().try_for_each(|(i, &w)| to.at(i).write(w));
    if id < 0 && !matches!(command, IPC_INFO | SHM_INFO) {
        return Err(EINVAL);
    }
    match command {
        IPC_RMID => shm::remove(id).map(|()| 0),
        IPC_SET => {
            let mode = UserPtr::<u32>::new(at).at(5).read()?;
            shm::set_mode(id, mode).map(|()| 0)
        }
        SHM_LOCK => shm::with(id, |s| s.mode |= SHM_LOCKED).map(|()| 0),
        SHM_UNLOCK => shm::with(id, |s| s.mode &= !SHM_LOCKED).map(|()| 0),
        IPC_STAT | SHM_STAT | SHM_STAT_ANY => {
            let s = shm::with(id, |s| s.clone())?;
            let mode = s.mode | if s.removed { SHM_DEST } else { 0 };
            // struct shmid64_ds: ipc64_perm is six words of 32 bits, a sequence number and padding.
            put(&[
                s.key as u32 as u64,
                0,
                (mode as u64) << 32,
                0,
                0,
                0,
                s.len,
                s.times[0],
                s.times[1],
                s.times[2],
                s.pids[0] as u32 as u64 | (s.pids[1] as u32 as u64) << 32,
                shm::attachments(&s.object),
                0,
                0,
            ])?;
            Ok(if command == IPC_STAT { 0 } else { id as usize })
        }
        IPC_INFO => {
            // struct shminfo64: longest, shortest, most, most for a process, pages of all.
            put(&[shm::LONGEST, 1, shm::MOST as u64, shm::MOST as u64, shm::LONGEST, 0, 0, 0, 0])?;
            Ok(last())
        }
        SHM_INFO => {
            // struct shm_info: how many, pages of all, in memory, in the swap area (not counted here), and two words that Linux leaves 0.
            let [count, pages, resident] = shm::total();
            put(&[count, pages, resident, 0, 0, 0])?;
            Ok(last())
        }
        _ => Err(EINVAL),
    }
}

/// The highest number in use.
fn last() -> usize {
    let (mut last, mut from) = (0, Some(0));
    while let Some(id) = from.and_then(shm::first_from) {
        last = id;
        from = id.checked_add(1);
    }
    last as usize
}
