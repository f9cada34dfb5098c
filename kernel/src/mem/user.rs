//! User memory: the only way in and out.
//!
//! An address that came from a program is a [`UserPtr`] or a [`UserSlice`]; neither can be
//! dereferenced. Their methods check the range and copy through the routines of
//! [`quire_arch::usercopy`], whose faults are resolved like those of the program or end in `EFAULT`.
//! They may wait for a frame, so nobody calls them with a spin lock held: they [assert](quire_base::lock::may_wait) that.

use alloc::vec::Vec;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use quire_arch::usercopy;
use quire_base::errno::{EFAULT, ENAMETOOLONG, ENOMEM, Errno};

pub use quire_base::layout::USER_END;

/// A type whose values are plain bytes: every bit pattern is a value, and there is no padding to leak.
///
/// # Safety
/// Every bit pattern of the type's size must be a valid value, and its values must have no padding bytes
/// (or padding that is always written as zero by the constructor).
pub unsafe trait Plain: Copy {}

macro_rules! plain {
    ($($t:ty),* $(,)?) => { $(
        // SAFETY: integers and `repr(C)` structures of integers take every bit pattern.
        unsafe impl $crate::mem::user::Plain for $t {}
    )* };
}
pub(crate) use plain;
plain!(u8, i8, u16, i16, u32, i32, u64, i64, usize, isize, quire_base::usage::Rusage);
// SAFETY: an array has no padding of its own.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}

/// Whether the `len` bytes at `address` lie wholly in the half that belongs to programs.
#[inline]
pub fn in_range(address: usize, len: usize) -> bool {
    address <= USER_END && len <= USER_END - address
}

/// A typed address in the current program.
pub struct UserPtr<T>(usize, PhantomData<*mut T>);

impl<T> Clone for UserPtr<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for UserPtr<T> {}

impl<T> UserPtr<T> {
    /// Wraps an address; nothing is checked until it is used.
    pub const fn new(address: usize) -> Self {
        UserPtr(address, PhantomData)
    }
    /// The address.
    pub const fn addr(self) -> usize {
        self.0
    }
    /// Whether the program passed NULL.
    pub const fn is_null(self) -> bool {
        self.0 == 0
    }
    /// The pointer to element `index` of the array that starts here.
    pub const fn at(self, index: usize) -> Self {
        UserPtr(self.0.wrapping_add(index.wrapping_mul(size_of::<T>())), PhantomData)
    }
}

impl<T: Plain> UserPtr<T> {
    /// Copies the value in.
    pub fn read(self) -> Result<T, Errno> {
        let mut value = MaybeUninit::<T>::uninit();
        if !in_range(self.0, size_of::<T>()) {
            return Err(EFAULT);
        }
        // SAFETY: the destination is ours and large enough; the source is checked to be in the user half.
        let left = unsafe { usercopy::copy_from_user(value.as_mut_ptr().cast(), self.0, size_of::<T>()) };
        if left != 0 {
            return Err(EFAULT);
        }
        // SAFETY: all bytes were written, and `T: Plain` takes every bit pattern.
        Ok(unsafe { value.assume_init() })
    }
    /// Copies the value out.
    pub fn write(self, value: T) -> Result<(), Errno> {
        if !in_range(self.0, size_of::<T>()) {
            return Err(EFAULT);
        }
        // SAFETY: the source is a live value; the destination is checked to be in the user half.
        let left = unsafe { usercopy::copy_to_user(self.0, (&raw const value).cast(), size_of::<T>()) };
        if left == 0 { Ok(()) } else { Err(EFAULT) }
    }
    /// Copies the value out unless the pointer is NULL.
    pub fn write_opt(self, value: T) -> Result<(), Errno> {
        if self.is_null() { Ok(()) } else { self.write(value) }
    }
    /// Copies `len` elements in.
    pub fn read_vec(self, len: usize) -> Result<Vec<T>, Errno> {
        let bytes = len.checked_mul(size_of::<T>()).ok_or(EFAULT)?;
        if !in_range(self.0, bytes) {
            return Err(EFAULT);
        }
        let mut out: Vec<T> = crate::mem::vec(len)?;
        // SAFETY: the vector's capacity covers `bytes`; the source range is checked.
        let left = unsafe { usercopy::copy_from_user(out.as_mut_ptr().cast(), self.0, bytes) };
        if left != 0 {
            return Err(EFAULT);
        }
        // SAFETY: `len` elements were written, and `T: Plain` takes every bit pattern.
        unsafe { out.set_len(len) };
        Ok(out)
    }
}

