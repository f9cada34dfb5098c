//! The benchmark: instructions on one CPU, wall clock with one thread and with four, and swapping, each figure beside
//! Linux's: measured in the same run where a Linux is given, else figures that were recorded once.

mod kernel;
mod values;

use std::path::PathBuf;

use quire_launch::{Machine, Store, Swap};

use crate::House;
use crate::guest;

use kernel::Kernel;
use values::{Values, measure};

/// The tables.
const PARTS: [&str; 3] = ["instructions", "wall", "swap"];

/// Where the figures come from that stand beside Quire's when no Linux is given.
const RECORDED: &str = "Linux 6.12 (recorded)";

/// What shall be measured.
#[derive(clap::Args)]
pub struct Wish {
    /// Measure the Linux of this unpacked package as well; without it, recorded figures stand beside Quire's
    #[arg(long, hide = true)]
    linux: Option<PathBuf>,
    /// Boots of each machine where times are measured; the tables show medians
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    boots: u32,
    /// Only these tables
    #[arg(value_parser = PARTS)]
    parts: Vec<String>,
}

/// Measures and prints.
pub fn run(house: &House, wish: &Wish) -> i32 {
    let done = wish.linux.as_deref().map(|package| Kernel::linux(house, package)).transpose().and_then(|peer| {
        let bench = Bench { house, kernels: std::iter::once(Kernel::quire(house)).chain(peer).collect(), wish };
        let wanted = |part: &str| wish.parts.is_empty() || wish.parts.iter().any(|name| name == part);
        wanted(PARTS[0]).then(|| bench.instructions()).transpose()?;
        wanted(PARTS[1]).then(|| bench.wall()).transpose()?;
        wanted(PARTS[2]).then(|| bench.swapping()).transpose()?;
        Ok(())
    });
    match done {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("quire: the benchmark did not run: {error}");
            1
        }
    }
}

struct Bench<'a> {
    house: &'a House,
    /// Quire, then Linux if it takes part.
    kernels: Vec<Kernel>,
    wish: &'a Wish,
}

/// A row of the first table: the name that `bench` prints, what it means, what was recorded of Linux, the aim.
struct Row {
    name: &'static str,
    meaning: &'static str,
    recorded: f64,
    aim: f64,
}

const fn row(name: &'static str, meaning: &'static str, recorded: u32, aim: u32) -> Row {
    Row { name, meaning, recorded: recorded as f64, aim: aim as f64 }
}

/// Instructions for each operation.
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
    row("reserved_1000", "mapping over a reservation, 1,000 pieces", 8227, 3000),
    row("reserved_10000", "mapping over a reservation, 10,000 pieces", 8662, 3500),
];

/// Wall clock: name, meaning, and nanoseconds that were recorded of Linux with one thread and with four.
const WALL: &[(&str, &str, [Option<f64>; 2])] = &[
    ("spin", "spin loop (what sharing the host costs)", [None, None]),
    ("map_write_unmap", "map + write + unmap one page", [Some(26e3), Some(480e3)]),
    ("map_unmap_64", "map + unmap 64 untouched pages", [Some(12e3), Some(80e3)]),
    ("fault_100", "map, write to 100 pages, unmap", [Some(600e3), Some(1800e3)]),
];

/// Passes of `swap_bench`: name, meaning, and MiB/s that were recorded of Linux on one CPU.
const SWAP: &[(&str, &str, f64)] = &[
    ("swap_fill", "fill", 43.0),
    ("swap_sequential", "read in order", 68.0),
    ("swap_rewrite", "read and rewrite in order", 55.0),
    ("swap_random", "read at random", 19.0),
];

