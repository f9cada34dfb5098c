//! Puts every ordering to the test: makes each of them weaker in the copy, and looks for a model that fails.
//!
//! First every model runs over the copy as it is, with one preemption, and says which orderings it comes to. Then the models that
//! come to a place run with a weaker ordering there, until one fails: all of them with few preemptions, then with as many as usual.
//! The cheap ones are first, and those that come to few places: they are about those. A weaker ordering allows all that a stronger one does: if no model finds Relaxed, none finds less.
//!
//! A place's time is its even share of what is left, so what is found at once leaves more to the others.

use crate::runner::{COPY, MODES};
use quire_loom::{Model, all};
use quire_mm_copy::orderings::{PLACES, Place, VARIABLE, reached};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Asks a run to print the numbers of the places that it comes to.
const REACHED: &str = "QUIRE_REACHED";
/// So many preemptions are quick.
const FEW: usize = 2;
/// The rounds of a search, each over all models that come to a place: how many preemptions. The last one has the models' own bounds.
const ROUNDS: [Option<usize>; 3] = [Some(1), Some(FEW), None];
/// The time for the first look of a model.
const LOOK_SECONDS: u64 = 3;

/// What is known to be found at once, and by which model: `./run.sh test` looks whether it still is.
const SAMPLE: &[(&str, &str, &str)] = &[
    ("mm/src/rcu.rs Rcu::pin fence SeqCst", "none", "lookup"),
    ("mm/src/rcu.rs Rcu::advance word.load Acquire", "Relaxed", "retire-look"),
    ("mm/src/claims.rs Claims::acquire_one self.next.fetch_add AcqRel", "Relaxed", "claims-two"),
    ("mm/src/claims.rs Claim::drop self.claims.seats[i].ticket.store Release", "Relaxed", "claims-two"),
    ("mm/src/shootdown.rs Shootdown::serve_now record.left.fetch_sub Release", "Relaxed", "shootdown-free"),
    ("mm/src/shootdown.rs Shootdown::ask record.left.load Acquire", "Relaxed", "shootdown-free"),
    ("mm/src/space.rs Space::activate fence SeqCst", "none", "active"),
    ("mm/src/space.rs Space::join_now fence SeqCst", "none", "join"),
    ("swapd/src/slot.rs SlotWord::change self.0.compare_exchange AcqRel", "Relaxed", "slot-leaving-take"),
    ("kernel/sched/src/wake.rs Wake::about_to_halt fence SeqCst", "none", "wake-halt"),
    ("kernel/sched/src/wake.rs Wake::must_interrupt fence SeqCst", "AcqRel", "wake-halt"),
];

/// Prints the places that the run came to, if somebody asks for them.
pub fn tell_reached() {
    if std::env::var_os(REACHED).is_some() {
        let numbers: Vec<String> = reached().map(|n| n.to_string()).collect();
        println!("reached {}", numbers.join(" "));
    }
}

/// A model, and what the first look says about it.
struct Look {
    model: &'static Model,
    seconds: f32,
    reached: Vec<usize>,
}

impl Look {
    /// What comes first.
    fn cost(&self) -> f32 {
        self.seconds * self.reached.len() as f32
    }
}

