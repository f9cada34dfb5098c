//! The benchmark: instructions on one CPU, then wall clock on four, each figure beside Linux's.

use std::io;
use std::path::Path;

use quire_launch::{Boot, Collected, End, How, Image, Input, Job, Machine, Store, Swap};

use crate::House;
use crate::guest;

/// A row of the table: the name that `bench` prints, what it means, Linux 6.12's figure, the aim.
struct Row {
    name: &'static str,
    meaning: &'static str,
    linux: u64,
    aim: u64,
}

const fn row(name: &'static str, meaning: &'static str, linux: u64, aim: u64) -> Row {
    Row { name, meaning, linux, aim }
}

/// Instructions for each operation. Linux: Debian's 6.12 cloud kernel, mitigations and hardening off, huge pages off,
/// the same program under the same QEMU flags.
const INSTRUCTIONS: &[Row] = &[
    row("null_call", "null system call (getppid)", 325, 110),
    row("write_fault", "anonymous write fault, page zeroed, per page", 3234, 1000),
    row("unmap_page", "unmapping touched memory, per page", 830, 150),
    row("map_write_unmap", "map + write + unmap one page", 15_611, 3000),
    row("map_unmap_64", "map + unmap 64 untouched pages", 10_130, 1500),
    row("protect_16", "protect 16 touched pages to read-only, back, write", 6233, 2000),
    row("fork_4", "fork + exit + wait, 4 MiB touched", 578_628, 100_000),
    row("fork_64", "fork + exit + wait, 64 MiB touched", 6_819_345, 1_000_000),
    row("cow_copy", "copy-on-write fault that copies", 4698, 1600),
    row("cow_reuse", "copy-on-write fault that reuses", 1455, 500),
    row("random_1000", "random write fault among 1,000 segments", 5187, 1500),
    row("random_10000", "random write fault among 10,000 segments", 4805, 1500),
    row("map_10000", "mapping one of 10,000 segments", 8662, 2000),
    row("unmap_10000", "unmapping one of 10,000 segments", 3828, 2000),
];

/// Wall clock, nanoseconds for each operation: one thread, then four in one process. Linux's figures are those of four.
const WALL: &[(&str, &str, &str, &str)] = &[
    ("spin", "spin loop (what sharing the host costs)", "", ""),
    ("map_write_unmap", "map + write + unmap one page", "26 us", "480 us"),
    ("map_unmap_64", "map + unmap 64 untouched pages", "12 us", "80 us"),
    ("fault_100", "map, write to 100 pages, unmap (Linux: 100 faults)", "600 us", "1800 us"),
];

/// Measures and prints both tables.
pub fn run(house: &House) -> i32 {
    let mut machine = guest::machine(house, 1, 600);
    machine.icount = true;
    let counted = match measure(house, &machine, "instructions") {
        Ok(values) => values,
        Err(error) => return failed(&error),
    };
    println!("| operation, instructions | Quire | Linux 6.12 | aim |\n|---|---|---|---|");
    for row in INSTRUCTIONS {
        let value = find(&counted, row.name);
        let shown = value.map_or("-".to_owned(), |value| format!("{value:.0}"));
        println!("| {} | {shown} | {} | {} |", row.meaning, row.linux, row.aim);
    }
    let clocked = match measure(house, &guest::machine(house, 4, 600), "wall") {
        Ok(values) => values,
        Err(error) => return failed(&error),
    };
    println!("\n| operation, wall clock | 1 thread | 4 threads | Linux, 1 | Linux, 4 |\n|---|---|---|---|---|");
    for (name, meaning, one, four) in WALL {
        let show = |threads: u32| {
            find(&clocked, &format!("{name}_{threads}"))
                .map_or("-".to_owned(), |value| format!("{:.2} us", value / 1000.0))
        };
        println!("| {meaning} | {} | {} | {one} | {four} |", show(1), show(4));
    }
    swapping(house)
}

/// Passes of `swap_bench`, MiB/s: name, meaning, Linux 6.12 on the same machine.
const SWAP: &[(&str, &str, f64)] = &[
    ("swap_fill", "fill", 43.0),
    ("swap_sequential", "read in order", 68.0),
    ("swap_rewrite", "read and rewrite in order", 55.0),
    ("swap_random", "read at random", 19.0),
];

/// 256 MiB of working set in 128 MiB of memory, one thread.
fn swapping(house: &House) -> i32 {
    let mut columns = Vec::new();
    for cpus in [1, 4] {
        let mut machine = guest::machine(house, cpus, 300);
        machine.memory = 128;
        machine.swap = Some(Swap::new(Store::Size(512 << 20)));
        match measure_program(&machine, &house.program("swap_bench"), &["256"]) {
            Ok(values) => columns.push(values),
            Err(error) => return failed(&error),
        }
    }
    println!("\n| swapping, 256 MiB in 128 MiB, MiB/s | 1 CPU | 4 CPUs | Linux | aim |\n|---|---|---|---|---|");
    for (name, meaning, linux) in SWAP {
        let show = |column: usize| find(&columns[column], name).map_or("-".to_owned(), |value| format!("{value:.0}"));
        println!("| {meaning} | {} | {} | {linux:.0} | {:.0} |", show(0), show(1), 2.0 * linux);
    }
    0
}

fn find(values: &[(String, f64)], name: &str) -> Option<f64> {
    values.iter().find(|(found, _)| found == name).map(|&(_, value)| value)
}

/// Runs `bench` and reads its `name value` lines.
fn measure(house: &House, machine: &Machine, what: &str) -> Result<Vec<(String, f64)>, String> {
    measure_program(machine, &house.program("bench"), &[what])
}

/// Runs a program that prints `name value` lines.
fn measure_program(machine: &Machine, program: &Path, arguments: &[&str]) -> Result<Vec<(String, f64)>, String> {
    let mut image = Image::new();
    let mut collected = Collected::new();
    let ended = Job::new(program, program.file_name().unwrap_or_default())
        .and_then(|job| image.job(job.args(arguments)))
        .and_then(|()| Boot { machine, image: &image }.run(Input::Bytes(Vec::new()), &mut collected))
        .map_err(|error: io::Error| error.to_string())?;
    let report = match (&ended.end, collected.reports.first()) {
        (End::Done, Some(report)) if report.how == How::Exited(0) => report,
        (end, report) => {
            let said = report.map(|report| String::from_utf8_lossy(&report.stderr).into_owned());
            return Err(format!("{end:?}, {said:?}; log: {}", ended.log.display()));
        }
    };
    let _ = std::fs::remove_file(&ended.log);
    let text = String::from_utf8_lossy(&report.stdout);
    Ok(text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
        .collect())
}

fn failed(error: &str) -> i32 {
    eprintln!("quire: the benchmark did not run: {error}");
    1
}
