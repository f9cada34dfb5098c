//! The first stack of a program: strings, auxiliary vector, environment, arguments.

use super::limits;
use super::signal::frame;
use alloc::vec::Vec;
use core::arch::x86_64::__cpuid;
use linux_raw_sys::auxvec as a;
use quire_base::errno::{E2BIG, ENOMEM, Errno};
use quire_base::random;

/// Longest single string.
const STRING_LIMIT: usize = 128 << 10;
/// Strings and pointers may take a quarter of the stack's limit, but not more than this,
pub const MOST_STRINGS: usize = 6 << 20;
/// and at least this.
const LEAST_STRINGS: usize = 128 << 10;

/// What the auxiliary vector says about the program.
pub struct Facts {
    /// Address of the program headers.
    pub headers: u64,
    /// How many there are.
    pub header_count: u64,
    /// Where the interpreter was put (0: none).
    pub interpreter_base: u64,
    /// The program's own first instruction.
    pub entry: u64,
}

/// Checks the size of the name, arguments and environment before anything is done, as Linux counts it.
pub fn check(name: &[u8], args: &[Vec<u8>], envs: &[Vec<u8>]) -> Result<(), Errno> {
    let quarter = usize::try_from(limits::stack_limit() / 4).unwrap_or(usize::MAX);
    let mut total = name.len() + 1;
    for string in args.iter().chain(envs) {
        if string.len() >= STRING_LIMIT {
            return Err(E2BIG);
        }
        total += string.len() + 1 + size_of::<usize>();
    }
    if total > quarter.clamp(LEAST_STRINGS, MOST_STRINGS) { Err(E2BIG) } else { Ok(()) }
}

/// The bytes to copy so that they end at `top`; the stack pointer is where they begin.
pub fn image(top: u64, name: &[u8], args: &[Vec<u8>], envs: &[Vec<u8>], facts: &Facts) -> Result<Vec<u8>, Errno> {
    // Strings first, from low to high; then it is known how far below the top they begin.
    let mut strings = Vec::new();
    let mut put = |bytes: &[u8]| -> Result<usize, Errno> {
        let at = strings.len();
        strings.try_reserve(bytes.len() + 1).map_err(|_| ENOMEM)?;
        strings.extend_from_slice(bytes);
        strings.push(0);
        Ok(at)
    };
    let mut random_bytes = [0u8; 16];
    random::fill(&mut random_bytes);
    let random_at = put(&random_bytes)?;
    let platform_at = put(b"x86_64")?;
    let mut arg_at = Vec::new();
    let mut env_at = Vec::new();
    arg_at.try_reserve_exact(args.len()).map_err(|_| ENOMEM)?;
    env_at.try_reserve_exact(envs.len()).map_err(|_| ENOMEM)?;
    for arg in args {
        arg_at.push(put(arg)?);
    }
    for env in envs {
        env_at.push(put(env)?);
    }
    let name_at = put(name)?;
    let base = (top - 8 - strings.len() as u64) & !15;

    let aux: [(u32, u64); 20] = [
        (51, frame::minimum_stack()),
        (a::AT_HWCAP, u64::from(__cpuid(1).edx)),
        (a::AT_PAGESZ, 4096),
        (a::AT_CLKTCK, 100),
        (a::AT_PHDR, facts.headers),
        (a::AT_PHENT, 56),
        (a::AT_PHNUM, facts.header_count),
        (a::AT_BASE, facts.interpreter_base),
        (a::AT_FLAGS, 0),
        (a::AT_ENTRY, facts.entry),
        (a::AT_UID, 0),
        (a::AT_EUID, 0),
        (a::AT_GID, 0),
        (a::AT_EGID, 0),
        (a::AT_SECURE, 0),
        (a::AT_RANDOM, base + random_at as u64),
        // No RDFSBASE for programs: the kernel keeps the bases itself.
        (a::AT_HWCAP2, 0),
        (a::AT_EXECFN, base + name_at as u64),
        (a::AT_PLATFORM, base + platform_at as u64),
        (a::AT_NULL, 0),
    ];
    let words = 1 + args.len() + 1 + envs.len() + 1 + 2 * aux.len();
    let start = (base - 8 * words as u64) & !15;
    let mut out = Vec::new();
    out.try_reserve_exact((top - start) as usize).map_err(|_| ENOMEM)?;
    let mut word = |value: u64| out.extend_from_slice(&value.to_ne_bytes());
    word(args.len() as u64);
    arg_at.iter().for_each(|at| word(base + *at as u64));
    word(0);
    env_at.iter().for_each(|at| word(base + *at as u64));
    word(0);
    for (key, value) in aux {
        word(u64::from(key));
        word(value);
    }
    out.resize((base - start) as usize, 0);
    out.extend_from_slice(&strings);
    out.resize((top - start) as usize, 0);
    Ok(out)
}
