//! What a program may call, and how that is written: like C, so that a shrunk program reads as its own reproduction.

use std::fmt;
use std::str::FromStr;

use super::names::{self, Kind};
use crate::PAGE;

/// An address of a program, known before the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// Bytes from the window's start.
    Window(i64),
    /// Bytes from where the heap ended when the program began.
    Heap(i64),
    /// As it is.
    Raw(u64),
}

const PAGES_OF_SPACE: u64 = 1 << 40;
const WINDOW: u64 = 0x1000_0000_0000_0000;
const HEAP: u64 = 0x2000_0000_0000_0000;

impl Address {
    /// As an argument.
    pub fn encode(self) -> u64 {
        match self {
            Self::Window(offset) => WINDOW + PAGES_OF_SPACE + offset as u64,
            Self::Heap(offset) => HEAP + PAGES_OF_SPACE + offset as u64,
            Self::Raw(value) => value,
        }
    }

    /// From an argument.
    pub fn decode(value: u64) -> Self {
        let offset = |base: u64| value.wrapping_sub(base + PAGES_OF_SPACE) as i64;
        if offset(WINDOW).unsigned_abs() < PAGES_OF_SPACE {
            Self::Window(offset(WINDOW))
        } else if offset(HEAP).unsigned_abs() < PAGES_OF_SPACE {
            Self::Heap(offset(HEAP))
        } else {
            Self::Raw(value)
        }
    }
}

macro_rules! calls {
    ($($call:ident $name:literal ($($kind:expr),*);)*) => {
        /// What may be called.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the names are those of the calls")]
        pub enum Call { $($call),* }

        impl Call {
            /// All of them.
            pub const ALL: &'static [Call] = &[$(Call::$call),*];

            /// As it is written.
            pub fn name(self) -> &'static str {
                match self { $(Call::$call => $name),* }
            }

            /// What its arguments are.
            pub fn kinds(self) -> &'static [Kind] {
                match self { $(Call::$call => &[$($kind),*]),* }
            }
        }
    };
}

use Kind::{Address as At, Bits, File, Length, Number, One};

calls! {
    Mmap "mmap" (At, Length, Bits(names::PROT), Bits(names::MAP), File, Length);
    Munmap "munmap" (At, Length);
    Mprotect "mprotect" (At, Length, Bits(names::PROT));
    Mremap "mremap" (At, Length, Length, Bits(names::REMAP), At);
    Madvise "madvise" (At, Length, One(names::ADVICE));
    Mlock "mlock" (At, Length);
    Mlock2 "mlock2" (At, Length, Bits(names::LOCK));
    Munlock "munlock" (At, Length);
    Mlockall "mlockall" (Bits(names::LOCK_ALL));
    Munlockall "munlockall" ();
    Msync "msync" (At, Length, Bits(names::SYNC));
    Mincore "mincore" (At, Length, At);
    Brk "brk" (At);
    Shmat "shmat" (At, Bits(names::ATTACH));
    Shmdt "shmdt" (At);
    Store "store" (At, Number);
    Load "load" (At, Number);
    Run "run" (At);
    Pread "pread" (File, At, Length, Length);
    Pwrite "pwrite" (File, At, Length, Length);
    PipeWrite "write_to_pipe" (At, Length);
    Ftruncate "ftruncate" (File, Length);
    Fallocate "fallocate" (File, Bits(names::ALLOCATE), Length, Length);
    AddSeals "add_seals" (File, Bits(names::SEALS));
    Lseek "lseek" (File, Length, One(names::WHENCE));
    Limit "set_limit_from_now" (One(names::LIMITS), Length);
    Fork "fork" ();
    Exit "exit" ();
    LookByLoads "look_by_loads" ();
    LookByKernel "look_by_kernel" ();
}

/// One call with its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What is called.
    pub call: Call,
    /// As many as the call takes, then zeros.
    pub arguments: [u64; 6],
}

impl Step {
    /// A step.
    pub fn new(call: Call, given: &[u64]) -> Self {
        let mut arguments = [0; 6];
        arguments[..given.len()].copy_from_slice(given);
        Self { call, arguments }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.call.name())?;
        for (index, (&kind, &value)) in self.call.kinds().iter().zip(&self.arguments).enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            write_argument(f, kind, value)?;
        }
        f.write_str(")")
    }
}

