//! Parents that end together with their children, while somebody above waits for all of them.
//!
//! Each round, a process makes another, which makes a third; both wait for the end of a pipe, and so end at the same moment. The
//! child's end is told to a parent that may be ending itself: whoever inherits it must find it, whether it sleeps in its wait or only
//! looks. Several do so side by side, so that some are stopped at every place. An alarm ends a wait that nobody ends.

use quire_workloads::process::fork;
use quire_workloads::{Budget, check, ok};

/// How many do so side by side.
const SIDES: u64 = 8;

fn main() {
    let budget = Budget::from_arguments(100);
    let sides: Vec<_> = (0..SIDES).map(|side| fork(|| side_by_side(budget, side))).collect();
    sides.into_iter().for_each(|side| side.expect_success("a side"));
    ok();
}

fn side_by_side(budget: Budget, side: u64) -> i32 {
    // SAFETY: numbers.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    for round in budget.rounds() {
        // SAFETY: a number.
        unsafe { libc::alarm(30) };
        family(round, (round + side).is_multiple_of(2));
    }
    0
}

/// A round. `looks`: by looks that do not wait, else by waits.
fn family(round: u64, looks: bool) {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    check!(unsafe { libc::pipe(ends.as_mut_ptr()) } == 0, "round {round}: no pipe");
    let [from, to] = ends;
    let until_the_end = move || {
        let mut byte = 0u8;
        // SAFETY: room for a byte.
        i32::from(unsafe { libc::read(from, (&raw mut byte).cast(), 1) } != 0)
    };
    let _ = fork(move || {
        // SAFETY: this process's own.
        unsafe { libc::close(to) };
        let _ = fork(until_the_end);
        until_the_end()
    });
    // SAFETY: this process's own. The others end now, if they have begun.
    unsafe { libc::close(to) };
    let mut ended = Vec::new();
    while ended.len() < 2 {
        let mut status = 0;
        // SAFETY: room for the status.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, if looks { libc::WNOHANG } else { 0 }) };
        check!(pid >= 0, "round {round}: {} of 2 ended, and no child is left", ended.len());
        if pid > 0 {
            check!(status == 0 && !ended.contains(&pid), "round {round}: {pid} ended with {status:#x}");
            ended.push(pid);
        }
    }
    // SAFETY: no pointer; then this process's own.
    unsafe {
        check!(libc::waitpid(-1, std::ptr::null_mut(), 0) == -1, "round {round}: one child too many");
        libc::close(from);
    }
}
