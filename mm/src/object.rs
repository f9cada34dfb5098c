//! Shared objects: pages that several mappings show (memfd, shared anonymous memory, program images).
//!
//! An object has a small table tree of its own, whose leaf entries own one reference to each page's frame. Segments, file
//! descriptors and callers hold references to the object ([`ObjectRef`]); with the last one its pages go.
//!
//! A page is made by whoever first asks for it: `Empty(0) -> Page`, one compare-and-swap; losers use the winner's. Whoever maps a
//! page takes its frame reference first, then reads the object's entry again (race 52): a page that has left the object is
//! not mapped. How pages leave for the swap area and come back: `shared`; how they are cut off: [`crate::cut`].

use crate::entry::{Entry, Word};
use crate::frames::slab::{NODE, NodePlace};
use crate::frames::{Frame, Role};
use crate::machine::Machine;
use crate::memory::Memory;
use crate::page::{ENTRIES, PAGE, Prot, TABLE_BITS};
use crate::quota::{Charge, Quota};
use crate::slot::Slot;
use crate::stats::Counter;
use crate::sync::{AtomicU64, Ordering::*, fence};
use crate::users::Users;
use core::ops::Range;
use core::ptr::NonNull;

/// Pages that several mappings show.
#[derive(Debug)]
pub struct Object {
    pub(crate) users: Users,
    /// Never given twice.
    number: u64,
    /// Length in bytes.
    pub(crate) len: AtomicU64,
    /// Pages in frames.
    pub(crate) resident: AtomicU64,
    /// Pages in the swap area.
    pub(crate) swapped: AtomicU64,
    /// Tables for its pages; they stay until it goes.
    tables: AtomicU64,
    /// What its pages are charged to.
    quota: Option<&'static Quota>,
    /// Initial content; zeros behind it.
    image: &'static [u8],
    /// Levels of tables: 512, 512² or 512³ pages.
    pub(crate) height: u32,
    pub(crate) root: Entry,
    place: NodePlace,
    memory: *const (),
    destroy: unsafe fn(*const Object),
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

/// A page of an object held for reading or writing its bytes.
#[derive(Debug)]
pub struct HeldPage<'a, M: Machine> {
    memory: &'a Memory<M>,
    frame: Frame,
}

impl<M: Machine> HeldPage<'_, M> {
    /// Its 4096 bytes. Programs may change them at any time: use raw copies.
    pub fn bytes(&self) -> *mut u8 {
        self.memory.machine.page(self.frame)
    }

    /// Makes a part of it zeros.
    pub(crate) fn zero(&self, bytes: core::ops::Range<usize>) {
        assert!(bytes.start <= bytes.end && bytes.end <= PAGE);
        // SAFETY: the page is held, and the part lies inside of it.
        unsafe { self.bytes().add(bytes.start).write_bytes(0, bytes.len()) };
    }
}

impl<M: Machine> Drop for HeldPage<'_, M> {
    fn drop(&mut self) {
        self.memory.release(self.frame);
    }
}

impl<M: Machine> Memory<M> {
    /// A new object of `len` bytes: zeros, or `image` and zeros behind it. `capacity` bounds what [`Memory::set_object_len`] may
    /// make of it, in bytes. The memory must outlive the object.
    pub fn new_object(&self, len: u64, capacity: u64, image: &'static [u8]) -> Option<ObjectRef> {
        self.new_object_within(len, capacity, image, None)
    }

    /// As [`Memory::new_object`], an object whose pages are charged to a quota.
    pub fn new_object_within(
        &self,
        len: u64,
        capacity: u64,
        image: &'static [u8],
        quota: Option<&'static Quota>,
    ) -> Option<ObjectRef> {
        let pages = capacity.max(len).div_ceil(PAGE as u64);
        let mut height = 1;
        while pages > 1 << (TABLE_BITS * height) && height < 3 {
            height += 1;
        }
        let (at, place) = self.alloc_node()?;
        debug_assert!(size_of::<Object>() <= NODE);
        let at = at.cast::<Object>();
        // SAFETY: a fresh node, large and aligned enough.
        unsafe {
            at.write(Object {
                users: Users::new(),
                // Relaxed: each caller gets another number.
                number: self.object_number.fetch_add(1, core::sync::atomic::Ordering::Relaxed),
                len: AtomicU64::new(len),
                resident: AtomicU64::new(0),
                swapped: AtomicU64::new(0),
                tables: AtomicU64::new(0),
                quota,
                image,
                height,
                root: Entry::new(Word::empty(0)),
                place,
                memory: (self as *const Memory<M>).cast(),
                destroy: destroy::<M>,
            });
        }
        self.objects.fetch_add(1, Relaxed);
        NonNull::new(at).map(ObjectRef)
    }

