//! What the rooms above do for those below: a value, mostly a set of functions, that is set once at boot.
//!
//! A room that has to call up says what it needs as a structure of functions, and keeps a hook of it. Whoever is above sets it before
//! anything can ask; until then the default answers.

use core::ptr::from_ref;
use core::sync::atomic::{AtomicPtr, Ordering};

/// See [above](self).
pub struct Hook<T: 'static>(AtomicPtr<T>);

impl<T: Sync> Hook<T> {
    /// A hook that answers with `default` until it is set.
    pub const fn new(default: &'static T) -> Hook<T> {
        Hook(AtomicPtr::new(from_ref(default).cast_mut()))
    }

    /// Sets what is answered from now on.
    pub fn set(&self, value: &'static T) {
        // ordering: Release pairs with `get`.
        self.0.store(from_ref(value).cast_mut(), Ordering::Release);
    }

    /// What was set last.
    #[inline(always)]
    pub fn get(&self) -> &'static T {
        // ordering: Acquire pairs with `set`: whoever sees the value sees what is in it.
        // SAFETY: only `new` and `set` write the pointer, from references that live for ever.
        unsafe { &*self.0.load(Ordering::Acquire) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Calls {
        double: fn(u32) -> u32,
    }

    #[test]
    fn the_default_answers_until_another_is_set() {
        static HOOK: Hook<Calls> = Hook::new(&Calls { double: |_| 0 });
        assert_eq!((HOOK.get().double)(21), 0);
        HOOK.set(&Calls { double: |n| 2 * n });
        assert_eq!((HOOK.get().double)(21), 42);
    }
}
