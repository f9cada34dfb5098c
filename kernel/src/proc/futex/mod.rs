//! Futexes: hashed buckets of waiting threads.
//!
//! A bucket's spin lock is held for the compare and for moving waiters, never across a fault: the word is read with
//! the load that cannot fault; when the page is not there the lock is dropped, the page brought in, and all begins again.
//! A waiter is on at most one list; `Waiting::bucket` names the bucket and changes only under the locks of both
//! buckets concerned (a requeue). Being taken off the list is what counts as woken. Who is taken off is unparked under the lock, and
//! takes the lock once more before it leaves: so a list holds no reference to its threads, and waking needs no memory.

mod robust;

pub use robust::{get_robust_list, release_robust_list, set_robust_list};

use super::signal::restart::deadline_after;
use super::thread::{of, user};
use crate::mem::user::{self as umem, UserPtr};
use crate::mem::user_time as time;
use crate::mem::{Backing, Page};
use crate::proc::signal;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use linux_raw_sys::general as l;
use quire_arch::UserRegs;
use quire_base::errno::*;
use quire_base::lock::{Mutex, MutexGuard};
use quire_sched::{self as sched, Thread, timer};

/// What two threads must agree on to meet. Spaces and objects are named by numbers that are used once: who sleeps holds neither, and
/// what comes to the place of one that is gone must not find its sleepers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Key {
    /// FUTEX_PRIVATE_FLAG: the space's number and the address.
    Private(u64, u64),
    /// Without the flag, a page that no object has: the same, but on Linux the two do not meet.
    Own(u64, u64),
    /// Without the flag: the object's number and the byte offset in it.
    Object(u64, u64),
}

struct Waiter {
    key: Key,
    bits: u32,
    thread: *const Thread,
}
// SAFETY: a thread that is in a list does not leave `wait` before it has had the list's lock, so the pointer is good under the lock.
unsafe impl Send for Waiter {}

/// A thread's side of its wait.
pub struct Waiting {
    /// On a list.
    queued: AtomicBool,
    bucket: AtomicUsize,
}

impl Waiting {
    /// Not waiting.
    pub const fn new() -> Self {
        Waiting { queued: AtomicBool::new(false), bucket: AtomicUsize::new(0) }
    }
}

const BUCKETS: usize = 256;
type Bucket = Mutex<Vec<Waiter>>;
static TABLE: [Bucket; BUCKETS] = [const { Mutex::new(Vec::new()) }; BUCKETS];

impl Key {
    fn bucket(self) -> usize {
        let (a, b) = match self {
            Key::Private(id, at) => (id, at),
            Key::Own(id, at) => (id ^ 0x3333, at),
            Key::Object(id, at) => (id ^ 0x5555, at),
        };
        let mixed = (a ^ (b >> 2)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 56) as usize % BUCKETS
    }
}

/// The key of the word at `address`. A shared one looks at the page: it must be there, or come when it is touched.
fn key(address: usize, shared: bool) -> Result<Key, Errno> {
    if !address.is_multiple_of(4) {
        return Err(EINVAL);
    }
    if !umem::in_range(address, 4) {
        return Err(EFAULT);
    }
    let memory = user().memory();
    if !shared {
        return Ok(Key::Private(memory.id, address as u64));
    }
    // As Linux does it: for writing if that may be, so that a private page is the copy.
    let read_only = match super::vm::touch_write(address) {
        Ok(()) => false,
        // A store is forbidden; a load may not be. Nothing else says anything about the mapping.
        Err(EFAULT) => {
            read_word(address)?;
            true
        }
        Err(why) => return Err(why),
    };
    let page = Page::containing(address as u64);
    // The mapping may have changed since: then it is as if it had before, for who unmaps what others wait on cannot know.
    let segment = memory.space.find_arrived(page).filter(|s| s.range.start <= page).ok_or(EFAULT)?;
    Ok(match &segment.backing {
        Backing::Object { object, offset, shared } if *shared || read_only => {
            let within = address as u64 - segment.range.start.addr();
            Key::Object(object.id(), (offset << 12) + within)
        }
        // A private page that cannot be made the copy.
        _ if read_only => return Err(EFAULT),
        _ => Key::Own(memory.id, address as u64),
    })
}

/// The word, read for sure: may wait for its page.
fn read_word(address: usize) -> Result<u32, Errno> {
    UserPtr::<u32>::new(address).read()
}

