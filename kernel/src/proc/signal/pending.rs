//! Signals that wait, with what they carry, and how many there may be.
//!
//! A signal in a queue has a *place*, and so has a timer of a program's own, for the signal that it may send. Places are counted for all
//! processes together, since everybody is root; RLIMIT_SIGPENDING of whoever is to get the signal says how many there may be. As on Linux, `kill`
//! and the kernel obey no limit with standard signals. What finds no place is refused if it is a real-time signal with something to
//! carry; others are pending without what they carry.

use super::{Detail, SYNCHRONOUS, SigInfo, bit, code};
use crate::mem::heap_has;
use alloc::collections::BTreeMap;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The first real-time signal.
const REAL_TIME: u8 = 32;

/// Bytes of the heap that one more signal or timer may need: a node of the map.
const ROOM: usize = 2048;

static PLACES: AtomicU64 = AtomicU64::new(0);

/// How many places are taken.
pub fn places() -> u64 {
    PLACES.load(Relaxed)
}

/// One signal's place; it is free when the value goes. Relaxed, all: a count, which orders nothing.
pub struct Place(());

impl Place {
    /// A place, if fewer than `limit` are taken and there is memory for it.
    pub fn take(limit: u64) -> Option<Place> {
        let more = |taken| (taken < limit).then_some(taken + 1);
        heap_has(ROOM).then(|| PLACES.fetch_update(Relaxed, Relaxed, more).ok())?.map(|_| Place(()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        PLACES.fetch_sub(1, Relaxed);
    }
}

/// A signal in a queue, with its place. A timer has one of its own.
struct Queued {
    info: SigInfo,
    _place: Option<Place>,
}

/// A set of pending signals with what they carry.
pub struct Pending {
    bits: u64,
    /// By number, then in the order in which they came.
    queue: BTreeMap<(u8, u64), Queued>,
    /// The number behind the last one that came.
    next: u64,
}

impl Pending {
    /// Nothing pending.
    pub const fn new() -> Self {
        Pending { bits: 0, queue: BTreeMap::new(), next: 0 }
    }

    /// The pending signals.
    pub fn bits(&self) -> u64 {
        self.bits
    }

    /// How many signals of this set are queued with what they carry.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Adds a signal, where there may be `limit` places; a standard signal that is already pending is merged. False: it is lost.
    pub fn push(&mut self, info: SigInfo, limit: u64) -> bool {
        let (bit, standard) = (bit(info.signal), info.signal < REAL_TIME);
        // A timer of the program's own looks itself whether its signal is pending, and shares the number with others.
        let of_timer = info.code == code::TIMER;
        if standard && self.bits & bit != 0 && !of_timer {
            return true;
        }
        let place = match of_timer {
            true => None,
            false => match Place::take(if standard && info.code >= code::USER { u64::MAX } else { limit }) {
                None if !standard && info.code != code::USER => return false,
                None => {
                    self.bits |= bit;
                    return true;
                }
                place => place,
            },
        };
        self.bits |= bit;
        self.queue.insert((info.signal, self.next), Queued { info, _place: place });
        self.next += 1;
        true
    }

    fn of(&self, signal: u8) -> impl Iterator<Item = (&(u8, u64), &Queued)> {
        self.queue.range((signal, 0)..=(signal, u64::MAX))
    }

    /// Whether the signal of the timer `id` is pending.
    pub fn has_timer(&self, signal: u8, id: i32) -> bool {
        self.of(signal).any(|(_, Queued { info, .. })| {
            info.code == code::TIMER && matches!(info.detail, Detail::Queued { pid, .. } if pid == id as u32)
        })
    }

    /// Takes the signal to be handled next, if one is not in `blocked`.
    pub fn pop(&mut self, blocked: u64) -> Option<SigInfo> {
        let open = self.bits & !blocked;
        let from = if open & SYNCHRONOUS != 0 { open & SYNCHRONOUS } else { open };
        if from == 0 {
            return None;
        }
        let signal = from.trailing_zeros() as u8 + 1;
        let first = self.of(signal).next().map(|(&key, _)| key);
        let info = first.and_then(|key| self.queue.remove(&key)).map(|queued| queued.info);
        if self.of(signal).next().is_none() {
            self.bits &= !bit(signal);
        }
        Some(info.unwrap_or(SigInfo { signal, errno: 0, code: code::USER, detail: Detail::Sender { pid: 0, uid: 0 } }))
    }

    /// Forgets the signals of `mask`.
    pub fn remove(&mut self, mask: u64) {
        self.bits &= !mask;
        self.queue.retain(|&(signal, _), _| bit(signal) & mask == 0);
    }
}
