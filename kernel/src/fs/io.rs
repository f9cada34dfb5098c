//! The program's side of a read or write: one buffer or many. Or a buffer of the kernel's, for files that are copied.

use crate::mem::user::{UserPtr, UserSlice};
use crate::proc::signal::is_dying;
use alloc::vec::Vec;
use quire_arch::interrupt_window;
use quire_base::errno::*;
use quire_sched as sched;

/// Most bytes that one call moves, as on Linux.
pub const MAX_BYTES: usize = 0x7fff_f000;
/// Most buffers of one call.
pub const MAX_PARTS: usize = 1024;

/// Bytes after which interrupts get their turn, and other threads.
const PIECE: usize = 128 << 10;

/// A cursor over the program's buffers.
pub struct UserIo<'a> {
    /// Instead of all that.
    kernel: Option<&'a mut [u8]>,
    current: UserSlice,
    /// Those behind the current one, last first.
    rest: Vec<UserSlice>,
    left: usize,
    /// Bytes moved since interrupts had their turn.
    since: usize,
}

impl<'a> UserIo<'a> {
    /// A buffer of the kernel's.
    pub fn kernel(buffer: &'a mut [u8]) -> Result<Self, Errno> {
        let left = buffer.len();
        Ok(UserIo { kernel: Some(buffer), current: UserSlice::new(0, 0)?, rest: Vec::new(), left, since: 0 })
    }

    /// One buffer.
    pub fn single(address: usize, len: usize) -> Result<Self, Errno> {
        // Linux looks at the whole range before it shortens it.
        UserSlice::new(address, len)?;
        let current = UserSlice::new(address, len.min(MAX_BYTES))?;
        Ok(UserIo { kernel: None, left: current.len(), current, rest: Vec::new(), since: 0 })
    }

    /// The buffers of readv and its kind.
    pub fn vector(at: usize, count: usize) -> Result<Self, Errno> {
        if count > MAX_PARTS {
            return Err(EINVAL);
        }
        let raw = UserPtr::<[usize; 2]>::new(at).read_vec(count)?;
        let mut rest = Vec::new();
        rest.try_reserve_exact(count).map_err(|_| ENOMEM)?;
        // As Linux: all lengths before the first address.
        if raw.iter().any(|[_, len]| *len > isize::MAX as usize) {
            return Err(EINVAL);
        }
        let mut left = 0usize;
        for [address, len] in raw {
            UserSlice::new(address, len)?;
            let len = len.min(MAX_BYTES - left);
            left += len;
            rest.push(UserSlice::new(address, len)?);
        }
        rest.reverse();
        Ok(UserIo { kernel: None, current: UserSlice::new(0, 0)?, rest, left, since: 0 })
    }

    /// Bytes still to be moved.
    pub fn left(&self) -> usize {
        self.left
    }

    /// Moves no more than so many bytes.
    pub fn shorten(&mut self, most: u64) {
        self.left = (self.left as u64).min(most) as usize;
    }

    /// The current buffer, advanced to one that has bytes.
    fn part(&mut self) -> UserSlice {
        while self.current.is_empty() {
            match self.rest.pop() {
                Some(next) => self.current = next,
                None => break,
            }
        }
        self.current
    }

    fn advance(&mut self, n: usize) {
        self.current = self.current.skip(n);
        self.left -= n;
        self.since += n;
        if self.since >= PIECE {
            self.since = 0;
            interrupt_window();
            sched::yield_now();
            if is_dying() {
                // Nobody will look at the rest.
                self.left = 0;
            }
        }
    }

    /// The next bytes of the kernel's buffer, at most `most`, if there is one.
    fn of_kernel(&mut self, most: usize) -> Option<&mut [u8]> {
        let (next, rest) = self.kernel.take()?.split_at_mut(most.min(self.left));
        self.kernel = Some(rest);
        self.left -= next.len();
        Some(next)
    }

    /// Gives bytes to the program; fewer than `from.len()` when the buffers end or a page is not there.
    pub fn put(&mut self, from: &[u8]) -> usize {
        if let Some(room) = self.of_kernel(from.len()) {
            room.copy_from_slice(&from[..room.len()]);
            return room.len();
        }
        let mut done = 0;
        while done < from.len() && self.left > 0 {
            let part = self.part();
            let want = part.len().min(from.len() - done).min(self.left).min(PIECE);
            let n = part.copy_out_some(&from[done..done + want]);
            self.advance(n);
            done += n;
            if n < want {
                break;
            }
        }
        done
    }

    /// Takes bytes from the program; fewer than `to.len()` when the buffers end or a page is not there.
    pub fn get(&mut self, to: &mut [u8]) -> usize {
        if let Some(room) = self.of_kernel(to.len()) {
            to[..room.len()].copy_from_slice(room);
            return room.len();
        }
        let mut done = 0;
        while done < to.len() && self.left > 0 {
            let part = self.part();
            let want = part.len().min(to.len() - done).min(self.left).min(PIECE);
            let n = part.copy_in_some(&mut to[done..done + want]);
            self.advance(n);
            done += n;
            if n < want {
                break;
            }
        }
        done
    }

    /// Gives up to `count` zeros to the program.
    pub fn put_zeros(&mut self, count: usize) -> usize {
        if let Some(room) = self.of_kernel(count) {
            room.fill(0);
            return room.len();
        }
        let mut done = 0;
        while done < count && self.left > 0 {
            let part = self.part();
            let want = part.len().min(count - done).min(self.left).min(PIECE);
            let n = UserSlice::new(part.addr(), want).map_or(0, |s| s.zero_some());
            self.advance(n);
            done += n;
            if n < want {
                break;
            }
        }
        done
    }

    /// Drops everything that is left, as /dev/null does.
    pub fn discard(&mut self) -> usize {
        core::mem::take(&mut self.left)
    }
}

/// The result of a transfer that moved `done` bytes and then met a page that is not there.
pub fn short(done: usize) -> SysResult {
    if done > 0 { Ok(done) } else { Err(EFAULT) }
}
