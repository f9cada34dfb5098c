//! Many of everything at once: 1,000 threads, 500 processes, both in turn, terabytes of reserved addresses.
//!
//! All threads are alive at one moment, and so are all processes; each has memory of its own that it wrote. Every second
//! process ends by a signal, the others end by themselves.

use std::io::{Read, Write, pipe};
use std::sync::Barrier;
use std::thread;

use quire_workloads::area::READ_WRITE;
use quire_workloads::process::{Child, Ended, fork, no_core_files};
use quire_workloads::{Area, Budget, PAGE, check, ok};

const THREADS: u64 = 1000;
const PROCESSES: usize = 500;
const TERA: usize = 1 << 40;

fn main() {
    no_core_files();
    for _ in Budget::from_arguments(1).rounds() {
        // Each in a process of its own: what one leaves in the heap, the next one's children have to copy.
        let parts: [(fn(), _); 4] = [
            (threads, "threads"),
            (processes, "processes"),
            (threads_then_processes, "processes after threads"),
            (reservations, "reservations"),
        ];
        for (part, name) in parts {
            fork(|| {
                part();
                0
            })
            .expect_success(name);
        }
    }
    ok();
}

fn threads() {
    let together = Barrier::new(THREADS as usize);
    let sum: u64 = thread::scope(|scope| {
        let alive: Vec<_> = (0..THREADS)
            .map(|index| {
                let together = &together;
                let body = move || {
                    let own = std::hint::black_box([index; 100]);
                    together.wait();
                    own[index as usize % 100]
                };
                thread::Builder::new().stack_size(64 << 10).spawn_scoped(scope, body)
            })
            .collect();
        alive
            .into_iter()
            .map(|thread| match thread.map(|thread| thread.join()) {
                Ok(Ok(value)) => value,
                _ => quire_workloads::violated(format_args!("a thread of the crowd failed")),
            })
            .sum()
    });
    check!(sum == THREADS * (THREADS - 1) / 2, "the threads' sum is {sum}");
}

fn processes() {
    let own = Area::new(8);
    own.fill(0..8, 1);
    let (Ok((mut gate, open)), Ok((mut told, mut tell))) = (pipe(), pipe()) else {
        quire_workloads::violated(format_args!("no pipe"))
    };
    let mut open = Some(open);
    let crowd: Vec<_> = (0..PROCESSES)
        .map(|index| {
            fork(|| {
                drop(open.take());
                own.fill(0..8, index as u64);
                let said = tell.write_all(&[1]).is_ok();
                // Nothing comes: the gate opens when the parent's end is closed.
                let waited = gate.read(&mut [0]).is_ok_and(|n| n == 0);
                own.expect(0..8, index as u64, "a child's own copy");
                if said && waited { (index % 100) as i32 } else { 200 }
            })
        })
        .collect();
    let mut all = [0; PROCESSES];
    check!(told.read_exact(&mut all).is_ok(), "not all processes came to life");
    crowd.iter().skip(1).step_by(2).for_each(Child::kill);
    drop(open.take());
    for (index, child) in crowd.into_iter().enumerate() {
        let expected = if index % 2 == 1 { Ended::Killed(libc::SIGKILL) } else { Ended::Exited((index % 100) as i32) };
        let ended = child.wait();
        check!(ended == expected, "process {index}: {ended:?}");
    }
    own.expect(0..8, 1, "the parent's copy");
}

/// The stacks and heaps that the threads leave behind are mapped in each of the children, some 1,300 segments. As many heaps as
/// the C library makes on two CPUs: each costs a child a table and a page, and on 16 CPUs there would be 128 of them.
fn threads_then_processes() {
    const HEAPS: libc::c_int = 16;
    // SAFETY: sets a parameter of the heap.
    let set = unsafe { libc::mallopt(libc::M_ARENA_MAX, HEAPS) };
    check!(set == 1, "the number of heaps was not taken");
    threads();
    processes();
}

/// As run-time systems do it: reserve much, use little pieces far apart.
fn reservations() {
    let flags = libc::MAP_PRIVATE | libc::MAP_NORESERVE;
    let areas: Vec<_> =
        (0..4).filter_map(|_| Area::try_mapped(0, 2 * TERA / PAGE, libc::PROT_NONE, flags).ok()).collect();
    check!(areas.len() == 4, "only {} reservations of 2 TiB", areas.len());
    for (index, area) in areas.iter().enumerate() {
        for piece in 0..16 {
            let page = piece * (2 * TERA / PAGE / 16) + index;
            area.protect(page..page + 4, READ_WRITE);
            area.fill(page..page + 4, (index * 16 + piece) as u64);
        }
    }
    for (index, area) in areas.iter().enumerate() {
        for piece in 0..16 {
            let page = piece * (2 * TERA / PAGE / 16) + index;
            area.expect(page..page + 4, (index * 16 + piece) as u64, "a piece of a reservation");
        }
        area.unmap(0..area.pages());
    }
}
