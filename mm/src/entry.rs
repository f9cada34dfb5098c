//! The entry: one 64-bit page-table word, at any level; the only truth about a page.
//!
//! ```text
//!             install_page                       share (fork, parity flips)
//!  Empty(g) ────────────────► Page ◄──► Page, read-only, copy-on-write
//!   ▲  │ install_table       ▲  │ narrow (parity flips) ▲ reveal
//!   │  ▼             restore │  ▼                       │
//!   │ Table                  │ Hidden(frame) ───────────┘
//!   │                        │  │ evict           ▲ conceal
//!   │                        │  ▼                 │
//!   │                   Swapped(slot) ────────────┘
//!   └────────── take(g): a sweep, from every state, also from Table
//! ```
//!
//! A table is detached by a `take` of its upper entry; then each of its own entries becomes `Sealed`, whatever it was (`seal`).
//!
//! Rules:
//!
//! * E1. A state changes by one named transition of this file, each one compare-and-swap or swap. The hardware may set
//!   Accessed and Dirty at any moment, so a transition takes the exact word that was judged.
//! * E2. Every word but a table's and Sealed carries a *parity*. [`Entry::stamp`] flips it; so do [`Entry::narrow`] and [`Entry::share`],
//!   unless the CPU that edits or forks is alone (a fork flips swapped words in any case). [`Entry::take`] clears it, [`Entry::arrive`] brings
//!   that of the place where the page was. All others keep it. (An object's own entries know no edits; their parity means nothing.)
//! * E3. A page of a private mapping that others may have as well (after a fork; an object's page; by a swap slot) carries copy-on-write,
//!   even where nobody may write.
//! * E4. *No word is seen twice in one place with an edit in between, unless everybody who may have a window open there has answered in
//!   between.* So a compare-and-swap in a window proves that what the window has seen of list and entry still holds. Below is why, for
//!   each way in which a word may come back.
//! * E5. After a wait nothing is used that was read before it ([`crate::fault`]).
//!
//! Why E4 holds. An edit keeps its claim until it has been answered, or owes no answer; no fork, move or other edit happens under it.
//!
//! | word | who brings one like it back | why a window that has read the first one is over, or may go on |
//! |---|---|---|
//! | Empty(g) | nobody | a sweep, scan or move draws its generation for itself, and writes it to a place once |
//! | any, narrowed | the second narrowing, whose flip undoes the first one's | the first one was answered before its claim went. Alone, nothing flips and no window has read a word here |
//! | any, shared by a fork | the second fork | the first one was answered; alone, no other CPU has a window open |
//! | an object's page | a fault, after a scan has unmapped it | without an edit in between it is the same page with the same rights. An edit meanwhile has flipped the parity, which Empty keeps |
//! | a page, taken by a sweep or move | a fault or move | taken words are answered for before the claim goes, also Swapped ones |
//! | Page, evicted | a fault that brings the same frame back | the slot is given to nobody before the scan's answers are in |
//! | Swapped, restored | a scan that evicts to the same slot | the same; a slot of another life differs by the hold under which the entry is read again (race 22) |
//! | Swapped, moved away or swept | a move | answered for when it left. A scan's answers elsewhere do not count: its arena may be one where the window's CPU has not been (models `swap-move-narrow`, `swap-unmap-move`) |
//! | any, with Accessed or an age changed | the hardware, a scan | the same page with the same rights |
//! | Table, Sealed | nobody | a table that was detached is not used again within a grace period; a window is a read section |
//!
//! An object's own entry knows no edits, and its Empty(0) comes back when it is cut: it says the same then, a page of zeros.
//!
//! Ordering: a transition releases what was written before it (the content of a new page or table) to the software that loads
//! the word with Acquire, and to the hardware's walkers, which see stores in order on x86. `Empty(g)` written by a sweep
//! releases the list published before it: whoever reads that word reads that list or a newer one.

