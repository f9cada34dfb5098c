//! `quire-mm` with its deliberate defects: see README.md of `loom-tests`.
#![cfg_attr(loom, allow(clippy::modulo_one, clippy::reversed_empty_ranges, clippy::unnecessary_min_or_max))]

pub mod defects;
pub mod orderings;

#[cfg(test)]
mod found;

include!(concat!(env!("OUT_DIR"), "/lib.rs"));
