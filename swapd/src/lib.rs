//! Quire: swapd.
#![no_std]
