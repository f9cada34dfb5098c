//! `quire-swapd` with its deliberate defects: see README.md of `loom-tests`.

include!(concat!(env!("OUT_DIR"), "/lib.rs"));
