//! Runs the models: each as written and with read-modify-writes, over the code as it is; then over the copy, with each of its defects,
//! which must be found in one of the two. Every run is a process of its own: a defect that loops or panics in the middle of an
//! execution ends that process only.

use crate::orderings;
use quire_loom::defects::{ALL, Defect};
use quire_loom::{Model, all};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

pub const MODES: [&str; 2] = ["as written", "all rmw"];
/// One run over the code as it is, and over the copy, as this program is told by itself.
const ORIGINAL: &str = "--one";
pub const COPY: &str = "--one-of-copy";
const USAGE: &str = "usage: quire-loom [--all] [--jobs N] [--seconds N] [FILTER]
       quire-loom --orderings [--minutes M] [--jobs N] [FILTER] | --orderings --sample
  --all       wider bounds (minutes)
  --jobs N    so many runs at once (1)
  --seconds N time for one run (240; with --all 1800)
  FILTER      only models whose name contains it
  --orderings makes each ordering whose name contains FILTER weaker, for M minutes (60), and prints a table of what finds it;
              with --sample, those few that are found at once";

/// What a run said.
struct Outcome {
    kind: String,
    states: String,
    seconds: f32,
    why: String,
}

/// The whole suite, or one run of it when called by itself.
pub fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some(ORIGINAL) => return quire_loom::run(&args[1..]).unwrap_or_else(usage),
        Some(COPY) => {
            let code = quire_loom_copy::run(&args[1..]).unwrap_or_else(usage);
            orderings::tell_reached();
            return code;
        }
        Some("--orderings") => return orderings::main(&args[1..]).unwrap_or_else(usage),
        _ => {}
    }
    let (mut wide, mut jobs, mut seconds, mut filter) = (false, 1, None, String::new());
    let mut args = args.into_iter();
    while let Some(a) = args.next() {
        let mut number = || args.next().and_then(|n| n.parse::<u64>().ok());
        match a.as_str() {
            "--all" => wide = true,
            "--jobs" => match number() {
                Some(n) if n > 0 => jobs = n,
                _ => return usage(),
            },
            "--seconds" => match number() {
                Some(n) => seconds = Some(n),
                None => return usage(),
            },
            f if f.starts_with('-') => return usage(),
            f => filter = f.to_string(),
        }
    }
    let seconds = seconds.unwrap_or(if wide { 1800 } else { 240 });
    let models: Vec<&Model> = all().filter(|m| m.name.contains(&filter)).collect();
    if models.is_empty() {
        eprintln!("no model has {filter:?} in its name");
        return ExitCode::from(2);
    }
    // A defect that nobody looks for would be found by none.
    let looked_for = |d: &Defect| all().any(|m| m.defects.iter().any(|set| set.contains(d))) || of_host_tests(d);
    let orphans: Vec<&Defect> = ALL.iter().filter(|d| !looked_for(d)).collect();
    println!("{:<28} {:<20} {:>6} {:>10} {:>8}", "model", "run", "bound", "states", "time");
    let (next, passed, failed) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let out = Mutex::new(());
    std::thread::scope(|s| {
        for _ in 0..jobs {
            s.spawn(|| {
                while let Some(model) = models.get(next.fetch_add(1, Relaxed)) {
                    let (lines, ok, bad) = run_model(model, wide, seconds);
                    passed.fetch_add(ok, Relaxed);
                    failed.fetch_add(bad, Relaxed);
                    let _one = out.lock().unwrap_or_else(PoisonError::into_inner);
                    print!("{lines}");
                }
            });
        }
    });
    if !orphans.is_empty() {
        failed.fetch_add(orphans.len(), Relaxed);
        println!("FAILED: no model and no host test looks for {orphans:?}");
    }
    println!("{} passed, {} failed", passed.load(Relaxed), failed.load(Relaxed));
    if failed.load(Relaxed) == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether one of the tests that look for defects on the host names it.
fn of_host_tests(defect: &Defect) -> bool {
    let tests = [include_str!("../copy/mm/src/found.rs"), include_str!("../copy/models/tests/host.rs")];
    let name = format!("{defect:?}");
    tests.iter().any(|text| text.split(|c: char| !c.is_alphanumeric()).any(|word| word == name))
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

/// All runs of a model: its lines, how many passed, how many failed.
fn run_model(model: &Model, wide: bool, seconds: u64) -> (String, usize, usize) {
    let bounds = if wide { model.wide } else { model.bounds };
    let (mut lines, mut ok, mut bad) = (String::new(), 0, 0);
    let mut plain = |over, mode, name, bound| {
        let o = call(model, over, mode, &[], bound, seconds);
        let good = o.kind == "pass";
        *(if good { &mut ok } else { &mut bad }) += 1;
        let verdict = match o.kind.as_str() {
            "pass" => "ok".to_string(),
            "cut" => "FAILED: out of time".to_string(),
            _ => format!("FAILED: {}", o.why),
        };
        lines += &line(model.name, name, bound, &o.states, o.seconds, &verdict);
    };
    for (mode, name) in MODES.iter().enumerate() {
        plain(ORIGINAL, mode, name, bounds[mode]);
    }
    if !model.defects.is_empty() {
        plain(COPY, 0, "copy, no defect", Some(1));
    }
    for &defects in model.defects {
        let mut total = 0.0;
        let mut found = None;
        for (mode, name) in MODES.iter().enumerate() {
            let o = call(model, COPY, mode, defects, bounds[mode], seconds);
            total += o.seconds;
            if o.kind == "fail" {
                found = Some((mode, name, o));
                break;
            }
        }
        let what = names(defects, "+");
        match found {
            Some((mode, name, o)) => {
                ok += 1;
                lines += &line(model.name, &what, bounds[mode], &o.states, total, &format!("found {name}: {}", o.why));
            }
            None => {
                bad += 1;
                lines += &line(model.name, &what, bounds[0], "-", total, "FAILED: the defect survives");
            }
        }
    }
    (lines, ok, bad)
}

fn line(model: &str, run: &str, bound: Option<usize>, states: &str, seconds: f32, verdict: &str) -> String {
    let bound = bound.map_or("-".to_string(), |b| b.to_string());
    format!("{model:<28} {run:<20} {bound:>6} {states:>10} {seconds:>7.1}s  {verdict}\n")
}

fn names(defects: &[Defect], between: &str) -> String {
    defects.iter().map(|d| format!("{d:?}")).collect::<Vec<_>>().join(between)
}

/// One run in a process of its own.
fn call(model: &Model, over: &str, mode: usize, defects: &[Defect], bound: Option<usize>, seconds: u64) -> Outcome {
    let start = Instant::now();
    let me = std::env::current_exe().expect("the path of this program");
    let out = Command::new(me)
        .arg(over)
        .arg(model.name)
        .arg(mode.to_string())
        .arg(bound.map_or("-".to_string(), |b| b.to_string()))
        .arg(seconds.to_string())
        .env("QUIRE_DEFECTS", names(defects, ","))
        // loom prints each join.
        .stderr(Stdio::null())
        .output();
    let text = out.map_or_else(|e| format!("fail 0 {e}"), |o| String::from_utf8_lossy(&o.stdout).into_owned());
    let mut parts = text.trim_end().splitn(3, ' ');
    let mut part = || parts.next().unwrap_or("").to_string();
    let (kind, states, why) = (part(), part(), part());
    // A crash is no finding.
    let kind = if kind.is_empty() { "died".to_string() } else { kind };
    let why = if why.is_empty() { "the run died".to_string() } else { why };
    Outcome { kind, states, seconds: start.elapsed().as_secs_f32(), why }
}