impl Bench<'_> {
    /// Linux's name for the head of a table.
    fn other(&self) -> &str {
        self.kernels.get(1).map_or(RECORDED, |kernel| &kernel.name)
    }

    /// One CPU, one nanosecond of guest time for each instruction: one boot is enough, its figures repeat.
    fn instructions(&self) -> Result<(), String> {
        let mut machine = guest::machine(self.house, 1, 1200);
        machine.icount = true;
        let columns = self.measure(&machine, "bench", &["instructions"], 1)?;
        println!("| operation, instructions | Quire | {} | aim |\n|---|---|---|---|", self.other());
        for row in INSTRUCTIONS {
            let linux = columns.get(1).map_or(Some(row.recorded), |linux| linux.get(row.name));
            let (ours, linux) = (whole(columns[0].get(row.name)), whole(linux));
            println!("| {} | {ours} | {linux} | {} |", row.meaning, whole(Some(row.aim)));
        }
        Ok(())
    }

    /// Four CPUs; one thread, then four in one process, each with memory of its own.
    fn wall(&self) -> Result<(), String> {
        let machine = guest::machine(self.house, 4, 600);
        let columns = self.measure(&machine, "bench", &["wall"], self.wish.boots)?;
        let other = self.other();
        println!(
            "\n| operation, microseconds | Quire, 1 thread | 4 threads | times* | {other}, 1 thread | 4 threads | times* |"
        );
        println!("|---|---|---|---|---|---|---|");
        for (name, meaning, recorded) in WALL {
            let cells = |column: Option<&Values>| {
                let value = |index: usize, threads: u32| {
                    column.map_or(recorded[index], |values| values.get(&format!("{name}_{threads}")))
                };
                let (one, four) = (value(0, 1), value(1, 4));
                // What the loop without any system call pays for four threads on the host's CPUs.
                let sharing = column.and_then(|values| Some(values.get("spin_4")? / values.get("spin_1")?));
                let times = one.zip(four).zip(sharing).map(|((one, four), sharing)| four / one / sharing);
                format!("{} | {} | {}", micros(one), micros(four), fixed(times, 1))
            };
            println!("| {meaning} | {} | {} |", cells(columns.first()), cells(columns.get(1)));
        }
        println!("\n*: four threads against one, divided by the same for the spin loop.");
        Ok(())
    }

    /// 256 MiB of working set in 128 MiB of memory, one thread.
    fn swapping(&self) -> Result<(), String> {
        let mut columns = Vec::new();
        for cpus in [1, 4] {
            let mut machine = guest::machine(self.house, cpus, 600);
            machine.memory = 128;
            machine.swap = Some(Swap::new(Store::Size(512 << 20)));
            columns.push(self.measure(&machine, "swap_bench", &["256"], self.wish.boots)?);
        }
        let other = self.other();
        println!(
            "\n| swapping, 256 MiB in 128 MiB, MiB/s | Quire, 1 CPU | {other}, 1 CPU | times | Quire, 4 CPUs | {other}, 4 CPUs | times |"
        );
        println!("|---|---|---|---|---|---|---|");
        for (name, meaning, recorded) in SWAP {
            let cells = |index: usize| {
                let column: &[Values] = &columns[index];
                let ours = column[0].get(name);
                let linux = column.get(1).map_or((index == 0).then_some(*recorded), |linux| linux.get(name));
                let times = ours.zip(linux).map(|(ours, linux)| ours / linux);
                format!("{} | {} | {}", fixed(ours, 0), fixed(linux, 0), fixed(times, 1))
            };
            println!("| {meaning} | {} | {} |", cells(0), cells(1));
        }
        Ok(())
    }

    fn measure(&self, machine: &Machine, program: &str, arguments: &[&str], boots: u32) -> Result<Vec<Values>, String> {
        measure(&self.kernels, machine, &self.house.program(program), arguments, boots)
    }
}

/// A whole number with commas between thousands.
fn whole(value: Option<f64>) -> String {
    let Some(value) = value else { return "-".to_owned() };
    let digits = format!("{value:.0}");
    let mut shown = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// Nanoseconds shown as microseconds.
fn micros(nanoseconds: Option<f64>) -> String {
    fixed(nanoseconds.map(|value| value / 1000.0), 1)
}

fn fixed(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
}