use crate::frames::Frame;
use crate::page::{Access, ENTRIES, Prot};
use crate::slot::Slot;
use crate::sync::{AtomicU64, Ordering::*};

/// A page-table entry.
#[derive(Debug)]
#[repr(transparent)]
pub struct Entry(AtomicU64);

/// A table: one frame full of entries.
pub type Table = [Entry; ENTRIES];

/// The value of an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Word(u64);

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
/// Software: copy-on-write; see E3.
const COW: u64 = 1 << 9;
/// Software: see E2.
const PARITY: u64 = 1 << 10;
/// Software: anonymous memory of this mapping, not an object's page.
const PRIVATE: u64 = 1 << 11;
const FRAME: u64 = 0x000f_ffff_ffff_f000;
/// Software, in bits that the hardware ignores: how often a scan has met the page since it was accessed.
const AGE_SHIFT: u32 = 52;
const AGE: u64 = 3 << AGE_SHIFT;
const NO_EXEC: u64 = 1 << 63;
/// Kinds of absent words, in bits 1 and 2 (bit 0 is Present). An empty word has its generation where others have a frame.
const KIND: u64 = 3 << 1;
/// None of these bits is in an empty word.
pub const KINDS: u64 = PRESENT | KIND;
const HIDDEN: u64 = 1 << 1;
const SWAPPED: u64 = 2 << 1;
const SEALED: u64 = 3 << 1;

impl Word {
    /// Nothing here, since the sweep with generation `g`. `Empty(0)` is a zeroed word.
    pub const fn empty(g: u64) -> Word {
        Word(g << 12)
    }

    /// A present page with Accessed set; and Dirty if it is writable, for a store may come without a fault.
    pub fn page(frame: Frame, prot: Prot) -> Word {
        let mut w = PRESENT | USER | ACCESSED | (frame.0 as u64) << 12;
        if prot.contains(Prot::WRITE) {
            w |= WRITABLE | DIRTY;
        }
        if !prot.contains(Prot::EXEC) {
            w |= NO_EXEC;
        }
        Word(w)
    }

    /// A present table: all rights, the leaf entries decide.
    pub fn table(frame: Frame) -> Word {
        Word(PRESENT | WRITABLE | USER | ACCESSED | (frame.0 as u64) << 12)
    }

    /// The content is in a swap slot: where the frame's number was is the slot's. It will come back copy-on-write (E3).
    fn swapped(slot: Slot, from: Word) -> Word {
        Word(SWAPPED | COW | from.0 & (PARITY | PRIVATE) | (slot.0 as u64) << 12)
    }

    /// The same page, marked as private memory of its mapping.
    pub fn private(self) -> Word {
        Word(self.0 | PRIVATE)
    }

    /// The same page, read-only and copy-on-write.
    pub fn cow(self) -> Word {
        Word(self.0 & !(WRITABLE) | COW)
    }

    /// As this word, for another frame.
    pub fn in_frame(self, frame: Frame) -> Word {
        Word(self.0 & !FRAME | (frame.0 as u64) << 12)
    }

    /// The same page with the parity of `other`.
    pub fn parity_of(self, other: Word) -> Word {
        Word(self.0 & !PARITY | other.0 & PARITY)
    }

    /// Whether nothing is here and a fault may install something.
    pub fn is_empty(self) -> bool {
        self.0 & (PRESENT | KIND) == 0
    }

    /// Whether the hardware may use it.
    pub fn is_present(self) -> bool {
        self.0 & PRESENT != 0
    }

    /// Whether the table that holds it is being retired.
    pub fn is_sealed(self) -> bool {
        self.0 & (PRESENT | KIND) == SEALED
    }

    /// Whether it is a page that its segment hides from everyone.
    pub fn is_hidden(self) -> bool {
        self.0 & (PRESENT | KIND) == HIDDEN
    }

