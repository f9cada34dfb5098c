//! Pipes: 64 KiB unless a program says how much, writes of up to 4 KiB in one piece.

mod end;

pub use end::End;

use super::rights::{self, Rights};
use super::{UserIo, inode, poll};
use crate::mem::page::KernelPage;
use crate::proc::charge::Found;
use crate::proc::process::arc;
use crate::proc::signal;
use crate::proc::sleep::wait_on;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use quire_base::errno::*;
use quire_base::lock::Mutex;
use quire_sched::WaitQueue;
use quire_sched::{SleepGuard, SleepMutex};

/// Slots of a new pipe.
const SLOTS: usize = 16;
/// The most that a program may ask for (Linux's pipe-max-size).
const MOST: usize = (1 << 20) / PAGE;
const PAGE: usize = 4096;

/// A page with bytes in it.
struct Slot {
    page: KernelPage,
    start: usize,
    end: usize,
    /// It began with files or is a packet, and nothing is put behind its bytes.
    alone: bool,
    /// A packet (O_DIRECT): what a read has no room for is dropped.
    packet: bool,
    /// The files, until a reader has them.
    rights: Option<Rights>,
}

/// The pipe between its ends.
pub struct Pipe {
    ino: u64,
    /// Held while bytes move to or from programs.
    slots: SleepMutex<VecDeque<Slot>>,
    /// Bytes inside; changed by the slots' holder, read by pollers.
    len: AtomicUsize,
    /// Slots in use; likewise.
    used: AtomicUsize,
    /// How many there may be; likewise.
    most: AtomicUsize,
    /// Writes and reads so far, and ends that have gone in both, for [`File::edges`](super::File::edges).
    writes: AtomicU64,
    reads: AtomicU64,
    /// Open ends; they change under the lock of `opened`.
    readers: AtomicUsize,
    writers: AtomicUsize,
    /// How often an end was opened, for reading and for writing. An open that waits for its partner waits for the count to change: the
    /// partner itself may be gone again when the waiter runs.
    opened: Mutex<[u64; 2]>,
    /// Its readers take what is inside, and nothing more.
    shut: AtomicBool,
    /// It has carried files.
    carrier: AtomicBool,
    /// What the files inside weigh, as [`Pipe::held`] has found.
    carried: Found,
    /// Wakes readers.
    filled: WaitQueue,
    /// Wakes writers.
    drained: WaitQueue,
}

impl Pipe {
    /// A pipe without ends.
    pub fn new() -> Result<Arc<Self>, Errno> {
        arc(Pipe {
            ino: inode::new_number(),
            slots: SleepMutex::new(VecDeque::new()),
            len: AtomicUsize::new(0),
            used: AtomicUsize::new(0),
            most: AtomicUsize::new(SLOTS),
            writes: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            readers: AtomicUsize::new(0),
            writers: AtomicUsize::new(0),
            opened: Mutex::new([0; 2]),
            shut: AtomicBool::new(false),
            carrier: AtomicBool::new(false),
            carried: Found::new(),
            filled: WaitQueue::new(),
            drained: WaitQueue::new(),
        })
    }
    /// Number for `pipe:[n]`.
    pub fn number(&self) -> u64 {
        self.ino
    }
    fn len(&self) -> usize {
        self.len.load(Ordering::SeqCst)
    }
    fn has_writers(&self) -> bool {
        self.writers.load(Ordering::SeqCst) > 0
    }
    fn has_readers(&self) -> bool {
        self.readers.load(Ordering::SeqCst) > 0
    }
    /// Whether more bytes may come.
    fn is_open(&self) -> bool {
        self.has_writers() && !self.shut.load(Ordering::SeqCst)
    }
    /// Whether somebody takes more bytes.
    fn takes(&self) -> bool {
        self.has_readers() && !self.shut.load(Ordering::SeqCst)
    }

    /// What is inside, for one of its ends; see [`File::held`].
    fn held(&self, deep: bool) -> u64 {
        let ends = self.readers.load(Ordering::SeqCst) + self.writers.load(Ordering::SeqCst);
        let look = || {
            let slots = self.slots.try_lock()?;
            let sum = slots.iter().flat_map(|slot| &slot.rights).map(Rights::held).sum();
            self.let_go(slots);
            Some(sum).filter(|_| !signal::is_dying())
        };
        let carried = if deep && self.carrier.load(Ordering::SeqCst) { self.carried.get(look) } else { 0 };
        ((self.used.load(Ordering::SeqCst) * PAGE) as u64 + carried) / ends.max(1) as u64
    }

