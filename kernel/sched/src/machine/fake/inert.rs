//! What the fake machine has because the real one does: there are no programs on it, and nobody looks at a stack.

extern crate std;

use std::alloc::{Layout, alloc, dealloc};

/// A program's registers.
#[derive(Clone, Copy, Debug)]
pub struct UserRegs {
    /// The word of the entry.
    pub orig_rax: u64,
}

impl UserRegs {
    /// Nothing in them is dangerous.
    pub fn sanitize(&mut self) {}
}

/// Bytes of [`UserRegs`].
pub const REGS: usize = size_of::<UserRegs>();

/// Where a program would begin.
pub extern "C" fn leave() {
    std::process::abort();
}

/// The registers that only programs use.
#[derive(Debug)]
pub struct Registers;

impl Registers {
    /// There is always room for none.
    pub fn new() -> Option<Registers> {
        Some(Registers)
    }

    /// Nothing is to be saved.
    pub fn save(&mut self) {}

    /// Nothing is to be loaded.
    pub fn restore(&self) {}
}

/// Who called whom.
#[derive(Debug)]
pub struct Trace;

impl Trace {
    /// Nobody.
    pub fn empty() -> Trace {
        Trace
    }

    /// Nobody knows.
    pub fn walk(_: u64, _: u64, _: u64) -> Trace {
        Trace
    }
}

/// A stack, of the host's memory.
#[derive(Debug)]
pub struct Stack(u64);

/// Large enough for a panic with its report.
const LAYOUT: Layout = match Layout::from_size_align(256 << 10, 16) {
    Ok(layout) => layout,
    Err(_) => panic!("16 is a power of two"),
};

impl Stack {
    /// A new one.
    pub fn new() -> Option<Stack> {
        // SAFETY: the layout is not empty.
        let bottom = unsafe { alloc(LAYOUT) };
        (!bottom.is_null()).then(|| Stack(bottom.expose_provenance() as u64 + LAYOUT.size() as u64))
    }

    /// The address behind its last byte.
    pub fn top(&self) -> u64 {
        self.0
    }

    /// Keeps it until the machine ends.
    pub fn leak(self) -> u64 {
        let top = self.0;
        super::keep(self);
        top
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let bottom = core::ptr::with_exposed_provenance_mut(self.0 as usize - LAYOUT.size());
        // SAFETY: made by `alloc` with the same layout; its last user is gone.
        unsafe { dealloc(bottom, LAYOUT) };
    }
}

/// The pool of stacks: there is none.
pub mod stack {
    /// Nothing can be given back.
    pub fn ask() -> bool {
        false
    }

    /// Nothing is to be given back.
    pub fn trim() {}

    /// Nobody looks at stacks.
    pub fn around(_: u64) -> Option<core::ops::Range<u64>> {
        None
    }
}
