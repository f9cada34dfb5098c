//! The pages of an object: how they are made, held and counted, and how the object ends.
//!
//! A page is made by whoever first asks for it: `Empty(0) -> Page`, one compare-and-swap; losers use the winner's. Whoever maps a
//! page takes its frame reference first, then reads the object's entry again (race 52): a page that has left the object is
//! not mapped.

use crate::entry::{Entry, Word};
use crate::frames::Frame;
use crate::machine::Machine;
use crate::memory::Memory;
use crate::object::{Object, ObjectRef, PageError};
use crate::page::{ENTRIES, PAGE, Prot, TABLE_BITS};
use crate::quota::{Charge, Quota};
use crate::slab::NODE;
use crate::stats::Counter;
use crate::sync::{AtomicU64, Ordering::*, fence};
use crate::users::Users;
use core::ptr::NonNull;

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
        // SAFETY: it is new.
        NonNull::new(at).map(|object| unsafe { ObjectRef::first(object) })
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

    /// Of the first table of an object's pages that is there, from page `from` on: how many of its pages somebody has beside the object
    /// (a space that maps them counts them), and the first page behind it. `None`: there is no such table. Whoever asks for all of
    /// [`Object::held`] and [`Object::tables`], and takes these away, counts no page twice.
    pub fn object_pages_in_use(&self, object: &Object, from: u64) -> Option<(u64, u64)> {
        let at = self.next_object_page(object, from)?;
        let first = at as usize & (ENTRIES - 1);
        let entries = self.object_table(object, at).map_or(&[][..], |table| &table[first..]);
        let in_use =
            entries.iter().filter_map(|e| e.load().frame()).filter(|f| self.frame_word(*f).count() > 1).count();
        Some((in_use as u64, at + (ENTRIES - first) as u64))
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
    memory.object_words(o, give_up, &mut |t| {
        o.quota.inspect(|quota| quota.refund());
        memory.free(t);
    });
    memory.objects.fetch_sub(1, Relaxed);
    let place = o.place;
    // SAFETY: the node came from `alloc_node` and nobody has it any more.
    unsafe {
        core::ptr::drop_in_place(object.cast_mut());
        memory.free_node(place);
    }
}
