//! Runs the models.

use crate::models::{MODELS, Model};
use quire_mm::sync::model as switch;
use quire_swapd::mutant;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

const MODES: [&str; 2] = ["as written", "all rmw"];
/// Time for one run.
const LIMIT: Duration = Duration::from_secs(300);

static STATES: AtomicUsize = AtomicUsize::new(0);

pub fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a == "--one" || !a.starts_with("--")).collect();
    if args.first().is_some_and(|a| a == "--one") {
        return one(&args[1..]);
    }
    let filter = args.first().cloned().unwrap_or_default();
    let (mut passed, mut failed) = (0, 0);
    let mut count = |ok: bool| if ok { passed += 1 } else { failed += 1 };
    for model in MODELS.iter().filter(|m| m.name.contains(&filter)) {
        for (mode, name) in MODES.iter().enumerate() {
            let (kind, text, seconds) = call(model, mode, 0);
            count(kind == "pass");
            println!("{:<20} {name:<18} {seconds:>6.1}s  {kind} {text}", model.name);
        }
        for &m in model.mutants {
            let found = (0..2).map(|mode| (mode, call(model, mode, m as u32))).find(|(_, (kind, ..))| kind == "fail");
            let name = format!("{m:?}");
            count(found.is_some());
            match found {
                Some((mode, (_, text, seconds))) => {
                    println!("{:<20} {name:<18} {seconds:>6.1}s  found {}: {text}", model.name, MODES[mode]);
                }
                None => println!("{:<20} {name:<18} FAILED: the defect survives", model.name),
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn call(model: &Model, mode: usize, mutant: u32) -> (String, String, f32) {
    let start = Instant::now();
    let me = std::env::current_exe().expect("the path of this program");
    let out = Command::new(me)
        .args(["--one", model.name, &mode.to_string(), &mutant.to_string()])
        .stderr(Stdio::null())
        .output()
        .expect("a run");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let (kind, rest) = text.trim_end().split_once(' ').unwrap_or(("died", ""));
    (kind.to_string(), rest.to_string(), start.elapsed().as_secs_f32())
}

fn one(args: &[String]) -> ExitCode {
    let [name, mode, mutant] = args else { return ExitCode::from(2) };
    let Some(model) = MODELS.iter().find(|m| m.name == name) else { return ExitCode::from(2) };
    switch::every_access_rmw(mode == "1");
    mutant::select(mutant.parse().unwrap_or(0));
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = model.bound;
    builder.max_branches = 20_000;
    builder.max_duration = Some(LIMIT);
    std::panic::set_hook(Box::new(|info| {
        let why: String = info.to_string().replace('\n', " ").chars().take(200).collect();
        println!("fail {} {}", STATES.load(Relaxed), why.split_once(": ").map_or(why.as_str(), |(_, w)| w));
        std::process::exit(1);
    }));
    let start = Instant::now();
    let run = model.run;
    builder.check(move || {
        STATES.fetch_add(1, Relaxed);
        run();
    });
    println!("{} {}", if start.elapsed() >= LIMIT { "cut" } else { "pass" }, STATES.load(Relaxed));
    ExitCode::SUCCESS
}
