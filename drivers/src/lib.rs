//! Quire: drivers.
#![no_std]
