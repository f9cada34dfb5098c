//! Where mappings are: brk, fork, mremap, segments that grow down.

use super::*;

/// The cases.
pub const CASES: &[Case] = &[
    Case {
        name: "brk, and something comes behind the heap",
        slow: false,
        begin: heap,
        one: grow_heap,
        other: |scene| {
            let end = scene.id.load(Ordering::Relaxed) as usize;
            mapped(end, 1, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1)
        },
        legal: |scene, grown, there| {
            let end = scene.id.load(Ordering::Relaxed);
            check!(brk(end) == end, "the heap does not shrink");
            if there == DONE {
                unmap(end as usize, 1);
            }
            (grown, there) == (1, no(EEXIST)) || (grown, there) == (0, DONE)
        },
    },
    Case {
        name: "fork, and the heap grows",
        slow: true,
        begin: heap,
        one: grow_heap,
        other: |scene| {
            let start = scene.id.load(Ordering::Relaxed);
            let page = PAGE as i64;
            // Its heap ends where its memory does.
            i64::from(in_a_child(|| {
                let end = brk(0);
                let grown = end == start + page && is_mapped(start as usize);
                (grown || end == start) && !is_mapped(end as usize) && brk(end + page) == end + page
            }))
        },
        legal: |scene, grown, child| {
            let end = scene.id.load(Ordering::Relaxed);
            brk(end) == end && grown == 1 && child == 1
        },
    },
    Case {
        name: "mremap in place, and something comes behind",
        slow: false,
        begin: |_| {
            unmap(AT, 16);
            check!(mapped(AT, 1, RW, PRIVATE, -1) == DONE, "not mapped");
        },
        one: |_| remap(1, 2, 0),
        other: |_| mapped(page(1), 1, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1),
        legal: |_, grown, there| (grown, there) == (0, no(EEXIST)) || (grown, there) == (no(ENOMEM), DONE),
    },
    Case {
        name: "mremap, and the rights change",
        slow: false,
        begin: |scene| {
            unmap(TO, 16);
            three(scene);
        },
        one: |_| remap(3, 3, libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED),
        other: |_| protect(AT, 3, PROT_READ),
        legal: |_, moved, narrower| {
            let rights = [0, 1, 2].map(|n| (load(TO + n * PAGE), store(TO + n * PAGE, 9)));
            let all = |writable| rights == [(Some(7), writable); 3];
            moved == 0 && (narrower == DONE && all(false) || narrower == no(ENOMEM) && all(true))
        },
    },
    Case {
        name: "a segment that grows down, and its rights change",
        slow: false,
        begin: |_| {
            unmap(AT, 16);
            check!(mapped(page(10), 1, RW, PRIVATE | MAP_GROWSDOWN, -1) == DONE, "not mapped");
        },
        one: |_| i64::from(store(page(9), 8)),
        other: |_| protect(page(10), 1, PROT_READ),
        legal: |_, stored, narrower| {
            let above = store(page(10), 9);
            narrower == DONE && !above && (stored == 1) == store(page(9), 8)
        },
    },
    Case {
        name: "a segment that grows down, and something comes below",
        slow: false,
        begin: |_| {
            unmap(AT, 16);
            check!(mapped(page(10), 1, RW, PRIVATE | MAP_GROWSDOWN, -1) == DONE, "not mapped");
        },
        one: |_| i64::from(store(page(9), 8)),
        other: |_| mapped(page(9), 1, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1),
        legal: |_, stored, there| stored == 1 && load(page(9)) == Some(8) && (there == DONE || there == no(EEXIST)),
    },
    Case {
        name: "mremap in place, and the rights change",
        slow: false,
        begin: |_| {
            unmap(AT, 16);
            check!(mapped(AT, 1, RW, PRIVATE, -1) == DONE, "not mapped");
        },
        one: |_| remap(1, 2, 0),
        other: |_| protect(AT, 1, PROT_READ),
        legal: |_, grown, narrower| (grown, narrower) == (0, DONE) && !store(AT, 9) && load(page(1)) == Some(0),
    },
];
