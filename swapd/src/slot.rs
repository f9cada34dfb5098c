//! The slot: one 64-bit word for each page of the swap area. The swap cache is the array of these words.
//!
//! ```text
//!                  end_write (ok)                        uncache
//!         Writing ───────────────► Clean, no frame ◄──────────────── Clean, frame
//!  begin_write ▲ │ end_write (error)      │ begin_read                   ▲
//!   answered   │ ▼                        ▼                              │ end_read (ok)
//! Claimed ─► Held Bad, frame           Reading, frame ──────────────────┘
//!   ▲ │ unclaim                           │ end_read (error): Clean, failed
//!   │ ▼
//!   Free ◄──────── release of the last hold, from Held, Clean ── Bad stays Bad
//! ```
//!
//! * *Claimed*: an eviction has chosen the slot for the cached frame, but its entry may not have changed yet, and perhaps will not.
//!   No other eviction joins. *Held*: the content is in the cached frame only. *Writing*: a write is under way. *Clean*: the content is on the disk, a
//!   cached frame, if there is one, equals it. *Reading*: a read into the cached frame is under way. *Bad*: the disk has not
//!   taken the content; the cached frame is all there is of it. A bad slot is never given out again.
//! * The word: holds (20 bits), evictions leaving (10), frame + 1 (29), state (3), ahead (1), failed (1).
//!
//! Rules:
//!
//! * S1. A word changes by one named transition of this file, each one compare-and-swap.
//! * S2. A *hold* keeps the slot what it is: one for each entry that names it, one for a link (a frame whose metadata names the
//!   slot), one for each eviction, read, write or look under way. Only [`SlotWord::claim`] takes a slot without holds.
//! * S3. While *leaving* is not zero, an entry that named the page a moment ago may still be in some CPU's TLB: no read, no
//!   write and no taking back begins. It is raised before the entry changes and lowered after the last answer.
//! * S4. The frame in a word owns one reference to the frame. `claim` and `begin_read` bring it along, the [`Owed`] of other
//!   transitions gives it back.
//! * S5. Whoever takes a cached frame holds the slot, then reads the entry again, then takes the frame's reference, then looks
//!   at the slot again ([`SlotWord::still_caches`]), then changes the entry, and only then lets the slot go. The hold makes the
//!   entry's compare-and-swap a proof: if the entry names the slot then, it named this life of it (model `slot-reuse`). The
//!   second look at the entry keeps a stranger's failed read from being told to the wrong program (model `slot-failure`).
//! * S6. Whoever's transition freed the slot gives its bit back to the map, afterwards ([`Owed::freed`]).
//!
//! | written | read | why |
//! |---|---|---|
//! | `claim` (Release): leaving is 1 | a fault's `hold` (Acquire), after it read the entry that names the slot | it waits for the answers |
//! | `answered` (Release), after the answers | `hold`, `begin_write` (Acquire) | nobody writes the frame any more |
//! | `end_read` (Release), after the device wrote | `hold` (Acquire) | the content is there |
//! | `release` (Release), after a look at frame or slot | `claim` through the map's bit (Acquire) | the last user's look is past |
//! | `try_ref` of the frame (AcqRel) | `still_caches` (a read-modify-write) | a stale look would accept a frame that is a stranger's |
//!
//! None of them is SeqCst: each pair meets in one word.

use quire_mm::Frame;
pub use quire_mm::Slot;
use quire_mm::sync::{AtomicU64, Ordering::*};

/// What a slot is; see the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum State {
    /// Nobody's: no holds, nothing in the word.
    Free = 0,
    /// An eviction that may not happen has chosen it for the cached frame.
    Claimed = 6 << 59,
    /// Content in the cached frame only.
    Held = 1 << 59,
    /// Being written.
    Writing = 2 << 59,
    /// On the disk.
    Clean = 3 << 59,
    /// Being read.
    Reading = 4 << 59,
    /// Never to be used again.
    Bad = 5 << 59,
}

const HOLD: u64 = 1;
const HOLDS: u64 = (1 << 20) - 1;
/// Above this a slot refuses new holds: far from overflow even if every CPU is one step beyond the check.
const HOLD_LIMIT: u64 = HOLDS - 1024;
const LEAVE: u64 = 1 << 20;
const LEAVING: u64 = ((1 << 10) - 1) << 20;
const LEAVE_LIMIT: u64 = LEAVING - 128 * LEAVE;
const FRAME_SHIFT: u32 = 30;
const FRAME: u64 = ((1 << 29) - 1) << FRAME_SHIFT;
const STATE: u64 = 7 << 59;
/// The cached frame came by readahead and nobody has taken it yet.
const AHEAD: u64 = 1 << 62;
/// The last read failed. With a cached frame instead: the scan has met it once and nobody has taken it since.
const FAILED: u64 = 1 << 63;

