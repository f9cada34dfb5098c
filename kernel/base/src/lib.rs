#![doc = include_str!("../README.md")]
#![no_std]

pub mod cpu;
pub mod early;
pub mod errno;
pub mod hook;
pub mod layout;
pub mod lock;
pub mod random;
pub mod record;
pub mod time;
pub mod units;
pub mod usage;
pub mod wait;
