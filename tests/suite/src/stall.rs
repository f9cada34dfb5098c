//! What stands still is named: the kernel is told to hold a CPU, a lock or a thread up for some seconds, and its log has to say
//! which one, where, and what it waits for. The run itself goes on, and ends as if nothing had been.

use std::ffi::OsStr;
use std::fs;
use std::process::Command;

use crate::House;
use crate::bounded;
use crate::tally::Tally;

/// Seconds after which something stands still here, instead of twenty.
const LIMIT: &str = "stall-limit=2";

/// Name, option of the kernel, program with its arguments, lines of the log (each has all these pieces).
type Case = (&'static str, &'static str, &'static [&'static str], &'static [&'static [&'static str]]);

const CASES: &[Case] = &[
    (
        "a CPU that takes no interrupts is named",
        "stall=cpu:5",
        &["shootdown", "6s"],
        &[&["stands still: CPU 2 takes no interrupts since"], &["CPU 2: thread 0 (stall)"], &["provoke::spin"]],
    ),
    (
        "a CPU that does not answer is named by who waits for it",
        "stall=program:6",
        &["carrier", "edit-beside-reader", "8"],
        &[
            &["stands still:"],
            &["CPU 2: thread", "(carrier)"],
            &["provoke::spin"],
            &["waits for answers of other CPUs (CPU set 0x4)", "shootdown.rs"],
        ],
    ),
    (
        "a spin lock is named with its holder and its waiter",
        "stall=lock:6",
        &["shootdown", "7s"],
        &[
            &["stands still:"],
            &["waits for a spin lock (taken last by CPU 2 at kernel/src/debug/provoke.rs:", "provoke.rs"],
            &["provoke::want"],
            &["provoke::hold"],
        ],
    ),
    (
        "a wait without end is named",
        "stall=wait:5",
        &["shootdown", "6s"],
        &[&["stands still: on CPU", "waits for a time to come"], &["provoke::wait"]],
    ),
    (
        "a thread that gets no turn is named",
        "stall=turn:9",
        &["shootdown", "10s"],
        &[&["CPU 2 takes none of its", "runnable threads"], &["(behind): runnable since"], &["provoke::turn"]],
    ),
];

/// Tests all of it.
pub fn test(house: &House, tally: &mut Tally) {
    for (name, option, program, lines) in CASES {
        tally.result(name, provoked(house, option, program, lines));
    }
    tally.result("race_10: a handler that takes a lock which is held is named", handler(house));
    tally.result("a lock that is held where something might wait is found at once", held(house));
    tally.result("a run whose time is up says where its threads sleep", time_out(house));
}

fn launch(house: &House, options: &[&str], program: &[&str]) -> Result<(Option<i32>, String), String> {
    let mut command = Command::new(&house.launch);
    command.args([OsStr::new("--kernel"), house.kernel.as_os_str(), OsStr::new("--logs"), house.logs.as_os_str()]);
    command.args(["--cpus", "3"]).args(options).arg(house.program(program[0])).args(&program[1..]);
    let output = bounded::output(&mut command, b"", bounded::OWN_LIMIT)?;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

fn provoked(house: &House, option: &str, program: &[&str], lines: &[&[&str]]) -> Result<(), String> {
    let options = ["--option", LIMIT, "--option", option, "--timeout", "120", "--audit"];
    let (status, said) = launch(house, &options, program)?;
    if status != Some(0) {
        return Err(format!("status {status:?}; {}", said.trim()));
    }
    let log = said.lines().find_map(|line| line.strip_prefix("quire: log: ")).ok_or("no log was named")?;
    let report = fs::read_to_string(log).map_err(|error| error.to_string())?;
    all(&report, lines)?;
    let _ = fs::remove_file(log);
    Ok(())
}

/// The defect of race 10, switched on: a lock is held where interrupts are let in, and a handler takes it. The machine cannot go on.
fn handler(house: &House) -> Result<(), String> {
    let options = ["--option", LIMIT, "--option", "stall=handler:0", "--timeout", "8", "--audit"];
    let (status, said) = launch(house, &options, &["carrier", "sleep"])?;
    if status != Some(124) {
        return Err(format!("status {status:?} instead of 124; {}", said.trim()));
    }
    let lock = ["waits for a spin lock (taken last by CPU 2 at kernel/src/debug/provoke.rs:", "provoke.rs"];
    all(&said, &[&["stands still:", "CPU 2"], &lock, &["provoke::handler"]])
}

/// The defect of race 10's sister: a guard lives too long, over a call that may wait. It need not wait to be found.
fn held(house: &House) -> Result<(), String> {
    let (status, said) = launch(house, &["--option", "stall=held:0", "--timeout", "60"], &["carrier", "sleep"])?;
    if status == Some(0) || status == Some(124) {
        return Err(format!("status {status:?}: nothing was found; {}", said.trim()));
    }
    all(&said, &[&["may wait under a spin lock"], &["provoke::impatient"]])
}

fn time_out(house: &House) -> Result<(), String> {
    let (status, said) = launch(house, &["--timeout", "5"], &["carrier", "sleep"])?;
    if status != Some(124) {
        return Err(format!("status {status:?} instead of 124; {}", said.trim()));
    }
    all(&said, &[&["(carrier): asleep since", "came in with"], &["sched::park"], &["end of the report"]])
}

fn all(text: &str, lines: &[&[&str]]) -> Result<(), String> {
    let missing = lines.iter().find(|pieces| !text.lines().any(|line| pieces.iter().all(|piece| line.contains(piece))));
    missing.map_or(Ok(()), |pieces| Err(format!("no line with {pieces:?} in:\n{text}")))
}
