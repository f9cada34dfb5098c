//! Quire: mm.
#![no_std]
