//! Who called whom, from the frame pointers of a stack.

use super::{boot, stack};
use core::ops::Range;
use quire_base::layout::KERNEL_BASE;

/// The most addresses of a trace.
pub const DEPTH: usize = 24;

/// Return addresses, the innermost first.
#[derive(Clone, Copy)]
pub struct Trace {
    addresses: [u64; DEPTH],
    len: usize,
}

impl Trace {
    /// No address.
    pub const fn empty() -> Trace {
        Trace { addresses: [0; DEPTH], len: 0 }
    }

    /// The trace of code that stands at `rip` (0: not known) with its stack pointer and frame pointer.
    ///
    /// The frame pointer may be anything, a program's for instance: only what lies on the same stack as the stack pointer and
    /// above it is read, so the walk faults nowhere and ends. The stack stays mapped if its owner changes it meanwhile.
    pub fn walk(rip: u64, rsp: u64, rbp: u64) -> Trace {
        let mut trace = Trace::empty();
        if rip >= KERNEL_BASE {
            trace.push(rip);
        }
        let Some(stack) = around(rsp) else { return trace };
        if let Some(at) =
            frameless(rip).map(|words| rsp + words * 8).filter(|at| at.is_multiple_of(8) && *at < stack.end)
        {
            // SAFETY: aligned and on a mapped stack.
            trace.push(unsafe { (at as *const u64).read_volatile() });
        }
        let mut at = rbp;
        while trace.len < DEPTH && at.is_multiple_of(8) && at >= rsp && at < stack.end - 8 {
            // SAFETY: aligned, and both words are on a mapped stack.
            let [next, back] = unsafe { (at as *const [u64; 2]).read_volatile() };
            if back < KERNEL_BASE {
                break;
            }
            trace.push(back);
            if next <= at {
                break;
            }
            at = next;
        }
        trace
    }

    fn push(&mut self, address: u64) {
        self.addresses[self.len] = address;
        self.len += 1;
    }

    /// The addresses.
    pub fn addresses(&self) -> &[u64] {
        &self.addresses[..self.len]
    }
}

/// Words above the stack pointer to the return address, where the function at `rip` has no frame of its own: before its prologue has
/// made one, or after its epilogue has removed it. `None`: the frame pointer is the function's.
fn frameless(rip: u64) -> Option<u64> {
    const PUSH_RBP: u8 = 0x55;
    const MOV_RBP_RSP: [u8; 3] = [0x48, 0x89, 0xe5];
    const RET: u8 = 0xc3;
    let image = boot::image();
    if !(image[1]..image[2] - 3).contains(&rip) {
        return None;
    }
    // SAFETY: in the text of the kernel, which is mapped and never written.
    let code = unsafe { (rip as *const [u8; 3]).read() };
    match code {
        [PUSH_RBP | RET, ..] => Some(0),
        MOV_RBP_RSP => Some(1),
        _ => None,
    }
}

/// The mapped stack around an address. The boot CPU's first one lies in the image.
fn around(rsp: u64) -> Option<Range<u64>> {
    let image = boot::image();
    if (image[1]..image[4]).contains(&rsp) { Some(image[1]..image[4]) } else { stack::around(rsp) }
}
