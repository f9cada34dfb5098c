//! Tests that need no boot: cargo runs them, this counts them.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::House;
use crate::tally::Tally;

/// The crates with tests that run here.
const CRATES: [&str; 5] = ["quire-mm", "quire-swapd", "quire-drivers", "quire-launch", "quire-workloads"];

/// Unit, property and documentation tests of the crates that run on the host.
pub fn host(house: &House, tally: &mut Tally) {
    for name in CRATES {
        tally.part(&format!("cargo test of {name}"));
        let mut command = cargo(house, "tests");
        command.args(["test", "-p", name, "--all-features"]);
        count(name, command, tally);
    }
}

/// The models, over the production code.
pub fn loom(house: &House, filter: Option<&str>, tally: &mut Tally) {
    tally.part("models");
    if !house.root.join("loom-tests/Cargo.toml").exists() {
        println!("there are none yet");
        return;
    }
    let mut command = cargo(house, "loom");
    command.env("RUSTFLAGS", "--cfg loom").args(["test", "--release", "-p", "quire-loom-tests"]);
    command.args(["--", "--nocapture"]).args(filter);
    count("models", command, tally);
}

/// The models alone.
pub fn loom_only(house: &House, filter: Option<&str>) -> i32 {
    let mut tally = Tally::default();
    loom(house, filter, &mut tally);
    tally.finish()
}

fn cargo(house: &House, directory: &str) -> Command {
    let target = house.logs.ancestors().nth(2).unwrap_or(&house.root).join(directory);
    let mut command = Command::new("cargo");
    command.current_dir(&house.root).env("CARGO_TARGET_DIR", target);
    command
}

/// Shows the output and adds up its `test result` lines.
fn count(name: &str, mut command: Command, tally: &mut Tally) {
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

/// `test result: ok. 5 passed; 0 failed; ...`
fn result_line(line: &str) -> Option<(usize, usize)> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut numbers = counts.split("; ").map(|part| part.split(' ').next().and_then(|number| number.parse().ok()));
    Some((numbers.next()??, numbers.next()??))
}
