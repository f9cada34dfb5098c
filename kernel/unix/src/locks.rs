//! Locks on files: those of `flock` on a whole file, and those of `fcntl` on ranges of bytes. The two kinds do not see each other,
//! as on Linux.
//!
//! A lock belongs to an open file (`flock`, `F_OFD_SETLK`) and goes with it, or to a process (`F_SETLK`) and goes when the process
//! closes any descriptor of the file, or ends. A process that would wait, directly or through others, for itself gets EDEADLK; who
//! waits for whom is not known where open files own the locks.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use quire_base::errno::{EDEADLK, EINVAL, ENOLCK, EOVERFLOW, Errno};

/// As on Linux: longer chains of waiting processes are not followed.
const LONGEST_CHAIN: usize = 11;
/// Most locks of a kind on one file: who looks through them has locked all others out. Linux has no such limit, but this error.
const MOST: usize = if cfg!(test) { 1 << 7 } else { 1 << 13 };

/// Behind the last byte.
pub const END: u64 = i64::MAX as u64 + 1;

/// The file: type and inode number, and which kind of locks.
pub type Key = (u32, u64, bool);

/// Whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A process, by its number.
    Process(u32),
    /// An open file, by its address: it gives its locks back before it goes.
    Open(usize),
}

/// A lock on the bytes `from .. to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Whose it is.
    pub owner: Owner,
    /// The first byte.
    pub from: u64,
    /// The first one behind it.
    pub to: u64,
    /// It is shared with nobody.
    pub exclusive: bool,
}

/// All locks, and who waits for one.
#[derive(Default)]
pub struct Table {
    held: BTreeMap<Key, Vec<Held>>,
    /// What each process waits for: one entry for each thread that does. Who has it is looked up when it is asked: whoever was in the way
    /// may have given it back, and the thread does not know yet.
    waiting: BTreeMap<(u32, u32), (Key, Held)>,
}

impl Table {
    /// No lock.
    pub const fn new() -> Table {
        Table { held: BTreeMap::new(), waiting: BTreeMap::new() }
    }

    /// A lock of somebody else's that is in the way of `new`.
    pub fn in_the_way(&self, key: Key, new: &Held) -> Option<Held> {
        self.held.get(&key)?.iter().find(|held| held.conflicts(new)).copied()
    }

    /// The first lock that the owner has in a range.
    pub fn own(&self, key: Key, range: &Held) -> Option<Held> {
        let own = self.held.get(&key)?.iter().filter(|held| held.owner == range.owner && held.meets(range));
        own.min_by_key(|held| held.from).copied()
    }

