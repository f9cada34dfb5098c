//! The signal frame: what a handler finds on its stack, and the way back.

use super::{Action, AltStack, SigInfo, Trap};
use crate::mem::user::{UserPtr, UserSlice, plain};
use crate::proc::fpu;
use crate::proc::thread::{Own, UserThread, user};
use linux_raw_sys::general as l;
use quire_arch::UserRegs;
use quire_base::errno::{EFAULT, Errno, SysResult};

/// Linux's `sigcontext`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Context {
    r8: u64,
    r9: u64,
    r10: u64,
    r11: u64,
    r12: u64,
    r13: u64,
    r14: u64,
    r15: u64,
    rdi: u64,
    rsi: u64,
    rbp: u64,
    rbx: u64,
    rdx: u64,
    rax: u64,
    rcx: u64,
    rsp: u64,
    rip: u64,
    eflags: u64,
    cs: u16,
    gs: u16,
    fs: u16,
    ss: u16,
    err: u64,
    trapno: u64,
    oldmask: u64,
    cr2: u64,
    fpstate: u64,
    reserved: [u64; 8],
}

/// Linux's `rt_sigframe` without the floating-point state, which lies above it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Frame {
    return_to: u64,
    uc_flags: u64,
    uc_link: u64,
    stack_base: u64,
    stack_flags: u32,
    stack_pad: u32,
    stack_size: u64,
    context: Context,
    sigmask: u64,
    info: [u8; 128],
}
plain!(Frame);

/// `uc_flags`: extended state is there, SS is right and is restored.
const UC_FLAGS: u64 = 1 | 2 | 4;
const SS_ONSTACK: u32 = 1;
const SS_DISABLE: u32 = 2;
const SS_AUTODISARM: u32 = 1 << 31;
/// Marks in the software bytes of the FXSAVE area.
const MAGIC1: u32 = 0x4650_5853;
const MAGIC2: u32 = 0x4650_5845;
/// Flags that a frame may set.
const FLAGS: u64 = 0x0005_0dd5;

/// Bytes below the stack pointer that the ABI lets leaf functions use.
const RED_ZONE: u64 = 128;

/// Remembers the trap that is about to become a signal.
pub fn note_trap(user: &UserThread, trap: Trap) {
    user.trap.set(Some(trap));
}

/// Whether `sp` lies on the alternate stack.
fn on_alt(alt: AltStack, sp: u64) -> bool {
    alt.size != 0 && alt.flags & SS_AUTODISARM == 0 && sp > alt.base && sp - alt.base <= alt.size
}

/// What sigaltstack and a frame report as flags.
pub fn alt_flags(alt: AltStack, sp: u64) -> u32 {
    if alt.size == 0 {
        SS_DISABLE | alt.flags & SS_AUTODISARM
    } else if on_alt(alt, sp) {
        SS_ONSTACK
    } else {
        alt.flags & SS_AUTODISARM
    }
}

/// Bytes that a frame needs at most (AT_MINSIGSTKSZ).
pub fn minimum_stack() -> u64 {
    (size_of::<Frame>() + fpu::format().size + 4 + 64 + 16) as u64 + RED_ZONE
}

