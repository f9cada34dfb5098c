//! Range claims: who edits which pages of an arena. Faults take none. Edits of disjoint ranges do not wait for each other here, apart from
//! the few instructions in which another one draws its ticket, and unless all the arena's seats are taken.
//!
//! 1. An operation takes all the seats it needs, or none, with one compare-and-swap on the free mask; so it does not wait while it
//!    holds only some of its seats. One does: a scan that takes every seat ([`Claims::all`]) keeps what it has and waits for the rest.
//!    Whoever has these needs no further seat here.
//! 2. It marks its seats *choosing*, draws a ticket, writes the ranges, then the ticket.
//! 3. It waits for every overlapping claim with an older ticket. A seat that is choosing may be older: wait until it has chosen.
//!
//! *No older claim is overlooked.* The draw is a read-modify-write (AcqRel). Whoever draws a later ticket sees what came before each
//! earlier draw: that the seats were taken, and that they were marked as choosing. No other ordering is needed for that.
//!
//! ```text
//! A   takes a seat; marks it as choosing; draws 7       writes its range, then 7 into the seat
//! B                                               draws 8; finds the seat taken; waits while it is choosing; finds 7, reads the range
//! ```
//!
//! *No circle of waits.* An operation on several arenas claims them one after the other, in ascending order, each completely. So while it
//! holds a claim it waits only for claims in a higher arena, or for older tickets in the same one.
//!
//! *A range is that of the ticket, or the claim with that ticket is over.* A seat's range is written while the seat is choosing, and read
//! after its ticket. So B, which has found 7 there, reads one of two ranges:
//!
//! | the range of | what follows |
//! |---|---|
//! | the claim 7 | B waits if it overlaps B's own |
//! | a later owner of the seat | the claim 7 is over, and the later owner is not older than B: B need not wait |
//!
//! In the second case B sees all that was done under 7: its end, the seat that is taken again, and the later range are each a Release that
//! is read with Acquire. And had the later owner drawn before B, then B's draw would have seen that the seat was choosing again: B would not have found 7.

use crate::bits::bits;
use crate::machine::{Machine, What};
use crate::memory::Memory;
use crate::sizes::CLAIMS as SEATS;
use crate::stats::Counter;
use crate::sync::{AtomicU64, Ordering::*};

/// All seats.
const ALL: u64 = (1 << SEATS) - 1;
const CHOOSING: u64 = 1;

/// What is waited for here.
static FREE: What = What::page("a free place for a claim");
static OLDER: What = What::page("an older claim of the arena, over");
static ALL_SEATS: What =
    What { text: "all claims of an arena, of which it has", show: |mask, f| write!(f, "{mask:#x}") };

#[derive(Debug)]
struct Seat {
    /// 0 free, 1 choosing, else the ticket.
    ticket: AtomicU64,
    /// First page, and the page behind the last in the upper half.
    range: AtomicU64,
}

/// The claims of one arena.
#[derive(Debug)]
pub(crate) struct Claims {
    free: AtomicU64,
    next: AtomicU64,
    seats: [Seat; SEATS],
}

/// Claimed ranges, released on drop.
#[must_use]
#[derive(Debug)]
pub(crate) struct Claim<'a> {
    claims: &'a Claims,
    mask: u64,
}

fn pack(lo: u32, hi: u32) -> u64 {
    lo as u64 | (hi as u64) << 32
}

fn overlap(range: u64, lo: u32, hi: u32) -> bool {
    (range as u32) < hi && lo < (range >> 32) as u32
}

impl Claims {
    pub fn new() -> Claims {
        Claims {
            free: AtomicU64::new(ALL),
            next: AtomicU64::new(CHOOSING + 1),
            seats: core::array::from_fn(|_| Seat { ticket: AtomicU64::new(0), range: AtomicU64::new(0) }),
        }
    }

