//! Programs in Quire: several in one boot, each with its own report, compared with the oracle's.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quire_launch::monitor::stalls;
use quire_launch::{Boot, Collected, End, Event, How, Image, Input, Job, Machine, Report, Sink};

use crate::House;
use crate::oracle::{self, Answer};

/// One program with its arguments.
#[derive(Clone, Debug)]
pub struct Case {
    /// Shown in results.
    pub name: String,
    /// The file.
    pub program: PathBuf,
    /// Without `argv[0]`.
    pub arguments: Vec<String>,
}

impl Case {
    /// One of the project's programs.
    pub fn new(house: &House, program: &str, arguments: &[&str]) -> Self {
        Self {
            name: program.to_owned(),
            program: house.program(program),
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
        }
    }

    /// Another name for the results.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// What Linux does with it.
    pub fn oracle(&self) -> Result<Answer, String> {
        oracle::ask(&self.program, &self.arguments)
    }

    fn job(&self) -> io::Result<Job> {
        let job = Job::new(&self.program, self.program.file_name().unwrap_or(OsStr::new("")));
        let job = job.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.program.display())))?;
        Ok(job.args(&self.arguments))
    }
}

/// Why there is no report.
#[derive(Clone, Debug)]
pub struct Broken(pub String);

/// Runs all cases, in as few boots as it takes: a boot that ends early costs the case at which it ended, and the rest
/// runs in another one. `each` sees the results as they come.
pub fn run(machine: &Machine, cases: &[Case], mut each: impl FnMut(&Case, Result<&Report, Broken>)) -> bool {
    let mut rest: VecDeque<&Case> = cases.iter().collect();
    let mut whole = true;
    while !rest.is_empty() {
        let told = {
            let batch: Vec<&Case> = rest.iter().copied().collect();
            let mut live = Live { batch: &batch, collected: Collected::new(), told: 0, each: &mut each };
            let why = boot(machine, &batch, &mut live);
            // The last report may still wait for the verdict of its audit.
            live.tell(true);
            let told = live.told;
            match (why, batch.get(told)) {
                (None, None) => told,
                (why, None) => {
                    whole &= why.is_none();
                    told
                }
                (why, Some(case)) => {
                    whole = false;
                    let why = why.unwrap_or("the machine ended without running it".into());
                    let (stdout, stderr) = live.collected.unfinished();
                    let said = format!("{}{}", String::from_utf8_lossy(stdout), String::from_utf8_lossy(stderr));
                    let said = said.trim().lines().last().map(|line| format!("; it said: {line}")).unwrap_or_default();
                    let panic = live.collected.panic.as_deref().unwrap_or_default();
                    each(case, Err(Broken(format!("{why}{said}\n{panic}"))));
                    told + 1
                }
            }
        };
        rest.drain(..told);
    }
    whole
}

fn boot(machine: &Machine, batch: &[&Case], live: &mut dyn Sink) -> Option<String> {
    let mut image = Image::new();
    image.option("audit");
    let packed = batch.iter().try_for_each(|case| image.job(case.job()?));
    if let Err(error) = packed {
        return Some(error.to_string());
    }
    match (Boot { machine, image: &image }).run(Input::Bytes(Vec::new()), live) {
        Err(error) => Some(format!("cannot start the machine: {error}")),
        Ok(ended) => {
            let why = match ended.end {
                End::Done => {
                    let _ = fs::remove_file(&ended.log);
                    return None;
                }
                End::Panicked => "the kernel panicked".to_owned(),
                End::TimedOut => format!("no end within {:.0} s", ended.took.as_secs_f64()),
                End::Broken(reason) => reason,
                End::Refused(error) => error.to_string(),
            };
            let stalled = stalls(&ended.log);
            let stalled = if stalled.is_empty() { stalled } else { format!("\n{stalled}") };
            Some(format!("{why} (log: {}){stalled}", ended.log.display()))
        }
    }
}

/// Tells each report as soon as it is complete, which is when something comes after it.
struct Live<'a, F> {
    batch: &'a [&'a Case],
    collected: Collected,
    told: usize,
    each: &'a mut F,
}

impl<F: FnMut(&Case, Result<&Report, Broken>)> Live<'_, F> {
    fn tell(&mut self, all: bool) {
        while self.told < self.collected.reports.len() - usize::from(!all && !self.collected.reports.is_empty()) {
            if let Some(case) = self.batch.get(self.told) {
                (self.each)(case, Ok(&self.collected.reports[self.told]));
            }
            self.told += 1;
        }
    }
}

impl<F: FnMut(&Case, Result<&Report, Broken>)> Sink for Live<'_, F> {
    fn take(&mut self, event: &Event<'_>) -> io::Result<()> {
        self.collected.take(event)?;
        match event {
            Event::Ended(_, How::AuditFailed) => {}
            Event::Ended(..) => self.tell(false),
            _ => self.tell(true),
        }
        Ok(())
    }
}

/// Whether the report is what Linux showed.
pub fn compare(report: &Report, expected: Result<Answer, String>) -> Result<(), String> {
    let expected = expected.map_err(|why| format!("on Linux: {why}"))?;
    if report.how != expected.how {
        let said = String::from_utf8_lossy(&report.stderr);
        return Err(format!("{:?}, on Linux {:?}; {}", report.how, expected.how, said.trim()));
    }
    if report.stdout != expected.stdout {
        return Err(difference(&report.stdout, &expected.stdout));
    }
    if !report.audit_clean {
        return Err("the audit found something wrong".into());
    }
    Ok(())
}

/// The first lines that differ.
fn difference(found: &[u8], expected: &[u8]) -> String {
    let (found_text, expected_text) = (String::from_utf8_lossy(found), String::from_utf8_lossy(expected));
    let mut shown = format!("{} bytes of output, on Linux {}", found.len(), expected.len());
    let pairs = found_text.lines().map(Some).chain(std::iter::repeat(None));
    let mut count = 0;
    for (line, linux) in pairs.zip(expected_text.lines()).filter(|(line, linux)| *line != Some(*linux)) {
        shown += &format!("\n          here: {}\n         linux: {linux}", line.unwrap_or("(nothing)"));
        count += 1;
        if count == 20 {
            shown += "\n          ...";
            break;
        }
    }
    shown
}

/// The machine that tests use.
pub fn machine(house: &House, cpus: u32, seconds: u64) -> Machine {
    let mut machine = Machine::new(&house.kernel, &house.logs);
    machine.cpus = cpus;
    machine.timeout = Some(Duration::from_secs(seconds));
    machine
}

/// A directory for files that a test makes, gone with the value.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Below the logs, so inside the build directory.
    pub fn new(house: &House, name: &str) -> io::Result<Self> {
        let path = house.logs.with_file_name("tmp").join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
