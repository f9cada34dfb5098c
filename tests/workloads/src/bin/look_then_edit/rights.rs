//! Rights, contents and locks: mprotect, madvise, mlock, mincore, msync.

use super::*;

/// The cases.
pub const CASES: &[Case] = &[
    Case {
        name: "mprotect, and a view for reading comes",
        slow: false,
        begin: |scene| {
            file(scene);
            let path = format!("/proc/self/fd/{}\0", fd(scene));
            // SAFETY: a path that ends with zero.
            let reader = unsafe { libc::open(path.as_ptr().cast(), libc::O_RDONLY) };
            check!(reader >= 0, "not opened for reading");
            scene.reader.store(i64::from(reader), Ordering::Relaxed);
            check!(mapped(AT, 1, PROT_READ, PRIVATE, -1) == DONE, "not mapped");
        },
        one: |scene| mapped(AT, 1, PROT_READ, MAP_SHARED | MAP_FIXED, scene.reader.load(Ordering::Relaxed)),
        other: |_| protect(AT, 1, RW),
        legal: |_, view, wider| view == DONE && (wider == DONE || wider == no(EACCES)) && !store(AT, 9),
    },
    Case {
        name: "mprotect, and a hole comes",
        slow: false,
        begin: three_for_reading,
        one: |_| unmap(page(1), 1),
        other: |_| protect(AT, 3, RW),
        legal: |_, hole, wider| {
            let ends = (store(page(0), 9), store(page(2), 9));
            hole == DONE && ((wider, ends) == (DONE, (true, true)) || (wider, ends) == (no(ENOMEM), (true, false)))
        },
    },
    Case {
        name: "mprotect of what grows down, and its lower end goes",
        slow: false,
        begin: |_| {
            unmap(AT, 16);
            check!(mapped(page(8), 4, RW, PRIVATE | MAP_GROWSDOWN, -1) == DONE, "not mapped");
        },
        one: |_| unmap(page(8), 2),
        other: |_| protect(page(11), 1, PROT_READ | libc::PROT_GROWSDOWN),
        legal: |_, less, narrower| {
            less == DONE && narrower == DONE && !store(page(10), 9) && !store(page(11), 9) && load(page(10)).is_some()
        },
    },
    Case {
        name: "MADV_DONTNEED, and a page is locked",
        slow: false,
        begin: three,
        one: |_| lock(page(1), 1),
        other: |_| advise(AT, 3, libc::MADV_DONTNEED),
        legal: |_, lock, gone| {
            let left = [0, 1, 2].map(|n| load(page(n)).unwrap_or(1));
            lock == DONE && ((gone, left) == (DONE, [0, 0, 0]) || (gone, left) == (no(EINVAL), [0, 7, 7]))
        },
    },
    Case {
        name: "MADV_WIPEONFORK, and shared memory comes",
        slow: true,
        begin: three,
        one: |_| mapped(page(1), 1, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1),
        other: |_| advise(AT, 3, libc::MADV_WIPEONFORK),
        legal: |_, shared, wiped| {
            let left = if wiped == DONE { 0 } else { 7 };
            let child = in_a_child(|| load(page(0)) == Some(0) && load(page(2)) == Some(left));
            shared == DONE && (wiped == DONE || wiped == no(EINVAL)) && child
        },
    },
    Case {
        name: "MADV_POPULATE_WRITE, and the rights go",
        slow: false,
        begin: three,
        one: |_| protect(AT, 3, PROT_NONE),
        other: |_| advise(AT, 3, libc::MADV_POPULATE_WRITE),
        legal: |_, hidden, there| {
            let answer = there == DONE || there == no(EINVAL) || there == no(EFAULT);
            hidden == DONE && answer && load(AT).is_none() && protect(AT, 3, PROT_READ) == DONE && load(AT) == Some(7)
        },
    },
    Case {
        name: "mlock, and a hole comes",
        slow: false,
        begin: three,
        one: |_| unmap(page(1), 1),
        other: |_| lock(AT, 3),
        legal: |_, hole, lock| {
            let locked = (is_locked(page(0)), is_locked(page(2)));
            hole == DONE && ((lock, locked) == (DONE, (true, true)) || (lock, locked) == (no(ENOMEM), (true, false)))
        },
    },
    Case {
        name: "munlock, and a hole comes",
        slow: false,
        begin: |scene| {
            three(scene);
            check!(lock(AT, 3) == DONE, "not locked");
        },
        one: |_| unmap(page(1), 1),
        other: |_| unlock(AT, 3),
        legal: |_, hole, lock| {
            let locked = (is_locked(page(0)), is_locked(page(2)));
            hole == DONE && ((lock, locked) == (DONE, (false, false)) || (lock, locked) == (no(ENOMEM), (false, true)))
        },
    },
    Case {
        name: "mlockall, and a mapping comes",
        slow: true,
        begin: |_| {
            unmap(AT, 16);
        },
        one: |_| mapped(AT, 1, RW, PRIVATE, -1),
        other: |_| {
            // SAFETY: numbers only.
            answer(i64::from(unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT) }))
        },
        legal: |_, new, lock| {
            let locked = is_locked(AT);
            // SAFETY: no arguments.
            check!(unsafe { libc::munlockall() } == 0 && !is_locked(AT), "not unlocked");
            new == DONE && (lock == DONE && locked || lock == no(EPERM) || lock == no(ENOMEM))
        },
    },
    Case {
        name: "mincore and msync, and a hole comes",
        slow: false,
        begin: three,
        one: |_| unmap(page(1), 1),
        other: |_| {
            let mut there = [0u8; 3];
            // SAFETY: three bytes for three pages.
            let core = answer(i64::from(unsafe { libc::mincore(AT as *mut _, 3 * PAGE, there.as_mut_ptr()) }));
            // SAFETY: nothing of ours is read or written.
            let sync = answer(i64::from(unsafe { libc::msync(AT as *mut _, 3 * PAGE, libc::MS_ASYNC) }));
            core * 1000 + sync
        },
        legal: |_, hole, seen| {
            let late = no(ENOMEM);
            hole == DONE && (seen == 0 || seen == late || seen == late * 1000 + late)
        },
    },
];
