//! Text that is as long as a program has made it: each piece is refused when there is no room for it, where the standard library's strings
//! would stop the kernel.

use alloc::vec::Vec;
use core::fmt;
use quire_base::errno::{ENOMEM, Errno};

/// Makes room for more bytes, if they fit into what is left of the heap's share.
fn reserve(to: &mut Vec<u8>, more: usize) -> Result<(), Errno> {
    if to.capacity() - to.len() >= more {
        return Ok(());
    }
    if !crate::mem::heap_has(to.len() + more) {
        return Err(ENOMEM);
    }
    to.try_reserve(more).map_err(|_| ENOMEM)
}

/// A copy of bytes.
pub fn copied(bytes: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut out = Vec::new();
    reserve(&mut out, bytes.len())?;
    out.extend_from_slice(bytes);
    Ok(out)
}

/// Text that grows. Writing fails when there is no memory, and for no other reason.
pub struct Text(pub Vec<u8>);

impl Text {
    /// Adds bytes, whatever they are.
    pub fn bytes(&mut self, more: &[u8]) -> fmt::Result {
        reserve(&mut self.0, more.len()).map_err(|_| fmt::Error)?;
        self.0.extend_from_slice(more);
        Ok(())
    }
    /// Adds a name that may have anything in it but zeros: what ends a line is written as `instead`.
    pub fn name(&mut self, name: &[u8], instead: &str) -> fmt::Result {
        for (i, part) in name.split(|b| *b == b'\n').enumerate() {
            self.bytes(if i == 0 { b"" } else { instead.as_bytes() })?;
            self.bytes(part)?;
        }
        Ok(())
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        self.bytes(more.as_bytes())
    }
}
