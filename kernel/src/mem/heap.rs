//! The kernel's heap: `talc` behind a spin lock, in a region of its own that grows page by page.
//!
//! The region is contiguous in virtual memory whatever the frames are, so a large request needs no large run of frames. It is
//! mapped with 2 MiB pages as long as there are whole blocks, and with 4 KiB pages otherwise. The heap keeps what it has,
//! and some memory ready for requests that cannot fail.

use alloc::vec::Vec;
use core::alloc::Layout;
use core::sync::atomic::{AtomicBool, Ordering};
use quire_arch::paging;
use quire_base::errno::{ENOMEM, Errno};
use quire_base::layout::HEAP_BASE;
use talc::{OomHandler, Span, Talc, Talck};

const BLOCK: u64 = 2 << 20;
/// What is taken at once when there are no whole blocks, or little memory altogether.
const SMALL: u64 = 128 << 10;

/// Grows the heap. The region `HEAP_BASE .. claimed` is `talc`'s, and what is mapped behind it up to `mapped` is the reserve: it
/// is used when no frame is left, so that small requests of those who cannot fail still succeed.
struct Grow {
    mapped: u64,
    claimed: u64,
    /// What `talc` calls the claimed part.
    heap: Span,
}

/// Set when the heap grows beyond its share, or into its reserve: whether it is low must be found out then.
static LOOK: AtomicBool = AtomicBool::new(false);

/// Whether what is allocated is a quarter of the memory, or no frame is left and the reserve has been touched: who can fail
/// should do so then. Tries to fill the reserve up first.
pub fn is_low() -> bool {
    // ordering: Relaxed; a hint, and the lock orders the rest.
    LOOK.load(Ordering::Relaxed) && {
        let mut heap = HEAP.lock();
        let counters = heap.get_counters();
        let (used, free) = (counters.allocated_bytes as u64, counters.available_bytes as u64);
        heap.oom_handler.extend(reserve().saturating_sub(free));
        used > share() || heap.oom_handler.reserve_left() + free < reserve()
    }
}

/// The heap keeps what it has taken, so it is not to take everything.
fn share() -> u64 {
    quire_base::early::ram_bytes() / 4
}

/// Whether `bytes` can be allocated at once by who could not go on without. `Arc` and `Box` have no fallible constructors in stable
/// Rust, so the memory is made sure of first: the reserve has not been touched, or the same is tried with a `Vec`.
pub fn has(bytes: usize) -> bool {
    // ordering: Relaxed; a hint, as in `is_low`.
    if bytes as u64 <= SMALL && !LOOK.load(Ordering::Relaxed) {
        return true;
    }
    let mut probe: Vec<u8> = Vec::new();
    !is_low() && probe.try_reserve_exact(2 * bytes).is_ok()
}

/// An empty vector with room for so many elements, where a program chooses how many.
pub fn vec<T>(len: usize) -> Result<Vec<T>, Errno> {
    let mut out = Vec::new();
    match has(len.saturating_mul(size_of::<T>())) && out.try_reserve_exact(len).is_ok() {
        true => Ok(out),
        false => Err(ENOMEM),
    }
}

fn little() -> bool {
    quire_base::early::ram_bytes() < 256 << 20
}

fn reserve() -> u64 {
    if little() { 256 << 10 } else { 1 << 20 }
}

impl Grow {
    /// Maps memory at the end of the region until `want` bytes are there that are not claimed, as far as there are frames.
    fn extend(&mut self, want: u64) {
        while self.reserve_left() < want {
            let left = want - self.reserve_left();
            let whole = self.mapped.is_multiple_of(BLOCK) && (!little() || left >= BLOCK);
            if whole
                && !quire_base::early::is_open()
                && let Some(phys) = super::machine::frames_for_heap((BLOCK / 4096) as usize)
            {
                // SAFETY: the block is ours, and the address is fresh.
                if unsafe { paging::map_heap(self.mapped, phys, true) }.is_some() {
                    self.mapped += BLOCK;
                    continue;
                }
                (0..BLOCK / 4096).for_each(|i| super::free_frame(phys + i * 4096));
            }
            let step = left.next_multiple_of(SMALL).min(BLOCK - self.mapped % BLOCK);
            let stop = self.mapped + step;
            while self.mapped < stop {
                let Some(phys) = super::zeroed_frame() else { return };
                // SAFETY: as above.
                if unsafe { paging::map_heap(self.mapped, phys, false) }.is_none() {
                    return super::free_frame(phys);
                }
                self.mapped += 4096;
            }
        }
    }

    /// Bytes that are mapped and not claimed.
    fn reserve_left(&self) -> u64 {
        self.mapped - self.claimed
    }
}

impl OomHandler for Grow {
    fn handle_oom(talc: &mut Talc<Self>, layout: Layout) -> Result<(), ()> {
        // Room for the allocator's own words beside the request.
        let need = ((layout.size() + layout.align() + 4096) as u64).next_multiple_of(4096);
        let grow = &mut talc.oom_handler;
        grow.extend(need + reserve());
        let there = grow.reserve_left();
        if there < need {
            return Err(());
        }
        let old = grow.heap;
        grow.claimed += need.max(there.saturating_sub(reserve()));
        let new = Span::new(HEAP_BASE as *mut u8, grow.claimed as *mut u8);
        if grow.reserve_left() < reserve() || grow.claimed - HEAP_BASE > share() {
            // ordering: Relaxed; a hint.
            LOOK.store(true, Ordering::Relaxed);
        }
        talc.oom_handler.heap = if old.is_empty() {
            // SAFETY: the region up to `claimed` is mapped, the heap's alone, and never unmapped.
            unsafe { talc.claim(new) }?
        } else {
            // SAFETY: as above; `old` is what was claimed before.
            unsafe { talc.extend(old, new) }
        };
        Ok(())
    }
}

/// Interrupt handlers allocate nothing, so a spin lock will do.
#[global_allocator]
static HEAP: Talck<spin::Mutex<()>, Grow> =
    Talc::new(Grow { mapped: HEAP_BASE, claimed: HEAP_BASE, heap: Span::empty() }).lock();
