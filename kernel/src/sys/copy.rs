//! Copies between descriptors, without the program's memory in between.

use super::Args;
use super::errno::*;
use super::readwrite::file;
use crate::arch::{UserRegs, interrupt_window};
use crate::fs::io::MAX_BYTES;
use crate::fs::stat::kind;
use crate::fs::{OpenFile, UserIo};
use crate::mem::page::{BYTES, KernelPage};
use crate::mem::user::UserPtr;
use crate::proc::signal::{is_dying, must_interrupt};
use crate::sched;

/// A position that the program keeps, or that of the open file. Read before a copy and stored after it, as on Linux: the two
/// files may be one.
fn begin(file: &OpenFile, at: usize) -> Result<u64, Errno> {
    if at == 0 {
        return Ok(*file.position.lock());
    }
    let position = UserPtr::<i64>::new(at).read()?;
    u64::try_from(position).map_err(|_| EINVAL)
}

fn end(file: &OpenFile, at: usize, position: u64) -> Result<(), Errno> {
    if at != 0 {
        return UserPtr::<u64>::new(at).write(position);
    }
    *file.position.lock() = position;
    Ok(())
}

/// Copies up to `count` bytes from a position of `from`; `put` takes a piece and says how much of it went. Returns how many bytes
/// were copied; an error only if there were none.
fn copy(from: &OpenFile, at: u64, count: usize, mut put: impl FnMut(&mut [u8], u64) -> SysResult) -> SysResult {
    let mut page = KernelPage::awaited().ok_or(ENOMEM)?;
    let (mut done, count) = (0, count.min(MAX_BYTES));
    while done < count {
        let piece = &mut page[..BYTES.min(count - done)];
        let step = from.file.read(&mut UserIo::kernel(piece)?, at + done as u64, true).and_then(|n| match n {
            0 => Ok((0, 0)),
            _ => Ok((n, put(&mut piece[..n], done as u64)?)),
        });
        match step {
            Ok((n, put)) => {
                done += put;
                if put < n || n == 0 {
                    break;
                }
            }
            Err(why) if done == 0 => return Err(why),
            Err(_) => break,
        }
        interrupt_window();
        sched::yield_now();
        if is_dying() || sched::current().wants_attention() && must_interrupt() {
            break;
        }
    }
    Ok(done)
}

/// `sendfile`: from anything with contents to anything.
pub fn sendfile(r: &mut UserRegs) -> SysResult {
    let (to, from) = (file(r.a0())?, file(r.a1())?);
    from.readable()?;
    to.writable()?;
    let (position, count) = (begin(&from, r.a2())?, r.a3());
    let is_dir = from.stat().mode & kind::MASK == kind::DIR;
    let wraps = i64::try_from(count).map_or(true, |count| (position as i64).checked_add(count).is_none());
    if wraps || !from.file.seekable() || is_dir || to.appends() {
        return Err(EINVAL);
    }
    let done = copy(&from, position, count, |piece, _| to.write(&mut UserIo::kernel(piece)?))?;
    from.accessed();
    end(&from, r.a2(), position + done as u64)?;
    Ok(done)
}

/// `copy_file_range`: between regular files.
pub fn copy_file_range(r: &mut UserRegs) -> SysResult {
    let (from, to, count) = (file(r.a0())?, file(r.a2())?, r.a4());
    if r.a5() as u32 != 0 {
        return Err(EINVAL);
    }
    if [&from, &to].iter().any(|f| f.stat().mode & kind::MASK == kind::DIR) {
        return Err(EISDIR);
    }
    if from.regular().is_none() || to.regular().is_none() {
        return Err(EINVAL);
    }
    from.readable()?;
    to.writable()?;
    if to.appends() {
        return Err(EBADF);
    }
    let (at, behind) = (begin(&from, r.a1())?, begin(&to, r.a3())?);
    // As Linux: what lies behind the end of the source does not count.
    let count = count.min(MAX_BYTES).min(from.stat().size.saturating_sub(at) as usize);
    let overlap = at.max(behind) - at.min(behind) < count as u64;
    if overlap && from.stat().ino == to.stat().ino {
        return Err(EINVAL);
    }
    let done = copy(&from, at, count, |piece, done| to.write_at(&mut UserIo::kernel(piece)?, behind + done, false))?;
    from.accessed();
    end(&from, r.a1(), at + done as u64)?;
    end(&to, r.a3(), behind + done as u64)?;
    Ok(done)
}
