//! A segment that grows down, as initial stacks do: two threads extend it at once, each below the other in turn. Race 20's kin: the
//! slower one finds that the segment is there already, or that it is in its own way, and must not be killed for that.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

use quire_workloads::{Budget, PAGE, check, ok, pause};

/// Pages that the segment may grow by: less than its limit, and than the room below it.
const ROOM: usize = 1500;
/// Pages that it has at first.
const FIRST: usize = 2;
const STEPS: usize = 60;
/// Far from all places that a system chooses, so that nothing comes into the room.
const FAR: usize = 32 << 40;

fn main() {
    for round in Budget::from_arguments(20).rounds() {
        let top = FAR + (2 * ROOM + FIRST) * PAGE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_GROWSDOWN | libc::MAP_FIXED_NOREPLACE;
        // SAFETY: a free place, for memory that nobody has yet.
        let at = unsafe { libc::mmap(top as *mut _, FIRST * PAGE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        check!(at as usize == top, "a segment that grows down: {}", std::io::Error::last_os_error());
        let arrived = AtomicUsize::new(0);
        thread::scope(|scope| {
            for id in 0..2 {
                let arrived = &arrived;
                scope.spawn(move || {
                    for n in 0..STEPS {
                        // In turn the one above and the one below; sometimes far.
                        let below = 1 + n * 20 + if (id + n) % 2 == 0 { 0 } else { 1 + n % 19 };
                        let word = (top - below * PAGE) as *mut u64;
                        // Both at the same moment: a futex would let one go first.
                        arrived.fetch_add(1, SeqCst);
                        let mut spins = 0;
                        while arrived.load(SeqCst) < 2 * (n + 1) {
                            spins += 1;
                            pause(spins);
                        }
                        // SAFETY: inside the room, each thread in a page of its own.
                        unsafe { word.write_volatile((below as u64) << 32 | round) };
                    }
                });
            }
        });
        for n in 0..STEPS {
            for more in [0, 1 + n % 19] {
                let below = 1 + n * 20 + more;
                // SAFETY: written above.
                let word = unsafe { ((top - below * PAGE) as *const u64).read_volatile() };
                check!(word == (below as u64) << 32 | round, "{below} pages below: {word:#x}");
            }
        }
        let all = ROOM * PAGE;
        // SAFETY: the segment, and what is free below it.
        unsafe { libc::munmap((top - all) as *mut _, all + FIRST * PAGE) };
    }
    ok();
}