fn wait(address: usize, shared: bool, expected: u32, bits: u32, deadline: Option<u64>) -> SysResult {
    if bits == 0 {
        return Err(EINVAL);
    }
    let key = key(address, shared)?;
    let me = sched::current();
    let waiting = &of(me).futex;
    let index = key.bucket();
    loop {
        let mut bucket = TABLE[index].lock();
        match umem::load_u32_nofault(address) {
            Some(word) if word != expected => return Err(EAGAIN),
            Some(_) => {
                bucket.try_reserve(1).map_err(|_| ENOMEM)?;
                waiting.bucket.store(index, Ordering::Relaxed);
                waiting.queued.store(true, Ordering::Release);
                bucket.push(Waiter { key, bits, thread: me });
                break;
            }
            None => {
                drop(bucket);
                read_word(address)?;
            }
        }
    }
    let result = loop {
        if !waiting.queued.load(Ordering::Acquire) {
            // Whoever has taken this thread off may still be at it.
            drop(TABLE[waiting.bucket.load(Ordering::Relaxed)].lock());
            break Ok(0);
        }
        if me.attention().load(Ordering::SeqCst) && signal::must_interrupt() {
            break Err(EINTR);
        }
        if deadline.is_some_and(|d| timer::now_ns() >= d) {
            break Err(ETIMEDOUT);
        }
        // Woken for any reason, the conditions are looked at again.
        let _ = sched::park(deadline);
    };
    // A wake-up that came first wins over signal and time.
    if result.is_err() && !leave(me, waiting) { Ok(0) } else { result }
}

/// Takes the thread off its list; false when a waker has already done so.
fn leave(me: &Thread, waiting: &Waiting) -> bool {
    loop {
        let index = waiting.bucket.load(Ordering::Relaxed);
        let mut bucket = TABLE[index].lock();
        if waiting.bucket.load(Ordering::Relaxed) != index {
            continue; // requeued meanwhile
        }
        // Whoever has taken it off had this lock, and is through with it.
        if !waiting.queued.load(Ordering::Acquire) {
            return false;
        }
        if let Some(at) = bucket.iter().position(|w| core::ptr::eq(w.thread, me)) {
            let _ = bucket.remove(at);
        }
        waiting.queued.store(false, Ordering::Release);
        return true;
    }
}

/// Takes up to `count` matching waiters off a locked bucket, and lets them run.
fn take(bucket: &mut Vec<Waiter>, key: Key, bits: u32, count: usize) -> usize {
    let mut taken = 0;
    if count == 0 {
        return 0;
    }
    bucket.retain(|waiter| {
        if taken == count || waiter.key != key || waiter.bits & bits == 0 {
            return true;
        }
        // SAFETY: the bucket is locked.
        let thread = unsafe { &*waiter.thread };
        of(thread).futex.queued.store(false, Ordering::Release);
        thread.unpark();
        taken += 1;
        false
    });
    taken
}

fn wake_key(key: Key, bits: u32, count: usize) -> usize {
    take(&mut TABLE[key.bucket()].lock(), key, bits, count)
}

/// Wakes a waiter on the word at `address` of the current space, for the kernel's own wakes. As on Linux, one without the private flag.
pub fn wake_address(address: usize) {
    if let Ok(key) = key(address, true) {
        wake_key(key, u32::MAX, 1);
    }
}

type Locked = MutexGuard<'static, Vec<Waiter>>;

/// Two buckets, `a`'s first, locked in the order of their numbers; one if they are the same.
fn lock_two(a: usize, b: usize) -> (Locked, Option<Locked>) {
    if a == b {
        return (TABLE[a].lock(), None);
    }
    let low = TABLE[a.min(b)].lock();
    let high = TABLE[a.max(b)].lock();
    if a < b { (low, Some(high)) } else { (high, Some(low)) }
}

fn requeue(from: usize, to: usize, shared: bool, wake: usize, move_count: usize, expected: Option<u32>) -> SysResult {
    let (key1, key2) = (key(from, shared)?, key(to, shared)?);
    let total;
    loop {
        let (mut first, mut second) = lock_two(key1.bucket(), key2.bucket());
        if let Some(expected) = expected {
            match umem::load_u32_nofault(from) {
                Some(word) if word != expected => return Err(EAGAIN),
                Some(_) => {}
                None => {
                    drop((first, second));
                    read_word(from)?;
                    continue;
                }
            }
        }
        let taken = take(&mut first, key1, u32::MAX, wake);
        let mut moved = 0;
        let mut full = false;
        first.retain_mut(|waiter| {
            if full || moved == move_count || waiter.key != key1 {
                return true;
            }
            if let Some(second) = second.as_mut().filter(|_| key1 != key2) {
                full = second.try_reserve(1).is_err();
                if full {
                    return true;
                }
                // SAFETY: both buckets are locked.
                of(unsafe { &*waiter.thread }).futex.bucket.store(key2.bucket(), Ordering::Relaxed);
                second.push(Waiter { key: key2, ..*waiter });
            }
            waiter.key = key2;
            moved += 1;
            second.is_none()
        });
        total = taken + moved;
        break;
    }
    Ok(total)
}