    /// Claims one range; as [`Claims::acquire`], for the case that nobody is in the way.
    #[inline(always)]
    pub fn acquire_one<M: Machine>(&self, memory: &Memory<M>, lo: u32, hi: u32) -> Claim<'_> {
        memory.machine.may_wait();
        let free = self.free.load(Relaxed);
        let mask = free & free.wrapping_neg();
        if mask == 0 || self.free.compare_exchange(free, free & !mask, AcqRel, Relaxed).is_err() {
            return self.acquire_slowly(memory, lo, hi);
        }
        let seat = &self.seats[mask.trailing_zeros() as usize % SEATS];
        seat.ticket.store(CHOOSING, Release);
        let ticket = self.next.fetch_add(1, AcqRel);
        seat.range.store(pack(lo, hi), Release);
        seat.ticket.store(ticket, Release);
        if !self.free.load(Acquire) & !mask & ALL != 0 {
            self.wait_others(memory, mask, lo, hi, ticket);
        }
        Claim { claims: self, mask }
    }

    #[cold]
    #[inline(never)]
    fn acquire_slowly<M: Machine>(&self, memory: &Memory<M>, lo: u32, hi: u32) -> Claim<'_> {
        self.acquire(memory, &[(lo, hi)])
    }

    #[cold]
    #[inline(never)]
    fn wait_others<M: Machine>(&self, memory: &Memory<M>, mask: u64, lo: u32, hi: u32, ticket: u64) {
        self.wait_older(memory, mask, &[(lo, hi)], ticket);
    }

    /// Claims one or two ranges; returns when no older claim overlaps them. Gives the CPU away while it waits.
    pub fn acquire<M: Machine>(&self, memory: &Memory<M>, ranges: &[(u32, u32)]) -> Claim<'_> {
        memory.machine.may_wait();
        let mut since = 0;
        let mask = loop {
            let free = self.free.load(Relaxed);
            let mut rest = free;
            for _ in ranges {
                rest &= rest.wrapping_sub(1);
            }
            let mask = free & !rest;
            if mask.count_ones() as usize != ranges.len() {
                memory.stats.add(&memory.machine, Counter::WaitClaim, 1);
                since = memory.pause(&FREE, 0, since);
                continue;
            }
            if self.free.compare_exchange(free, rest, AcqRel, Relaxed).is_ok() {
                break mask;
            }
            memory.stats.add(&memory.machine, Counter::RetryClaim, 1);
        };
        let mine = || bits(mask).map(|i| &self.seats[i]);
        mine().for_each(|s| s.ticket.store(CHOOSING, Release));
        let ticket = self.next.fetch_add(1, AcqRel);
        for (seat, &(lo, hi)) in mine().zip(ranges) {
            seat.range.store(pack(lo, hi), Release);
            seat.ticket.store(ticket, Release);
        }
        self.wait_older(memory, mask, ranges, ticket);
        Claim { claims: self, mask }
    }

    /// Step 3.
    fn wait_older<M: Machine>(&self, memory: &Memory<M>, mask: u64, ranges: &[(u32, u32)], ticket: u64) {
        // An older claim has cleared its seat's bit before it drew its ticket, which our draw has read (or a later one): the bits
        // that are set belong to nobody that we must wait for.
        let taken = !self.free.load(Acquire) & !mask & ALL;
        for i in bits(taken) {
            for &(lo, hi) in ranges {
                self.wait_seat(memory, i, lo, hi, ticket);
            }
        }
    }

    /// Waits while seat `i` may hold a claim over `lo .. hi` older than `ticket`.
    fn wait_seat<M: Machine>(&self, memory: &Memory<M>, i: usize, lo: u32, hi: u32, ticket: u64) {
        let seat = &self.seats[i];
        let mut since = 0;
        loop {
            // Acquire: pairs with the holder's release, so its edit is seen by whoever went past it.
            let t = seat.ticket.load(Acquire);
            if t == 0 || t >= ticket {
                return;
            }
            if t != CHOOSING && !overlap(seat.range.load(Acquire), lo, hi) {
                return;
            }
            memory.stats.add(&memory.machine, Counter::WaitClaim, 1);
            since = memory.pause(&OLDER, lo.into(), since);
        }
    }

    /// Takes every seat, as those who hold some give them back: nobody else edits then. One at a time: the caller sees to that. It
    /// holds no claim anywhere, and no scan that an edit might wait for.
    pub fn all<M: Machine>(&self, memory: &Memory<M>) -> Claim<'_> {
        memory.machine.may_wait();
        // Seats without tickets are in nobody's way.
        let mut all = Claim { claims: self, mask: 0 };
        let mut since = 0;
        loop {
            let free = self.free.load(Relaxed);
            // Acquire: the edits that are over are seen.
            if free != 0 && self.free.compare_exchange(free, 0, AcqRel, Relaxed).is_ok() {
                all.mask |= free;
            }
            if all.mask == ALL {
                return all;
            }
            since = memory.pause(&ALL_SEATS, all.mask, since);
        }
    }

    /// Whether any claim is taken or being taken. The caller has fenced (SeqCst). Acquire: the edits that are over are seen.
    pub fn any(&self) -> bool {
        self.free.load(Acquire) != ALL
    }

    /// The end of a claim that overlaps `lo .. hi` as it looks now, for a caller that may as well go elsewhere. Relaxed: a hint.
    #[inline]
    pub fn over(&self, lo: u32, hi: u32) -> Option<u32> {
        if self.free.load(Relaxed) == ALL { None } else { self.over_taken(lo, hi) }
    }

    #[cold]
    fn over_taken(&self, lo: u32, hi: u32) -> Option<u32> {
        let taken = !self.free.load(Relaxed) & ALL;
        bits(taken).map(|i| &self.seats[i]).find_map(|seat| {
            let range = seat.range.load(Relaxed);
            (seat.ticket.load(Relaxed) > CHOOSING && overlap(range, lo, hi)).then_some((range >> 32) as u32)
        })
    }

    /// Waits until every claim that overlaps `lo .. hi` at this moment is gone.
    pub fn wait_for<M: Machine>(&self, memory: &Memory<M>, lo: u32, hi: u32) {
        let now = self.next.load(Acquire);
        // Acquire: pairs with the draw of every ticket below `now`, whose owners had cleared their bits before.
        let taken = !self.free.load(Acquire) & ALL;
        for i in bits(taken) {
            self.wait_seat(memory, i, lo, hi, now);
        }
    }
}

impl Claim<'_> {
    /// Keeps the claim as the mask of its seats, which is not 0, for a caller that holds one in each of many arenas.
    pub fn keep(self) -> u32 {
        let mask = self.mask;
        core::mem::forget(self);
        mask as u32
    }

    /// The claim that was kept as `mask`; it must come from [`Claim::keep`] on these claims, once.
    pub fn kept(claims: &Claims, mask: u32) -> Claim<'_> {
        Claim { claims, mask: mask as u64 }
    }
}

impl Drop for Claim<'_> {
    #[inline]
    fn drop(&mut self) {
        for i in bits(self.mask) {
            // Release: the edit comes before its end.
            self.claims.seats[i].ticket.store(0, Release);
        }
        self.claims.free.fetch_or(self.mask, Release);
    }
}
