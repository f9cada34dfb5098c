//! The first stack of a program: strings, auxiliary vector, environment, arguments.

use alloc::vec::Vec;
use linux_raw_sys::auxvec as a;
use quire_base::errno::{E2BIG, ENOMEM, Errno};

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
    /// The least stack for a signal's frame.
    pub signal_stack: u64,
    /// What the CPU can do, as it tells itself.
    pub hwcap: u64,
    /// For the program's own use.
    pub random: [u8; 16],
}

/// Checks the size of the name, arguments and environment before anything is done, as Linux counts it.
pub fn check(stack_limit: u64, name: &[u8], args: &[Vec<u8>], envs: &[Vec<u8>]) -> Result<(), Errno> {
    let quarter = usize::try_from(stack_limit / 4).unwrap_or(usize::MAX);
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
    let random_at = put(&facts.random)?;
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
        (51, facts.signal_stack),
        (a::AT_HWCAP, facts.hwcap),
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

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::collections::BTreeMap;
    use std::vec;

    const TOP: u64 = 0x7fff_ffff_e000;

    fn facts() -> Facts {
        Facts {
            headers: 0x40_0040,
            header_count: 9,
            interpreter_base: 0x1000,
            entry: 0x40_1000,
            signal_stack: 3000,
            hwcap: 0xabc,
            random: *b"sixteen bytes it",
        }
    }

    /// The image as the program finds it.
    struct Seen {
        start: u64,
        bytes: Vec<u8>,
    }

    impl Seen {
        fn word(&self, index: usize) -> u64 {
            u64::from_ne_bytes(self.bytes[8 * index..][..8].try_into().expect("8 bytes"))
        }
        fn string(&self, at: u64) -> &[u8] {
            self.bytes[(at - self.start) as usize..].split(|&b| b == 0).next().expect("at least one piece")
        }
    }

    #[test]
    fn a_program_finds_everything_from_its_stack_pointer_on() {
        let (args, envs) = (vec![b"sh".to_vec(), b"".to_vec()], vec![b"A=1".to_vec()]);
        let bytes = image(TOP, b"/bin/sh", &args, &envs, &facts()).expect("there is memory");
        let seen = Seen { start: TOP - bytes.len() as u64, bytes };
        assert_eq!(seen.start % 16, 0);
        assert_eq!(seen.word(0), 2);
        assert_eq!((seen.string(seen.word(1)), seen.string(seen.word(2)), seen.word(3)), (&b"sh"[..], &b""[..], 0));
        assert_eq!((seen.string(seen.word(4)), seen.word(5)), (&b"A=1"[..], 0));
        let aux: BTreeMap<u64, u64> =
            (6..).step_by(2).map(|at| (seen.word(at), seen.word(at + 1))).take_while(|&(key, _)| key != 0).collect();
        let of = |key: u32| aux[&u64::from(key)];
        assert_eq!([a::AT_PHDR, a::AT_PHNUM, a::AT_BASE, a::AT_ENTRY].map(of), [0x40_0040, 9, 0x1000, 0x40_1000]);
        assert_eq!([51, a::AT_HWCAP, a::AT_PAGESZ].map(of), [3000, 0xabc, 4096]);
        assert_eq!(seen.string(of(a::AT_EXECFN)), b"/bin/sh");
        assert_eq!(seen.string(of(a::AT_PLATFORM)), b"x86_64");
        assert_eq!(&seen.bytes[(of(a::AT_RANDOM) - seen.start) as usize..][..16], b"sixteen bytes it");
        // The last word is 0, whatever is below it.
        assert_eq!(seen.bytes[seen.bytes.len() - 8..], [0; 8]);
    }

    #[test]
    fn the_stack_pointer_is_aligned_however_many_strings_there_are() {
        for count in 0..6 {
            let args = vec![vec![b'x'; count]; count];
            let bytes = image(TOP, b"n", &args, &[], &facts()).expect("there is memory");
            assert_eq!(bytes.len() % 16, 0, "{count} arguments");
        }
    }

    #[test]
    fn strings_take_a_quarter_of_the_stack_within_bounds() {
        let of = |count: usize| vec![vec![b'x'; 1015]; count];
        // 1024 bytes each, with its pointer; the name has two.
        let most =
            |limit, n| check(limit, b"n", &of(n), &[]).is_ok() && check(limit, b"n", &[], &of(n + 1)) == Err(E2BIG);
        assert!(most(4 << 20, 1023));
        assert!(most(0, 127), "at least 128 KiB");
        assert!(most(u64::MAX, (6 << 10) - 1), "at most 6 MiB");
        assert_eq!(check(u64::MAX, b"n", &[], &[vec![b'x'; STRING_LIMIT]]), Err(E2BIG));
        assert_eq!(check(u64::MAX, b"n", &[], &[vec![b'x'; STRING_LIMIT - 1]]), Ok(()));
    }
}