fn wake_op(a: usize, b: usize, shared: bool, wake1: usize, wake2: usize, op: u32) -> SysResult {
    let (key1, key2) = (key(a, shared)?, key(b, shared)?);
    let sign = |v: u32| ((v << 20) as i32 >> 20) as u32;
    let (operation, compare) = (op >> 28, op >> 24 & 0xf);
    let (mut arg, against) = (sign(op >> 12 & 0xfff), sign(op & 0xfff) as i32);
    if operation & 8 != 0 {
        arg = 1u32.wrapping_shl(arg);
    }
    let total;
    'retry: loop {
        let (mut first, mut second) = lock_two(key1.bucket(), key2.bucket());
        let old = loop {
            let found = umem::load_u32_nofault(b).and_then(|old| {
                let new = match operation & 7 {
                    0 => arg,
                    1 => old.wrapping_add(arg),
                    2 => old | arg,
                    3 => old & !arg,
                    4 => old ^ arg,
                    _ => return Some(Err(ENOSYS)),
                };
                umem::cmpxchg_u32_nofault(b, old, new).map(|seen| Ok((seen == old).then_some(old)))
            });
            match found {
                Some(Err(e)) => return Err(e),
                Some(Ok(Some(old))) => break old,
                Some(Ok(None)) => {}
                None => {
                    drop((first, second));
                    // Brings the page in writable, changing nothing.
                    super::vm::touch_write(b)?;
                    continue 'retry;
                }
            }
        };
        let old = old as i32;
        let also = match compare {
            0 => old == against,
            1 => old != against,
            2 => old < against,
            3 => old <= against,
            4 => old > against,
            5 => old >= against,
            _ => return Err(ENOSYS),
        };
        let mut taken = take(&mut first, key1, u32::MAX, wake1);
        if also {
            let list = second.as_mut().unwrap_or(&mut first);
            taken += take(list, key2, u32::MAX, wake2);
        }
        total = taken;
        break;
    }
    Ok(total)
}

/// `futex`
pub fn futex(r: &mut UserRegs) -> SysResult {
    let (address, op, value) = (r.a0(), r.a1() as u32, r.a2() as u32);
    let (timeout, address2, value3) = (r.a3(), r.a4(), r.a5() as u32);
    let shared = op & l::FUTEX_PRIVATE_FLAG == 0;
    let realtime = op & l::FUTEX_CLOCK_REALTIME != 0;
    let command = op & !(l::FUTEX_PRIVATE_FLAG | l::FUTEX_CLOCK_REALTIME);
    if realtime && !matches!(command, l::FUTEX_WAIT_BITSET | 11 | 13) {
        return Err(ENOSYS);
    }
    let count = |v: u32| (v as i32).max(0) as usize;
    // A count below one wakes one, as Linux's loop does.
    let wakes = |v: u32| (v as i32).max(1) as usize;
    match command {
        l::FUTEX_WAIT => {
            let deadline = time::read_timeout(timeout)?.map(deadline_after);
            wait(address, shared, value, u32::MAX, deadline)
        }
        l::FUTEX_WAIT_BITSET => {
            let deadline = time::read_timeout(timeout)?.map(|at| if realtime { time::from_realtime(at) } else { at });
            wait(address, shared, value, value3, deadline)
        }
        l::FUTEX_WAKE => Ok(wake_key(key(address, shared)?, u32::MAX, wakes(value))),
        l::FUTEX_WAKE_BITSET => {
            if value3 == 0 {
                return Err(EINVAL);
            }
            Ok(wake_key(key(address, shared)?, value3, wakes(value)))
        }
        l::FUTEX_REQUEUE | l::FUTEX_CMP_REQUEUE => {
            if (value as i32) < 0 || (timeout as i32) < 0 {
                return Err(EINVAL);
            }
            let expected = (command == l::FUTEX_CMP_REQUEUE).then_some(value3);
            requeue(address, address2, shared, count(value), count(timeout as u32), expected)
        }
        l::FUTEX_WAKE_OP => wake_op(address, address2, shared, wakes(value), wakes(timeout as u32), value3),
        _ => Err(ENOSYS),
    }
}
