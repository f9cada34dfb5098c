//! Runs the models: each as written and with read-modify-writes, then each of its defects, which must be found in one of the two.
//! Every run is a process of its own: a defect that loops or panics in the middle of an execution ends that process only.

use crate::machine;
use quire_mm::sync::Mutant;
use quire_mm::sync::model as switch;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One model.
pub struct Model {
    /// Its file and name.
    pub name: &'static str,
    /// One execution.
    pub run: fn(),
    /// Preemptions to explore, as written and with read-modify-writes; `None`: all.
    pub bounds: [Option<usize>; 2],
    /// The bounds under `--all`, where they are wider.
    pub wide: [Option<usize>; 2],
    /// Retired things that make a CPU collect (out of reach where the model is not about grace periods).
    pub collect: u32,
    /// Defects that this model must find. Several together where one rule makes up for the loss of another.
    pub mutants: &'static [&'static [Mutant]],
}

impl Model {
    /// A model bounded to three preemptions and not about grace periods.
    pub const fn new(name: &'static str, run: fn(), mutants: &'static [&'static [Mutant]]) -> Model {
        Model { name, run, bounds: [Some(3); 2], wide: [Some(4); 2], collect: u32::MAX, mutants }
    }

    /// Other bounds: by default (both modes), and under `--all`.
    pub const fn bounds(self, bounds: [Option<usize>; 2], wide: [Option<usize>; 2]) -> Model {
        Model { bounds, wide, ..self }
    }

    /// Collects at once.
    pub const fn collecting(self) -> Model {
        Model { collect: 1, ..self }
    }
}

const MODES: [&str; 2] = ["as written", "all rmw"];
const USAGE: &str = "usage: quire-loom [--all] [--jobs N] [--seconds N] [FILTER]
  --all       wider bounds (minutes)
  --jobs N    so many runs at once (1)
  --seconds N time for one run (240; with --all 1800)
  FILTER      only models whose name contains it";

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
    if args.first().is_some_and(|a| a == "--one") {
        return one(&args[1..]);
    }
    let (mut all, mut jobs, mut seconds, mut filter) = (false, 1, None, String::new());
    let mut args = args.into_iter();
    while let Some(a) = args.next() {
        let mut number = || args.next().and_then(|n| n.parse::<u64>().ok());
        match a.as_str() {
            "--all" => all = true,
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
    let seconds = seconds.unwrap_or(if all { 1800 } else { 240 });
    let models: Vec<&Model> = crate::models::all().filter(|m| m.name.contains(&filter)).collect();
    if models.is_empty() {
        eprintln!("no model has {filter:?} in its name");
        return ExitCode::from(2);
    }
    // A defect that no model looks for would be found by none.
    let of_models = crate::models::all().flat_map(|m| m.mutants).flat_map(|set| *set);
    let covered: Vec<u32> = of_models.chain(Mutant::OF_HOST_TESTS).map(|&m| m as u32).collect();
    let orphans: Vec<u32> = (1..=Mutant::LAST).filter(|m| !covered.contains(m)).collect();
    println!("{:<28} {:<20} {:>6} {:>10} {:>8}", "model", "run", "bound", "states", "time");
    let (next, passed, failed) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let out = Mutex::new(());
    std::thread::scope(|s| {
        for _ in 0..jobs {
            s.spawn(|| {
                while let Some(model) = models.get(next.fetch_add(1, Relaxed)) {
                    let (lines, ok, bad) = run_model(model, all, seconds);
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
        println!("FAILED: no model looks for the defects with the numbers {orphans:?}");
    }
    println!("{} passed, {} failed", passed.load(Relaxed), failed.load(Relaxed));
    if failed.load(Relaxed) == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

/// All runs of a model: its lines, how many passed, how many failed.
fn run_model(model: &Model, all: bool, seconds: u64) -> (String, usize, usize) {
    let bounds = if all { model.wide } else { model.bounds };
    let (mut lines, mut ok, mut bad) = (String::new(), 0, 0);
    for (mode, name) in MODES.iter().enumerate() {
        let o = call(model, mode, &[], bounds[mode], seconds);
        let good = o.kind == "pass";
        *(if good { &mut ok } else { &mut bad }) += 1;
        let verdict = match o.kind.as_str() {
            "pass" => "ok".to_string(),
            "cut" => "FAILED: out of time".to_string(),
            _ => format!("FAILED: {}", o.why),
        };
        lines += &line(model.name, name, bounds[mode], &o.states, o.seconds, &verdict);
    }
    for &mutants in model.mutants {
        let mut total = 0.0;
        let mut found = None;
        for (mode, name) in MODES.iter().enumerate() {
            let o = call(model, mode, mutants, bounds[mode], seconds);
            total += o.seconds;
            if o.kind == "fail" {
                found = Some((mode, name, o));
                break;
            }
        }
        let what = mutants.iter().map(|m| format!("{m:?}")).collect::<Vec<_>>().join("+");
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

/// One run in a process of its own.
fn call(model: &Model, mode: usize, mutants: &[Mutant], bound: Option<usize>, seconds: u64) -> Outcome {
    let start = Instant::now();
    let me = std::env::current_exe().expect("the path of this program");
    let out = Command::new(me)
        .arg("--one")
        .arg(model.name)
        .arg(mode.to_string())
        .arg(mutants.iter().map(|&m| (m as u32).to_string()).collect::<Vec<_>>().join(","))
        .arg(bound.map_or("-".to_string(), |b| b.to_string()))
        .arg(seconds.to_string())
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

static STATES: AtomicUsize = AtomicUsize::new(0);

/// `MODEL MODE MUTANTS BOUND SECONDS`, the mutants as numbers with commas between: prints one line, `pass`, `cut` or `fail`, the number of executions, and why.
fn one(args: &[String]) -> ExitCode {
    let [name, mode, mutants, bound, seconds] = args else { return usage() };
    let Some(model) = crate::models::all().find(|m| m.name == name) else { return usage() };

    switch::every_access_rmw(mode == "1");
    mutants
        .split(',')
        .filter_map(|m| m.parse().ok())
        .filter(|m| (1..=Mutant::LAST).contains(m))
        .for_each(switch::select);
    switch::collect_at(model.collect);
    let limit = Duration::from_secs(seconds.parse().unwrap_or(240));
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = bound.parse().ok();
    builder.max_branches = 20_000;
    builder.checkpoint_interval = 200;
    builder.max_duration = Some(limit);
    std::panic::set_hook(Box::new(|info| {
        let why: String = info.to_string().replace('\n', " ").chars().take(300).collect();
        let why = why.split_once(": ").map_or(why.as_str(), |(_, w)| w);
        println!("fail {} {why}", STATES.load(Relaxed));
        for (cpu, what, value) in machine::TRACE.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            println!("  CPU {cpu}: {what} {value:#x}");
        }
        std::process::exit(1);
    }));
    let start = Instant::now();
    let run = model.run;
    machine::TRACING.store(std::env::var_os("QUIRE_TRACE").is_some(), Relaxed);
    builder.check(move || {
        machine::TRACE.lock().unwrap_or_else(PoisonError::into_inner).clear();
        STATES.fetch_add(1, Relaxed);
        run();
    });
    let cut = start.elapsed() >= limit;
    println!("{} {} -", if cut { "cut" } else { "pass" }, STATES.load(Relaxed));
    ExitCode::SUCCESS
}
