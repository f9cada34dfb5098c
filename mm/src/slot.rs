//! A place in the swap area, by its number.

/// A page of the swap area. Slot 0 is the area's header, so it is never given out and means "none".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

impl core::fmt::Debug for Slot {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "slot:{}", self.0)
    }
}
