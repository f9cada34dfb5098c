//! The two ends that meet in an area: the memory manager's frames below it ([`Frames`] is a [`Host`]), and its entries above it
//! ([`Swap`] is a [`Pager`]).

use crate::io::Disk;
use crate::policy;
use crate::swap::{Host, Swap};
use quire_mm::{Frame, Machine, Memory, Page, Pager, Settled, Slot, Take, Verdict};

/// What swapping needs of the scheduler.
pub trait Wake {
    /// Whoever waits for this slot may look again. Called often, also from the disk's completions: cheap where nobody waits.
    fn wake(&self, slot: Slot);
    /// The calling thread has used a page that was read ahead for it ([`Readahead::hit`](crate::policy::Readahead::hit)).
    fn hit(&self, _page: Page) {}
}

/// The frames of a memory, with a scheduler beside.
#[derive(Debug)]
pub struct Frames<M: Machine, W: Wake> {
    memory: &'static Memory<M>,
    wake: W,
}

impl<M: Machine, W: Wake> Frames<M, W> {
    /// The two together.
    pub const fn new(memory: &'static Memory<M>, wake: W) -> Frames<M, W> {
        Frames { memory, wake }
    }
}

impl<M: Machine, W: Wake> Host for Frames<M, W> {
    fn alloc(&self, slot: Slot) -> Option<Frame> {
        self.memory.alloc_noted(slot)
    }
    fn try_ref(&self, frame: Frame) -> bool {
        self.memory.try_ref(frame)
    }
    fn release(&self, frame: Frame) -> Option<Slot> {
        self.memory.release_frame(frame)
    }
    fn settle(&self, frame: Frame, slot: Slot) -> Settled {
        self.memory.settle(frame, slot)
    }
    fn wake(&self, slot: Slot) {
        self.wake.wake(slot);
    }
    fn hit(&self, page: Page) {
        self.wake.hit(page);
    }
}

impl<H: Host + Sync, D: Disk + Sync> Pager for Swap<'_, H, D> {
    fn reserve(&self, cpu: usize, frame: Frame) -> Option<Slot> {
        Swap::reserve(self, cpu, frame)
    }
    fn unreserve(&self, slot: Slot) {
        Swap::unreserve(self, slot);
    }
    fn join(&self, slot: Slot, frame: Frame, is_linked: &mut dyn FnMut() -> bool) -> bool {
        Swap::join(self, slot, frame, is_linked)
    }
    fn stay(&self, slot: Slot) {
        Swap::stay(self, slot);
    }
    fn answered(&self, slot: Slot) {
        Swap::answered(self, slot);
    }
    fn judge(&self, accessed: bool, age: u8, round: u32) -> Verdict {
        policy::judge(accessed, age, round)
    }
    fn hold(&self, slot: Slot) -> bool {
        Swap::hold(self, slot)
    }
    fn release(&self, slot: Slot, n: u64) {
        Swap::release(self, slot, n);
    }
    fn take(&self, slot: Slot, same: &mut dyn FnMut() -> bool) -> Take {
        Swap::take(self, slot, same)
    }
    fn installed(&self, slot: Slot, frame: Frame, link: bool) {
        Swap::installed(self, slot, frame, link);
    }
    fn put_back(&self, slot: Slot, frame: Frame) {
        Swap::put_back(self, slot, frame);
    }
    fn hit(&self, page: Page) {
        self.host.hit(page);
    }
    fn count(&self, cached: &mut dyn FnMut(Frame)) -> u64 {
        let mut holds = 0;
        self.each(|seen| {
            holds += seen.holds();
            seen.frame().into_iter().for_each(&mut *cached);
        });
        holds
    }
}