    /// Whether its page is on the swap device.
    pub fn is_swapped(self) -> bool {
        self.0 & (PRESENT | KIND) == SWAPPED
    }

    /// The frame of a present or hidden word.
    pub fn frame(self) -> Option<Frame> {
        (self.is_present() || self.is_hidden()).then_some(Frame(((self.0 & FRAME) >> 12) as u32))
    }

    /// The frame of a present or hidden word; of another one a number without meaning.
    #[inline]
    pub fn page_frame(self) -> Frame {
        Frame(((self.0 & FRAME) >> 12) as u32)
    }

    /// The slot of a swapped word.
    pub fn slot(self) -> Option<Slot> {
        self.is_swapped().then_some(Slot(((self.0 & FRAME) >> 12) as u32))
    }

    /// Whether the hardware has used the page since the bit was cleared.
    pub fn is_accessed(self) -> bool {
        self.is_present() && self.0 & ACCESSED != 0
    }

    /// How often a scan has met the page since it was accessed.
    pub fn age(self) -> u8 {
        ((self.0 & AGE) >> AGE_SHIFT) as u8
    }

    /// Whether it is copy-on-write: others may have the page as well (E3).
    pub fn is_cow(self) -> bool {
        self.0 & COW != 0
    }

    /// Whether it is a page (present or hidden) of private memory of its mapping. Empty words have generations where pages have
    /// flags, so the kind is looked at, too.
    pub fn is_private(self) -> bool {
        self.0 & PRIVATE != 0 && (self.is_present() || self.is_hidden())
    }

    /// Whether it is a swapped page of private memory. An object's page is swapped in the object's own entry only.
    pub fn is_swapped_private(self) -> bool {
        self.is_swapped() && self.0 & PRIVATE != 0
    }

    /// Whether it is a page that only the right to store is missing of: present, private, not copy-on-write.
    #[inline]
    pub fn awaits_store(self) -> bool {
        self.0 & (PRESENT | WRITABLE | COW | PRIVATE) == PRESENT | PRIVATE
    }

    /// Whether it is a blank page, of which no store is known: as [`Word::awaits_store`], and never writable since it was installed.
    #[inline]
    pub fn is_blank(self) -> bool {
        self.awaits_store() && self.0 & DIRTY == 0
    }

    /// Whether it is a private page that is read-only and copy-on-write already: fork changes nothing but its parity.
    #[inline]
    pub fn is_private_cow(self) -> bool {
        self.0 & (PRESENT | WRITABLE | COW | PRIVATE) == PRESENT | COW | PRIVATE
    }

    /// Whether the hardware lets user code do `access`.
    pub fn allows(self, access: Access) -> bool {
        self.is_present()
            && match access {
                Access::Read => true,
                Access::Write => self.0 & WRITABLE != 0,
                Access::Exec => self.0 & NO_EXEC == 0,
            }
    }

    /// The same page with the rights of `prot`; copy-on-write still forbids stores, and stores wait for a fault unless
    /// `write` says that one is about to happen.
    fn with(self, prot: Prot, write: bool) -> Word {
        let mut w = self.0 & !(WRITABLE | NO_EXEC);
        if write && prot.contains(Prot::WRITE) && w & COW == 0 {
            w |= WRITABLE | DIRTY;
        }
        if !prot.contains(Prot::EXEC) {
            w |= NO_EXEC;
        }
        Word(w)
    }

    /// The page of a hidden word with the rights of `prot`; as [`Word::with`].
    fn revealed(self, prot: Prot, write: bool) -> Word {
        debug_assert!(self.is_hidden());
        Word(self.0 & !KIND | PRESENT | USER | ACCESSED).with(prot, write)
    }

    /// The raw bits, for the hardware and for logs.
    pub fn bits(self) -> u64 {
        self.0
    }
}

