//! Why an edit was not made: the answer of all edits, and of what makes an arena for one.

/// Why an edit was not made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EditError {
    /// No address range is free (ENOMEM).
    NoSpace,
    /// No frame for nodes or tables: free memory, try again. Within one arena nothing was changed, unless the operation says so. Of a range
    /// over several arenas what lies before may be done, and what was to be unmapped or replaced may be gone; the same call again goes on.
    OutOfFrames,
    /// Something is mapped there already (EEXIST).
    Exists,
    /// Part of the range is not mapped (ENOMEM, for a move EFAULT).
    NotMapped,
    /// Outside user space, or empty (EINVAL).
    Invalid,
    /// A shared view of an object that was opened for reading does not become writable (EACCES).
    ReadOnly,
    /// The object is closed to writers (EPERM).
    Closed,
    /// A segment is none that the edit takes (EINVAL). What lies before it is done.
    Refused,
    /// The space has as many segments as it may ([`Memory::set_most_segments`](crate::Memory::set_most_segments)); or, in a fork, a
    /// page's frame or swap slot has as many references as it can count (ENOMEM; freeing memory does not help).
    TooMany,
}
