//! What the scheduler asks of a CPU: the real one's answers in the kernel, a fake one's in tests on the host.

#[cfg(not(target_os = "none"))]
mod fake;
#[cfg(target_os = "none")]
mod real;

#[cfg(not(target_os = "none"))]
pub use fake::*;
#[cfg(target_os = "none")]
pub use real::*;
