//! Page faults: from the hardware's error code to the memory manager and on to a signal.

use super::thread::part;
use crate::mem::Space;
use crate::proc::account::{More, within};
use crate::proc::limits::stack_limit;
use crate::proc::signal;
use crate::swap::bring::{Brought, bring};
use crate::swap::relief;
use crate::swap::shortage::{settle_quota, wait_for_frames};
use quire_arch::trap::{PAGE_FAULT, Trap};
use quire_arch::{UserRegs, stay};
use quire_mm::{Access, EditError, Fault, Page, PageRange};
use quire_sched as sched;

const WRITE: u64 = 1 << 1;
/// The access had the program's rights.
const USER: u64 = 1 << 2;
/// A reserved bit of an entry is set.
const RESERVED: u64 = 1 << 3;
const FETCH: u64 = 1 << 4;
/// The rights by key do not suffice.
const KEY: u64 = 1 << 5;

/// A page fault of the program: resolved, or a signal.
pub fn user(regs: &mut UserRegs, address: u64, error: u64) {
    let access = match error {
        e if e & FETCH != 0 => Access::Exec,
        e if e & WRITE != 0 => Access::Write,
        _ => Access::Read,
    };
    stay::count_fault();
    // What the CPU reads with its own rights for an instruction of a program (a descriptor, or what a return takes from the stack),
    // what has a reserved bit, what a key denies: no page brings these on, and the instruction would fault for ever.
    let ordinary = error & (USER | RESERVED | KEY) == USER;
    match if ordinary { resolve(address, access) } else { Outcome::Denied } {
        // Who is being killed sees to that on the way back to user mode.
        Outcome::Done | Outcome::Dying => {}
        Outcome::Denied => signal::fault(regs, Trap { vector: PAGE_FAULT, error, address }),
        Outcome::NoContent => signal::no_content(Trap { vector: PAGE_FAULT, error, address }),
    }
}

/// A page fault of the kernel in a user copy. False: EFAULT.
pub fn kernel(address: u64, error: u64) -> bool {
    resolve(address, if error & WRITE != 0 { Access::Write } else { Access::Read }) == Outcome::Done
}

/// What came of a fault.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The access may be tried again.
    Done,
    /// The thread is being killed: it must not wait for what it needs, for it may be the one whose end gives some.
    Dying,
    /// SIGSEGV.
    Denied,
    /// SIGBUS: the page lies behind its object's end, the object may have no more pages, or the content cannot be read from the swap
    /// area.
    NoContent,
}

fn resolve(address: u64, access: Access) -> Outcome {
    let page = Page::containing(address);
    if page >= PageRange::LIMIT {
        return Outcome::Denied;
    }
    let thread = sched::current();
    let Some(space) = thread.space::<Space>() else { return Outcome::Denied };
    relief::before_fault();
    let mut asked = false;
    loop {
        match space.fault(page, access) {
            Fault::Done => return Outcome::Done,
            Fault::NoSegment if grow(space, page) => {}
            // As on Linux, an absent page comes in before it is refused, or there is none: SIGBUS.
            Fault::Forbidden if access == Access::Exec => {
                return match resolve(address, Access::Read) {
                    Outcome::Done => Outcome::Denied,
                    other => other,
                };
            }
            Fault::NoSegment | Fault::Forbidden => return Outcome::Denied,
            Fault::SwapIn(slot) => match bring(space, page, slot) {
                Brought::Again => {}
                Brought::Lost => return Outcome::NoContent,
                Brought::Dying => return given_up(),
            },
            Fault::Full if settle_quota(&mut asked) => {}
            Fault::Beyond | Fault::Full | Fault::Lost => return Outcome::NoContent,
            Fault::OutOfFrames => {
                if signal::is_dying() || !wait_for_frames() {
                    return given_up();
                }
            }
        }
    }
}

/// No memory, for this thread or for anybody.
fn given_up() -> Outcome {
    if signal::is_dying() { Outcome::Dying } else { Outcome::Denied }
}

/// Extends the segment above `page` down to it, if that one grows down and may grow so far. Whether there is a segment at `page` now.
fn grow(space: &Space, page: Page) -> bool {
    const LOWEST: u64 = 0x1_0000;
    let Some(user) = part(sched::current()) else { return false };
    // A copy from or to another program's memory grows nothing there, as on Linux.
    if page.addr() < LOWEST || !user.has_memory() || !core::ptr::eq(&*user.memory().space, space) {
        return false;
    }
    let more = || {
        let pages = space.find(page).map_or(0, |above| above.range.start.0.saturating_sub(page.0));
        More { pages, is_data: false }
    };
    let grown = within(user.memory(), more, || Ok(space.grow_down(page, stack_limit() / 4096)));
    match grown {
        Ok(Ok(())) => true,
        Ok(Err(EditError::OutOfFrames)) => !signal::is_dying() && wait_for_frames(),
        Ok(Err(_)) | Err(_) => false,
    }
}
