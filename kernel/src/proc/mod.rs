//! Processes, threads, signals, futexes, and the loading of programs.
//!
//! * A [`process::Process`] is what Linux calls a thread group; [`UserThread`] is what a thread of it owns.
//! * What a thread alone touches sits in [`thread::Own`] cells: the system-call path takes no lock and no reference for it.
//! * The family tree (parents, children, groups) has one lock, [`tree`]; it is a leaf below no other lock but
//!   signal queues. Nobody touches user memory, blocks or edits a space while holding a spin lock.
//! * Ways to die all end in [`exit::thread`]: `exit`, a fatal signal, a sibling's `exit_group` or `execve`.

pub mod account;
pub mod charge;
pub mod clock;
pub mod clone;
pub mod exec;
pub mod exit;
pub mod fault;
pub mod fpu;
pub mod futex;
pub mod interval;
pub mod itimer;
pub mod limits;
pub mod memory;
pub mod oom;
pub mod policy;
pub mod process;
pub mod shm;
pub mod signal;
pub mod sleep;
pub mod thread;
pub mod timers;
pub mod tree;
pub mod vm;
pub mod wait;

pub use memory::Memory;
pub use thread::UserThread;
