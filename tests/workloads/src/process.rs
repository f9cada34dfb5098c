//! Children, pipes and how they end.

use std::io;

use crate::{Area, PAGE, check};

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With this status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

/// A child process.
#[derive(Debug)]
pub struct Child(i32);

/// Runs `work` in a child, which ends with the status that it returns. In a process with several threads, `work` may
/// only touch memory and make system calls (another thread may have held the allocator's lock).
pub fn fork(work: impl FnOnce() -> i32) -> Child {
    // SAFETY: the child does nothing but `work`, for which the caller answers, and leaves without unwinding.
    match unsafe { libc::fork() } {
        -1 => crate::violated(format_args!("fork: {}", io::Error::last_os_error())),
        0 => leave(work()),
        pid => Child(pid),
    }
}

/// As `fork`, but lack of memory or of processes is an answer.
pub fn try_fork(work: impl FnOnce() -> i32) -> io::Result<Child> {
    // SAFETY: as in `fork`.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => leave(work()),
        pid => Ok(Child(pid)),
    }
}

/// Runs `work` in a process of its own that shares all memory; it may only make system calls, and ends with the status that `work`
/// returns. The stack is the caller's to unmap when it has ended.
pub fn clone_vm(stack: &Area, work: extern "C" fn(*mut libc::c_void) -> i32, argument: usize) -> Child {
    let top = stack.address(0) + stack.pages() * PAGE;
    // SAFETY: the stack is nobody else's; for `work` its writer answers.
    match unsafe { libc::clone(work, top as *mut libc::c_void, libc::CLONE_VM | libc::SIGCHLD, argument as *mut _) } {
        -1 => crate::violated(format_args!("clone: {}", io::Error::last_os_error())),
        pid => Child(pid),
    }
}

/// Ends this process, all threads, at once.
pub fn leave(status: i32) -> ! {
    // SAFETY: ends the process; no destructors are owed.
    unsafe { libc::_exit(status) }
}

impl Child {
    /// Its number.
    pub fn pid(&self) -> i32 {
        self.0
    }

    /// Waits for its end.
    pub fn wait(self) -> Ended {
        let mut status = 0;
        loop {
            // SAFETY: `status` is writable.
            if unsafe { libc::waitpid(self.0, &raw mut status, 0) } == self.0 {
                break;
            }
            let error = io::Error::last_os_error();
            check!(error.kind() == io::ErrorKind::Interrupted, "waitpid({}): {error}", self.0);
        }
        if libc::WIFSIGNALED(status) {
            Ended::Killed(libc::WTERMSIG(status))
        } else {
            Ended::Exited(libc::WEXITSTATUS(status))
        }
    }

    /// Waits for its end and expects status zero.
    pub fn expect_success(self, what: &str) {
        let ended = self.wait();
        check!(ended == Ended::Exited(0), "{what}: {ended:?}");
    }

    /// Sends SIGKILL.
    pub fn kill(&self) {
        // SAFETY: a system call on values; the child has not been waited for, so its number is its own.
        let done = unsafe { libc::kill(self.0, libc::SIGKILL) } == 0;
        check!(done, "kill: {}", io::Error::last_os_error());
    }
}

/// No core files: many children of these programs end by SIGSEGV on purpose.
pub fn no_core_files() {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure lives through the call. A refusal only costs disk space.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) };
}

/// A pipe that closes when dropped.
#[derive(Debug)]
pub struct Pipe([i32; 2]);

impl Pipe {
    /// A new one.
    pub fn new() -> Self {
        let mut ends = [0; 2];
        // SAFETY: room for two descriptors.
        let done = unsafe { libc::pipe(ends.as_mut_ptr()) } == 0;
        check!(done, "pipe: {}", io::Error::last_os_error());
        Self(ends)
    }

    /// The end to read from.
    pub fn reader(&self) -> i32 {
        self.0[0]
    }

    /// The end to write to.
    pub fn writer(&self) -> i32 {
        self.0[1]
    }

    /// Waits until a byte comes (true) or every writer is gone (false). Fit for a child of a threaded process.
    pub fn wait_for_byte(&self) -> bool {
        let mut byte = 0u8;
        // SAFETY: one byte into one byte.
        unsafe { libc::read(self.reader(), (&raw mut byte).cast(), 1) == 1 }
    }

    /// Sends bytes to whoever waits.
    pub fn send(&self, count: usize) {
        for _ in 0..count {
            // SAFETY: one byte from one byte.
            let sent = unsafe { libc::write(self.writer(), [1u8].as_ptr().cast(), 1) };
            check!(sent == 1, "write to a pipe: {}", io::Error::last_os_error());
        }
    }
}

impl Default for Pipe {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        for end in self.0 {
            // SAFETY: the descriptors are this value's own.
            unsafe { libc::close(end) };
        }
    }
}