impl core::fmt::Debug for Word {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let kind = match self.0 & (PRESENT | KIND) {
            k if k & PRESENT != 0 => "present",
            HIDDEN => "hidden",
            SWAPPED => "swapped",
            SEALED => "sealed",
            _ => "empty",
        };
        write!(f, "{kind}:{:#x}", self.0)
    }
}

/// Whether nothing is in any of these entries. One look at the bits that tell the kinds apart, of all words together.
#[inline]
pub fn are_empty(entries: &[Entry]) -> bool {
    Word(entries.iter().fold(0, |all, e| all | e.load().0)).is_empty()
}

/// What a narrowing edit makes of present words, worked out once for a sweep.
#[derive(Clone, Copy, Debug)]
pub struct Narrowing {
    keep: u64,
    set: u64,
    flip: u64,
}

impl Narrowing {
    /// At most the rights of `prot`; without any, pages become hidden. `flip` is false only when no other CPU can be inside a
    /// window on the entries.
    pub fn new(prot: Prot, flip: bool) -> Narrowing {
        let flip = if flip { PARITY } else { 0 };
        if prot.is_empty() {
            return Narrowing { keep: FRAME | COW | PARITY | PRIVATE | DIRTY, set: HIDDEN, flip };
        }
        let mut keep = !NO_EXEC;
        if !prot.contains(Prot::WRITE) {
            keep &= !WRITABLE;
        }
        Narrowing { keep, set: if prot.contains(Prot::EXEC) { 0 } else { NO_EXEC }, flip }
    }

    /// What becomes of a word that is not empty: with a flip always another one, see E2.
    #[inline(always)]
    pub fn of(&self, old: Word) -> Word {
        let w = if old.is_present() { (old.0 & self.keep) | self.set } else { old.0 };
        Word(w ^ self.flip)
    }
}

/// The entry held another word. A fault begins again, a sweep looks again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Changed;

impl Entry {
    /// An entry with a word nobody has seen yet.
    pub fn new(w: Word) -> Entry {
        Entry(AtomicU64::new(w.0))
    }

    /// The word. Acquire: pairs with the transition that wrote it (see the module's ordering).
    #[inline]
    pub fn load(&self) -> Word {
        Word(self.0.load(Acquire))
    }

    /// Fills an entry of a table that no other CPU can reach yet.
    #[inline]
    pub fn init(&self, w: Word) {
        self.0.store(w.0, Relaxed);
    }

    /// The model checker's end of an entry whose frame is freed: every access must have happened before.
    #[cfg(loom)]
    pub fn end(&self) {
        self.0.end(PRESENT);
    }

    #[inline]
    fn swap_from(&self, old: Word, new: Word) -> Result<(), Changed> {
        match self.0.compare_exchange(old.0, new.0, AcqRel, Acquire) {
            Ok(_) => Ok(()),
            Err(_) => Err(Changed),
        }
    }

    /// `Empty(g) -> Table`, by a fault. Its generation proves that the list looked up is not older than the sweep `g`.
    #[must_use = "on failure the table is still the caller's"]
    pub fn install_table(&self, old: Word, table: Frame) -> Result<(), Changed> {
        debug_assert!(old.is_empty());
        self.swap_from(old, Word::table(table))
    }

    /// `Empty(g) -> Page`, by a fault; as [`Entry::install_table`]. Keeps the parity.
    #[must_use = "on failure the page is still the caller's"]
    pub fn install_page(&self, old: Word, page: Word) -> Result<(), Changed> {
        debug_assert!(old.is_empty());
        self.swap_from(old, page.parity_of(old))
    }

    /// `Page -> Page` of the same frame with the rights of `prot`, by a fault for `access`. Stores are granted only without
    /// copy-on-write. Keeps the parity, so a narrowing edit or a fork since `old` was read makes it fail.
    #[must_use = "on failure the fault begins again"]
    #[inline]
    pub fn widen(&self, old: Word, prot: Prot, access: Access) -> Result<(), Changed> {
        let write = old.allows(Access::Write) || access == Access::Write;
        self.swap_from(old, old.with(prot, write))
    }

