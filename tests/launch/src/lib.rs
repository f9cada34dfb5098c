//! Runs ordinary Linux programs on Quire from the host's side.
//!
//! A [`Boot`] says which machine to start and which [`Job`]s it shall run, one after the other. [`Boot::run`] packs
//! the programs into an initramfs that lives in memory only, starts QEMU, and carries bytes both ways until the guest
//! says that all is done. What comes back goes to a [`Sink`], in the order in which the guest sent it.
//!
//! Principles:
//!
//! 1. Bytes are carried, never interpreted: megabytes, binary, in order, with back-pressure in both directions.
//! 2. The guest's last frame decides, not QEMU's exit status; without that frame the run has failed.
//! 3. QEMU never outlives its launcher, however that one ends (`PR_SET_PDEATHSIG`), and no file but the log stays.
//!
//! | module | idea |
//! |---|---|
//! | [`frame`] | the wire format between guest and host |
//! | [`image`] | jobs and files, packed as a cpio archive |
//! | [`machine`] | QEMU's command line |
//! | [`monitor`] | the last question before a run is given up |
//! | [`session`] | one run: start, pump, end |
//! | [`swap`] | the swap disk: a new image or the user's |
//! | [`collect`] | a sink that keeps the outputs of each job, for tests |

pub mod collect;
pub mod frame;
pub mod image;
pub mod machine;
pub mod monitor;
pub mod session;
pub mod swap;

pub use collect::{Collected, Report};
pub use frame::{Event, How};
pub use image::{Image, Job};
pub use machine::{Accel, Machine};
pub use session::{Boot, End, Input, Sink};
pub use swap::{Store, Swap};
