//! Linux's error numbers as a type of their own.

use linux_raw_sys::errno as raw;

/// A Linux error number, always between 1 and 4095.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errno(pub u16);

/// What a system call returns: the value for `rax`, or the error.
pub type SysResult = Result<usize, Errno>;

impl Errno {
    /// The value for `rax`: minus the number.
    #[inline]
    pub fn as_return(self) -> isize {
        -(self.0 as isize)
    }
}

macro_rules! errnos {
    ($($name:ident)*) => { $(
        #[doc = concat!("Linux's `", stringify!($name), "`.")]
        pub const $name: Errno = Errno(raw::$name as u16);
    )* };
}

errnos! {
    EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT EBUSY EEXIST ENODEV EXDEV ETXTBSY EDEADLK
    ENOTDIR EISDIR EINVAL EMFILE ENOTTY EFBIG ENOSPC ESPIPE EROFS EPIPE ERANGE ENAMETOOLONG ENOSYS ENOTEMPTY ELOOP
    EOVERFLOW EAFNOSUPPORT EOPNOTSUPP ETIMEDOUT ENOTSOCK EPROTONOSUPPORT EISCONN EMSGSIZE ENOPROTOOPT ENOLCK ENOBUFS ETOOMANYREFS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_see_minus_the_number() {
        assert_eq!((EPERM.as_return(), EAGAIN.as_return(), ETIMEDOUT.as_return()), (-1, -11, -110));
    }
}