/// Frames that fit into a word: 2 TiB of memory.
pub const MOST_FRAMES: u32 = (1 << 29) - 1;

/// The value of a slot's word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seen(u64);

impl Seen {
    /// References to the slot.
    pub fn holds(self) -> u64 {
        self.0 & HOLDS
    }

    /// Evictions whose answers are not in.
    pub fn leaving(self) -> u64 {
        (self.0 & LEAVING) / LEAVE
    }

    /// The state.
    pub fn state(self) -> State {
        match self.0 & STATE {
            s if s == State::Claimed as u64 => State::Claimed,
            s if s == State::Held as u64 => State::Held,
            s if s == State::Writing as u64 => State::Writing,
            s if s == State::Clean as u64 => State::Clean,
            s if s == State::Reading as u64 => State::Reading,
            s if s == State::Bad as u64 => State::Bad,
            _ => State::Free,
        }
    }

    /// The cached frame.
    pub fn frame(self) -> Option<Frame> {
        ((self.0 & FRAME) >> FRAME_SHIFT).checked_sub(1).map(|f| Frame(f as u32))
    }

    /// Whether the frame came by readahead and was not taken yet.
    pub fn is_ahead(self) -> bool {
        self.0 & AHEAD != 0
    }

    /// Whether the last read failed.
    pub fn is_failed(self) -> bool {
        self.0 & FAILED != 0 && self.frame().is_none()
    }

    /// Whether whoever wants the content has to wait: for answers or for a read.
    pub fn must_wait(self) -> bool {
        self.leaving() != 0 || self.state() == State::Reading
    }

    fn in_state(self, s: State) -> Seen {
        Seen(self.0 & !STATE | s as u64)
    }

    fn without_frame(self) -> Seen {
        Seen(self.0 & !(FRAME | AHEAD | FAILED))
    }

    fn with_frame(self, f: Frame) -> Seen {
        debug_assert!(f.0 < MOST_FRAMES);
        Seen(self.0 & !FRAME | (f.0 as u64 + 1) << FRAME_SHIFT)
    }

    /// The word after `n` holds are gone, and what that leaves to do.
    fn dropped(self, n: u64) -> (Seen, Owed) {
        debug_assert!(self.holds() >= n, "a slot was released more often than held: {self:?}");
        let left = Seen(self.0.wrapping_sub(n * HOLD));
        if left.holds() != 0 {
            return (left, Owed::default());
        }
        let owed = Owed { frame: self.frame(), freed: self.state() != State::Bad, write: false };
        (Seen(if owed.freed { State::Free } else { State::Bad } as u64), owed)
    }
}

impl core::fmt::Debug for Seen {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?} holds {} leaving {} {:?}", self.state(), self.holds(), self.leaving(), self.frame())
    }
}

/// What a transition leaves to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[must_use = "a frame's reference, a slot's bit or a write would be lost"]
pub struct Owed {
    /// A reference to this frame is the caller's now.
    pub frame: Option<Frame>,
    /// The slot is free: its bit goes back to the map.
    pub freed: bool,
    /// The slot's content waits to be written.
    pub write: bool,
}

/// The transition does not apply: another one came first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Not(pub Seen);

/// One slot.
#[derive(Debug)]
#[repr(transparent)]
pub struct SlotWord(AtomicU64);

impl SlotWord {
    /// A free slot.
    pub fn new() -> SlotWord {
        SlotWord(AtomicU64::new(0))
    }

    /// Marks a slot that must not be used, before anybody uses the area.
    pub fn forbid(&self) {
        self.0.store(State::Bad as u64, Relaxed);
    }

    /// The word.
    pub fn look(&self) -> Seen {
        Seen(self.0.load(Acquire))
    }

    fn change<R>(&self, step: impl Fn(Seen) -> Option<(Seen, R)>) -> Result<R, Not> {
        let mut now = self.look();
        loop {
            let Some((next, result)) = step(now) else { return Err(Not(now)) };
            match self.0.compare_exchange(now.0, next.0, AcqRel, Acquire) {
                Ok(_) => return Ok(result),
                Err(v) => now = Seen(v),
            }
        }
    }