    /// `Page -> Page` writable, of a word that [awaits a store](Word::awaits_store), by an edit under whose claim the page has the
    /// rights of `prot`, that to store among them. Keeps the parity.
    #[must_use = "on failure the page waits for a fault"]
    #[inline(always)]
    pub fn grant_store(&self, old: Word, prot: Prot) -> Result<(), Changed> {
        debug_assert!(old.awaits_store() && prot.contains(Prot::WRITE));
        let no_exec = if prot.contains(Prot::EXEC) { 0 } else { NO_EXEC };
        self.swap_from(old, Word(old.0 & !NO_EXEC | WRITABLE | DIRTY | no_exec))
    }

    /// Copy-on-write `Page -> Page` writable in place, by a fault that found itself the frame's only user.
    #[must_use = "on failure the fault begins again"]
    pub fn reuse(&self, old: Word, prot: Prot) -> Result<(), Changed> {
        debug_assert!(old.is_cow());
        self.swap_from(old, Word(old.0 & !COW).with(prot, true))
    }

    /// Copy-on-write `Page -> Page` of another frame, by a fault that copied. Read-only, and copy-on-write itself: see `break_cow`.
    #[must_use = "on failure the copy is still the caller's"]
    pub fn replace(&self, old: Word, copy: Word) -> Result<(), Changed> {
        debug_assert!(old.is_cow());
        self.swap_from(old, copy.parity_of(old))
    }

    /// `Hidden -> Page` with the rights of `prot`, without the right to store: the next fault adds it.
    #[must_use = "on failure the fault begins again"]
    pub fn reveal(&self, old: Word, prot: Prot) -> Result<(), Changed> {
        self.swap_from(old, old.revealed(prot, false))
    }

    /// `Page -> Page` or `Hidden` with at most the rights of a protection, by a narrowing edit's sweep: to the word that
    /// [`Narrowing::of`] makes of the old one. A hidden or swapped word changes its parity only.
    #[must_use = "on failure the sweep looks again"]
    #[inline]
    pub fn narrow(&self, old: Word, now: Word) -> Result<(), Changed> {
        self.swap_from(old, now)
    }

    /// `Page -> Page` read-only and copy-on-write, by fork; a hidden word becomes copy-on-write, a swapped one is that already. With
    /// `flip` the parity changes. Returns the child's word.
    #[must_use = "on failure the reference taken for the child must go back"]
    #[inline]
    pub fn share(&self, old: Word, flip: bool) -> Result<Word, Changed> {
        let parity = if flip { PARITY } else { 0 };
        let shared = if old.is_present() { old.cow() } else { Word(old.0 | COW) };
        let new = Word(shared.0 ^ parity);
        if new != old {
            self.swap_from(old, new)?;
        }
        Ok(shared)
    }

    /// `Page` or `Hidden -> Swapped`, by a scan, for which the slot is held and leaving. Keeps the parity. It takes the exact word
    /// that was judged: a page that was accessed or written since is another word.
    #[must_use = "on failure the slot must go back"]
    pub fn evict(&self, old: Word, slot: Slot) -> Result<(), Changed> {
        debug_assert!(old.frame().is_some());
        self.swap_from(old, Word::swapped(slot, old))
    }

    /// `Swapped -> Page` of the frame with the slot's content, read-only and copy-on-write, by a fault that holds the slot. Keeps
    /// the parity, so a narrowing edit or a fork since `old` was read makes it fail. Not Dirty: the disk may have the same.
    #[must_use = "on failure the frame must go back"]
    pub fn restore(&self, old: Word, frame: Frame, prot: Prot) -> Result<(), Changed> {
        debug_assert!(old.is_swapped());
        let page = Word::page(frame, prot - Prot::WRITE).cow();
        self.swap_from(old, Word(page.0 | old.0 & (PARITY | PRIVATE)))
    }

