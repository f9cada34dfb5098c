//! Address spaces on this machine: the memory manager's, as the scheduler loads them.

use super::machine::{Kernel, memory};
use core::cell::Cell;
use core::ops::{Deref, DerefMut};
use core::ptr::{from_ref, null};
use quire_arch::paging;
use quire_base::cpu;
use quire_mm::CPUS;
use quire_sched as sched;

/// An address space on this machine.
#[derive(Debug)]
pub struct Space(quire_mm::Space<Kernel>);

impl Space {
    /// An empty space.
    pub fn new() -> Space {
        Space(quire_mm::Space::new(memory()))
    }

    /// A space that is about to become a copy of another one.
    pub fn for_copy() -> Space {
        Space(quire_mm::Space::for_copy(memory()))
    }
}

impl Deref for Space {
    type Target = quire_mm::Space<Kernel>;
    #[inline]
    fn deref(&self) -> &quire_mm::Space<Kernel> {
        &self.0
    }
}

impl DerefMut for Space {
    fn deref_mut(&mut self) -> &mut quire_mm::Space<Kernel> {
        &mut self.0
    }
}

// SAFETY: no other type of the kernel is a space to the scheduler.
unsafe impl sched::Space for Space {
    fn load(&self) {
        switch(Some(self));
    }

    fn has_table(&self, cpu: usize) -> bool {
        self.has_top(cpu)
    }

    fn prepare(&self, cpu: usize) -> bool {
        self.0.prepare(cpu)
    }

    fn prepare_here(&self) -> bool {
        let cpu = cpu::cpu_id();
        self.0.prepare(cpu) || {
            memory().drain_here();
            self.0.prepare(cpu)
        }
    }
}

/// Loads the kernel's table alone.
pub fn load_none() {
    switch(None);
}

/// The space that each CPU has loaded; null: the kernel's table alone.
struct Loaded([Cell<*const Space>; CPUS]);
// SAFETY: each CPU touches its own cell only.
unsafe impl Sync for Loaded {}
static LOADED: Loaded = Loaded([const { Cell::new(null()) }; CPUS]);

/// Loads a space on this CPU, or the kernel's table alone. The caller has prepared it, and keeps it alive until another one is
/// loaded.
///
/// Out: another table is loaded before the old space stops counting this CPU as active; in: active first, then the load.
#[inline]
fn switch(space: Option<&Space>) {
    let loaded = &LOADED.0[cpu::cpu_id()];
    let (old, new) = (loaded.get(), space.map_or(null(), from_ref));
    if old == new {
        return;
    }
    match space {
        Some(s) => {
            // SAFETY: the space's table for this CPU, with the kernel's half in it.
            let active = s.activate(|top| unsafe { paging::load_top(top.addr()) });
            assert!(active, "a space was not prepared for this CPU");
        }
        // SAFETY: the kernel's own table.
        None => unsafe { paging::load() },
    }
    loaded.set(new);
    // SAFETY: whoever loaded it keeps it alive until now.
    if let Some(old) = unsafe { old.as_ref() } {
        old.deactivate();
    }
}
