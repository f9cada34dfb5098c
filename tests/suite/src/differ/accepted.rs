//! Differences that stay, each with its reason, and those that are still to be mended. The aim is that there are none of either.

use super::ask::Difference;

/// A difference that stays.
struct Accepted {
    /// What the step contains, all of it.
    step: &'static [&'static str],
    /// What Linux's line contains.
    linux: &'static str,
    /// What Quire's line contains.
    here: &'static str,
    /// Why it stays.
    #[allow(dead_code, reason = "for those who read this list")]
    reason: &'static str,
}

/// Quire shows what Linux 6.12 shows, whose release it names. The Linux that is asked may be a newer one.
const ACCEPTED: &[Accepted] = &[
    Accepted {
        step: &["madvise(", "MADV_GUARD_"],
        linux: "madvise = ",
        here: "madvise = e22",
        reason: "guard pages came with Linux 6.13",
    },
    Accepted {
        step: &["mremap(", "MREMAP_FIXED"],
        linux: "mremap = w",
        here: "mremap = e14",
        reason: "since Linux 6.17 a move may span several segments; before, that was EFAULT",
    },
];

/// Open differences. A test shows how many there are, and does not fail for them; `./run.sh differ` does.
const OPEN: &[Accepted] = &[
    Accepted {
        step: &["madvise(", ", 0x", "MADV_DONTNEED"],
        linux: "madvise = e22",
        here: "madvise =",
        reason: "a range to the end of all memory: EINVAL on Linux; here the program does not come back from it",
    },
    Accepted {
        step: &["madvise(", "MADV_WIPEONFORK"],
        linux: "madvise = e22",
        here: "madvise = 0",
        reason: "a private view of /dev/zero is no anonymous memory on Linux",
    },
    Accepted {
        step: &["mremap(", ", 0, "],
        linux: "mremap = e12",
        here: "mremap = e22",
        reason: "a second view made from length 0 that may not move: which error comes first",
    },
    Accepted {
        step: &["pwrite("],
        linux: "pwrite = ",
        here: "pwrite = e14",
        reason: "a file that is written from its own mapping grows under the write on Linux, so that the next page is there",
    },
    Accepted {
        step: &["run("],
        linux: "run = !",
        here: "run = x",
        reason: "an instruction fetch behind the end of a file is SIGBUS on Linux, SIGSEGV here",
    },
    Accepted {
        step: &["shmat("],
        linux: "shmat = e12",
        here: "shmat = e22",
        reason: "an address outside of the program's half",
    },
    Accepted {
        step: &["fork()"],
        linux: "fork = child",
        here: "fork = child",
        reason: "mincore of a child: which zero pages count as being in memory",
    },
    Accepted {
        step: &["mmap(", "dev_zero"],
        linux: "mmap = ",
        here: "mmap = ",
        reason: "the offset of a mapping of /dev/zero, in maps and where it is read behind its end",
    },
    Accepted {
        step: &["pread("],
        linux: "pread = e14",
        here: "pread = e14",
        reason: "which pages a read that fails half-way has touched",
    },
    Accepted {
        step: &["pwrite("],
        linux: "pwrite = e14",
        here: "pwrite = e14",
        reason: "which pages a write that fails half-way has touched",
    },
];

/// Whether it is one of those that stay.
pub fn is_accepted(difference: &Difference) -> bool {
    matches(ACCEPTED, difference)
}

/// Whether it is one of those that are still to be mended.
pub fn is_open(difference: &Difference) -> bool {
    matches(OPEN, difference)
}

fn matches(list: &[Accepted], difference: &Difference) -> bool {
    list.iter().any(|accepted| {
        accepted.step.iter().all(|part| difference.step.contains(part))
            && difference.linux.contains(accepted.linux)
            && difference.here.contains(accepted.here)
    })
}
