#![doc = include_str!("../README.md")]
#![no_std]

#[cfg(any(test, loom, feature = "fake"))]
extern crate std;

pub mod alloc;
pub mod daemon;
pub mod header;
pub mod host;
pub mod io;
pub mod pending;
pub mod policy;
pub mod slot;
pub mod swap;

mod sizes;

#[cfg(any(test, loom, feature = "fake"))]
pub mod fake;

pub use header::{Header, HeaderError};
pub use host::{Frames, Wake};
pub use io::{Disk, Op, Refused};
pub use slot::{Owed, Slot, State};
pub use swap::{Host, ReadError, Settled, Swap, Take};