    /// `Free -> Claimed`, by whoever took the slot's bit: two holds (the entry's to be and the eviction's), leaving.
    /// The frame's reference is the evicted entry's: on [`SlotWord::unclaim`] it is the entry's again.
    pub fn claim(&self, frame: Frame) -> Result<(), Not> {
        self.change(|now| {
            let next = Seen(2 * HOLD + LEAVE).in_state(State::Claimed).with_frame(frame);
            (now.0 == State::Free as u64).then_some((next, ()))
        })
    }

    /// `Claimed -> Free`: the eviction did not happen, its entry had changed. The frame stays with the entry. Nobody else is
    /// leaving to this slot, since [`SlotWord::leave`] refuses it until now.
    pub fn unclaim(&self) -> Result<Owed, Not> {
        self.change(|now| {
            let (next, mut owed) = Seen(now.without_frame().0 - LEAVE).dropped(2);
            owed.frame = None;
            (now.state() == State::Claimed && now.leaving() == 1).then_some((next, owed))
        })
    }

    /// One more hold, unless the slot has none (it may be anybody's then) or too many. Returns the word as it was.
    pub fn hold(&self) -> Result<Seen, Not> {
        self.change(|now| {
            let can = now.holds() != 0 && now.holds() < HOLD_LIMIT;
            can.then_some((Seen(now.0 + HOLD), now))
        })
    }

    /// `n` holds fewer; with the last one the slot is free.
    pub fn release(&self, n: u64) -> Owed {
        let step = |now: Seen| (now.holds() >= n).then(|| now.dropped(n));
        self.change(step).unwrap_or_else(|Not(seen)| panic!("a slot was released more often than held: {seen:?}"))
    }

    /// A further eviction to a slot that has the page's content: one hold for the entry to be, one for the eviction, leaving.
    /// The slot must have the content in a frame or on the disk, so `Reading` and `Bad` refuse; and it must keep it, so `Claimed`
    /// does: a frame may have a note of a slot that it has left long ago and that is claimed for it again. Returns the word as it was: the
    /// caller checks that it is still the slot of its page, and goes back by [`SlotWord::stay`] if not.
    pub fn leave(&self) -> Result<Seen, Not> {
        self.change(|now| {
            let good = matches!(now.state(), State::Held | State::Writing | State::Clean) && now.holds() != 0;
            let room = now.holds() < HOLD_LIMIT && now.0 & LEAVING < LEAVE_LIMIT;
            (good && room).then_some((Seen(now.0 + 2 * HOLD + LEAVE), now))
        })
    }

    /// Undoes [`SlotWord::leave`].
    pub fn stay(&self) -> Owed {
        self.arrive(2)
    }

    /// All CPUs have answered an eviction: the slot may be used, as soon as no other one is leaving. `Claimed -> Held`.
    /// [`Owed::write`]: the content waits to be written, and nobody else knows.
    pub fn answered(&self) -> Owed {
        self.arrive(1)
    }

    fn arrive(&self, holds: u64) -> Owed {
        self.change(|now| {
            let gone = Seen(now.0.wrapping_sub(LEAVE));
            let gone = if now.state() == State::Claimed { gone.in_state(State::Held) } else { gone };
            let (next, mut owed) = gone.dropped(holds);
            owed.write = next.state() == State::Held && next.leaving() == 0 && next.frame().is_some();
            (now.leaving() != 0).then_some((next, owed))
        })
        .unwrap_or_else(|Not(seen)| panic!("an eviction was answered twice: {seen:?}"))
    }

    /// `Held -> Writing`, one hold for the write. Returns the frame to be written.
    pub fn begin_write(&self) -> Result<Frame, Not> {
        self.change(|now| {
            let frame = now.frame()?;
            let may = now.state() == State::Held && now.leaving() == 0;
            let next = Seen(now.0 + HOLD).in_state(State::Writing);
            may.then_some((next, frame))
        })
    }

    /// `Writing -> Clean` without a frame: the content is on the disk. The frame's reference and the write's hold are the
    /// caller's now (it makes a link of the two if somebody has mapped the frame again).
    pub fn end_write(&self) -> Result<Frame, Not> {
        self.change(|now| {
            let frame = now.frame()?;
            (now.state() == State::Writing).then_some((now.without_frame().in_state(State::Clean), frame))
        })
    }

