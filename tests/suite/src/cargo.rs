//! Tests that need no boot: cargo runs them, this counts them.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::House;
use crate::tally::Tally;

/// The crates with tests that run here.
const CRATES: [&str; 7] =
    ["quire-mm", "quire-swapd", "quire-drivers", "quire-base", "quire-sched", "quire-unix", "quire-launch"];

/// The copies with the defects, and where their tests of those are; the other tests there are the crates' own.
const FOUND: [(&str, &[&str]); 2] =
    [("quire-mm-copy", &["--lib"]), ("quire-loom-copy", &["--test", "host", "--test", "orderings"])];

/// Unit, property and documentation tests of the crates that run on the host.
pub fn host(house: &House, tally: &mut Tally) {
    for name in CRATES {
        tally.part(&format!("cargo test of {name}"));
        let mut command = cargo(house, "tests");
        command.args(["test", "-p", name, "--all-features", "--no-fail-fast"]);
        count(name, &mut command, tally);
    }
    for (name, target) in FOUND {
        tally.part(&format!("defects that host tests look for, of {name}"));
        let mut command = cargo(house, "tests");
        command.args(["test", "-p", name, "--all-features", "--no-fail-fast"]).args(target).args(["--", "found::"]);
        count(name, &mut command, tally);
    }
}

/// The models over the production code, and over its copy with each of their defects.
pub fn loom(house: &House, arguments: &[String], tally: &mut Tally) {
    tally.part("models");
    let runner = || {
        let mut command = cargo(house, "loom");
        command.env("RUSTFLAGS", "--cfg loom").args(["run", "--quiet", "--profile", "loom", "-p", "quire-loom", "--"]);
        command
    };
    let mut command = runner();
    if arguments.is_empty() {
        command.args(["--jobs", &std::thread::available_parallelism().map_or(1, usize::from).to_string()]);
    }
    count("models", command.args(arguments), tally);
    if arguments.is_empty() {
        tally.part("a sample of the orderings");
        count("orderings", runner().args(["--orderings", "--sample"]), tally);
    }
}

/// The models alone.
pub fn loom_only(house: &House, arguments: &[String]) -> i32 {
    let mut tally = Tally::default();
    loom(house, arguments, &mut tally);
    tally.finish()
}

fn cargo(house: &House, directory: &str) -> Command {
    let target = house.logs.ancestors().nth(2).unwrap_or(&house.root).join(directory);
    let mut command = Command::new("cargo");
    command.current_dir(&house.root).env("CARGO_TARGET_DIR", target);
    command
}

/// Shows the output and adds up its `test result` lines.
fn count(name: &str, command: &mut Command, tally: &mut Tally) {
    let mut child = match command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(error) => return tally.result(name, Err(format!("cannot run cargo: {error}"))),
    };
    let (mut passed, mut failed) = (0, 0);
    for line in child.stdout.take().into_iter().flat_map(|stdout| BufReader::new(stdout).lines()).map_while(Result::ok)
    {
        println!("{line}");
        if let Some((more, less)) = result_line(&line) {
            passed += more;
            failed += less;
        }
    }
    let succeeded = child.wait().is_ok_and(|status| status.success());
    // Cargo failed without a failed test: something did not compile, or a test took the process down.
    tally.add(name, passed, if succeeded { failed } else { failed.max(1) });
}

/// `test result: ok. 5 passed; 0 failed; ...`, or `5 passed, 0 failed`.
fn result_line(line: &str) -> Option<(usize, usize)> {
    let counts =
        line.strip_prefix("test result: ").and_then(|line| line.split_once(". ")).map_or(line, |(_, counts)| counts);
    if !counts.contains(" passed") || !counts.contains(" failed") {
        return None;
    }
    let mut numbers = counts
        .split([';', ','])
        .map(str::trim)
        .map(|part| part.split(' ').next().and_then(|number| number.parse().ok()));
    Some((numbers.next()??, numbers.next()??))
}
