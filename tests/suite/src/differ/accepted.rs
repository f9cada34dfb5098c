//! Differences that stay, each with its reason. The aim is that there are none.

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

/// Whether it is one of those that stay.
pub fn is_accepted(difference: &Difference) -> bool {
    ACCEPTED.iter().any(|accepted| {
        accepted.step.iter().all(|part| difference.step.contains(part))
            && difference.linux.contains(accepted.linux)
            && difference.here.contains(accepted.here)
    })
}
