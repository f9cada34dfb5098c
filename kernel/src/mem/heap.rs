//! The kernel's heap: `talc` behind a spin lock, in a region of its own that grows page by page.
//!
//! The region is contiguous in virtual memory whatever the frames are, so a large request needs no large run of frames. It is
//! mapped with 2 MiB pages as long as there are whole blocks, and with 4 KiB pages otherwise. The heap keeps what it has.

use super::layout::HEAP_BASE;
use crate::arch::paging;
use core::alloc::Layout;
use talc::{OomHandler, Span, Talc, Talck};

const BLOCK: u64 = 2 << 20;
/// What is taken at once when there are no whole blocks, or little memory altogether.
const SMALL: u64 = 128 << 10;

/// Grows the heap. The fields are the region's end, and what `talc` has claimed of it.
struct Grow {
    end: u64,
    heap: Span,
}

impl Grow {
    /// Maps more memory at the end of the region; returns how much.
    fn extend(&mut self, want: u64) -> u64 {
        let from = self.end;
        let little = super::early::ram_bytes() < 256 << 20;
        while self.end - from < want {
            let left = want - (self.end - from);
            let whole = self.end.is_multiple_of(BLOCK) && (!little || left >= BLOCK);
            if whole
                && !super::early::is_open()
                && let Some(phys) = super::machine::frames_for_heap((BLOCK / 4096) as usize)
            {
                // SAFETY: the block is ours, and the address is fresh.
                if unsafe { paging::map_heap(self.end, phys, true) }.is_some() {
                    self.end += BLOCK;
                    continue;
                }
            }
            let step = left.next_multiple_of(SMALL).min(BLOCK - self.end % BLOCK);
            let stop = self.end + step;
            while self.end < stop {
                let Some(phys) = super::zeroed_frame() else { return self.end - from };
                // SAFETY: as above.
                if unsafe { paging::map_heap(self.end, phys, false) }.is_none() {
                    return self.end - from;
                }
                self.end += 4096;
            }
        }
        self.end - from
    }
}

impl OomHandler for Grow {
    fn handle_oom(talc: &mut Talc<Self>, layout: Layout) -> Result<(), ()> {
        // Room for the allocator's own words beside the request.
        let need = (layout.size() + layout.align() + 4096) as u64;
        let got = talc.oom_handler.extend(need.next_multiple_of(4096));
        if got == 0 {
            return Err(());
        }
        let end = talc.oom_handler.end;
        let old = talc.oom_handler.heap;
        let whole = Span::new(HEAP_BASE as *mut u8, end as *mut u8);
        talc.oom_handler.heap = if old.is_empty() {
            // SAFETY: the region up to `end` is mapped, the heap's alone, and never unmapped.
            unsafe { talc.claim(whole) }?
        } else {
            // SAFETY: as above; `old` is what was claimed before.
            unsafe { talc.extend(old, whole) }
        };
        if got < need { Err(()) } else { Ok(()) }
    }
}

/// Interrupt handlers allocate nothing, so a spin lock will do.
#[global_allocator]
static HEAP: Talck<spin::Mutex<()>, Grow> = Talc::new(Grow { end: HEAP_BASE, heap: Span::empty() }).lock();
