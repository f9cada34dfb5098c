//! The disk as swapping sees it: scatter-gather requests of whole pages, many in flight, completed in any order.

use crate::slot::Slot;
use quire_mm::Frame;

/// Most pages of one request.
pub const MOST_PAGES: usize = 32;

/// What a request does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// From the disk to the frames.
    Read,
    /// From the frames to the disk.
    Write,
}

/// Why the disk did not take a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// As many as it can have are in flight: again after a completion.
    Full,
    /// It does not answer any more.
    Dead,
}

/// How a request failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IoError {
    /// The disk said so: the pages cannot be read or written.
    Device,
    /// The disk was given up before it said anything. It does not touch the frames any more.
    Lost,
}

/// A block device with pages.
///
/// *Safety of the frames*: from `submit` to the completion the frames belong to the device. It never touches them after the
/// completion, and completes each request once. A request that is not answered stays incomplete for ever.
pub trait Disk {
    /// Starts a request for `frames.len()` neighbouring pages, the first of which is `first`. `frames` has 1 to [`MOST_PAGES`].
    /// `cookie` comes back with the completion.
    fn submit(&self, op: Op, first: Slot, frames: &[Frame], cookie: u64) -> Result<(), Refused>;
    /// Tells the device of what was submitted, if it was not told yet.
    fn kick(&self) {}
    /// Calls `done` for each request that has completed since the last call.
    fn complete(&self, done: &mut dyn FnMut(u64, Result<(), IoError>));
}

/// What a request was about, in its cookie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    pub op: Op,
    pub first: Slot,
    pub pages: u32,
}

impl Run {
    pub fn cookie(self) -> u64 {
        (self.first.0 as u64) << 32 | (self.pages as u64) << 1 | (self.op == Op::Write) as u64
    }

    pub fn of(cookie: u64) -> Run {
        Run {
            op: if cookie & 1 != 0 { Op::Write } else { Op::Read },
            first: Slot((cookie >> 32) as u32),
            pages: (cookie as u32) >> 1,
        }
    }

    pub fn slots(self) -> impl Iterator<Item = Slot> {
        (0..self.pages).map(move |i| Slot(self.first.0 + i))
    }
}
