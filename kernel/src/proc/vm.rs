//! The bridge to the memory manager: its errors as errno, its shortages waited for, its faults by address.

use crate::mem::{Access, Cut, EditError, Fault, Object, ObjectRef, Page, PageError, Quota, Space, memory};
use crate::swap::above::{is_dying, next_owner};
use crate::swap::bring::{self, Brought};
use crate::swap::shortage::{self, ENOUGH, FEW, ROUNDS};
use quire_base::errno::*;
use quire_sched as sched;

/// How often one that needs many frames at once is: others may take what was made free for it.
const WHOLE_ROUNDS: usize = 3;
/// Frames that such a one may need beside the tables and nodes of the space.
const BESIDE: u64 = 64;

/// Linux's number for a failed edit.
pub fn errno(error: EditError) -> Errno {
    match error {
        EditError::NoSpace | EditError::OutOfFrames | EditError::NotMapped | EditError::TooMany => ENOMEM,
        EditError::Exists => EEXIST,
        EditError::Invalid | EditError::Refused => EINVAL,
        EditError::ReadOnly => EACCES,
        EditError::Closed => EPERM,
    }
}

/// Runs an edit; when frames are short, asks for some and tries again.
#[inline(always)]
pub fn retry<T>(mut edit: impl FnMut() -> Result<T, EditError>) -> Result<T, Errno> {
    match edit() {
        Ok(value) => Ok(value),
        Err(error) => retry_failed(error, edit),
    }
}

/// As [`retry`], after the first failure. Each round asks for twice as many frames as the one before, so that an edit which needs more than
/// others give back is not begun in vain for long.
#[cold]
#[inline(never)]
fn retry_failed<T>(mut error: EditError, mut edit: impl FnMut() -> Result<T, EditError>) -> Result<T, Errno> {
    let mut want = ENOUGH;
    for _ in 0..ROUNDS {
        if error != EditError::OutOfFrames || is_dying() || !shortage::wait_for(want) {
            break;
        }
        match edit() {
            Ok(value) => return Ok(value),
            Err(next) => error = next,
        }
        want = (2 * want).min(FEW);
    }
    Err(errno(error))
}

/// Runs an edit that may need as many frames as `space` has tables and nodes, and that is all or nothing. When it fails it is tried
/// again only if so many are free then; so a refusal takes about as long as one attempt.
pub fn retry_whole<T>(space: &Space, mut edit: impl FnMut() -> Result<T, EditError>) -> Result<T, Errno> {
    let mut rounds = WHOLE_ROUNDS;
    loop {
        match edit() {
            Ok(value) => return Ok(value),
            Err(EditError::OutOfFrames) if rounds != 0 && !is_dying() => {
                rounds -= 1;
                let usage = space.usage();
                if !shortage::room_for(usage.tables + usage.nodes + BESIDE) {
                    return Err(ENOMEM);
                }
            }
            Err(error) => return Err(errno(error)),
        }
    }
}

/// Brings the page of a user address in, writable, as a store would; changes nothing in it.
pub fn touch_write(address: usize) -> Result<(), Errno> {
    let Some(space) = sched::current().space::<Space>() else { return Err(EFAULT) };
    touch(space, Page::containing(address as u64), Access::Write)
}

/// Resolves a fault on behalf of the kernel.
pub fn touch(space: &Space, page: Page, access: Access) -> Result<(), Errno> {
    let mut asked = false;
    for _ in 0..ROUNDS {
        match space.fault(page, access) {
            Fault::Done => return Ok(()),
            needs => provide(space, page, needs, &mut asked)?,
        }
    }
    Err(ENOMEM)
}

/// Gets a fault what it needs from outside of the memory manager: frames, a page's content, room (`asked`: see
/// [`shortage::settle_quota`]). It is to be tried again then.
pub fn provide(space: &Space, page: Page, needs: Fault, asked: &mut bool) -> Result<(), Errno> {
    match needs {
        Fault::Done => Ok(()),
        Fault::OutOfFrames if !is_dying() && crate::swap::shortage::wait_for_frames() => Ok(()),
        Fault::OutOfFrames => Err(ENOMEM),
        Fault::SwapIn(slot) => came(bring::bring(space, page, slot)),
        Fault::Full if shortage::settle_quota(asked) => Ok(()),
        Fault::NoSegment | Fault::Forbidden | Fault::Beyond | Fault::Full | Fault::Lost => Err(EFAULT),
    }
}

fn came(brought: Brought) -> Result<(), Errno> {
    match brought {
        Brought::Again => Ok(()),
        Brought::Lost => Err(EIO),
        Brought::Dying => Err(ENOMEM),
    }
}

/// Visits all spaces, in the order of their making, and those that are made meanwhile.
fn each_space(mut see: impl FnMut(&Space)) {
    let mut after = 0;
    while let Some((id, owner)) = next_owner(after) {
        after = id;
        owner.iter().for_each(|owner| see(owner.space()));
    }
}

