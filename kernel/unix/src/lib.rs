#![doc = include_str!("../README.md")]
#![no_std]

extern crate alloc;

pub mod elf;
pub mod locks;
pub mod policy;
pub mod script;
pub mod stack;
