//! What the machine asks of the kernel above it: it is told once, at boot.

use super::UserRegs;
use super::trap::Trap;
use core::fmt::Arguments;
use quire_base::early;
use quire_base::hook::Hook;

/// The answers. Each is called with interrupts off.
pub struct Above {
    /// A program's access to a page failed: at this address, with this error code. It is made to succeed, or ends in a signal.
    pub user_fault: fn(&mut UserRegs, u64, u64),
    /// The kernel's access to a program's page failed, in a routine that may wait: at this address, with this error code. True: it may be
    /// repeated.
    pub copy_fault: fn(u64, u64) -> bool,
    /// A program has made another mistake.
    pub user_trap: fn(&mut UserRegs, Trap),
    /// The current thread is about to be scheduled away without having got on since its last page fault.
    pub grace: fn(),
    /// Does the work (a sum of the `WORK_` bits) that was asked for before the return to a program.
    pub work: fn(&mut UserRegs, u32),
    /// A system call whose number is behind the table.
    pub unknown_call: fn(&mut UserRegs) -> isize,
    /// An interrupt that is not the machine's own; whether it came from a program.
    pub interrupt: fn(u8, bool),
    /// Answers the other CPUs' shootdowns.
    pub serve_shootdown: fn(),
    /// A non-maskable interrupt: another CPU panics and wants silence, or somebody asks where this one stands.
    pub nmi: fn(&UserRegs),
    /// The end, with the registers of the trap that is to blame.
    pub fatal: fn(&UserRegs, Arguments<'_>) -> !,
    /// A zeroed frame for the kernel itself, by physical address.
    pub zeroed_frame: fn() -> Option<u64>,
    /// Takes it back.
    pub free_frame: fn(u64),
    /// Another CPU has begun: it gets its first thread.
    pub adopt_cpu: fn(),
    /// It is ready, and goes to work.
    pub idle: fn() -> !,
}

/// Until somebody is above, there are no programs and no interrupts, and frames come from the early allocator.
pub static ABOVE: Hook<Above> = Hook::new(&Above {
    user_fault: |_, _, _| nobody(),
    copy_fault: |_, _| nobody(),
    user_trap: |_, _| nobody(),
    grace: || nobody(),
    work: |_, _| nobody(),
    unknown_call: |_| nobody(),
    interrupt: |_, _| nobody(),
    serve_shootdown: || nobody(),
    nmi: |_| nobody(),
    fatal: |_, what| panic!("{what}"),
    zeroed_frame: || early::alloc(4096, 4096),
    free_frame: |_| nobody(),
    adopt_cpu: || nobody(),
    idle: || nobody(),
});

fn nobody() -> ! {
    panic!("nobody is above the machine yet")
}

/// A zeroed frame for the kernel itself, by physical address.
pub fn zeroed_frame() -> Option<u64> {
    (ABOVE.get().zeroed_frame)()
}

/// Takes a frame of [`zeroed_frame`] back.
pub fn free_frame(phys: u64) {
    (ABOVE.get().free_frame)(phys);
}

/// Answers the other CPUs' shootdowns, for everything that polls.
pub fn serve_shootdown() {
    (ABOVE.get().serve_shootdown)();
}
