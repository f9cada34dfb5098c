//! Random numbers: ChaCha, seeded from the CPU's own generator and the clock.

use super::Args;
use crate::fs::UserIo;
use crate::sched::timer;
use core::arch::x86_64::{__cpuid, __cpuid_count, _rdtsc};
use quire_arch::UserRegs;
use quire_base::errno::*;
use quire_base::lock::Mutex;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

static GENERATOR: Mutex<Option<ChaCha12Rng>> = Mutex::new(None);

/// One word of hardware randomness, or 0.
fn hardware() -> u64 {
    let (mut value, mut ok): (u64, u8) = (0, 0);
    for _ in 0..16 {
        if __cpuid(0).eax >= 7 && __cpuid_count(7, 0).ebx & (1 << 18) != 0 {
            // SAFETY: CPUID says that RDSEED exists; it writes its register and the carry flag.
            unsafe {
                core::arch::asm!("rdseed {}", "setc {}", out(reg) value, out(reg_byte) ok, options(nomem, nostack))
            };
        }
        if ok == 0 && __cpuid(1).ecx & (1 << 30) != 0 {
            // SAFETY: CPUID says that RDRAND exists.
            unsafe {
                core::arch::asm!("rdrand {}", "setc {}", out(reg) value, out(reg_byte) ok, options(nomem, nostack))
            };
        }
        if ok != 0 {
            return value;
        }
    }
    0
}

fn seed() -> ChaCha12Rng {
    let mut seed = [0u8; 32];
    for (i, chunk) in seed.chunks_exact_mut(8).enumerate() {
        // SAFETY: RDTSC is always allowed in the kernel.
        let tsc = unsafe { _rdtsc() };
        let mixed =
            hardware() ^ tsc.rotate_left(i as u32 * 13) ^ timer::realtime_ns().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        chunk.copy_from_slice(&mixed.to_ne_bytes());
    }
    ChaCha12Rng::from_seed(seed)
}

/// Fills `to`.
pub fn fill(to: &mut [u8]) {
    GENERATOR.lock().get_or_insert_with(seed).fill_bytes(to);
}

/// Fills the program's buffers.
pub fn to_user(io: &mut UserIo) -> SysResult {
    let mut done = 0;
    let mut chunk = [0u8; 256];
    while io.left() > 0 {
        let n = io.left().min(chunk.len());
        fill(&mut chunk[..n]);
        let put = io.put(&chunk[..n]);
        done += put;
        if put < n {
            return crate::fs::io::short(done);
        }
    }
    Ok(done)
}

/// `getrandom`
pub fn getrandom(r: &mut UserRegs) -> SysResult {
    let flags = r.a2() as u32;
    if flags & !7 != 0 || flags & 6 == 6 {
        return Err(EINVAL);
    }
    to_user(&mut UserIo::single(r.a0(), r.a1())?)
}
