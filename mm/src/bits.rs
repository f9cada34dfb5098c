//! Sets of small numbers (CPUs, seats) in one word: bit `n` is set when `n` is in it.

/// The numbers in a set, from the lowest.
pub(crate) fn bits(mut set: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let i = (set != 0).then(|| set.trailing_zeros() as usize)?;
        set &= set - 1;
        Some(i)
    })
}

/// The part of a set for whose numbers `is_so` holds.
pub(crate) fn those(set: u64, is_so: impl Fn(usize) -> bool) -> u64 {
    bits(set).filter(|&i| is_so(i)).fold(0, |part, i| part | 1 << i)
}
