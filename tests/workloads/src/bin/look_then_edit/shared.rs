//! Shared memory: views, seals, files and segments of System V's.

use super::*;

/// The cases.
pub const CASES: &[Case] = &[
    Case {
        name: "a second view, and the first one goes and its file is sealed",
        slow: false,
        begin: view,
        one: |_| remap(0, 1, libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED),
        other: |scene| {
            check!(unmap(AT, 1) == DONE, "not unmapped");
            seal(scene, libc::F_SEAL_WRITE)
        },
        legal: |_, second, sealed| {
            (second, sealed) == (0, no(EBUSY)) && store(TO, 9)
                || (second, sealed) == (no(EFAULT), DONE) && !store(TO, 9)
        },
    },
    Case {
        name: "a second view, and the first one moves",
        slow: false,
        begin: view,
        one: |_| remap(0, 1, libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED),
        other: |_| move_to(TO + 8 * PAGE, 0),
        legal: |_, second, moved| {
            let seen = (second == 0 && load(TO) == Some(7)) || (second == no(EFAULT) && load(TO).is_none());
            seen && moved == 0 && load(TO + 8 * PAGE) == Some(7)
        },
    },
    Case {
        name: "MADV_REMOVE, and its view moves and stays, too",
        slow: false,
        begin: view,
        one: |_| advise(AT, 1, libc::MADV_REMOVE),
        other: |_| move_to(TO, libc::MREMAP_DONTUNMAP),
        legal: |_, removed, moved| (removed, moved) == (DONE, 0) && (load(AT), load(TO)) == (Some(0), Some(0)),
    },
    Case {
        name: "a shared futex, and its view moves and stays, too",
        slow: true,
        begin: view,
        one: |_| {
            let limit = libc::timespec { tv_sec: 20, tv_nsec: 0 };
            // SAFETY: the kernel checks the address; the limit lives through the call.
            answer(unsafe { libc::syscall(libc::SYS_futex, AT, libc::FUTEX_WAIT, 7, &raw const limit) })
        },
        other: |_| {
            let moved = move_to(TO, libc::MREMAP_DONTUNMAP);
            // SAFETY: the kernel checks the address.
            let wake = || answer(unsafe { libc::syscall(libc::SYS_futex, TO, libc::FUTEX_WAKE, 1) });
            let begun = Instant::now();
            while moved == 0 && wake() == 0 && begun.elapsed() < Duration::from_secs(10) {
                thread::yield_now();
            }
            moved
        },
        legal: |_, woken, moved| (woken, moved) == (0, 0),
    },
    Case {
        name: "F_SEAL_WRITE, and a view for writing comes",
        slow: false,
        begin: file,
        one: |scene| mapped(AT, 1, RW, MAP_SHARED | MAP_FIXED, scene.file.load(Ordering::Relaxed)),
        other: |scene| seal(scene, libc::F_SEAL_WRITE),
        legal: |_, view, sealed| (view, sealed) == (DONE, no(EBUSY)) || (view, sealed) == (no(EPERM), DONE),
    },
    Case {
        name: "F_SEAL_WRITE, and a view comes that may become writable",
        slow: false,
        begin: file,
        one: |scene| mapped(AT, 1, PROT_READ, MAP_SHARED | MAP_FIXED, scene.file.load(Ordering::Relaxed)),
        other: |scene| seal(scene, libc::F_SEAL_WRITE),
        legal: |_, view, sealed| {
            let wider = protect(AT, 1, RW);
            // Linux refuses a view that comes while the seal does, as if it were for writing.
            (view, sealed) == (no(EPERM), DONE)
                || view == DONE && ((wider, sealed) == (DONE, no(EBUSY)) || (wider, sealed) == (no(EACCES), DONE))
        },
    },
    Case {
        name: "F_SEAL_FUTURE_WRITE, and views come",
        slow: false,
        begin: view,
        one: |scene| mapped(page(1), 1, RW, MAP_SHARED | MAP_FIXED, scene.file.load(Ordering::Relaxed)),
        other: |scene| seal(scene, libc::F_SEAL_FUTURE_WRITE),
        legal: |scene, view, sealed| {
            let late = mapped(page(2), 1, RW, MAP_SHARED | MAP_FIXED, scene.file.load(Ordering::Relaxed));
            sealed == DONE && (view == DONE || view == no(EPERM)) && late == no(EPERM) && store(AT, 9)
        },
    },
    Case {
        name: "F_SEAL_WRITE, and a write",
        slow: false,
        begin: file,
        one: |scene| write(fd(scene), 2, 9),
        other: |scene| seal(scene, libc::F_SEAL_WRITE),
        legal: |scene, written, sealed| {
            let all = match written {
                n if n == 2 * PAGE as i64 => 9,
                error if error == no(EPERM) => 7,
                _ => return false,
            };
            sealed == DONE && words(fd(scene)) == [Some(all); 2]
        },
    },
    Case {
        name: "F_SEAL_WRITE after munmap, and stores",
        slow: false,
        begin: view,
        one: |_| {
            (10..30).for_each(|n| _ = store(AT, n));
            DONE
        },
        other: |scene| {
            check!(unmap(AT, 1) == DONE, "not unmapped");
            let sealed = seal(scene, libc::F_SEAL_WRITE);
            let mut word = 0u64;
            // SAFETY: eight bytes for a word.
            check!(unsafe { libc::pread(fd(scene), (&raw mut word).cast(), 8, 0) } == 8, "not read");
            if sealed == DONE { word as i64 } else { sealed }
        },
        legal: |scene, _, seen| {
            let mut word = 0u64;
            // SAFETY: as above.
            check!(unsafe { libc::pread(fd(scene), (&raw mut word).cast(), 8, 0) } == 8, "not read");
            seen == word as i64
        },
    },
    Case {
        name: "F_SEAL_SHRINK, and ftruncate",
        slow: false,
        begin: file,
        one: |scene| truncate(fd(scene), 1),
        other: |scene| seal(scene, libc::F_SEAL_SHRINK),
        legal: |scene, cut, sealed| {
            let pages = length(fd(scene)) / PAGE as i64;
            sealed == DONE && ((cut, pages) == (DONE, 1) || (cut, pages) == (no(EPERM), 2))
        },
    },
    Case {
        name: "F_SEAL_GROW, and fallocate",
        slow: false,
        begin: file,
        one: |scene| allocate(fd(scene), 0, 3),
        other: |scene| seal(scene, libc::F_SEAL_GROW),
        legal: |scene, grown, sealed| {
            let pages = length(fd(scene)) / PAGE as i64;
            sealed == DONE && ((grown, pages) == (DONE, 3) || (grown, pages) == (no(EPERM), 2))
        },
    },
    Case {
        name: "a hole is punched, and a write",
        slow: false,
        begin: file,
        one: |scene| allocate(fd(scene), libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, 1),
        other: |scene| write(fd(scene), 2, 9),
        legal: |scene, hole, written| {
            let [first, second] = words(fd(scene));
            let one = first == Some(0) || first == Some(9);
            hole == DONE && written == 2 * PAGE as i64 && one && second == Some(9)
        },
    },
    Case {
        name: "shmat, and the segment is removed",
        slow: false,
        begin: |scene| {
            unmap(AT, 16);
            // SAFETY: numbers only.
            let id = unsafe { libc::shmget(libc::IPC_PRIVATE, 2 * PAGE, 0o600) };
            check!(id >= 0, "no segment");
            scene.id.store(i64::from(id), Ordering::Relaxed);
        },
        one: |scene| {
            // SAFETY: a place of our own.
            let at = unsafe { libc::shmat(scene.id.load(Ordering::Relaxed) as c_int, AT as *const _, 0) };
            answer(at as i64).min(0)
        },
        other: |scene| {
            let id = scene.id.load(Ordering::Relaxed) as c_int;
            // SAFETY: nothing is asked for.
            answer(i64::from(unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) }))
        },
        legal: |_, at, removed| match at {
            0 => removed == DONE && store(AT, 9) && detach() == DONE,
            error => removed == DONE && (error == no(EINVAL) || error == no(EIDRM)) && !is_mapped(AT),
        },
    },
    Case {
        name: "shmdt, and another mapping comes",
        slow: false,
        begin: attached,
        one: |_| mapped(AT, 1, RW, PRIVATE, -1),
        other: |_| detach(),
        legal: |_, new, detached| new == DONE && detached == DONE && load(AT) == Some(0) && !is_mapped(page(1)),
    },
];