/// A run of bytes in the current program.
#[derive(Clone, Copy)]
pub struct UserSlice {
    address: usize,
    len: usize,
}

impl UserSlice {
    /// Checks that the run lies in the user half.
    pub fn new(address: usize, len: usize) -> Result<Self, Errno> {
        if in_range(address, len) { Ok(UserSlice { address, len }) } else { Err(EFAULT) }
    }
    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// First address.
    pub fn addr(&self) -> usize {
        self.address
    }
    /// What remains after the first `n` bytes.
    pub fn skip(&self, n: usize) -> Self {
        let n = n.min(self.len);
        UserSlice { address: self.address + n, len: self.len - n }
    }
    /// Copies as much as possible from the front into `to`; returns the number of bytes that could be read.
    pub fn copy_in_some(&self, to: &mut [u8]) -> usize {
        let n = to.len().min(self.len);
        // SAFETY: `to` is ours; the source was checked by `new`.
        n - unsafe { usercopy::copy_from_user(to.as_mut_ptr(), self.address, n) }
    }
    /// Copies as much as possible of `from` to the front; returns the number of bytes that could be written.
    pub fn copy_out_some(&self, from: &[u8]) -> usize {
        let n = from.len().min(self.len);
        // SAFETY: `from` is ours; the destination was checked by `new`.
        n - unsafe { usercopy::copy_to_user(self.address, from.as_ptr(), n) }
    }
    /// Copies exactly `to.len()` bytes in.
    pub fn copy_in(&self, to: &mut [u8]) -> Result<(), Errno> {
        if self.copy_in_some(to) == to.len() { Ok(()) } else { Err(EFAULT) }
    }
    /// Copies all of `from` out.
    pub fn copy_out(&self, from: &[u8]) -> Result<(), Errno> {
        if self.copy_out_some(from) == from.len() { Ok(()) } else { Err(EFAULT) }
    }
    /// Fills the run with zeros; returns the number of bytes that could be written.
    pub fn zero_some(&self) -> usize {
        // SAFETY: the destination was checked by `new`.
        self.len - unsafe { usercopy::zero_user(self.address, self.len) }
    }
}

/// Copies a NUL-terminated string of at most `max` bytes (the NUL not counted) in.
pub fn read_cstr(address: usize, max: usize) -> Result<Vec<u8>, Errno> {
    let mut out = Vec::new();
    let mut chunk = [0u8; 256];
    let mut at = address;
    loop {
        // Chunks end at page ends, so that a string which ends just below an unmapped page is read whole.
        let n = chunk.len().min(4096 - at % 4096);
        if at >= USER_END {
            return Err(EFAULT);
        }
        let got = UserSlice::new(at, n.min(USER_END - at))?.copy_in_some(&mut chunk[..n]);
        let end = chunk[..got].iter().position(|&b| b == 0);
        let take = end.unwrap_or(got);
        out.try_reserve(take).map_err(|_| ENOMEM)?;
        out.extend_from_slice(&chunk[..take]);
        if out.len() > max {
            return Err(ENAMETOOLONG);
        }
        if end.is_some() {
            return Ok(out);
        }
        if got < n {
            return Err(EFAULT);
        }
        at += n;
    }
}

/// Copies a path in: at most 4095 bytes.
pub fn read_path(address: usize) -> Result<Vec<u8>, Errno> {
    read_cstr(address, 4095)
}

/// Loads a word without ever waiting: `None` when the page is not there. The only load allowed under a spin lock.
pub fn load_u32_nofault(address: usize) -> Option<u32> {
    if !address.is_multiple_of(4) || !in_range(address, 4) {
        return None;
    }
    usercopy::load_u32_nofault(address)
}

/// Compares and swaps a word without ever waiting: `None` when the page is not there or not writable in place,
/// else the value that was found.
pub fn cmpxchg_u32_nofault(address: usize, old: u32, new: u32) -> Option<u32> {
    if !address.is_multiple_of(4) || !in_range(address, 4) {
        return None;
    }
    usercopy::cmpxchg_u32_nofault(address, old, new)
}
