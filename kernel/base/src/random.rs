//! Random numbers: ChaCha, seeded from the CPU's own generator and the clock.

use crate::lock::Mutex;
use crate::time;
use core::arch::x86_64::{__cpuid, __cpuid_count};
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
        let mixed = hardware()
            ^ time::tsc().rotate_left(i as u32 * 13)
            ^ time::realtime_ns().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        chunk.copy_from_slice(&mixed.to_ne_bytes());
    }
    ChaCha12Rng::from_seed(seed)
}

/// Fills `to`.
pub fn fill(to: &mut [u8]) {
    GENERATOR.lock().get_or_insert_with(seed).fill_bytes(to);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_blocks_are_the_same() {
        let mut blocks = [[0u8; 32]; 3];
        blocks.iter_mut().for_each(|block| fill(block));
        assert!(blocks[0] != blocks[1] && blocks[1] != blocks[2] && blocks[0] != blocks[2]);
        assert_ne!(blocks[0], [0; 32]);
    }

    #[test]
    fn every_byte_is_filled() {
        // A byte that stays 0 in 64 turns was not filled, but for once in 2^512.
        let mut seen = [0u8; 33];
        for _ in 0..64 {
            let mut block = [0u8; 33];
            fill(&mut block);
            seen.iter_mut().zip(block).for_each(|(seen, byte)| *seen |= byte);
        }
        assert!(seen.iter().all(|&byte| byte != 0));
    }
}
