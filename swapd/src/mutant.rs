//! Deliberate defects, chosen by a model or host test that must then fail. Constants `false` in the kernel.

/// A deliberate defect of this crate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Mutant {
    /// Swap-in: the slot is held only after its cached frame was taken.
    HoldLate = 1,
    /// Swap-in: the entry is read again before the slot is held.
    LookThenHold,
    /// Swap-in: the entry is not read again after the slot is held.
    NoSecondLook,
    /// A cached frame is taken without a second look at the slot.
    TakeOnce,
    /// A cached frame is taken though an eviction to the slot is leaving.
    TakeLeaving,
    /// The write begins before the eviction's answers.
    WriteLeaving,
    /// `hold` raises a count of zero.
    HoldFromZero,
    /// The slot's bit goes back to the map before the slot is free.
    BitBeforeFree,
    /// A reader of a slot does not ask whether another one reads it already.
    ReadTwice,
    /// A frame that was mapped again during its write keeps naming the slot without holding it.
    LinkWithoutHold,
    /// A second eviction believes the frame's note without a look at the slot.
    TrustNote,
    /// The cache gives its frame away when the write begins, not when it ends.
    FreeAtWrite,
    /// A cached frame is dropped though its slot was not written yet.
    UncacheHeld,
    /// A write that failed counts as done.
    WriteErrorIsDone,
    /// A read that failed counts as done.
    ReadErrorIsDone,
}

impl Mutant {
    /// The number by which a host test selects it (`quire_mm::fake::must_fail`): above all of `quire_mm`'s own.
    pub const fn number(self) -> u32 {
        1000 + self as u32
    }
}

/// Whether the defect `m` is switched on.
#[cfg(not(any(loom, feature = "fake")))]
#[inline(always)]
pub const fn mutant(_m: Mutant) -> bool {
    false
}

/// Whether the defect `m` is switched on in this test's process.
#[cfg(all(not(loom), feature = "fake"))]
pub fn mutant(m: Mutant) -> bool {
    quire_mm::fake::selected() == m.number()
}

#[cfg(loom)]
static SELECTED: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

/// Whether the defect `m` is switched on.
#[cfg(loom)]
pub fn mutant(m: Mutant) -> bool {
    SELECTED.load(std::sync::atomic::Ordering::Relaxed) == m as u32
}

/// Switches one defect on by its number, or all off (zero).
#[cfg(loom)]
pub fn select(m: u32) {
    SELECTED.store(m, std::sync::atomic::Ordering::Relaxed);
}