/// Builds the frame and points the registers at the handler.
pub fn push(user: &UserThread, regs: &mut UserRegs, info: &SigInfo, action: &Action, mask: u64) -> Result<(), Errno> {
    let alt = user.signals.alt.copy();
    let mut sp = regs.rsp.wrapping_sub(RED_ZONE);
    let already = on_alt(alt, regs.rsp);
    let switch = action.flags & u64::from(l::SA_ONSTACK) != 0 && alt.size != 0 && !already;
    if switch {
        sp = alt.base.wrapping_add(alt.size);
    }
    let format = fpu::format();
    let fp_at = sp.wrapping_sub(format.size as u64 + 4) & !63;
    let at = (fp_at.wrapping_sub(size_of::<Frame>() as u64) & !15).wrapping_sub(8);
    if (already || switch) && at < alt.base {
        return Err(EFAULT);
    }
    // x86-64 has no default trampoline: without a restorer there is no way back.
    if action.flags & u64::from(l::SA_RESTORER) == 0 {
        return Err(EFAULT);
    }

    let mut state = fpu::State::save()?;
    let bytes = state.bytes();
    bytes[464..512].fill(0);
    let mut sw = [0u8; 48];
    sw[0..4].copy_from_slice(&MAGIC1.to_ne_bytes());
    sw[4..8].copy_from_slice(&(format.size as u32 + 4).to_ne_bytes());
    sw[8..16].copy_from_slice(&format.components.to_ne_bytes());
    sw[16..20].copy_from_slice(&(format.size as u32).to_ne_bytes());
    if format.components != 0 {
        bytes[464..512].copy_from_slice(&sw);
    }
    UserSlice::new(fp_at as usize, format.size)?.copy_out(&state.bytes()[..format.size])?;
    UserPtr::<u32>::new(fp_at as usize + format.size).write(MAGIC2)?;

    let trap = user.trap.set(None);
    let frame = Frame {
        return_to: action.restorer,
        uc_flags: if format.components != 0 { UC_FLAGS } else { UC_FLAGS & !1 },
        uc_link: 0,
        stack_base: alt.base,
        stack_flags: alt_flags(alt, regs.rsp),
        stack_pad: 0,
        stack_size: alt.size,
        context: Context {
            r8: regs.r8,
            r9: regs.r9,
            r10: regs.r10,
            r11: regs.r11,
            r12: regs.r12,
            r13: regs.r13,
            r14: regs.r14,
            r15: regs.r15,
            rdi: regs.rdi,
            rsi: regs.rsi,
            rbp: regs.rbp,
            rbx: regs.rbx,
            rdx: regs.rdx,
            rax: regs.rax,
            rcx: regs.rcx,
            rsp: regs.rsp,
            rip: regs.rip,
            eflags: regs.rflags,
            cs: regs.cs as u16,
            gs: 0,
            fs: 0,
            ss: regs.ss as u16,
            err: trap.map_or(0, |t| t.error),
            trapno: trap.map_or(0, |t| u64::from(t.vector)),
            oldmask: mask,
            cr2: trap.map_or(0, |t| t.address),
            fpstate: fp_at,
            reserved: [0; 8],
        },
        sigmask: mask,
        info: info.encode(),
    };
    UserPtr::<Frame>::new(at as usize).write(frame)?;
    if alt.flags & SS_AUTODISARM != 0 {
        user.signals.alt.set(AltStack::default());
    }

    fpu::State::empty()?.load();
    regs.rdi = u64::from(info.signal);
    regs.rsi = at + core::mem::offset_of!(Frame, info) as u64;
    regs.rdx = at + core::mem::offset_of!(Frame, uc_flags) as u64;
    regs.rax = 0;
    regs.rsp = at;
    regs.rip = action.handler;
    // Handlers start with direction, trap and resume flag clear.
    regs.rflags &= !((1 << 10) | (1 << 8) | (1 << 16));
    Ok(())
}

/// rt_sigreturn: everything back as the frame on the stack says. A frame that cannot be read or taken is a fault of the program.
pub fn sigreturn(regs: &mut UserRegs) -> SysResult {
    match pop(regs) {
        Ok(()) => Ok(regs.rax as usize),
        Err(_) => {
            super::send::force(user(), SigInfo::kernel(super::SIGSEGV));
            Ok(0)
        }
    }
}

fn pop(regs: &mut UserRegs) -> Result<(), Errno> {
    let user = user();
    let frame = UserPtr::<Frame>::new(regs.rsp.wrapping_sub(8) as usize).read()?;
    let c = &frame.context;
    // There is one code segment for programs. The data segment counts for nothing in it.
    if u64::from(c.cs | 3) != regs.cs {
        return Err(EFAULT);
    }
    let state = if c.fpstate == 0 { fpu::State::empty()? } else { read_state(c.fpstate)? };
    (regs.r8, regs.r9, regs.r10, regs.r11) = (c.r8, c.r9, c.r10, c.r11);
    (regs.r12, regs.r13, regs.r14, regs.r15) = (c.r12, c.r13, c.r14, c.r15);
    (regs.rdi, regs.rsi, regs.rbp, regs.rbx) = (c.rdi, c.rsi, c.rbp, c.rbx);
    (regs.rdx, regs.rax, regs.rcx, regs.rsp) = (c.rdx, c.rax, c.rcx, c.rsp);
    regs.rip = c.rip;
    regs.rflags = (regs.rflags & !FLAGS) | (c.eflags & FLAGS);
    state.load();
    if frame.stack_flags & SS_DISABLE == 0 && frame.stack_size != 0 {
        let flags = frame.stack_flags & SS_AUTODISARM;
        user.signals.alt.set(AltStack { base: frame.stack_base, size: frame.stack_size, flags });
    }
    super::set_mask(frame.sigmask);
    Ok(())
}

fn read_state(at: u64) -> Result<fpu::State, Errno> {
    let format = fpu::format();
    if format.components != 0 && !at.is_multiple_of(64) {
        return Err(EFAULT);
    }
    let mut state = fpu::State::empty()?;
    let slice = UserSlice::new(at as usize, format.size)?;
    slice.skip(0).copy_in(&mut state.bytes()[..512])?;
    let bytes = state.bytes();
    let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let extended = format.components != 0 && word(464) == MAGIC1 && word(480) as usize == format.size;
    if extended {
        slice.copy_in(&mut state.bytes()[..format.size])?;
    } else {
        // Only the legacy part: x87 and SSE.
        state.bytes()[512..520].copy_from_slice(&3u64.to_ne_bytes());
    }
    state.checked()
}

/// Where a thread keeps its last trap.
pub type TrapCell = Own<Option<Trap>>;
