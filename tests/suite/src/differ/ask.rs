//! Puts the same programs to Linux and to Quire.

use std::collections::BTreeMap;
use std::fmt;
use std::process::Command;
use std::thread;
use std::time::Duration;

use quire_launch::{Boot, Collected, End, Image, Input, Job, Machine, Swap};
use quire_workloads::differ::Program;
use quire_workloads::differ::look::SEAM;

use crate::House;
use crate::bounded;
use crate::guest;

/// Seconds for one boot; a program that stands still is given up after one.
const PATIENCE: u64 = 240;

/// Where and how programs are run.
pub struct Asked<'a> {
    house: &'a House,
    machine: Machine,
    words: bool,
    closely: bool,
}

/// What one program shows: its lines.
type Answer = Vec<String>;

/// Where a program shows something else here than on Linux.
#[derive(Clone, Debug)]
pub struct Difference {
    /// Which of those that were asked for.
    pub program: usize,
    /// The step, as it is written.
    pub step: String,
    /// What Linux shows.
    pub linux: String,
    /// What Quire shows.
    pub here: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: linux {}, here {}", self.step, self.linux, self.here)
    }
}

impl Difference {
    /// Differences of one kind have one cause, most likely: the same call, and the same error on either side.
    pub fn kind(&self) -> String {
        let call = self.step.split('(').next().unwrap_or("");
        let (linux, here) = (result(&self.linux), result(&self.here));
        if linux == here { format!("state after {call} = {linux}") } else { format!("{call} = {linux}, here {here}") }
    }
}

/// The first word of what a call gave, without numbers that say nothing about its kind.
fn result(line: &str) -> String {
    let Some((_, shown)) = line.split_once(" =") else { return line.split('(').next().unwrap_or("").to_owned() };
    let word = shown.split_whitespace().next().unwrap_or("");
    match word.chars().next() {
        Some('e') => word.to_owned(),
        Some('w' | 'h' | '#' | '|') => word[..1].to_owned(),
        Some('0'..='9') if word != "0" => "n".to_owned(),
        _ => word.to_owned(),
    }
}

impl<'a> Asked<'a> {
    /// On a machine of this size.
    pub fn new(house: &'a House, cpus: u32, mem: u32, swap: Option<Swap>) -> Self {
        let mut machine = guest::machine(house, cpus, PATIENCE);
        machine.memory = mem;
        machine.swap = swap;
        Self { house, machine, words: false, closely: false }
    }

    /// The same, with the whole state after every step, in words or as digests.
    pub fn closely(&self, words: bool) -> Self {
        Self { house: self.house, machine: self.machine.clone(), words, closely: true }
    }

    /// The first difference of each program that has one.
    pub fn differences(&self, programs: &[Program]) -> Vec<Difference> {
        if programs.is_empty() {
            return Vec::new();
        }
        let (linux, here) = thread::scope(|scope| {
            let linux = scope.spawn(|| self.linux(programs));
            let here = self.quire(programs);
            (linux.join().unwrap_or_default(), here)
        });
        let nothing = Answer::new();
        let compare = |(index, program): (usize, &Program)| {
            let (linux, here) = (linux.get(&index).unwrap_or(&nothing), here.get(&index).unwrap_or(&nothing));
            let same =
                |at: &usize| linux.get(*at).map(|line| seamless(line)) == here.get(*at).map(|line| seamless(line));
            let at = (0..linux.len().max(here.len())).find(|at| !same(at))?;
            let line = |answer: &Answer| answer.get(at).cloned().unwrap_or("(nothing)".into());
            let (linux, here) = (line(linux), line(here));
            let number = linux.trim().split(' ').next().and_then(|number| number.parse::<usize>().ok());
            let step = number.and_then(|number| program.steps.get(number));
            let step = step.map_or_else(|| "end()".to_owned(), ToString::to_string);
            Some(Difference { program: index, step, linux, here })
        };
        programs.iter().enumerate().filter_map(compare).collect()
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        for (option, wanted) in [("--words", self.words), ("--closely", self.closely)] {
            arguments.extend(wanted.then(|| option.to_owned()));
        }
        if self.machine.swap.is_some() {
            arguments.push("--swaps".to_owned());
        }
        arguments
    }