    /// `Writing -> Held`: the device has refused or forgotten the request; it is to be tried again.
    pub fn put_off_write(&self) -> Owed {
        self.unwrite(State::Held)
    }

    /// `Writing -> Bad`: the device could not write. The page stays in its frame.
    pub fn fail_write(&self) -> Owed {
        self.unwrite(State::Bad)
    }

    fn unwrite(&self, to: State) -> Owed {
        self.change(|now| {
            let (next, mut owed) = now.in_state(to).dropped(1);
            owed.write = next.state() == State::Held && next.leaving() == 0;
            (now.state() == State::Writing).then_some((next, owed))
        })
        .unwrap_or_else(|Not(seen)| panic!("a write ended that had not begun: {seen:?}"))
    }

    /// `Clean -> Reading`, one hold for the read; the frame's reference becomes the slot's. A slot that the caller does not
    /// hold may have become a stranger's: then a stranger's page is read into the stranger's slot, which harms nobody.
    pub fn begin_read(&self, frame: Frame, ahead: bool) -> Result<(), Not> {
        self.change(|now| {
            let next = Seen((now.without_frame().0 + HOLD) | if ahead { AHEAD } else { 0 });
            let absent = now.state() == State::Clean && now.frame().is_none() && now.leaving() == 0;
            (now.holds() != 0 && now.holds() < HOLD_LIMIT && absent)
                .then_some((next.in_state(State::Reading).with_frame(frame), ()))
        })
    }

    /// `Reading -> Clean`: with the frame if all went well, else without it and marked. Drops the read's hold.
    pub fn end_read(&self, ok: bool) -> Owed {
        self.unread(ok, if ok { 0 } else { FAILED })
    }

    /// `Reading -> Clean` without the frame: the device took no more requests.
    pub fn cancel_read(&self) -> Owed {
        self.unread(false, 0)
    }

    fn unread(&self, keep: bool, mark: u64) -> Owed {
        self.change(|now| {
            let clean = now.in_state(State::Clean);
            let clean = if keep { clean } else { Seen(clean.without_frame().0 | mark) };
            let (next, mut owed) = clean.dropped(1);
            owed.frame = if keep { owed.frame } else { now.frame() };
            (now.state() == State::Reading).then_some((next, owed))
        })
        .unwrap_or_else(|Not(seen)| panic!("a read ended that had not begun: {seen:?}"))
    }

    /// Whether `frame` is still the slot's, for one who has just taken a reference to it (S5). A read-modify-write, so that it
    /// cannot be a stale look; it also forgets that the frame came ahead, and says so.
    pub fn still_caches(&self, frame: Frame) -> Result<Taken, Not> {
        self.change(|now| {
            let same = now.frame() == Some(frame) && !now.must_wait();
            same.then_some((Seen(now.0 & !(AHEAD | FAILED)), Taken { ahead: now.is_ahead(), seen: now }))
        })
    }

    /// Drops the cached frame of a clean slot: its content is on the disk. The frame's reference and a new hold are the
    /// caller's, as after [`SlotWord::end_write`].
    pub fn uncache(&self) -> Result<Frame, Not> {
        self.change(|now| {
            let frame = now.frame()?;
            let may = now.state() == State::Clean && now.leaving() == 0;
            let next = Seen(now.without_frame().0 + HOLD).in_state(State::Clean);
            (may && now.holds() != 0 && now.holds() < HOLD_LIMIT).then_some((next, frame))
        })
    }

    /// The scan's look at a clean slot's frame: the first time it is only noted, the second time it may go. `true`: go on with
    /// [`SlotWord::uncache`].
    pub fn grow_old(&self) -> bool {
        self.change(|now| {
            now.frame()?;
            (now.state() == State::Clean).then_some((Seen(now.0 | FAILED), now.0 & FAILED != 0))
        })
        .unwrap_or(false)
    }

    /// Forgets that the last read failed, when somebody was told.
    pub fn forgive(&self) {
        let _ = self.change(|now| now.is_failed().then_some((Seen(now.0 & !FAILED), ())));
    }
}

impl Default for SlotWord {
    fn default() -> Self {
        Self::new()
    }
}

/// What [`SlotWord::still_caches`] saw.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// The frame had come by readahead and this is its first use: a hit.
    pub ahead: bool,
    /// The word.
    pub seen: Seen,
}
