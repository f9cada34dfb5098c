//! The registers of a user program as the entry code saves them.

/// What a system call or a trap pushes at the top of the kernel stack: lowest address first.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the registers of their names")]
pub struct UserRegs {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// The system call's number, or the error code of a trap.
    pub orig_rax: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

/// The entry code's half of [`UserRegs`]: pushes what lies below `rdi`.
macro_rules! push_below_rdi {
    () => {
        "push rsi; push rdx; push rcx; push rax; push r8; push r9; push r10; push r11;
         push rbx; push rbp; push r12; push r13; push r14; push r15"
    };
}
pub(crate) use push_below_rdi;

/// Pops all of [`UserRegs`] up to `rdi`.
macro_rules! pop_all {
    () => {
        "pop r15; pop r14; pop r13; pop r12; pop rbp; pop rbx; pop r11; pop r10; pop r9; pop r8;
         pop rax; pop rcx; pop rdx; pop rsi; pop rdi"
    };
}
pub(crate) use pop_all;

/// Bytes of [`UserRegs`].
pub const SIZE: usize = size_of::<UserRegs>();

/// Flags that a program may set: all arithmetic flags, DF, TF, AC, NT, RF and ID; never IOPL or VM.
pub const USER_FLAGS: u64 = 0x0025_4dd5;

impl UserRegs {
    /// The start of a program: everything zero but where it runs and its stack.
    pub fn start(rip: u64, rsp: u64) -> UserRegs {
        let cs = super::gdt::USER_CODE as u64;
        let ss = super::gdt::USER_DATA as u64;
        UserRegs { rip, rsp, cs, ss, rflags: 0x202, ..UserRegs::default() }
    }

    /// Makes the values that the CPU trusts safe: user selectors, permitted flags, interrupts on.
    pub fn sanitize(&mut self) {
        self.cs = super::gdt::USER_CODE as u64;
        self.ss = super::gdt::USER_DATA as u64;
        self.rflags = (self.rflags & USER_FLAGS) | 0x202;
    }

    /// First argument of a system call.
    #[inline(always)]
    pub fn a0(&self) -> usize {
        self.rdi as usize
    }

    /// Second argument of a system call.
    #[inline(always)]
    pub fn a1(&self) -> usize {
        self.rsi as usize
    }

    /// Third argument of a system call.
    #[inline(always)]
    pub fn a2(&self) -> usize {
        self.rdx as usize
    }

    /// Fourth argument of a system call.
    #[inline(always)]
    pub fn a3(&self) -> usize {
        self.r10 as usize
    }

    /// Fifth argument of a system call.
    #[inline(always)]
    pub fn a4(&self) -> usize {
        self.r8 as usize
    }

    /// Sixth argument of a system call.
    #[inline(always)]
    pub fn a5(&self) -> usize {
        self.r9 as usize
    }

    /// Whether they were saved on the way from user mode.
    #[inline]
    pub fn is_user(&self) -> bool {
        self.cs & 3 == 3
    }
}
