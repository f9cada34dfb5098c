//! Copies between descriptors, without the program's memory in between.

use super::readwrite::file;
use crate::fs::io::MAX_BYTES;
use crate::fs::regular::MAX_LEN;
use crate::fs::stat::kind;
use crate::fs::{OpenFile, UserIo};
use crate::mem::page::BYTES;
use crate::mem::user::UserPtr;
use crate::proc::limits;
use crate::proc::signal::{is_dying, must_interrupt};
use quire_arch::{UserRegs, interrupt_window};
use quire_base::errno::*;
use quire_sched as sched;

/// A position that the program keeps, or that of the open file. Read before a copy and stored after it, as on Linux: the two
/// files may be one.
fn begin(file: &OpenFile, at: usize) -> Result<u64, Errno> {
    whole(place(file, at)?)
}

/// The same, as it is there.
fn place(file: &OpenFile, at: usize) -> Result<i64, Errno> {
    match at {
        0 => Ok(*file.position.lock() as i64),
        _ => UserPtr::<i64>::new(at).read(),
    }
}

fn whole(position: i64) -> Result<u64, Errno> {
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
    let mut page = crate::swap::shortage::page().ok_or(ENOMEM)?;
    let (mut done, count) = (0, count.min(MAX_BYTES));
    while done < count {
        let piece = &mut page[..BYTES.min(count - done)];
        let step = from.file.read(&mut UserIo::kernel(piece)?, at + done as u64, true).and_then(|n| match n {
            0 => Ok((0, 0)),
            _ => Ok((n, put_all(&mut piece[..n], |rest, n| put(rest, (done + n) as u64))?)),
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

/// Puts a piece; what does not go at once is tried again, as on Linux, until nothing goes. An error only if nothing went.
fn put_all(piece: &mut [u8], mut put: impl FnMut(&mut [u8], usize) -> SysResult) -> SysResult {
    let mut done = 0;
    while done < piece.len() {
        match put(&mut piece[done..], done) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(why) if done == 0 => return Err(why),
            Err(_) => break,
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
    let takes = to.file.takes_copies();
    let put = |piece: &mut [u8], _| if takes { to.write(&mut UserIo::kernel(piece)?) } else { Err(EINVAL) };
    let done = copy(&from, position, count, put)?;
    from.accessed();
    end(&from, r.a2(), position + done as u64)?;
    Ok(done)
}

/// `copy_file_range`: between regular files.
pub fn copy_file_range(r: &mut UserRegs) -> SysResult {
    let (from, to, count) = (file(r.a0())?, file(r.a2())?, r.a4());
    let (at, behind) = (place(&from, r.a1())?, place(&to, r.a3())?);
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
    let ends = |at: i64| (at as u64).checked_add(count as u64).ok_or(EOVERFLOW);
    ends(at)?;
    ends(behind)?;
    // As Linux: what lies behind the end of the source does not count, nor what may not be written; but the limit is asked in any case.
    let size = from.stat().size;
    let count = if at >= size as i64 { 0 } else { (count as u64).min(size.wrapping_sub(at as u64)) };
    let count = match u64::try_from(behind) {
        Ok(behind) => {
            let room = MAX_LEN.checked_sub(behind).filter(|n| *n > 0);
            count.min(limits::file_room(behind)?).min(room.ok_or(EFBIG)?)
        }
        // Refused below.
        Err(_) => count,
    };
    let overlap = |a: i64, b: i64| a.wrapping_add(count as i64) > b;
    if from.stat().ino == to.stat().ino && overlap(behind, at) && overlap(at, behind) {
        return Err(EINVAL);
    }
    let (at, behind) = (whole(at)?, whole(behind)?);
    let count = count.min(MAX_BYTES as u64) as usize;
    let done = copy(&from, at, count, |piece, done| to.write_at(&mut UserIo::kernel(piece)?, behind + done, false))?;
    from.accessed();
    if done > 0 {
        // As on Linux, each whether the other one can be stored or not.
        let stored = [end(&from, r.a1(), at + done as u64), end(&to, r.a3(), behind + done as u64)];
        stored.into_iter().collect::<Result<(), Errno>>()?;
    }
    Ok(done)
}
