//! Kernel stacks: 16 KiB each, an unmapped guard of the same size below.
//!
//! A stack that is given back stays mapped in a pool, since unmapping costs an interrupt to every CPU. [`trim`] returns the
//! frames of a large pool, many stacks at a time, after all CPUs have dropped their translations.

use super::{above, irq, paging};
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use quire_base::cpu;
use quire_base::layout::STACK_BASE;
use quire_base::lock::Mutex;
use quire_base::wait::Wait;
use quire_mm::What;

/// Bytes of a stack.
pub const SIZE: u64 = 16384;
const STRIDE: u64 = 2 * SIZE;
/// Stacks that [`trim`] takes at once, and the number in the pool above which it does: usually, and when memory is short.
const BATCH: usize = 128;
const TRIM_ABOVE: usize = 192;
const TRIM_ABOVE_SHORT: usize = 8;

struct Pool {
    /// Top of the first mapped free stack; its highest word holds the next. 0 ends the list.
    free: u64,
    count: usize,
    /// Unmapped slots that were used before.
    unmapped: Vec<u64>,
    /// First slot that was never used.
    fresh: u64,
}

/// A leaf lock.
static POOL: Mutex<Pool> = Mutex::new(Pool { free: 0, count: 0, unmapped: Vec::new(), fresh: STACK_BASE });

/// A mapped stack; dropping it gives it back to the pool.
pub struct Stack(u64);

impl Stack {
    /// Takes a stack; `None` when memory is short.
    pub fn new() -> Option<Stack> {
        let slot = {
            let mut pool = POOL.lock();
            if pool.free != 0 {
                let top = pool.free;
                // SAFETY: a free stack in the pool is mapped and nobody else's.
                pool.free = unsafe { ((top - 8) as *const u64).read() };
                pool.count -= 1;
                return Some(Stack(top));
            }
            match pool.unmapped.pop() {
                Some(slot) => slot,
                None => {
                    pool.fresh += STRIDE;
                    pool.fresh - STRIDE
                }
            }
        };
        let mut virt = slot + SIZE;
        while virt < slot + STRIDE {
            let frame = above::zeroed_frame();
            // SAFETY: the slot is ours, its pages are unmapped, and no CPU has a translation (fresh, or flushed by `trim`).
            let mapped = frame.and_then(|f| unsafe { paging::map_stack_page(virt, f) });
            if mapped.is_none() {
                if let Some(f) = frame {
                    above::free_frame(f);
                }
                // A half-mapped stack: nobody has touched its pages, so no CPU has a translation of them.
                let mut undo = slot + SIZE;
                while undo < virt {
                    // SAFETY: ours, and unused.
                    if let Some(f) = unsafe { paging::unmap_stack_page(undo) } {
                        above::free_frame(f);
                    }
                    undo += 4096;
                }
                recycle(slot);
                return None;
            }
            virt += 4096;
        }
        Some(Stack(slot + STRIDE))
    }

    /// The address behind its last byte.
    pub fn top(&self) -> u64 {
        self.0
    }

    /// Keeps it for ever.
    pub fn leak(self) -> u64 {
        let top = self.0;
        core::mem::forget(self);
        top
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let mut pool = POOL.lock();
        // SAFETY: the stack is mapped, and its last user is gone.
        unsafe { ((self.0 - 8) as *mut u64).write(pool.free) };
        pool.free = self.0;
        pool.count += 1;
    }
}

fn recycle(slot: u64) {
    let mut pool = POOL.lock();
    // Without memory for the note the addresses are lost, of which there are enough.
    if pool.unmapped.try_reserve(1).is_ok() {
        pool.unmapped.push(slot);
    }
}

/// Whether an address lies in a guard.
pub fn is_guard(address: u64) -> bool {
    address >= STACK_BASE && address - STACK_BASE < 1 << 39 && (address - STACK_BASE) % STRIDE < SIZE
}

