//! What the scheduler asks of the kernel above it: it is told once, at boot.

use crate::Thread;
use crate::machine::Stack;
use quire_base::hook::Hook;

/// The answers. But for `stack`, they are given with interrupts off and wait for nothing.
pub struct Above {
    /// A CPU begins to take timer interrupts, at this time.
    pub begin: fn(u64),
    /// A CPU's timer interrupt, at this time; whether it came from a program.
    pub tick: fn(u64, bool),
    /// Whether timers of a thread's processor time may be due: the running one's.
    pub is_watched: fn(&Thread) -> bool,
    /// Looks whether a device has an answer, for a CPU that would halt else.
    pub look_at_devices: fn(),
    /// A stack for a new thread, waited for if memory is short.
    pub stack: fn() -> Option<Stack>,
    /// Loads the kernel's own page table, for a thread without a space.
    pub load_no_space: fn(),
    /// Whether there are frames enough that a CPU may take one for its table of a space.
    pub is_plentiful: fn() -> bool,
    /// Whether the heap has room for so many bytes.
    pub heap_has: fn(usize) -> bool,
    /// A step of what an idle CPU does for memory. False: nothing is left to do.
    pub idle: fn() -> bool,
}

/// Until somebody is above, nothing is to be done.
pub static ABOVE: Hook<Above> = Hook::new(&Above {
    begin: |_| {},
    tick: |_, _| {},
    is_watched: |_| false,
    look_at_devices: || {},
    stack: Stack::new,
    load_no_space: || {},
    is_plentiful: || true,
    heap_has: |_| true,
    idle: || false,
});
