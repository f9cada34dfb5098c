#![doc = include_str!("../README.md")]
#![no_std]
// The model checker's machine is so small that some constants are trivial.
#![cfg_attr(loom, allow(clippy::modulo_one, clippy::reversed_empty_ranges, clippy::unnecessary_min_or_max))]

#[cfg(any(test, loom, feature = "fake"))]
extern crate std;

pub mod audit;
pub mod cut;
pub mod edit;
pub mod entry;
pub mod evict;
pub mod fault;
pub mod frames;
pub mod machine;
pub mod map;
pub mod memory;
pub mod mv;
pub mod object;
pub mod page;
pub mod pager;
pub mod percpu;
pub mod quota;
pub mod rcu;
pub mod segment;
pub mod shootdown;
pub mod slab;
pub mod space;
pub mod stats;
pub mod sync;

mod arena;
mod bare;
mod bits;
mod blank;
mod bring;
mod claims;
mod cpuset;
mod destroy;
mod error;
mod flush;
mod fork;
mod free;
mod grow;
mod guard;
mod hot;
mod inplace;
mod link;
mod list;
mod look;
mod object_entries;
mod object_pages;
mod place;
mod publish;
mod refs;
mod retire;
mod scan;
mod shared;
mod sizes;
mod slot;
mod slow;
mod spans;
mod swapin;
mod sweep;
mod tree;
mod usage;
mod users;
mod wait;
mod walk;
mod whole;

#[cfg(any(test, feature = "fake"))]
pub mod fake;

#[cfg(loom)]
pub mod probe;

pub use audit::Report;
pub use bring::Back;
pub use cut::Cut;
pub use error::EditError;
pub use evict::Evicted;
pub use fault::Fault;
pub use frames::{Frame, Settled};
pub use guard::GUARD;
pub use inplace::{Check, Takes};
pub use machine::{CPUS, Machine, What};

pub use memory::Memory;
pub use mv::Remap;
pub use object::{Object, ObjectRef, PageError};
pub use object_pages::HeldPage;
pub use page::{Access, PAGE, Page, PageRange, Prot};
pub use pager::{Pager, Take, Verdict};
pub use place::Place;
pub use quota::Quota;
pub use segment::{Backing, Flags, Seen, Segment};
pub use slot::Slot;
pub use space::Space;
pub use stats::Counter;
pub use usage::Usage;