    fn is_full(&self) -> bool {
        self.used.load(Ordering::SeqCst) >= self.most.load(Ordering::SeqCst)
    }
    /// Bytes that it holds at most.
    pub fn capacity(&self) -> usize {
        self.most.load(Ordering::SeqCst) * PAGE
    }
    /// Sets the capacity, rounded up to pages and a power of two. EBUSY: there is more inside.
    pub fn set_capacity(&self, bytes: usize) -> SysResult {
        if bytes > 1 << 31 {
            return Err(EINVAL);
        }
        let most = bytes.div_ceil(PAGE).max(1).next_power_of_two();
        if most > MOST {
            return Err(EPERM);
        }
        let slots = self.slots.lock();
        let fits = slots.len() <= most;
        if fits {
            self.most.store(most, Ordering::SeqCst);
        }
        self.let_go(slots);
        if !fits {
            return Err(EBUSY);
        }
        self.drained.wake_all();
        poll::notify();
        Ok(most * PAGE)
    }

    /// Readers and writers look again.
    fn wake_both(&self) {
        self.filled.wake_all();
        self.drained.wake_all();
    }

    /// There is something new.
    fn tell_readers(&self) {
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.filled.wake_all();
        poll::notify();
    }

    /// Files that come with the bytes go to `rights`; without a place for them they are dropped.
    fn read(&self, io: &mut UserIo, nonblock: bool, peek: bool, rights: &mut Option<Rights>) -> SysResult {
        if io.left() == 0 {
            return Ok(0);
        }
        loop {
            let mut slots = self.slots.lock();
            if self.len() > 0 {
                if peek {
                    return copy(&slots, io, rights);
                }
                let result = self.drain(&mut slots, io, rights);
                drop(slots);
                self.reads.fetch_add(1, Ordering::SeqCst);
                self.drained.wake_all();
                poll::notify();
                return result;
            }
            // Asked while the lock is held: writers need it, so what the last of them wrote before it went would have been seen above.
            let ended = !self.is_open();
            drop(slots);
            if ended {
                return Ok(0);
            }
            if nonblock {
                return Err(EAGAIN);
            }
            wait_on(&self.filled, None, || (self.len() > 0 || !self.is_open()).then_some(()))?;
        }
    }

    /// As on Linux, what a slot gives is taken when the program has all of it: nothing is lost in a page that is not there.
    fn drain(&self, slots: &mut VecDeque<Slot>, io: &mut UserIo, rights: &mut Option<Rights>) -> SysResult {
        let mut done = 0;
        while io.left() > 0
            && let Some(slot) = slots.front_mut()
        {
            let run = (slot.end - slot.start).min(io.left());
            if io.put(&slot.page[slot.start..slot.start + run]) < run {
                return if done > 0 { Ok(done) } else { Err(EFAULT) };
            }
            done += run;
            let gone = if slot.packet { slot.end - slot.start } else { run };
            slot.start += gone;
            self.len.fetch_sub(gone, Ordering::SeqCst);
            let (packet, came) = (slot.packet, slot.rights.take());
            if slot.start == slot.end {
                slots.pop_front();
                self.used.fetch_sub(1, Ordering::SeqCst);
            }
            // As on Linux, a message with files is the last that is read at once, and so is a packet.
            if came.is_some() {
                *rights = came;
                break;
            }
            if packet {
                break;
            }
        }
        Ok(done)
    }

    /// Drops the files that are inside, which nobody can receive any more; their bytes stay. Waits for nobody: whoever has the slots does
    /// it when he has let go of them ([`Pipe::let_go`]). So no `drop` of a file waits, whoever has the last reference.
    pub fn drop_rights(&self) {
        loop {
            let Some(mut slots) = self.slots.try_lock() else { return };
            let found = slots.iter_mut().find_map(|slot| slot.rights.take());
            drop(slots);
            if found.is_none() {
                return;
            }
        }
    }