    fn linux(&self, programs: &[Program]) -> BTreeMap<usize, Answer> {
        let mut command = Command::new(self.house.program("differ"));
        command.args(self.arguments()).arg("-");
        let limit = Duration::from_secs(PATIENCE);
        let output = bounded::output(&mut command, &input(programs), limit).unwrap_or_else(|why| panic!("{why}"));
        answers(&output.stdout)
    }

    /// A boot that ends early costs the programs that ran just then, and the rest runs in another one.
    fn quire(&self, programs: &[Program]) -> BTreeMap<usize, Answer> {
        let mut all = BTreeMap::new();
        let mut left: Vec<usize> = (0..programs.len()).collect();
        while !left.is_empty() {
            let batch: Vec<Program> = left.iter().map(|&index| programs[index].clone()).collect();
            let (here, why) = self.boot(&batch);
            all.extend(here.iter().map(|(&at, answer)| (left[at], answer.clone())));
            let Some(why) = why else { break };
            let missing: Vec<usize> = (0..left.len()).filter(|at| !here.contains_key(at)).collect();
            // Each worker does every so many-th program, in order.
            let cpus = self.machine.cpus as usize;
            let suspects: Vec<usize> =
                (0..cpus).filter_map(|worker| missing.iter().copied().find(|at| at % cpus == worker)).collect();
            let mut guilty = Vec::new();
            for &at in &suspects {
                match self.boot(&batch[at..=at]) {
                    (_, Some(why)) => guilty.push((at, why)),
                    (alone, None) => all.extend(alone.into_values().map(|answer| (left[at], answer))),
                }
            }
            if guilty.is_empty() {
                // Only together: each of them may be the one.
                guilty = suspects.iter().map(|&at| (at, why.clone())).collect();
            }
            for (at, why) in guilty {
                all.insert(left[at], vec![why]);
            }
            left = missing.into_iter().filter(|at| !suspects.contains(at)).map(|at| left[at]).collect();
        }
        all
    }

    /// The answers of one boot, and why it did not end well.
    fn boot(&self, programs: &[Program]) -> (BTreeMap<usize, Answer>, Option<String>) {
        let mut image = Image::new();
        image.option("audit");
        if self.machine.swap.is_some() {
            image.option("swap");
        }
        let mut collected = Collected::new();
        let mut run = || {
            let job = Job::new(&self.house.program("differ"), "differ".as_ref())?.args(self.arguments());
            let job = if self.machine.swap.is_some() {
                job.args(["--hog".to_owned(), (self.machine.memory * 3 / 4).to_string()])
            } else {
                job
            };
            image.job(job.args(["-"]))?;
            (Boot { machine: &self.machine, image: &image }).run(Input::Bytes(input(programs)), &mut collected)
        };
        let why = match run() {
            Err(error) => Some(format!("cannot start the machine: {error}")),
            Ok(ended) => {
                let log = ended.log.display();
                match ended.end {
                    End::Done => {
                        let _ = std::fs::remove_file(&ended.log);
                        None
                    }
                    End::Panicked => Some(format!("the kernel panicked (log: {log})")),
                    End::TimedOut => Some(format!("no end (log: {log})")),
                    End::Broken(reason) => Some(format!("{reason} (log: {log})")),
                    End::Refused(error) => Some(error.to_string()),
                }
            }
        };
        match collected.reports.first() {
            Some(report) => {
                let audit = (!report.audit_clean).then(|| "the audit found something wrong".to_owned());
                (answers(&report.stdout), why.or(audit))
            }
            None => (answers(collected.unfinished().0), why),
        }
    }
}

/// A line without what only says how Linux keeps its mappings.
fn seamless(line: &str) -> String {
    line.replace(SEAM, "")
}

fn input(programs: &[Program]) -> Vec<u8> {
    programs.iter().map(|program| format!("{program}\n")).collect::<String>().into_bytes()
}

/// `= NUMBER`, lines, how it ended; what is not whole does not count.
fn answers(output: &[u8]) -> BTreeMap<usize, Answer> {
    let mut all = BTreeMap::new();
    let mut now: Option<(usize, Answer)> = None;
    for line in String::from_utf8_lossy(output).lines() {
        if let Some(number) = line.strip_prefix("= ") {
            now = number.parse().ok().map(|number| (number, Answer::new()));
        } else if let Some((_, lines)) = &mut now {
            lines.push(line.to_owned());
            if line.starts_with("Exited(") || line.starts_with("Killed(") {
                all.extend(now.take());
            }
        }
    }
    all
}
