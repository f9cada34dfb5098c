//! The switches of the orderings. The environment of a process says which one is weaker in it, if any.

use core::sync::atomic::Ordering;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;

/// An ordering of the production code, or a fence, that could be weaker.
#[derive(Debug)]
pub struct Place {
    /// File, function, operation, ordering.
    pub name: &'static str,
    /// Whether it is a read-modify-write's.
    pub is_rmw: bool,
    /// What may come in its place, the weakest first; `none` is no fence at all.
    pub weaker: &'static [&'static str],
}

include!(concat!(env!("OUT_DIR"), "/orderings.rs"));

/// The variable that says what is weaker: a place's name, `=`, and one of its weaker orderings.
pub const VARIABLE: &str = "QUIRE_ORDERING";

/// Which place is weaker, and how; `None`: a fence that is not there.
fn weaker() -> Option<(usize, Option<Ordering>)> {
    static WEAKER: OnceLock<Option<(usize, Option<Ordering>)>> = OnceLock::new();
    *WEAKER.get_or_init(|| {
        let text = std::env::var(VARIABLE).ok()?;
        let known = text.rsplit_once('=').and_then(|(name, weaker)| {
            let n = PLACES.iter().position(|p| p.name == name && p.weaker.contains(&weaker))?;
            Some((
                n,
                [Ordering::Relaxed, Ordering::Acquire, Ordering::Release, Ordering::AcqRel]
                    .into_iter()
                    .find(|o| format!("{o:?}") == weaker),
            ))
        });
        Some(known.unwrap_or_else(|| panic!("there is no weaker ordering {text}")))
    })
}

static REACHED: [AtomicBool; PLACES.len()] = [const { AtomicBool::new(false) }; PLACES.len()];

/// The numbers of the places that this process has come to.
pub fn reached() -> impl Iterator<Item = usize> {
    (0..PLACES.len()).filter(|n| REACHED[*n].load(Ordering::Relaxed))
}

/// The ordering of a place.
pub fn order(place: usize, as_written: Ordering) -> Ordering {
    REACHED[place].store(true, Ordering::Relaxed);
    match weaker() {
        Some((n, Some(weaker))) if n == place => weaker,
        _ => as_written,
    }
}

/// The ordering of a fence, if it is there.
pub fn of_fence(place: usize, as_written: Ordering) -> Option<Ordering> {
    let order = order(place, as_written);
    (weaker() != Some((place, None))).then_some(order)
}