/// What became of a weaker ordering.
#[derive(Clone)]
enum Verdict {
    /// This model fails.
    Found(&'static str),
    /// None of so many models does.
    Survives(usize),
    /// Within the time none of the models did in the rounds before this one ([`ROUNDS`]), and so many ended in it.
    OutOfTime { round: usize, ended: usize, of: usize, seconds: u64 },
    /// No model comes here.
    Unreached,
}

/// The table, or the sample. `None`: these are other arguments.
pub fn main(args: &[String]) -> Option<ExitCode> {
    let (mut minutes, mut jobs, mut filter) = (60, 1, String::new());
    let mut args = args.iter();
    while let Some(a) = args.next() {
        let mut number = || args.next().and_then(|n| n.parse::<usize>().ok()).filter(|n| *n > 0);
        match a.as_str() {
            "--minutes" => minutes = number()?,
            "--jobs" => jobs = number()?,
            "--sample" => return Some(sample()),
            f if f.starts_with('-') => return None,
            f => filter = f.to_string(),
        }
    }
    let places: Vec<usize> = (0..PLACES.len()).filter(|n| PLACES[*n].name.contains(&filter)).collect();
    if places.is_empty() {
        eprintln!("no ordering has {filter:?} in its name");
        return Some(ExitCode::from(2));
    }
    let end = Instant::now() + Duration::from_secs(minutes as u64 * 60);
    let models: Vec<&Model> = all().collect();
    let mut looks = in_parallel(jobs, &models, |_, model| look(model), |_, _| ());
    looks.sort_by(|a, b| a.cost().total_cmp(&b.cost()));
    let left = AtomicUsize::new(places.len());
    let of_place = |_, &n: &usize| {
        let share = end.saturating_duration_since(Instant::now()).as_secs_f32() * jobs as f32;
        let limit = share / left.fetch_sub(1, Relaxed) as f32;
        try_all(n, &looks, Duration::from_secs_f32(limit.max(1.0)))
    };
    let file = Mutex::new("");
    let verdicts = in_parallel(jobs, &places, of_place, |i, verdicts| {
        let place = &PLACES[places[i]];
        let (name, rest) = place.name.split_once(' ').unwrap_or((place.name, ""));
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        if *file != name {
            println!("\n### {name}\n\n| place | weaker | found by |\n|---|---|---|");
            *file = name;
        }
        for (weaker, verdict) in place.weaker.iter().zip(verdicts) {
            println!("| `{rest}` | {weaker} | {} |", verdict.text());
        }
    });
    let count = |is: fn(&Verdict) -> bool| verdicts.iter().flatten().filter(|v| is(v)).count();
    let found = count(|v| matches!(v, Verdict::Found(_)));
    println!(
        "\n{} places, {} weaker orderings: {found} found, {} found by no model, {} not found in time, {} where no model comes",
        places.len(),
        verdicts.iter().flatten().count(),
        count(|v| matches!(v, Verdict::Survives(_))),
        count(|v| matches!(v, Verdict::OutOfTime { .. })),
        count(|v| matches!(v, Verdict::Unreached)),
    );
    println!("{found} passed, 0 failed");
    Some(ExitCode::SUCCESS)
}

impl Verdict {
    fn text(&self) -> String {
        match self {
            Verdict::Found(model) => model.to_string(),
            Verdict::Survives(models) => format!("none of {models} models"),
            Verdict::OutOfTime { round, ended, of, seconds } => {
                let bound = |round: usize| match ROUNDS[round] {
                    Some(1) => "1 preemption".to_string(),
                    Some(n) => format!("{n} preemptions"),
                    None => "their own bounds".to_string(),
                };
                let before = round.checked_sub(1).map(|round| format!("none of {of} models with {}, ", bound(round)));
                format!("{}{ended} of {of} ended with {} within {seconds} s", before.unwrap_or_default(), bound(*round))
            }
            Verdict::Unreached => "no model comes here".to_string(),
        }
    }
}

/// Does something with each of a list, so many at once. What comes out is shown in the list's order, as soon as it can be.
fn in_parallel<T: Sync, R: Send>(
    jobs: usize,
    list: &[T],
    each: impl Fn(usize, &T) -> R + Sync,
    show: impl Fn(usize, &R) + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done: Mutex<(BTreeMap<usize, R>, usize)> = Mutex::default();
    std::thread::scope(|s| {
        for _ in 0..jobs {
            s.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Relaxed);
                    let Some(item) = list.get(i) else { return };
                    let result = each(i, item);
                    let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                    let (results, shown) = &mut *done;
                    results.insert(i, result);
                    while let Some(result) = results.get(shown) {
                        show(*shown, result);
                        *shown += 1;
                    }
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner).0.into_values().collect()
}

/// Runs a model over the copy as it is.
fn look(model: &'static Model) -> Look {
    let (text, seconds) = call(model, 0, Some(1), LOOK_SECONDS, (REACHED, "1"));
    let numbers = text.lines().find_map(|l| l.strip_prefix("reached ")).unwrap_or_default();
    Look { model, seconds, reached: numbers.split(' ').filter_map(|n| n.parse().ok()).collect() }
}

/// The narrower one of two bounds on preemptions; `None`: no bound.
fn at_most(a: Option<usize>, b: Option<usize>) -> Option<usize> {
    a.into_iter().chain(b).min()
}

/// All weaker orderings of a place.
fn try_all(n: usize, looks: &[Look], limit: Duration) -> Vec<Verdict> {
    let place = &PLACES[n];
    let mut models: Vec<&'static Model> = looks.iter().filter(|l| l.reached.contains(&n)).map(|l| l.model).collect();
    let end = Instant::now() + limit;
    let mut verdicts: Vec<Verdict> = Vec::new();
    for (i, weaker) in place.weaker.iter().enumerate() {
        let verdict = match verdicts.first() {
            _ if models.is_empty() => Verdict::Unreached,
            // What even the weakest one survives, the others do.
            Some(Verdict::Survives(of)) => Verdict::Survives(*of),
            _ => {
                let left = end.saturating_duration_since(Instant::now()) / (place.weaker.len() - i) as u32;
                try_one(place, weaker, &models, left.max(Duration::from_secs(1)))
            }
        };
        if let Verdict::Found(name) = verdict {
            models.sort_by_key(|m| m.name != name);
        }
        verdicts.push(verdict);
    }
    verdicts
}

/// One weaker ordering.
fn try_one(place: &Place, weaker: &str, models: &[&'static Model], limit: Duration) -> Verdict {
    let (start, switch) = (Instant::now(), format!("{}={weaker}", place.name));
    // Whether the model fails, and whether it ended. One run has no more than a part of the time, so that the others have some.
    let run = |model: &'static Model, mode: usize, bound| {
        let left = limit.saturating_sub(start.elapsed()).min(limit / 4).as_secs();
        if left == 0 && start.elapsed() > limit / 2 {
            return (false, false);
        }
        let (text, _) = call(model, mode, bound, left.max(1), (VARIABLE, &switch));
        (text.starts_with("fail "), text.starts_with("pass "))
    };
    for round in 0..ROUNDS.len() {
        let mut ended = 0;
        for model in models {
            let mut whole = true;
            // Where all is a read-modify-write, loads, stores and fences are ordered whatever they say; and it is for the last round.
            let modes = if place.is_rmw && ROUNDS[round].is_none() { MODES.len() } else { 1 };
            for mode in 0..modes {
                let bound = at_most(ROUNDS[round], model.bounds[mode]);
                if mode == 0 && round > 0 && bound == at_most(ROUNDS[round - 1], model.bounds[mode]) {
                    continue;
                }
                let (fails, ends) = run(model, mode, bound);
                if fails {
                    return Verdict::Found(model.name);
                }
                whole &= ends;
            }
            ended += whole as usize;
        }
        if ended < models.len() {
            return Verdict::OutOfTime { round, ended, of: models.len(), seconds: limit.as_secs() };
        }
    }
    Verdict::Survives(models.len())
}

/// A run over the copy in a process of its own: what it says, and how long it took.
fn call(model: &Model, mode: usize, bound: Option<usize>, seconds: u64, (name, value): (&str, &str)) -> (String, f32) {
    let start = Instant::now();
    let me = std::env::current_exe().expect("the path of this program");
    let bound = bound.map_or("-".to_string(), |b| b.to_string());
    let mut command = Command::new(me);
    command.args([COPY, model.name, &mode.to_string(), &bound, &seconds.to_string()]).env(name, value);
    // loom prints each join.
    let out = command.stderr(Stdio::null()).output();
    (
        out.map_or_else(|_| String::new(), |o| String::from_utf8_lossy(&o.stdout).into_owned()),
        start.elapsed().as_secs_f32(),
    )
}

/// Looks whether what was found at once still is.
fn sample() -> ExitCode {
    let (mut passed, mut failed) = (0, String::new());
    for (name, weaker, model) in SAMPLE {
        let known = PLACES.iter().any(|p| p.name == *name && p.weaker.contains(weaker));
        let found = all().find(|m| m.name == *model).filter(|_| known).is_some_and(|m| {
            let switch = format!("{name}={weaker}");
            call(m, 0, at_most(Some(FEW), m.bounds[0]), 20, (VARIABLE, &switch)).0.starts_with("fail ")
        });
        match (known, found) {
            (_, true) => passed += 1,
            (true, _) => _ = writeln!(failed, "FAILED: {model} does not find {weaker} at {name}"),
            (false, _) => _ = writeln!(failed, "FAILED: there is no ordering {name} that {weaker} is weaker than"),
        }
    }
    println!("{failed}{passed} passed, {} failed", failed.lines().count());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