/// The usable part of the stack that an address lies in; `None` for addresses of no stack.
pub fn around(address: u64) -> Option<Range<u64>> {
    let offset = address.checked_sub(STACK_BASE).filter(|&offset| offset < 1 << 39)?;
    let slot = STACK_BASE + offset / STRIDE * STRIDE;
    (offset % STRIDE >= SIZE).then_some(slot + SIZE..slot + STRIDE)
}

/// The most bytes that any thread has used of a stack that lies in the pool now. Stacks begin zeroed, so what was never
/// reached is still zero.
pub fn peak() -> u64 {
    let pool = POOL.lock();
    let (mut top, mut peak) = (pool.free, 0);
    while top != 0 {
        let bottom = top - SIZE;
        // SAFETY: a free stack in the pool is mapped, and nobody uses it while the lock is held.
        let words = unsafe { core::slice::from_raw_parts(bottom as *const u64, (SIZE / 8) as usize) };
        let untouched = words.iter().take_while(|w| **w == 0).count() as u64 * 8;
        peak = peak.max(SIZE - untouched);
        top = words[words.len() - 1];
    }
    peak
}

/// CPUs that still have to answer a flush.
static FLUSHING: AtomicU64 = AtomicU64::new(0);

/// Answers a flush: drops all translations of the kernel's half.
pub fn serve_flush() {
    let bit = 1 << cpu::cpu_id();
    // ordering: Acquire sees the unmapped entries (also by the interrupt); Release below: the flush precedes the answer.
    if FLUSHING.load(Ordering::Acquire) & bit != 0 {
        paging::flush_all();
        FLUSHING.fetch_and(!bit, Ordering::Release);
    }
}

/// Memory is short: the next [`trim`] leaves few.
static SHORT: AtomicBool = AtomicBool::new(false);

/// Asks for the frames of the stacks in the pool, if there are many. True: the reaper has something to do.
pub fn ask() -> bool {
    let many = POOL.lock().count > TRIM_ABOVE_SHORT;
    // ordering: Relaxed; a hint.
    SHORT.fetch_or(many, Ordering::Relaxed);
    many
}

/// Returns the frames of a large pool. Only the reaper thread calls it, holding nothing.
pub fn trim() {
    // ordering: Relaxed; a hint.
    let most = if SHORT.swap(false, Ordering::Relaxed) { TRIM_ABOVE_SHORT } else { TRIM_ABOVE };
    loop {
        let many = POOL.lock().count.saturating_sub(most);
        if many == 0 || !trim_some(many) {
            return;
        }
    }
}

/// Returns the frames of up to `many` stacks. False: there was no memory for the list.
fn trim_some(many: usize) -> bool {
    let mut slots = [0; BATCH];
    let mut frames: Vec<u64> = Vec::new();
    if frames.try_reserve(slots.len() * (SIZE / 4096) as usize).is_err() {
        return false;
    }
    for slot in slots.iter_mut().take(many) {
        let Some(stack) = Stack::new() else { break };
        *slot = stack.leak() - STRIDE;
        for page in 0..SIZE / 4096 {
            // SAFETY: the stack is ours, and we are about to forget it.
            frames.extend(unsafe { paging::unmap_stack_page(*slot + SIZE + page * 4096) });
        }
    }
    let others = cpu::online() & !(1 << cpu::cpu_id());
    // ordering: Release publishes the unmapped entries; the reaper is the only one that starts a flush.
    FLUSHING.fetch_or(others, Ordering::Release);
    for cpu in 0..cpu::CPUS {
        if others & 1 << cpu != 0 {
            irq::send(cpu, irq::FLUSH);
        }
    }
    // The reaper may be on another CPU after each turn; that one answers by its interrupt.
    // ordering: Acquire pairs with the answers' Release.
    static FLUSHES: What = What::cpus("flushes of the kernel's translations");
    let mut wait = Wait::new(&FLUSHES);
    loop {
        let silent = FLUSHING.load(Ordering::Acquire);
        if silent == 0 {
            break;
        }
        serve_flush();
        above::serve_shootdown();
        wait.pause(silent);
    }
    paging::flush_all();
    frames.into_iter().for_each(above::free_frame);
    slots.into_iter().filter(|&s| s != 0).for_each(recycle);
    true
}