/// Closes an object to writers for ever, if there are none: no mapping may write it, no translation does. False: there are some.
pub fn close_object(object: &Object) -> bool {
    let closed = memory().close_object(object, quire_base::cpu::online());
    if closed {
        // Edits that have taken a writable mapping out of a list may still be at their sweep.
        each_space(|space| space.await_edits());
    }
    closed
}

/// Whether somebody has a shared mapping of an object that may write it.
pub fn has_writers(object: &Object) -> bool {
    memory().has_writers(object, quire_base::cpu::online())
}

/// Changes an object's length. What is cut off goes, from mappings, too. `holders` of the object's references are no mappings.
/// One caller at a time. Nobody who is killed leaves it half done.
pub fn set_object_len(object: &Object, len: u64, holders: u64) -> Result<(), Errno> {
    cut(object, holders, || memory().set_object_len(object, len))
}

/// Makes the bytes `from .. to` of an object zeros, and gives their pages back; else as [`set_object_len`].
pub fn punch_object(object: &Object, from: u64, to: u64, holders: u64) -> Result<(), Errno> {
    cut(object, holders, || memory().punch_object(object, from, to))
}

fn cut<'o>(object: &Object, holders: u64, mut act: impl FnMut() -> Result<Cut<'o>, PageError>) -> Result<(), Errno> {
    let mut asked = false;
    for _ in 0..ROUNDS {
        match act() {
            Ok(cut) => {
                if !cut.is_empty() && object.references() > holders {
                    each_space(|space| space.cut(&cut));
                }
                return Ok(());
            }
            // The page in which the cut is made.
            Err(PageError::SwapIn(slot)) => came(bring::read_and_wait(slot, &[]))?,
            Err(PageError::Lost) => return Err(EIO),
            Err(PageError::Beyond) => return Err(EFBIG),
            Err(PageError::Full) if shortage::settle_quota(&mut asked) => {}
            Err(PageError::Full) => return Err(ENOSPC),
            Err(PageError::OutOfFrames) if crate::swap::shortage::wait_for_frames() => {}
            Err(PageError::OutOfFrames) => break,
        }
    }
    Err(ENOMEM)
}

/// A new object: zeros, or a file's image and zeros behind it. `capacity` bounds its later length.
pub fn new_object(len: u64, capacity: u64, image: &'static [u8]) -> Result<ObjectRef, Errno> {
    new_object_within(len, capacity, image, None)
}

/// As [`new_object`], an object whose pages are charged to a quota.
pub fn new_object_within(
    len: u64,
    capacity: u64,
    image: &'static [u8],
    quota: Option<&'static Quota>,
) -> Result<ObjectRef, Errno> {
    shortage::insist(|| memory().new_object_within(len, capacity, image, quota)).ok_or(ENOMEM)
}

/// Holds a page of an object, as `hold` does, however long that takes.
fn held<T>(hold: impl Fn() -> Result<T, PageError>) -> Result<T, Errno> {
    let mut asked = false;
    for _ in 0..ROUNDS {
        match hold() {
            Ok(page) => return Ok(page),
            Err(PageError::Beyond) => return Err(EINVAL),
            Err(PageError::Full) if shortage::settle_quota(&mut asked) => {}
            Err(PageError::Full) => return Err(ENOSPC),
            Err(PageError::OutOfFrames) if crate::swap::shortage::wait_for_frames() => {}
            Err(PageError::OutOfFrames) => break,
            Err(PageError::SwapIn(slot)) => came(bring::read_and_wait(slot, &[]))?,
            Err(PageError::Lost) => return Err(EIO),
        }
    }
    Err(ENOMEM)
}

/// Reads bytes of an object that lie within one page. A hole stays one.
pub fn read_object(object: &Object, at: u64, to: &mut [u8]) -> Result<(), Errno> {
    let within = (at % 4096) as usize;
    debug_assert!(within + to.len() <= 4096);
    match held(|| memory().hold_page_there(object, at / 4096))? {
        // SAFETY: the page is held and the range lies inside it; a raw copy, since programs may change it meanwhile.
        Some(page) => unsafe { core::ptr::copy(page.bytes().add(within), to.as_mut_ptr(), to.len()) },
        None => to.fill(0),
    }
    Ok(())
}

/// Writes bytes of an object that lie within one page.
pub fn write_object(object: &Object, at: u64, from: &[u8]) -> Result<(), Errno> {
    let within = (at % 4096) as usize;
    debug_assert!(within + from.len() <= 4096);
    let page = held(|| memory().hold_page(object, at / 4096))?;
    // SAFETY: the page is held and the range lies inside it.
    unsafe { core::ptr::copy(from.as_ptr(), page.bytes().add(within), from.len()) };
    Ok(())
}
