//! Random programs of memory calls, on Linux and on Quire, compared after every step (`tests/workloads/src/differ`).
//!
//! Where the two differ, the program is made smaller as long as they differ in the same way, and printed as calls that can be
//! read and kept: `kept.txt` has those that showed something once, which every test runs again.

mod accepted;
mod ask;
mod shrink;

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use quire_launch::Swap;
use quire_workloads::differ::{Program, generate};

use crate::House;
use crate::tally::Tally;
use ask::{Asked, Difference};

/// Programs in one boot.
const BATCH: u64 = 500;
/// Kinds of differences that one run makes smaller; those behind them are only counted.
const KINDS: usize = 12;

/// What to run.
#[derive(clap::Args)]
pub struct Wish {
    /// How long; without it, until --programs are through
    #[arg(long, value_name = "M")]
    minutes: Option<f64>,
    /// The first seed; the time of day unless given
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// How many programs (2000, unless --minutes says when to end)
    #[arg(long, value_name = "N")]
    programs: Option<u64>,
    /// Number of CPUs
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    cpus: u32,
    /// Memory in MiB
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    mem: u32,
    /// Swap to a new image of this size, or to a file, with a process beside that makes memory short
    #[arg(long, value_name = "SIZE|FILE", value_parser = |text: &str| Swap::parse(text.as_ref()))]
    swap: Option<Swap>,
    /// These programs instead, as they were printed
    #[arg(long, value_name = "CALLS")]
    program: Vec<String>,
    /// Do not make programs smaller
    #[arg(long)]
    whole: bool,
}

/// Runs what is wished; 0 when nothing differed.
pub fn run(house: &House, wish: &Wish) -> i32 {
    let asked = Asked::new(house, wish.cpus, wish.mem, wish.swap.clone());
    if !wish.program.is_empty() {
        let programs: Result<Vec<Program>, String> = wish.program.iter().map(|text| text.parse()).collect();
        return match programs {
            Ok(programs) => i32::from(!show_words(&asked, &programs)),
            Err(error) => {
                eprintln!("quire: {error}");
                2
            }
        };
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs());
    let seed = wish.seed.unwrap_or(now.wrapping_mul(1_000_003) % 1_000_000_000);
    let programs = wish.programs.unwrap_or(if wish.minutes.is_some() { u64::MAX } else { 2000 });
    let end = wish.minutes.map(|minutes| Instant::now() + Duration::from_secs_f64(minutes.clamp(0.0, 1e6) * 60.0));
    println!("differ: seed {seed}, {} CPUs, {} MiB", wish.cpus, wish.mem);
    let found = search(&asked, seed, programs, end, true);
    found.tell(&asked, !wish.whole);
    println!("differ: seed {seed}, {}", found.sum());
    i32::from(!found.kinds.is_empty())
}

/// Programs in the tests: what a minute allows.
const IN_TEST: u64 = 1000;

/// The programs that once differed, and a fixed choice of others.
pub fn test(house: &House, tally: &mut Tally) {
    tally.part("memory calls, compared with Linux");
    let asked = Asked::new(house, 4, 512, None);
    let kept: Result<Vec<Program>, String> =
        include_str!("kept.txt").lines().filter(|line| line.starts_with("window")).map(str::parse).collect();
    let outcome = kept.and_then(|kept| {
        let mut found = asked.differences(&kept);
        found.retain(|difference| !accepted::is_accepted(difference));
        match found.first() {
            None => Ok(()),
            Some(first) => Err(format!("{} of {} differ: {first}", found.len(), kept.len())),
        }
    });
    tally.result("programs that once differed", outcome);
    let found = search(&asked, 1, IN_TEST, None, false);
    println!("{}", found.sum());
    found.tell(&asked, false);
    let outcome = if found.kinds.is_empty() { Ok(()) } else { Err(found.sum()) };
    tally.result("random programs of memory calls", outcome);
}

/// What a search has seen.
#[derive(Default)]
struct Found {
    programs: u64,
    steps: usize,
    accepted: u64,
    /// The first difference of each kind, with its seed, and how many there were.
    kinds: BTreeMap<String, (u64, Program, Difference, u64)>,
}

fn search(asked: &Asked<'_>, seed: u64, programs: u64, end: Option<Instant>, loud: bool) -> Found {
    let mut found = Found::default();
    while found.programs < programs && end.is_none_or(|end| Instant::now() < end) {
        let first = seed.wrapping_add(found.programs);
        let count = BATCH.min(programs - found.programs);
        let batch: Vec<Program> = (0..count).map(|index| generate::program(first.wrapping_add(index))).collect();
        found.programs += count;
        found.steps += batch.iter().map(|program| program.steps.len()).sum::<usize>();
        let coarse = asked.differences(&batch);
        let differing: Vec<Program> = coarse.iter().map(|difference| batch[difference.program].clone()).collect();
        let fine = asked.closely(false).differences(&differing);
        for (index, coarse) in coarse.into_iter().enumerate() {
            // What is not there again is a difference nevertheless.
            let difference = fine.iter().find(|difference| difference.program == index).cloned();
            let difference = difference.unwrap_or_else(|| coarse.clone());
            if accepted::is_accepted(&difference) {
                found.accepted += 1;
                continue;
            }
            let program = batch[coarse.program].clone();
            let seed = first.wrapping_add(coarse.program as u64);
            if loud {
                println!("  seed {seed}: {}", difference.kind());
            }
            found.kinds.entry(difference.kind()).or_insert((seed, program, difference, 0)).3 += 1;
        }
        if loud {
            println!("{}", found.sum());
        }
    }
    found
}

impl Found {
    fn sum(&self) -> String {
        let differ: u64 = self.kinds.values().map(|kind| kind.3).sum();
        format!(
            "{} programs, {} steps, {differ} differ in {} ways, {} as accepted",
            self.programs,
            self.steps,
            self.kinds.len(),
            self.accepted
        )
    }

    /// Prints one program of each kind of difference, smaller if wished.
    fn tell(&self, asked: &Asked<'_>, smaller: bool) {
        for (index, (kind, (seed, program, difference, times))) in self.kinds.iter().enumerate() {
            println!("\nDIFFERS  {kind}: {times} times, first with seed {seed}");
            let program =
                if smaller && index < KINDS { shrink::shrink(asked, program, difference) } else { program.clone() };
            if index < KINDS && show_words(asked, &[program]) {
                println!("    not seen again; at first: {difference}");
            }
        }
    }
}

/// Runs programs and prints each with what the two systems show where they part; whether they agree.
fn show_words(asked: &Asked<'_>, programs: &[Program]) -> bool {
    let differences = asked.closely(true).differences(programs);
    for (index, program) in programs.iter().enumerate() {
        println!("  {program}");
        if let Some(difference) = differences.iter().find(|difference| difference.program == index) {
            println!("    step:  {}\n    linux: {}\n    here:  {}", difference.step, difference.linux, difference.here);
        }
    }
    differences.is_empty()
}