    /// How many objects live.
    pub fn object_count(&self) -> u64 {
        self.objects.load(Relaxed)
    }

    /// The frame of an object's page, made if it is not there, with a reference for the caller.
    pub fn object_page(&self, object: &Object, index: u64) -> Result<Frame, PageError> {
        loop {
            if index >= object.pages() {
                return Err(PageError::Beyond);
            }
            let Some(entry) = self.object_entry(object, index, true)? else { return Err(PageError::Beyond) };
            let e = entry.load();
            if let Some(f) = e.frame() {
                if self.try_ref(f) {
                    // Pairs with the object's own giving up of a page: its entry changes, fence, then it reads the count.
                    fence(SeqCst);
                    if entry.load() == e {
                        return Ok(f);
                    }
                    self.release(f);
                } else if self.frame_word(f).is_full() && entry.load() == e {
                    return Err(PageError::Full);
                }
                self.stats.add(&self.machine, Counter::RetryObject, 1);
                continue;
            }
            if let Some(slot) = e.slot() {
                match self.object_swap_in(object, entry, e, slot)? {
                    Some(f) => return Ok(f),
                    None => continue,
                }
            }
            match object.quota.map_or(Charge::Paid, Quota::charge) {
                Charge::Paid => {}
                // Whoever is about to install a page waits for nobody.
                Charge::Undecided => {
                    self.machine.relax();
                    continue;
                }
                Charge::Full if entry.load() != e => continue,
                Charge::Full => return Err(PageError::Full),
            }
            let Some(f) = self.alloc_zeroed() else {
                object.quota.inspect(|q| q.give_back());
                return Err(PageError::OutOfFrames);
            };
            let from = (index * PAGE as u64) as usize;
            if let Some(bytes) = object.image.get(from..) {
                // SAFETY: the frame is ours alone and PAGE bytes long.
                unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), self.machine.page(f), bytes.len().min(PAGE)) };
            }
            self.frame_word(f).start_object();
            if entry.install_page(e, Word::page(f, Prot::READ)).is_ok() {
                object.quota.inspect(|q| q.arrived());
                object.resident.fetch_add(1, Relaxed);
                return Ok(f);
            }
            self.free(f);
            object.quota.inspect(|q| q.give_back());
            self.stats.add(&self.machine, Counter::RetryObject, 1);
        }
    }

    /// Whether a page of an object is in memory, as far as its content is more than zeros that nobody has asked for.
    pub fn has_object_page(&self, object: &Object, index: u64) -> bool {
        let entry = self.object_entry(object, index, false).ok().flatten();
        let touched = entry.map(|entry| entry.load()).filter(|word| !word.is_empty());
        touched.map_or(index < object.image.len().div_ceil(PAGE) as u64, |word| word.frame().is_some())
    }

    /// Holds a page of an object, for the kernel's reads and writes.
    pub fn hold_page(&self, object: &Object, index: u64) -> Result<HeldPage<'_, M>, PageError> {
        Ok(HeldPage { memory: self, frame: self.object_page(object, index)? })
    }

    /// As [`Memory::hold_page`], for reads: `None` is a page that was never written. It reads as zeros, and stays a hole.
    pub fn hold_page_there(&self, object: &Object, index: u64) -> Result<Option<HeldPage<'_, M>>, PageError> {
        if index >= object.pages() {
            return Err(PageError::Beyond);
        }
        let hole = self.object_entry(object, index, false)?.is_none_or(|entry| entry.load().is_empty());
        if hole && index >= object.image.len().div_ceil(PAGE) as u64 {
            return Ok(None);
        }
        self.hold_page(object, index).map(Some)
    }

    /// Closes an object to writers for ever: no shared mapping of it that is writable, or may become so, is there, and none comes. False:
    /// there is one, or an edit is about to make one. `cpus`: those that work in mm. Edits that have taken a writable mapping away may
    /// not have swept it yet: [`Space::await_edits`](crate::Space::await_edits) waits for them. The caller is in no read section.
    #[must_use]
    pub fn close_object(&self, object: &Object, cpus: u64) -> bool {
        if object.users.close() {
            return true;
        }
        // They may be counted by leaves that have been replaced.
        self.await_retired(cpus);
        object.users.close()
    }

    /// Whether a shared mapping of an object is there that is writable, or may become so. Rather too often than not: an edit may be about
    /// to make one. `cpus`: those that work in mm. The caller is in no read section.
    pub fn has_writers(&self, object: &Object, cpus: u64) -> bool {
        if object.users.writers() == 0 {
            return false;
        }
        // As above.
        self.await_retired(cpus);
        object.users.writers() != 0
    }

    /// The leaf entry of a page; `None` if its table is not there (and `make` is false) or it cannot have one.
    pub(crate) fn object_entry<'o>(
        &'o self,
        object: &'o Object,
        index: u64,
        make: bool,
    ) -> Result<Option<&'o Entry>, PageError> {
        if index >> (TABLE_BITS * object.height) != 0 {
            return Ok(None);
        }
        let mut entry = &object.root;
        for level in (0..object.height).rev() {
            let mut e = entry.load();
            while e.is_empty() {
                if !make {
                    return Ok(None);
                }
                let t = self.new_table().ok_or(PageError::OutOfFrames)?;
                self.frame_word(t).set_object_table();
                if entry.install_table(e, t).is_ok() {
                    object.tables.fetch_add(1, Relaxed);
                } else {
                    self.free(t);
                    self.stats.add(&self.machine, Counter::RetryTable, 1);
                }
                e = entry.load();
            }
            let Some(table) = e.frame() else { return Ok(None) };
            let i = (index >> (TABLE_BITS * level)) as usize & (ENTRIES - 1);
            entry = &self.machine.table(table)[i];
        }
        Ok(Some(entry))
    }

    /// The first page from `from` on that is there (`there`), or is a hole; [`Object::pages`] if there is none before the end. What
    /// others change meanwhile is seen or not.
    pub fn object_next(&self, object: &Object, from: u64, there: bool) -> u64 {
        let pages = object.pages();
        self.next_below(&object.root, object.height, 0, from..pages, there).unwrap_or(pages).min(pages)
    }

    /// As [`Memory::object_next`], below an entry whose first page is `base`.
    fn next_below(&self, entry: &Entry, level: u32, base: u64, pages: Range<u64>, there: bool) -> Option<u64> {
        if pages.is_empty() {
            return None;
        }
        let e = entry.load();
        if level == 0 {
            return (e.is_empty() != there).then_some(base);
        }
        // Without a table all of it is a hole.
        let Some(table) = e.frame() else { return (!there).then_some(pages.start.max(base)) };
        let span = 1u64 << (TABLE_BITS * (level - 1));
        let first = pages.start.saturating_sub(base) / span;
        let last = ((pages.end - 1 - base) / span).min(ENTRIES as u64 - 1);
        (first..=last).find_map(|i| {
            let entry = &self.machine.table(table)[i as usize];
            self.next_below(entry, level - 1, base + i * span, pages.clone(), there)
        })
    }

    /// A zeroed frame for a table.
    pub(crate) fn new_table(&self) -> Option<Frame> {
        let t = self.alloc_zeroed()?;
        self.frame_word(t).set(Role::Table, 0);
        Some(t)
    }

    /// Calls `see` for each word of the object's pages, and `table` for each of its tables.
    fn object_words(&self, object: &Object, see: &mut dyn FnMut(Word), table: &mut dyn FnMut(Frame)) {
        self.object_below(&object.root, object.height, see, table);
    }

    fn object_below(&self, entry: &Entry, level: u32, see: &mut dyn FnMut(Word), table: &mut dyn FnMut(Frame)) {
        let w = entry.load();
        if level == 0 {
            return see(w);
        }
        let Some(f) = w.frame() else { return };
        self.machine.table(f).iter().for_each(|e| self.object_below(e, level - 1, see, table));
        table(f);
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

/// Frees an object without references.
///
/// # Safety
///
/// Nobody has a reference, and its memory is a `Memory<M>` that still lives.
unsafe fn destroy<M: Machine>(object: *const Object) {
    // SAFETY: by this function's contract; `new_object` stored the memory that the object belongs to.
    let (o, memory) = unsafe { (&*object, &*(*object).memory.cast::<Memory<M>>()) };
    let give_up = &mut |w: Word| {
        o.gone(w);
        if let Some(f) = w.frame() {
            memory.frame_word(f).leave_object();
            memory.release(f);
        }
        memory.leave_slot(w);
    };
    memory.object_words(o, give_up, &mut |t| memory.free(t));
    memory.objects.fetch_sub(1, Relaxed);
    let place = o.place;
    // SAFETY: the node came from `alloc_node` and nobody has it any more.
    unsafe {
        core::ptr::drop_in_place(object.cast_mut());
        memory.free_node(place);
    }
}
