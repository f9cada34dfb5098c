//! Random programs of memory calls in one fixed window, the same on every system, and what they show after every step.
//!
//! A program is a list of [`Step`]s whose arguments are known before it runs: addresses count from the window's start, files are
//! numbers of a fixed set. So any part of a program is a program, which is what shrinking one needs. [`generate`] makes
//! one from a seed; [`call`] says what there is to be called, and how it reads; [`run`] runs one in a process of its own and writes
//! what it shows; [`look`] is how the state is seen, [`touch`] how memory is touched that may not be there.
//!
//! What is written depends on nothing but the program: an address outside the window is `elsewhere`, pages are shown by
//! which step wrote them, neighbouring lines of `/proc/self/maps` that say the same are one line.

pub mod call;
pub mod generate;
pub mod look;
pub mod names;
pub mod run;
pub mod touch;

use std::fmt;
use std::str::FromStr;

pub use call::{Call, Step};

/// Pages of the window.
pub const PAGES: u64 = 64;

/// Where the window may lie, so that its middle is a border of nothing, a page table, a directory, an arena of 512 GiB, of none.
pub const WINDOWS: [u64; 5] =
    [0x20_0010_0000, 0x20_0020_0000 - HALF, 0x20_4000_0000 - HALF, 0x100_0000_0000 - HALF, 0x200_0000_0000 - HALF];

const HALF: u64 = PAGES / 2 * crate::PAGE as u64;

/// A program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Which of [`WINDOWS`].
    pub window: usize,
    /// What it does.
    pub steps: Vec<Step>,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "window({})", self.window)?;
        self.steps.iter().try_for_each(|step| write!(f, "; {step}"))
    }
}

impl FromStr for Program {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(';').map(str::trim).filter(|part| !part.is_empty());
        let window = parts.next().and_then(|first| first.strip_prefix("window(")?.strip_suffix(')')?.parse().ok());
        let window = window.filter(|&window| window < WINDOWS.len()).ok_or("a program begins with window(N)")?;
        Ok(Self { window, steps: parts.map(str::parse).collect::<Result<_, _>>()? })
    }
}
