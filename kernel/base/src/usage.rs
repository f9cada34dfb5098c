//! What threads have used, and how `getrusage` tells it.

use crate::units::to_timeval;
use core::ops::AddAssign;

/// What threads have used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Nanoseconds in user mode.
    pub user: u64,
    /// Nanoseconds in the kernel.
    pub system: u64,
    /// Faults that needed no disk.
    pub minor_faults: u64,
    /// Faults that waited for the disk.
    pub major_faults: u64,
}

impl Usage {
    /// Nanoseconds, wherever.
    pub fn total(&self) -> u64 {
        self.user + self.system
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Usage) {
        self.user += other.user;
        self.system += other.system;
        self.minor_faults += other.minor_faults;
        self.major_faults += other.major_faults;
    }
}

/// Linux's `rusage`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Rusage {
    user: [u64; 2],
    system: [u64; 2],
    /// The most memory that was resident, in KiB.
    max_resident: u64,
    unused: [u64; 3],
    minor_faults: u64,
    major_faults: u64,
    unused2: [u64; 8],
}

impl Rusage {
    /// With the most pages that were resident.
    pub fn new(usage: Usage, max_resident: u64) -> Self {
        Rusage {
            user: to_timeval(usage.user),
            system: to_timeval(usage.system),
            max_resident: max_resident * 4,
            minor_faults: usage.minor_faults,
            major_faults: usage.major_faults,
            ..Rusage::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    #[test]
    fn usages_add_up() {
        let mut sum = Usage { user: 1, system: 2, minor_faults: 3, major_faults: 4 };
        sum += Usage { user: 10, system: 20, minor_faults: 30, major_faults: 40 };
        assert_eq!(sum, Usage { user: 11, system: 22, minor_faults: 33, major_faults: 44 });
        assert_eq!(sum.total(), 33);
    }

    #[test]
    fn programs_find_their_numbers_where_linux_puts_them() {
        assert_eq!(size_of::<Rusage>(), 144);
        assert_eq!((offset_of!(Rusage, max_resident), offset_of!(Rusage, minor_faults)), (32, 64));
        let usage = Usage { user: 3_000_001_999, system: 5_000, minor_faults: 6, major_faults: 7 };
        let told = Rusage::new(usage, 8);
        assert_eq!((told.user, told.system), ([3, 1], [0, 5]));
        assert_eq!((told.minor_faults, told.major_faults, told.max_resident), (6, 7, 32));
    }
}
