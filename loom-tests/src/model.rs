//! A model, and one run of it.

use crate::defects::Defect;
use crate::machine;
use quire_mm::sync::model as switch;
use std::process::ExitCode;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// One model.
#[derive(Debug)]
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
    /// Whether forks copy hot pages.
    pub hot: bool,
    /// Defects that this model must find. Several together where one rule makes up for the loss of another.
    pub defects: &'static [&'static [Defect]],
}

impl Model {
    /// A model bounded to three preemptions, and about neither grace periods nor hot pages.
    pub const fn new(name: &'static str, run: fn(), defects: &'static [&'static [Defect]]) -> Model {
        Model { name, run, bounds: [Some(3); 2], wide: [Some(4); 2], collect: u32::MAX, hot: false, defects }
    }

    /// Other bounds: by default (both modes), and under `--all`.
    pub const fn bounds(self, bounds: [Option<usize>; 2], wide: [Option<usize>; 2]) -> Model {
        Model { bounds, wide, ..self }
    }

    /// Collects at once.
    pub const fn collecting(self) -> Model {
        Model { collect: 1, ..self }
    }

    /// Forks copy hot pages.
    pub const fn hot(self) -> Model {
        Model { hot: true, ..self }
    }
}

static STATES: AtomicUsize = AtomicUsize::new(0);

/// One run, which the whole process is for: `MODEL MODE BOUND SECONDS`. Prints one line, `pass`, `cut` or `fail`, the number of
/// executions, and why. `None`: these are other arguments.
pub fn run(args: &[String]) -> Option<ExitCode> {
    let [name, mode, bound, seconds] = args else { return None };
    let model = crate::all().find(|m| m.name == name)?;
    switch::every_access_rmw(mode == "1");
    switch::collect_at(model.collect);
    switch::copy_hot(model.hot);
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
    Some(ExitCode::SUCCESS)
}