    /// Sets a lock. `None`: somebody else's is in the way. `waiter` waits then, and not otherwise: its process and thread. `room` says
    /// whether the heap has so many bytes.
    pub fn set(
        &mut self,
        key: Key,
        mut new: Held,
        waiter: Option<(u32, u32)>,
        room: impl Fn(usize) -> bool,
    ) -> Option<Result<(), Errno>> {
        if let Some(held) = self.in_the_way(key, &new) {
            let waiter = waiter?;
            if self.waits_for(held.owner, waiter.0) {
                self.waiting.remove(&waiter);
                return Some(Err(EDEADLK));
            }
            if !room(size_of::<((u32, u32), Key, Held)>() * 16) {
                return Some(Err(ENOLCK));
            }
            self.waiting.insert(waiter, (key, new));
            return None;
        }
        // It waits no more: were it known to until it runs, whom it is now in the way of would seem to wait for itself.
        waiter.inspect(|waiter| _ = self.waiting.remove(waiter));
        let list = self.held.entry(key).or_default();
        if list.len() + 2 > MOST || !room(size_of::<Held>()) || list.try_reserve(2).is_err() {
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
        Some(Ok(()))
    }

    /// Takes away what the owner has in `from .. to`. False: there was no lock on the file.
    pub fn unset(&mut self, key: Key, owner: Owner, from: u64, to: u64) -> Result<bool, Errno> {
        let Some(list) = self.held.get_mut(&key) else { return Ok(false) };
        // Only to take a piece out of the middle.
        let splits = list.iter().any(|held| held.owner == owner && held.from < from && to < held.to);
        if splits && (list.len() + 1 > MOST || list.try_reserve(1).is_err()) {
            return Err(ENOLCK);
        }
        carve(list, owner, from, to);
        if list.is_empty() {
            self.held.remove(&key);
        }
        Ok(true)
    }

    /// A process and thread that has waited does so no more.
    pub fn stop_waiting(&mut self, waiter: (u32, u32)) {
        self.waiting.remove(&waiter);
    }

    /// The owner goes: he has no lock any more.
    pub fn forget(&mut self, owner: Owner) {
        self.held.retain(|_, list| {
            list.retain(|held| held.owner != owner);
            !list.is_empty()
        });
    }

    /// Whether `other` waits, directly or through others, for process `pid`.
    fn waits_for(&self, mut other: Owner, pid: u32) -> bool {
        for _ in 0..LONGEST_CHAIN {
            let Owner::Process(waiter) = other else { return false };
            let of_waiter = self.waiting.range((waiter, 0)..=(waiter, u32::MAX)).next();
            let Some((_, (key, wish))) = of_waiter else { return false };
            let Some(next) = self.in_the_way(*key, wish) else { return false };
            if next.owner == Owner::Process(pid) {
                return true;
            }
            other = next.owner;
        }
        false
    }
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

/// The bytes that a program means by a start and a length, counted from `base`.
pub fn range(base: i64, start: i64, len: i64) -> Result<(u64, u64), Errno> {
    let start = base.checked_add(start).ok_or(EOVERFLOW)?;
    // In both directions; a length of 0 is as far as it goes.
    let (from, to) = match len {
        0 => (start, None),
        1.. => (start, Some(start.checked_add(len - 1).ok_or(EOVERFLOW)?)),
        _ => (start.checked_add(len).ok_or(EINVAL)?, Some(start.checked_sub(1).ok_or(EINVAL)?)),
    };
    if from < 0 { Err(EINVAL) } else { Ok((from as u64, to.map_or(END, |last| last as u64 + 1))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    const FILE: Key = (1, 2, true);

    fn held(pid: u32, from: u64, to: u64, exclusive: bool) -> Held {
        Held { owner: Owner::Process(pid), from, to, exclusive }
    }

    fn plenty(_: usize) -> bool {
        true
    }

    impl Table {
        fn must_set(&mut self, new: Held) {
            assert_eq!(self.set(FILE, new, None, plenty), Some(Ok(())), "{new:?}");
        }

        fn all(&self) -> Vec<Held> {
            let mut all = self.held.get(&FILE).cloned().unwrap_or_default();
            all.sort_by_key(|held| held.from);
            all
        }
    }

    #[test]
    fn shared_locks_are_in_nobody_s_way_but_an_exclusive_one_s() {
        let mut table = Table::new();
        table.must_set(held(1, 0, 10, false));
        table.must_set(held(2, 5, 15, false));
        assert_eq!(table.set(FILE, held(3, 9, 10, true), None, plenty), None);
        assert_eq!(table.in_the_way(FILE, &held(2, 0, 20, true)), Some(held(1, 0, 10, false)));
        // Behind the last byte there is room, and the other kind of locks sees nothing.
        table.must_set(held(3, 15, 16, true));
        assert_eq!(table.set((1, 2, false), held(3, 0, END, true), None, plenty), Some(Ok(())));
    }

    #[test]
    fn a_lock_replaces_what_its_owner_had_there() {
        let mut table = Table::new();
        table.must_set(held(1, 0, 100, false));
        table.must_set(held(1, 40, 60, true));
        assert_eq!(table.all(), [held(1, 0, 40, false), held(1, 40, 60, true), held(1, 60, 100, false)]);
        // Neighbours of the same kind become one.
        table.must_set(held(1, 40, 60, false));
        assert_eq!(table.all(), [held(1, 0, 100, false)]);
        assert_eq!(table.unset(FILE, Owner::Process(1), 10, 20), Ok(true));
        assert_eq!(table.all(), [held(1, 0, 10, false), held(1, 20, 100, false)]);
        assert_eq!(table.unset(FILE, Owner::Process(2), 0, END), Ok(true));
        assert_eq!(table.unset(FILE, Owner::Process(1), 0, END), Ok(true));
        assert_eq!(table.unset(FILE, Owner::Process(1), 0, END), Ok(false));
    }

    #[test]
    fn bytes_are_owned_as_they_were_set_last() {
        // Against a plain array of bytes, for two owners.
        const BYTES: usize = 24;
        let (mut table, mut plain, mut seed) = (Table::new(), [[None; BYTES]; 2], 1u64);
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        for _ in 0..20_000 {
            let (me, exclusive) = (random(2) as usize, random(2) == 0);
            let from = random(BYTES as u64 - 1);
            let to = from + 1 + random(BYTES as u64 - from);
            let bytes = from as usize..(to as usize).min(BYTES);
            let to = bytes.end as u64;
            if random(3) == 0 {
                assert!(table.unset(FILE, Owner::Process(me as u32), from, to).is_ok());
                plain[me][bytes].fill(None);
            } else {
                let free = plain[1 - me][bytes.clone()]
                    .iter()
                    .all(|other| !matches!((other, exclusive), (Some(true), _) | (Some(_), true)));
                let set = table.set(FILE, held(me as u32, from, to, exclusive), None, plenty);
                assert_eq!(set, free.then_some(Ok(())));
                if free {
                    plain[me][bytes].fill(Some(exclusive));
                }
            }
            for (owner, plain) in plain.iter().enumerate() {
                let mut seen = [None; BYTES];
                let of_owner = table.all().into_iter().filter(|held| held.owner == Owner::Process(owner as u32));
                for held in of_owner {
                    for byte in &mut seen[held.from as usize..held.to as usize] {
                        assert!(byte.replace(held.exclusive).is_none(), "two locks of one owner on a byte");
                    }
                }
                assert_eq!(&seen, plain);
            }
        }
    }

    /// Processes 1, 2, .. each have byte `n`, and each but the last waits for the next one's; the last then asks for the first one's.
    fn chain(len: u32) -> Option<Result<(), Errno>> {
        let mut table = Table::new();
        let byte = |n: u32| u64::from(n);
        (1..=len).for_each(|n| table.must_set(held(n, byte(n), byte(n) + 1, true)));
        for n in 1..len {
            let wish = held(n, byte(n + 1), byte(n + 1) + 1, true);
            assert_eq!(table.set(FILE, wish, Some((n, n)), plenty), None, "{n} waits");
        }
        table.set(FILE, held(len, byte(1), byte(1) + 1, true), Some((len, len)), plenty)
    }

    #[test]
    fn who_would_wait_for_himself_is_told() {
        assert_eq!(chain(2), Some(Err(EDEADLK)));
        assert_eq!(chain(LONGEST_CHAIN as u32 + 1), Some(Err(EDEADLK)));
        assert_eq!(chain(LONGEST_CHAIN as u32 + 2), None, "longer chains are not followed");
    }

    #[test]
    fn who_waits_no_more_is_in_no_chain() {
        let mut table = Table::new();
        table.must_set(held(1, 0, 1, true));
        table.must_set(held(2, 1, 2, true));
        assert_eq!(table.set(FILE, held(1, 1, 2, true), Some((1, 7)), plenty), None);
        table.stop_waiting((1, 7));
        assert_eq!(table.set(FILE, held(2, 0, 1, true), Some((2, 8)), plenty), None);
        // The first has its turn once the second has given its byte back, and then waits for nobody.
        assert_eq!(table.unset(FILE, Owner::Process(2), 1, 2), Ok(true));
        assert_eq!(table.set(FILE, held(1, 1, 2, true), Some((1, 7)), plenty), Some(Ok(())));
    }

    #[test]
    fn who_has_got_what_he_waited_for_waits_no_more() {
        let mut table = Table::new();
        table.must_set(held(1, 0, 1, true));
        table.must_set(held(2, 1, 2, true));
        assert_eq!(table.set(FILE, held(1, 1, 2, true), Some((1, 7)), plenty), None);
        assert_eq!(table.unset(FILE, Owner::Process(2), 1, 2), Ok(true));
        assert_eq!(table.set(FILE, held(1, 1, 2, true), Some((1, 7)), plenty), Some(Ok(())));
        // Another thread gives it up, and the second has it again: nobody waits for it.
        assert_eq!(table.unset(FILE, Owner::Process(1), 1, 2), Ok(true));
        table.must_set(held(2, 1, 2, true));
        assert_eq!(table.set(FILE, held(2, 0, 1, true), Some((2, 8)), plenty), None);
    }

    #[test]
    fn open_files_are_in_no_chain() {
        let mut table = Table::new();
        table.must_set(Held { owner: Owner::Open(64), ..held(0, 0, 1, true) });
        assert_eq!(table.set(FILE, held(1, 0, 1, true), Some((1, 1)), plenty), None);
    }

    #[test]
    fn an_owner_that_goes_has_no_lock() {
        let mut table = Table::new();
        table.must_set(held(1, 0, 5, true));
        table.must_set(held(2, 5, 9, true));
        table.forget(Owner::Process(1));
        assert_eq!(table.all(), [held(2, 5, 9, true)]);
        assert_eq!(table.own(FILE, &held(2, 0, END, false)), Some(held(2, 5, 9, true)));
        assert_eq!(table.own(FILE, &held(1, 0, END, false)), None);
    }

    #[test]
    fn there_are_so_many_locks_on_a_file_and_no_more() {
        let mut table = Table::new();
        let full = (0..).find(|&n| table.set(FILE, held(1, 2 * n, 2 * n + 1, true), None, plenty) != Some(Ok(())));
        assert_eq!(full, Some(MOST as u64 - 1));
        assert_eq!(table.set(FILE, held(1, END - 1, END, true), None, plenty), Some(Err(ENOLCK)));
        let mut table = Table::new();
        assert_eq!(table.set(FILE, held(1, 0, 1, true), None, |_| false), Some(Err(ENOLCK)));
        table.must_set(held(1, 0, 9, true));
        assert_eq!(table.set(FILE, held(2, 0, 1, true), Some((2, 2)), |_| false), Some(Err(ENOLCK)));
    }

    #[test]
    fn lengths_go_both_ways() {
        assert_eq!(range(100, 5, 10), Ok((105, 115)));
        assert_eq!(range(100, 5, 0), Ok((105, END)));
        assert_eq!(range(100, 5, -10), Ok((95, 105)));
        assert_eq!(range(0, 5, -10), Err(EINVAL));
        assert_eq!(range(0, -1, 5), Err(EINVAL));
        assert_eq!(range(0, i64::MAX, 1), Ok((i64::MAX as u64, END)));
        let overflows = vec![range(1, i64::MAX, 1), range(0, i64::MAX, 2)];
        assert_eq!(overflows, [Err(EOVERFLOW); 2]);
    }
}
