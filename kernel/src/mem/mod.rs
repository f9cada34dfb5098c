//! Memory: from the loader's map to the memory manager, and the kernel's glue to it.
//!
//! [`machine`] is the hardware under `quire-mm`; [`space`] is a space as the scheduler loads it; [`user`] is the only way into a program's memory, [`user_time`] for times; [`heap`] serves the
//! kernel's own data, [`page`] whole pages of it.

pub mod machine;
pub mod page;
pub mod space;
pub mod user;
pub mod user_time;

mod heap;

pub use heap::{has as heap_has, is_low as heap_is_low, vec};
pub use machine::{free_frame, idle, memory, serve_shootdown, zeroed_frame};
pub use quire_mm::{
    Access, Backing, Cut, EditError, Fault, Flags, GUARD, Object, ObjectRef, Page, PageError, PageRange, Place, Prot,
    Quota, Remap, Seen, Segment,
};
pub use space::Space;
