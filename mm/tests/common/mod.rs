//! What the tests of this crate begin and end with.
#![allow(dead_code, reason = "each of the tests uses some of it")]

use quire_mm::fake::{Cpu, Fake, audit, memory};
use quire_mm::{Page, PageRange, Prot, Space};
use std::io::Write;
use std::sync::Arc;

pub const RW: Prot = Prot::READ.union(Prot::WRITE);

/// A space that several threads have.
pub type Shared = Arc<Space<Fake>>;

/// A CPU in a new space, in a memory of so many frames.
pub fn setup(frames: usize) -> (Cpu, Shared) {
    let m = memory(frames);
    let mut cpu = Cpu::new(m, 0);
    let space = Arc::new(Space::new(m));
    cpu.enter(&space);
    (cpu, space)
}

/// Audits with the space alive and with it gone: then nothing is left.
pub fn finish(mut cpu: Cpu, space: Shared) {
    let m = cpu.memory;
    cpu.leave();
    audit(m, &[&space]);
    drop((space, cpu));
    let r = audit(m, &[]);
    assert_eq!((r.tables, r.slabs, r.pages, r.objects), (0, 0, 1, 0), "{r:?}");
}

pub fn range(page: u64, pages: u64) -> PageRange {
    PageRange::new(Page(page), pages).unwrap()
}

/// Numbers that look random (xorshift); the seed is not 0.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

/// Ends the process when the thread that has it panics: its CPU answers nobody any more, and the others would wait for ever.
pub struct EndOnPanic;

impl Drop for EndOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Not by a macro, whose output the test harness keeps to itself.
            let _ = std::io::stderr().write_all(b"a CPU panicked; --nocapture shows why\n");
            std::process::exit(101);
        }
    }
}
