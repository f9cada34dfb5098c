//! Quire: the kernel.
fn main() {}
