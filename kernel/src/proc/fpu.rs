//! The user's floating-point state as signal frames carry it.
//!
//! The kernel is compiled without floating point, so while a thread runs in the kernel its state sits in the
//! registers; only the context switch moves it. Here it is copied to a buffer for a frame and taken back.

use alloc::vec::Vec;
use core::arch::asm;
use core::arch::x86_64::{__cpuid, __cpuid_count};
use quire_base::errno::{EFAULT, ENOMEM, Errno};
use spin::Once;

/// A 64-byte aligned piece of a state buffer.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([u8; 64]);

/// How this CPU saves the state.
#[derive(Clone, Copy)]
pub struct Format {
    /// Bytes of the area.
    pub size: usize,
    /// State components that XSAVE keeps (0: FXSAVE only).
    pub components: u64,
    /// The bits of MXCSR that the CPU knows; the others must not be loaded.
    pub mxcsr: u32,
}

static FORMAT: Once<Format> = Once::new();

/// The format, asked of the CPU once.
pub fn format() -> Format {
    *FORMAT.call_once(|| {
        // CPUID.1:ECX.OSXSAVE: the kernel has turned XSAVE on.
        if __cpuid(1).ecx & (1 << 27) == 0 {
            return Format { size: 512, components: 0, mxcsr: known_mxcsr() };
        }
        let (low, high): (u32, u32);
        // SAFETY: XGETBV with ECX = 0 is allowed once OSXSAVE is set; it only writes EAX and EDX.
        unsafe { asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack)) };
        let components = u64::from(high) << 32 | u64::from(low);
        Format { size: __cpuid_count(0xd, 0).ebx as usize, components, mxcsr: known_mxcsr() }
    })
}

/// What FXSAVE says of the bits of MXCSR; a CPU that says nothing lacks one of them.
fn known_mxcsr() -> u32 {
    let mut area = [Line([0; 64]); 8];
    // SAFETY: the area is as large and as aligned as the instruction wants.
    unsafe { asm!("fxsave64 [{}]", in(reg) area.as_mut_ptr(), options(nostack)) };
    match u32::from_ne_bytes([area[0].0[28], area[0].0[29], area[0].0[30], area[0].0[31]]) {
        0 => 0xffbf,
        mask => mask,
    }
}

/// A copy of the user's state.
pub struct State(Vec<Line>);

impl State {
    fn zeroed() -> Result<Self, Errno> {
        let lines = format().size.div_ceil(64).max(9);
        let mut area = Vec::new();
        area.try_reserve_exact(lines).map_err(|_| ENOMEM)?;
        area.resize(lines, Line([0; 64]));
        Ok(State(area))
    }
    /// The bytes.
    pub fn bytes(&mut self) -> &mut [u8] {
        let len = self.0.len() * 64;
        // SAFETY: the lines are plain bytes without gaps, and the borrow is exclusive.
        unsafe { core::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), len) }
    }
    /// Saves the registers.
    pub fn save() -> Result<Self, Errno> {
        let mut state = Self::zeroed()?;
        let at = state.0.as_mut_ptr();
        let f = format();
        // SAFETY: the area is 64-byte aligned, zeroed and as large as CPUID asks for.
        unsafe {
            if f.components == 0 {
                asm!("fxsave64 [{}]", in(reg) at, options(nostack));
            } else {
                asm!("xsave64 [{}]", in(reg) at, in("eax") f.components as u32, in("edx") (f.components >> 32) as u32, options(nostack));
            }
        }
        Ok(state)
    }
    /// The state of a fresh program, and space to read a frame's into: then [`checked`](Self::checked).
    pub fn empty() -> Result<Self, Errno> {
        let mut state = Self::zeroed()?;
        state.bytes()[0..2].copy_from_slice(&0x37fu16.to_ne_bytes());
        state.bytes()[24..28].copy_from_slice(&0x1f80u32.to_ne_bytes());
        Ok(state)
    }
    /// Bytes of a program: refused, as on Linux, if the instruction would fault on them.
    pub fn checked(mut self) -> Result<Self, Errno> {
        let f = format();
        let bytes = self.bytes();
        let mxcsr = u32::from_ne_bytes([bytes[24], bytes[25], bytes[26], bytes[27]]);
        let mut present = [0u8; 8];
        present.copy_from_slice(&bytes[512..520]);
        let unknown = u64::from_ne_bytes(present) & !f.components != 0 || bytes[520..576].iter().any(|&b| b != 0);
        if mxcsr & !f.mxcsr != 0 || (f.components != 0 && unknown) { Err(EFAULT) } else { Ok(self) }
    }
    /// Loads the registers.
    pub fn load(self) {
        let f = format();
        let at = self.0.as_ptr();
        // SAFETY: aligned and large enough; whether saved, fresh or checked, MXCSR has no unknown bit, the header names only enabled
        // components and its reserved bytes are zero, so the instruction cannot fault.
        unsafe {
            if f.components == 0 {
                asm!("fxrstor64 [{}]", in(reg) at, options(nostack));
            } else {
                asm!("xrstor64 [{}]", in(reg) at, in("eax") f.components as u32, in("edx") (f.components >> 32) as u32, options(nostack));
            }
        }
    }
}

/// Unmasked exceptions that are raised now: of the x87 unit for vector 16, of SSE for 19.
pub fn raised(vector: u8) -> u32 {
    let Ok(mut state) = State::save() else { return 0 };
    let bytes = state.bytes();
    if vector == 16 {
        let control = u16::from_ne_bytes([bytes[0], bytes[1]]);
        let status = u16::from_ne_bytes([bytes[2], bytes[3]]);
        u32::from(status & !control & 0x3f)
    } else {
        let mxcsr = u32::from_ne_bytes([bytes[24], bytes[25], bytes[26], bytes[27]]);
        mxcsr & !(mxcsr >> 7) & 0x3f
    }
}
