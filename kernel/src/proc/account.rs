//! What a process's memory counts for: the numbers of `/proc/self/status`, and the limits RLIMIT_AS and RLIMIT_DATA.
//!
//! A limit is a look before an edit. So a process that has such a limit makes the edits that add something one after the other
//! ([`within`]): what was counted still holds when the edit is made, for all that others do meanwhile only takes away. A process
//! without limits counts nothing.

use super::Memory;
use super::thread::current;
use crate::mem::{Flags, Page, PageRange, Prot};
use linux_raw_sys::general as l;
use quire_base::errno::{ENOMEM, Errno};

/// Pages of a space, or of an edit.
#[derive(Clone, Copy, Default)]
pub struct Counts {
    /// All that are mapped.
    pub all: u64,
    /// Private, writable, and no stack.
    pub data: u64,
    /// In segments that grow down.
    pub stack: u64,
    /// Executable, and not writable.
    pub code: u64,
    /// Locked.
    pub locked: u64,
}

/// What an edit adds to what is mapped.
#[derive(Clone, Copy, Default)]
pub struct More {
    /// Pages, less those that are replaced.
    pub pages: u64,
    /// They count as data, whose limit is looked at then even for none: it may have been passed.
    pub is_data: bool,
}

/// All of user space.
const ALL: PageRange = PageRange { start: Page(0), end: PageRange::LIMIT };

/// Whether pages of a segment count as data.
pub fn is_data(prot: Prot, flags: Flags) -> bool {
    prot.contains(Prot::WRITE) && !flags.intersects(Flags::SHARED | Flags::GROWS_DOWN)
}

impl Memory {
    /// What is mapped in a range.
    pub fn counts_in(&self, range: PageRange) -> Counts {
        let mut c = Counts::default();
        self.space.each_segment(range, |s| {
            let pages = s.range.end.min(range.end).0 - s.range.start.max(range.start).0;
            let of = |yes: bool| if yes { pages } else { 0 };
            c.all += pages;
            c.data += of(is_data(s.prot, s.flags));
            c.stack += of(s.flags.contains(Flags::GROWS_DOWN));
            c.code += of(s.prot.contains(Prot::EXEC) && !s.prot.contains(Prot::WRITE));
            c.locked += of(s.flags.contains(Flags::LOCKED));
        });
        c
    }

    /// All that is mapped.
    pub fn counts(&self) -> Counts {
        self.counts_in(ALL)
    }

    /// What this process's limits leave; less than nothing where they were passed before they were set. The caller holds
    /// [`Memory::limited`].
    pub fn room(&self) -> Room {
        let now = self.counts();
        let limits = current().limits.all();
        let (all, data) = (limits[l::RLIMIT_AS as usize].soft, limits[l::RLIMIT_DATA as usize]);
        // As Linux: a soft limit of nothing at all counts as the hard one, for the sake of Valgrind.
        let data = if data.soft == 0 { data.hard } else { data.soft };
        let pages = |limit: u64, now: u64| (limit / 4096) as i64 - now as i64;
        Room { all: pages(all, now.all), data: pages(data, now.data) }
    }
}

/// The pages that may be added.
#[derive(Clone, Copy)]
pub struct Room {
    /// Of all kinds.
    pub all: i64,
    /// Of data.
    pub data: i64,
}

/// Makes an edit that adds to this process's memory, if its limits allow `more`, which is worked out where there are limits.
#[inline(always)]
pub fn within<T>(
    memory: &Memory,
    more: impl FnOnce() -> More,
    edit: impl FnOnce() -> Result<T, Errno>,
) -> Result<T, Errno> {
    if !current().limits.hold_memory() {
        return edit();
    }
    limited(memory, |memory| {
        // In this order: to work it out may make room.
        let more = more();
        let room = memory.room();
        let pages = more.pages as i64;
        match pages <= room.all && (!more.is_data || pages <= room.data) {
            true => edit(),
            false => Err(ENOMEM),
        }
    })
}

/// An edit that looks at the limits, alone among such edits.
#[cold]
#[inline(never)]
pub fn limited<T>(memory: &Memory, edit: impl FnOnce(&Memory) -> T) -> T {
    let _one = memory.limited.lock();
    edit(memory)
}
