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

/// Linux is the one that the tests run on, 6.17 or later: it moves what spans several mappings, and looks before it edits there.
const ACCEPTED: &[Accepted] = &[
    Accepted { step: &["mremap("], linux: "= e14 of equal neighbours", here: " mremap = ", reason: APART },
    Accepted {
        step: &["mprotect(", "PROT_GROWSDOWN"],
        linux: " of equal neighbours",
        here: " mprotect = ",
        reason: APART,
    },
    Accepted { step: &["mremap(", ", 0x800000000, "], linux: " mremap = e12", here: " mremap = w", reason: CHARGED },
    Accepted { step: &["mremap(", ", 0x10000000000, "], linux: " mremap = e12", here: " mremap = w", reason: CHARGED },
];

const APART: &str = "Linux keeps neighbours apart for what its mappings were (pages touched, moved, forked, locked); here equal ones are one";
const CHARGED: &str = "where a move makes writable memory shorter, Linux 6.17 and later charge the old length, which may be more than the machine has";

/// Whether it is one of those that stay.
pub fn is_accepted(difference: &Difference) -> bool {
    ACCEPTED.iter().any(|accepted| {
        accepted.step.iter().all(|part| difference.step.contains(part))
            && difference.linux.contains(accepted.linux)
            && difference.here.contains(accepted.here)
    })
}