    /// `Swapped -> Hidden`, by whoever empties the swap area, which is no CPU of the space: nobody gets a right here, the next fault gives
    /// it.
    #[must_use = "on failure the frame must go back"]
    pub fn conceal(&self, old: Word, frame: Frame) -> Result<(), Changed> {
        debug_assert!(old.is_swapped());
        self.swap_from(old, Word(HIDDEN | COW | old.0 & (PARITY | PRIVATE) | (frame.0 as u64) << 12))
    }

    /// `Page -> Swapped` of an object's own entry; as [`Entry::evict`]. Returns the word that is here now.
    #[must_use = "on failure the slot must go back"]
    pub fn evict_shared(&self, old: Word, slot: Slot) -> Result<Word, Changed> {
        debug_assert!(old.is_present());
        let new = Word::swapped(slot, old);
        self.swap_from(old, new).map(|()| new)
    }

    /// `Swapped -> Page` of an object's own entry: the page that has just left it, or its content.
    #[must_use = "on failure the frame must go back"]
    pub fn put_back(&self, old: Word, page: Word) -> Result<(), Changed> {
        debug_assert!(old.is_swapped());
        self.swap_from(old, page)
    }

    /// `Page` or `Hidden -> Empty(g)` of an object's page, by a scan with a generation of its own, in a shared mapping, or by a sweep
    /// that leaves private copies. Keeps the parity: a fault may install the page again before the answers are in.
    #[must_use = "on failure the page stays"]
    pub fn unmap(&self, old: Word, g: u64) -> Result<(), Changed> {
        debug_assert!(old.frame().is_some() && !old.is_private());
        self.swap_from(old, Word::empty(g).parity_of(old))
    }

    /// A page that stays in a scan: Accessed is cleared, its age is `age` now. No shootdown: a translation that is cached may keep
    /// the bit clear for a while, which costs a guess.
    pub fn grow_old(&self, old: Word, age: u8) -> Result<(), Changed> {
        debug_assert!(old.frame().is_some());
        let clear = if old.is_present() { ACCESSED } else { 0 };
        let new = Word(old.0 & !(clear | AGE) | (age as u64) << AGE_SHIFT);
        if new == old { Ok(()) } else { self.swap_from(old, new) }
    }

    /// Anything `-> Empty(g)`, by a sweep that gathers what was here.
    #[must_use = "what was here belongs to the caller now"]
    #[inline]
    pub fn take(&self, g: u64) -> Word {
        Word(self.0.swap(Word::empty(g).0, AcqRel))
    }

    /// `Empty -> Empty(g)`, by a sweep that meets an absent page or table: fails when a fault has just installed one. Flips the
    /// parity, as a narrowing edit must.
    #[must_use = "on failure there is something to sweep"]
    pub fn stamp(&self, old: Word, g: u64) -> Result<(), Changed> {
        debug_assert!(old.is_empty());
        self.swap_from(old, Word(Word::empty(g).0 | !old.0 & PARITY))
    }

    /// Anything `-> Sealed`, in a table that was detached: a fault that still walks it begins again.
    #[must_use = "what was here belongs to the caller now"]
    pub fn seal(&self) -> Word {
        Word(self.0.swap(SEALED, AcqRel))
    }

    /// `Empty(g) -> ` the word of a page that moved here; a hidden page appears with the rights of `prot`. It may be stored to at once if it
    /// has been before. The range is in transit and claimed, so it cannot fail unless the protocol is broken.
    #[must_use = "on failure the page is still the caller's"]
    pub fn arrive(&self, old: Word, page: Word, prot: Prot) -> Result<(), Changed> {
        let shows = page.is_hidden() && !prot.is_empty();
        self.swap_from(old, if shows { page.revealed(prot, page.0 & DIRTY != 0) } else { page })
    }
}

#[cfg(test)]
#[path = "entry_tests.rs"]
mod tests;
