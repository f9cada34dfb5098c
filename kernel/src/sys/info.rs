//! Calls about the system, and about what was used.

use crate::mem::memory;
use crate::mem::user::{UserPtr, plain};
use crate::proc::thread::current;
use crate::proc::tree;
use core::sync::atomic::Ordering;
use quire_arch::UserRegs;
use quire_base::errno::*;
use quire_base::units::TICK;
use quire_base::usage::Rusage;
use quire_sched::{self as sched, timer};

/// `getrusage`
pub fn getrusage(r: &mut UserRegs) -> SysResult {
    let process = current();
    process.note_resident();
    let (usage, max_resident) = match r.a0() as i32 {
        0 => (process.usage(), &process.max_resident),
        -1 => (*process.child_usage.lock(), &process.child_max_resident),
        1 => (sched::current().usage(), &process.max_resident),
        _ => return Err(EINVAL),
    };
    let usage = Rusage::new(usage, max_resident.load(Ordering::Relaxed));
    UserPtr::<Rusage>::new(r.a1()).write(usage)?;
    Ok(0)
}

/// `times`
pub fn times(r: &mut UserRegs) -> SysResult {
    let (own, children) = (current().usage(), *current().child_usage.lock());
    let ticks = [own.user, own.system, children.user, children.system].map(|ns| ns / TICK);
    if r.a0() != 0 {
        UserPtr::<[u64; 4]>::new(r.a0()).write(ticks)?;
    }
    Ok((timer::now_ns() / TICK) as usize)
}

/// `sysinfo`
pub fn sysinfo(r: &mut UserRegs) -> SysResult {
    #[derive(Clone, Copy)]
    #[repr(C)]
    struct Info {
        uptime: u64,
        loads: [u64; 3],
        total: u64,
        free: u64,
        shared: u64,
        buffers: u64,
        swap: [u64; 2],
        processes: u16,
        pad: [u16; 3],
        high: [u64; 2],
        unit: u32,
        pad2: u32,
    }
    plain!(Info);
    const _: () = assert!(size_of::<Info>() == 112);
    let m = memory();
    let (swap_total, swap_free) = crate::swap::report::pages();
    let threads = tree::lock().threads.len();
    UserPtr::<Info>::new(r.a0()).write(Info {
        uptime: timer::now_ns() / 1_000_000_000,
        loads: [0; 3],
        total: m.total_frames() * 4096,
        free: m.free_frames() * 4096,
        shared: 0,
        buffers: 0,
        swap: [swap_total * 4096, swap_free * 4096],
        processes: threads as u16,
        pad: [0; 3],
        high: [0; 2],
        unit: 1,
        pad2: 0,
    })?;
    Ok(0)
}

/// `uname`
pub fn uname(r: &mut UserRegs) -> SysResult {
    let fields: [&str; 6] = ["Linux", "quire", "6.12.0-quire", "#1 SMP Quire", "x86_64", "(none)"];
    for (i, text) in fields.iter().enumerate() {
        let mut field = [0u8; 65];
        field[..text.len()].copy_from_slice(text.as_bytes());
        UserPtr::<[u8; 65]>::new(r.a0()).at(i).write(field)?;
    }
    Ok(0)
}
