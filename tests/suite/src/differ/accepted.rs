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
const ACCEPTED: &[Accepted] = &[Accepted {
    step: &["mremap("],
    linux: "= e14 of equal neighbours",
    here: " mremap = ",
    reason: "Linux keeps neighbours apart for what its mappings were (pages touched, moved, forked, locked); here equal ones are one",
}];

/// Whether it is one of those that stay.
pub fn is_accepted(difference: &Difference) -> bool {
    ACCEPTED.iter().any(|accepted| {
        accepted.step.iter().all(|part| difference.step.contains(part))
            && difference.linux.contains(accepted.linux)
            && difference.here.contains(accepted.here)
    })
}
