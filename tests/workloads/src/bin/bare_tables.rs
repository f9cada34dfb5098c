//! Pages mapped, used, moved and unmapped at ever new addresses: the page tables that they needed come back.
//!
//! Alone, and with four threads in one arena, whose leaf tables they share in part: what one thread has mapped is not lost when a
//! neighbour's unmap lets a table go. Quire's free memory is compared; elsewhere the host's other programs change it, and only the
//! contents are checked.

use std::thread;

use quire_workloads::{Budget, PAGE, Random, check, counters, ok};

/// Where nothing else is mapped: an arena of Quire's.
const BASE: usize = 0x100 << 32;
/// What a leaf table maps.
const SPAN: usize = 512 * PAGE;
const PAGES: usize = 4;
/// Turns of each thread in a round; a table that stays in each of them is 8 MiB for one thread.
const TURNS: usize = 2000;

fn main() {
    for round in Budget::from_arguments(2).rounds() {
        for threads in [1, 4] {
            // What threads need once comes before the count begins.
            run(threads, 10, round);
            let before = free();
            run(threads, TURNS, round);
            let lost = before.saturating_sub(free());
            let most = TURNS * PAGE / 4;
            check!(counters().is_empty() || lost < most, "{threads} threads: {lost} bytes are gone");
        }
    }
    ok();
}

fn run(threads: usize, turns: usize, round: u64) {
    thread::scope(|scope| {
        for index in 0..threads {
            scope.spawn(move || {
                let mut random = Random::new(round * 8 + index as u64 + 1);
                // Far apart, or in a few spans where the other threads are, too.
                (0..turns).for_each(|n| {
                    let span = if n % 4 == 0 { random.below(3) } else { random.below(200_000) };
                    turn(BASE + span * SPAN + index * 16 * PAGE, n);
                });
            });
        }
    });
}

/// Maps some pages, stores to them, moves some to a span of the same thread's, unmaps all.
fn turn(at: usize, n: usize) {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    // SAFETY: the thread's own place in an area where nothing else is mapped; see BASE.
    unsafe {
        let p = libc::mmap(at as *mut _, PAGES * PAGE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        check!(p as usize == at, "no mapping at {at:#x}");
        let word = |page: usize| (at + page * PAGE) as *mut usize;
        (0..PAGES).for_each(|page| word(page).write_volatile(n + page));
        (0..PAGES).for_each(|page| check!(word(page).read_volatile() == n + page, "a page was lost"));
        if n.is_multiple_of(3) {
            let to = (at + 8 * PAGE) as *mut libc::c_void;
            let how = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
            let moved = libc::mremap(p, PAGE, PAGE, how, to.wrapping_byte_add(SPAN));
            check!(moved == to.wrapping_byte_add(SPAN), "the page did not move");
            check!(moved.cast::<usize>().read_volatile() == n, "a page was lost on its way");
            check!(libc::munmap(moved, PAGE) == 0, "munmap failed");
        }
        check!(libc::munmap(p, PAGES * PAGE) == 0, "munmap failed");
    }
}

/// Bytes of free memory.
fn free() -> usize {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemFree:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<usize>().ok()).unwrap_or(0) * 1024
}