    /// Lets go of the slots. The last reader may have gone meanwhile.
    fn let_go(&self, slots: SleepGuard<'_, VecDeque<Slot>>) {
        drop(slots);
        // Pairs with the last reader, who counts himself out first and tries the lock then: one of the two sees the other.
        fence(Ordering::SeqCst);
        if !self.has_readers() && self.carrier.load(Ordering::SeqCst) {
            self.drop_rights();
        }
    }

    fn write(
        self: &Arc<Self>,
        io: &mut UserIo,
        nonblock: bool,
        packets: bool,
        mut rights: Option<Rights>,
    ) -> SysResult {
        if io.left() == 0 {
            return Ok(0);
        }
        if rights.is_some() {
            self.carrier.store(true, Ordering::SeqCst);
            rights::carries(self);
        }
        let mut done = 0;
        let mut slots = self.slots.lock();
        if !self.takes() {
            self.let_go(slots);
            return Err(EPIPE);
        }
        // As on Linux, what exceeds whole pages goes behind the last bytes if it fits there, and every other page of the
        // write gets a slot of its own. So a write of up to a page is never mixed with others.
        let odd = io.left() % PAGE;
        if odd > 0
            && rights.is_none()
            && !packets
            && let Some(slot) = slots.back_mut()
            && !slot.alone
            && slot.end + odd <= PAGE
        {
            if io.get(&mut slot.page[slot.end..slot.end + odd]) < odd {
                self.let_go(slots);
                return Err(EFAULT);
            }
            slot.end += odd;
            self.len.fetch_add(odd, Ordering::SeqCst);
            done += odd;
        }
        let mut spare = None;
        let result = loop {
            if io.left() == 0 {
                break Ok(());
            }
            if !self.takes() {
                break Err(EPIPE);
            }
            if !self.is_full() {
                let Some(page) = spare.take().or_else(KernelPage::new) else {
                    // Whoever gives memory back may want this pipe first.
                    self.let_go(slots);
                    self.tell_readers();
                    spare = crate::swap::shortage::page();
                    slots = self.slots.lock();
                    if spare.is_none() {
                        break Err(ENOMEM);
                    }
                    continue;
                };
                match self.fill(&mut slots, page, io, packets, &mut rights) {
                    Ok(n) => done += n,
                    Err(e) => break Err(e),
                }
                continue;
            }
            if nonblock {
                break Err(EAGAIN);
            }
            self.let_go(slots);
            self.tell_readers();
            let room = wait_on(&self.drained, None, || (!self.is_full() || !self.takes()).then_some(()));
            if let Err(e) = room {
                return if done > 0 { Ok(done) } else { Err(e) };
            }
            slots = self.slots.lock();
        };
        self.let_go(slots);
        self.tell_readers();
        match result {
            Err(e) if done == 0 => Err(e),
            _ => Ok(done),
        }
    }

    /// One page of a write; it goes in whole or, when the program's memory ends in it, not at all.
    fn fill(
        &self,
        slots: &mut VecDeque<Slot>,
        mut page: KernelPage,
        io: &mut UserIo,
        packet: bool,
        rights: &mut Option<Rights>,
    ) -> SysResult {
        let want = io.left().min(PAGE);
        slots.try_reserve(1).map_err(|_| ENOMEM)?;
        if io.get(&mut page[..want]) < want {
            return Err(EFAULT);
        }
        let alone = packet || rights.is_some();
        slots.push_back(Slot { page, start: 0, end: want, alone, packet, rights: rights.take() });
        self.used.fetch_add(1, Ordering::SeqCst);
        self.len.fetch_add(want, Ordering::SeqCst);
        Ok(want)
    }
}

/// Copies what is inside, and leaves it there.
fn copy(slots: &VecDeque<Slot>, io: &mut UserIo, rights: &mut Option<Rights>) -> SysResult {
    let mut done = 0;
    for slot in slots {
        let run = (slot.end - slot.start).min(io.left());
        if io.put(&slot.page[slot.start..slot.start + run]) < run {
            return if done > 0 { Ok(done) } else { Err(EFAULT) };
        }
        done += run;
        if let Some(inside) = &slot.rights {
            *rights = Some(inside.copy()?);
            break;
        }
    }
    Ok(done)
}

impl Drop for Pipe {
    fn drop(&mut self) {
        if *self.carrier.get_mut() {
            rights::carries_no_more(self.ino);
        }
    }
}
