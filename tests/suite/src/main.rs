//! `quire-suite`: everything that boots Quire more than once. The table of workloads, the tests, the stress mix, the
//! benchmark. `run.sh` calls it with the paths of what it has built.
//!
//! Linux is the oracle: each program runs on the host first, and its output and its end are what Quire has to show.

mod bad;
mod bench;
mod bounded;
mod cargo;
mod catalogue;
mod contract;
mod crates;
mod differ;
mod guest;
mod map;
mod oracle;
mod stall;
mod stress;
mod swap;
mod tally;
mod workloads;

use std::path::PathBuf;
use std::process::exit;

use clap::{Parser, Subcommand};

/// Boots Quire to test and to measure it.
#[derive(Parser)]
#[command(name = "run.sh", bin_name = "run.sh")]
struct Options {
    #[command(flatten)]
    house: House,
    #[command(subcommand)]
    task: Task,
}

/// Where everything is.
#[derive(clap::Args)]
struct House {
    #[arg(long, hide = true)]
    root: PathBuf,
    #[arg(long, hide = true)]
    kernel: PathBuf,
    #[arg(long, hide = true)]
    programs: PathBuf,
    #[arg(long, hide = true)]
    launch: PathBuf,
    #[arg(long, hide = true)]
    logs: PathBuf,
}

impl House {
    fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }
}

#[derive(Subcommand)]
enum Task {
    /// Run the standard workloads on four CPUs and print a table
    #[command(override_usage = "run.sh")]
    Workloads,
    /// Run all tests, or those of the parts named: host, loom, contract, bad, guest, swap, differ
    #[command(override_usage = "run.sh test [PART]...")]
    Test {
        #[arg(value_parser = ["host", "loom", "contract", "bad", "guest", "swap", "differ"])]
        parts: Vec<String>,
    },
    /// Model-check the protocols
    #[command(override_usage = "run.sh loom [--all | --orderings [--minutes M]] [--jobs N] [--seconds N] [FILTER]")]
    Loom {
        /// [--all | --orderings [--minutes M]] [--jobs N] [--seconds N] [FILTER]
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Mix the stress workloads until the time is over
    #[command(override_usage = "run.sh stress [OPTIONS] [NAME]...")]
    Stress(stress::Mix),
    /// Compare random programs of memory calls with Linux, step by step
    #[command(override_usage = "run.sh differ [OPTIONS]")]
    Differ(differ::Wish),
    /// Draw the modules of the memory manager; fail if they need each other in a circle
    #[command(override_usage = "run.sh map [--crates]")]
    Map {
        /// Draw the crates instead, and the rooms of the kernel; fail if one has a large circle
        #[arg(long)]
        crates: bool,
    },
    /// Measure the operations of the memory manager
    #[command(override_usage = "run.sh bench [OPTIONS] [PART]...")]
    Bench(bench::Wish),
}

fn main() {
    let Options { house, task } = Options::parse();
    exit(match task {
        Task::Workloads => workloads::table(&house),
        Task::Test { parts } => test(&house, &parts),
        Task::Loom { arguments } => cargo::loom_only(&house, &arguments),
        Task::Stress(mix) => stress::run(&house, &mix),
        Task::Differ(wish) => differ::run(&house, &wish),
        Task::Map { crates: true } => crates::run(&house),
        Task::Map { crates: false } => map::run(&house),
        Task::Bench(wish) => bench::run(&house, &wish),
    })
}

fn test(house: &House, parts: &[String]) -> i32 {
    let mut tally = tally::Tally::default();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|name| name == part);
    if wanted("host") {
        cargo::host(house, &mut tally);
    }
    if wanted("loom") {
        cargo::loom(house, &[], &mut tally);
    }
    if wanted("contract") {
        contract::test(house, &mut tally);
    }
    if wanted("bad") {
        bad::test(house, &mut tally);
    }
    if wanted("guest") {
        workloads::test(house, &mut tally);
    }
    if wanted("swap") {
        swap::test(house, &mut tally);
    }
    if wanted("differ") {
        differ::test(house, &mut tally);
    }
    tally.finish()
}
