//! Random programs of memory calls; what they show after every step is to be the same on every system.
//!
//! `differ [OPTION...] FROM COUNT` runs the programs of so many seeds, `differ [OPTION...] -` those on standard input, one a line.
//! `./run.sh differ` runs it here and on Quire, and compares.
//!
//! Each program runs in a process of its own, several at once; its report is `= NUMBER`, a line for each step, and how it ended.
//! Reports come in any order.
//!
//! | option | meaning |
//! |---|---|
//! | `--words` | what is seen, instead of digests |
//! | `--closely` | the whole state after every step |
//! | `--swaps` | which pages are in memory says nothing |
//! | `--hog MIB` | a process that writes to so much memory all the time |

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use quire_workloads::differ::look::{Board, Sizes};
use quire_workloads::differ::run::{self, Show};
use quire_workloads::differ::{Program, generate};
use quire_workloads::process::{self, Child, fork, no_core_files};
use quire_workloads::{Area, cpus};

fn main() {
    let mut show = Show::default();
    let mut hog = 0;
    let mut rest = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--words" => show.words = true,
            "--closely" => show.closely = true,
            "--swaps" => show.swaps = true,
            "--hog" => hog = arguments.next().and_then(|mib| mib.parse().ok()).unwrap_or_else(|| usage()),
            _ => rest.push(argument),
        }
    }
    let programs = match rest.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["-"] => given(),
        [from, count] => match (from.parse::<u64>(), count.parse()) {
            (Ok(from), Ok(count)) => (0..count).map(|index| generate::program(from.wrapping_add(index))).collect(),
            _ => usage(),
        },
        _ => usage(),
    };
    no_core_files();
    let hog = (hog > 0).then(|| fork(|| press(hog)));
    let workers = cpus();
    let output = Area::shared(1);
    let children: Vec<Child> =
        (0..workers).map(|worker| fork(|| work(&programs, worker, workers, show, &output))).collect();
    for child in children {
        child.expect_success("a worker");
    }
    if let Some(hog) = hog {
        hog.kill();
        hog.wait();
    }
}

fn usage() -> ! {
    eprintln!("usage: differ [--words] [--closely] [--swaps] [--hog MIB] (FROM COUNT | -)");
    std::process::exit(2)
}

fn given() -> Vec<Program> {
    let mut text = String::new();
    if std::io::stdin().read_to_string(&mut text).is_err() {
        usage();
    }
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| {
            line.parse().unwrap_or_else(|error| {
                eprintln!("differ: {error}");
                std::process::exit(2)
            })
        })
        .collect()
}

/// Writes to memory in turn, so that other pages have to go out.
fn press(mib: usize) -> i32 {
    let area = Area::new(mib * 256);
    for value in 1.. {
        area.fill(0..area.pages(), value);
    }
    0
}

/// Writes a whole report. A pipe takes long writes in pieces, and those of other processes come between them.
fn write_alone(output: &Area, report: &[u8]) -> std::io::Result<()> {
    const NEXT: usize = 0;
    const SERVED: usize = 1;
    let ticket = output.add(0, NEXT, 1);
    while output.read(0, SERVED) != ticket {
        std::thread::yield_now();
    }
    let written = std::io::stdout().lock().write_all(report);
    output.add(0, SERVED, 1);
    written
}

/// Every so many-th program, one after the other.
fn work(programs: &[Program], first: usize, step: usize, show: Show, output: &Area) -> i32 {
    let mut board = Board::shared();
    let mut report = Vec::with_capacity(2 << 20);
    // The same for all, since nothing that is kept is allocated any more.
    let sizes = Sizes::now();
    for (number, program) in programs.iter().enumerate().skip(first).step_by(step) {
        board.clear();
        // SAFETY: numbers.
        let segment = unsafe { libc::shmget(libc::IPC_PRIVATE, 8 * 4096, 0o600) };
        let began = Instant::now();
        let ended = fork(|| run::run(program, segment, sizes, show, &mut board)).wait();
        // SAFETY: numbers; nobody else has the segment.
        unsafe { libc::shmctl(segment, libc::IPC_RMID, std::ptr::null_mut()) };
        report.clear();
        report.extend_from_slice(format!("= {number}\n").as_bytes());
        report.extend_from_slice(board.text());
        if !matches!(report.last(), Some(b'\n')) {
            report.push(b'\n');
        }
        report.extend_from_slice(format!("{ended:?}\n").as_bytes());
        if began.elapsed() > Duration::from_secs(20) {
            eprintln!("differ: program {number} took {:?}", began.elapsed());
        }
        if write_alone(output, &report).is_err() {
            process::leave(1);
        }
    }
    0
}
