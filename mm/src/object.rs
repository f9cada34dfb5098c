//! Shared objects: pages that several mappings show (memfd, shared anonymous memory, program images).
//!
//! An object has a small table tree of its own ([`crate::object_entries`]), whose leaf entries own one reference to each page's frame
//! ([`crate::object_pages`]). Segments, file descriptors and callers hold references to the object ([`ObjectRef`]); with the last one its
//! pages go. How pages leave for the swap area and come back: `shared`; how they are cut off: [`crate::cut`].

use crate::entry::{Entry, Word};
use crate::page::PAGE;
use crate::quota::Quota;
use crate::slab::{NODE, NodePlace};
use crate::slot::Slot;
use crate::sync::{AtomicU64, Ordering::*};
use crate::users::Users;
use core::ptr::NonNull;

/// Pages that several mappings show.
#[derive(Debug)]
pub struct Object {
    pub(crate) users: Users,
    /// Never given twice.
    pub(crate) number: u64,
    /// Length in bytes.
    pub(crate) len: AtomicU64,
    /// Pages in frames.
    pub(crate) resident: AtomicU64,
    /// Pages in the swap area.
    pub(crate) swapped: AtomicU64,
    /// Tables for its pages; they stay until it goes.
    pub(crate) tables: AtomicU64,
    /// What its pages are charged to.
    pub(crate) quota: Option<&'static Quota>,
    /// Initial content; zeros behind it.
    pub(crate) image: &'static [u8],
    /// Levels of tables: 512, 512² or 512³ pages.
    pub(crate) height: u32,
    pub(crate) root: Entry,
    pub(crate) place: NodePlace,
    /// The `Memory<M>` that it belongs to, and what ends it there.
    pub(crate) memory: *const (),
    pub(crate) destroy: unsafe fn(*const Object),
}

// SAFETY: the words are atomics, everything else is constant.
unsafe impl Sync for Object {}
// SAFETY: as above; it may be destroyed on any CPU.
unsafe impl Send for Object {}

const _: () = assert!(size_of::<Object>() <= NODE);

/// Why there is no page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageError {
    /// Behind the object's end: SIGBUS.
    Beyond,
    /// No memory.
    OutOfFrames,
    /// The object's quota is used up, or the page has as many references as its frame can count. Objects that are gone count until
    /// the grace periods of the last leaves that show them are over: [`Memory::await_retired`] before this is believed.
    Full,
    /// The content is in this swap slot: read it, or wait for what is under way, then ask again.
    SwapIn(Slot),
    /// The content could not be read from the swap area.
    Lost,
}

/// A counted reference to an object.
#[derive(Debug)]
pub struct ObjectRef(NonNull<Object>);

// SAFETY: a counted reference to something Sync and Send.
unsafe impl Send for ObjectRef {}
// SAFETY: as above.
unsafe impl Sync for ObjectRef {}

impl core::ops::Deref for ObjectRef {
    type Target = Object;
    fn deref(&self) -> &Object {
        // SAFETY: the reference keeps the object.
        unsafe { self.0.as_ref() }
    }
}

impl Clone for ObjectRef {
    fn clone(&self) -> Self {
        // SAFETY: `self` holds a reference.
        unsafe { ObjectRef::another(self.0.as_ptr()) }
    }
}

impl Drop for ObjectRef {
    fn drop(&mut self) {
        // SAFETY: this reference is counted and dropped once.
        unsafe { drop_reference(self.0.as_ptr(), false) };
    }
}

/// Drops a counted reference held as a pointer, and what it counts as a writer.
///
/// # Safety
///
/// The caller owns one such reference to `object` and gives it up.
pub(crate) unsafe fn drop_reference(object: *const Object, writer: bool) {
    // SAFETY: alive until the last reference is gone.
    let o = unsafe { &*object };
    if o.users.remove(writer) {
        // SAFETY: that was the last reference.
        unsafe { (o.destroy)(object) };
    }
}

impl ObjectRef {
    /// The reference that a new object has.
    ///
    /// # Safety
    ///
    /// Nobody else has taken it.
    pub(crate) unsafe fn first(object: NonNull<Object>) -> ObjectRef {
        ObjectRef(object)
    }

    /// One more reference.
    ///
    /// # Safety
    ///
    /// Somebody holds a reference to `object` while this runs.
    pub(crate) unsafe fn another(object: *const Object) -> ObjectRef {
        // SAFETY: by this function's contract it is alive.
        unsafe { (*object).users.add(false) };
        ObjectRef(NonNull::new(object.cast_mut()).expect("an object's address is not null"))
    }

    /// A number that no other object has or will have: whoever keeps it need not hold a reference (a sleeper on a shared futex does
    /// not). The address would be the next object's.
    pub fn id(&self) -> u64 {
        self.number
    }
}

/// Leave to make a writable mapping of an object, until it is dropped.
#[must_use]
pub(crate) struct Writing<'a>(&'a Object);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.users.written();
    }
}

impl Object {
    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len.load(Acquire)
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Length in pages, the last one perhaps in part.
    pub fn pages(&self) -> u64 {
        self.len().div_ceil(PAGE as u64)
    }

    /// A word was taken out of an entry: the page that it stood for is not charged any more.
    pub(crate) fn gone(&self, was: Word) {
        if was.is_swapped() {
            self.swapped.fetch_sub(1, Relaxed);
        }
        if (was.frame().is_some() || was.is_swapped())
            && let Some(quota) = self.quota
        {
            quota.refund();
        }
    }

    /// How many references there are: the holders', and one for each segment that shows it (and for some that have gone lately).
    pub fn references(&self) -> u64 {
        self.users.references()
    }

    /// Leave to make a shared mapping that may be written. `None`: the object is closed to writers.
    pub(crate) fn write(&self) -> Option<Writing<'_>> {
        self.users.write().then(|| Writing(self))
    }

    /// Pages that are in frames.
    pub fn resident(&self) -> u64 {
        self.resident.load(Relaxed)
    }

    /// Pages that it has, in frames or in the swap area: what is no hole.
    pub fn held(&self) -> u64 {
        // Relaxed: a page on its way between the two may be missing, or be counted twice.
        self.resident() + self.swapped.load(Relaxed)
    }

    /// Tables for its pages.
    pub fn tables(&self) -> u64 {
        self.tables.load(Relaxed)
    }
}