fn write_argument(f: &mut fmt::Formatter<'_>, kind: Kind, value: u64) -> fmt::Result {
    match kind {
        Kind::Address => match Address::decode(value) {
            Address::Window(offset) => write_bytes(f, "w", offset),
            Address::Heap(offset) => write_bytes(f, "h", offset),
            Address::Raw(value) => write!(f, "{value:#x}"),
        },
        Kind::Length if value < 1 << 32 => write_bytes(f, "", value as i64),
        Kind::Length => write!(f, "{value:#x}"),
        Kind::Number => write!(f, "{value}"),
        Kind::File => write_one(f, names::FILES, value),
        Kind::One(known) => write_one(f, known, value),
        Kind::Bits(known) => {
            let mut left = value;
            for &(name, bits) in known {
                if left & bits == bits {
                    write!(f, "{}{name}", if left == value { "" } else { "|" })?;
                    left &= !bits;
                }
            }
            match left {
                0 if value != 0 => Ok(()),
                left => write!(f, "{}{left:#x}", if left == value { "" } else { "|" }),
            }
        }
    }
}

fn write_one(f: &mut fmt::Formatter<'_>, known: &[(&str, u64)], value: u64) -> fmt::Result {
    match known.iter().find(|(_, one)| *one == value) {
        Some((name, _)) => f.write_str(name),
        None => write!(f, "{value:#x}"),
    }
}

/// `w+3p+17`, `w-1p`, `3p`, `0`.
fn write_bytes(f: &mut fmt::Formatter<'_>, base: &str, bytes: i64) -> fmt::Result {
    let (pages, rest) = (bytes.div_euclid(PAGE as i64), bytes.rem_euclid(PAGE as i64));
    f.write_str(base)?;
    let sign = if base.is_empty() || pages < 0 { "" } else { "+" };
    match (pages, rest) {
        (0, 0) if !base.is_empty() => Ok(()),
        (0, rest) if base.is_empty() => write!(f, "{rest}"),
        (0, rest) => write!(f, "+{rest}"),
        (pages, 0) => write!(f, "{sign}{pages}p"),
        (pages, rest) => write!(f, "{sign}{pages}p+{rest}"),
    }
}

impl FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("not a call: {text}");
        let (name, rest) = text.trim().split_once('(').ok_or_else(wrong)?;
        let inner = rest.strip_suffix(')').ok_or_else(wrong)?;
        let call = *Call::ALL.iter().find(|call| call.name() == name).ok_or_else(wrong)?;
        let given: Vec<u64> = inner
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(|part| number(part).ok_or_else(|| format!("not an argument: {part} in {text}")))
            .collect::<Result<_, _>>()?;
        if given.len() != call.kinds().len() {
            return Err(format!("{} arguments, not {}: {text}", call.kinds().len(), given.len()));
        }
        Ok(Self::new(call, &given))
    }
}

/// A sum of names, pages and bytes.
fn number(text: &str) -> Option<u64> {
    let mut sum = 0u64;
    let mut rest = text;
    let mut negative = false;
    loop {
        let end = rest.find(['+', '-', '|']).unwrap_or(rest.len());
        let value = term(&rest[..end])?;
        sum = if negative { sum.wrapping_sub(value) } else { sum.wrapping_add(value) };
        if end == rest.len() {
            return Some(sum);
        }
        negative = rest.as_bytes()[end] == b'-';
        rest = &rest[end + 1..];
    }
}

fn term(text: &str) -> Option<u64> {
    match text {
        "w" => Some(Address::Window(0).encode()),
        "h" => Some(Address::Heap(0).encode()),
        _ => match (text.strip_prefix("0x"), text.strip_suffix('p')) {
            (Some(digits), _) => u64::from_str_radix(digits, 16).ok(),
            (_, Some(pages)) => Some(pages.parse::<u64>().ok()? * PAGE as u64),
            _ => text.parse().ok().or_else(|| names::value(text)),
        },
    }
}
