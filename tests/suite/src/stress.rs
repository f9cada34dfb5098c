//! The stress mix: the workloads in a new order in every boot, each for a few seconds, until the time is over or
//! something breaks.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use quire_launch::{How, Swap};

use crate::House;
use crate::catalogue;
use crate::guest::{self, Case};

/// A boot in which nothing ends within this time stands still.
const PATIENCE: u64 = 180;

/// What to run, and for how long.
#[derive(clap::Args)]
pub struct Mix {
    /// How long (10, unless --boots says when to end)
    #[arg(long, value_name = "M")]
    minutes: Option<f64>,
    /// End after so many boots
    #[arg(long, value_name = "N")]
    boots: Option<u64>,
    /// Seconds of each workload in one boot
    #[arg(long, value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Number of CPUs
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    cpus: u32,
    /// Memory in MiB
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    mem: u32,
    /// Swap to a new image of this size, or to a file
    #[arg(long, value_name = "SIZE|FILE", value_parser = |text: &str| Swap::parse(text.as_ref()))]
    swap: Option<Swap>,
    /// Only these workloads
    names: Vec<String>,
}

/// Runs the mix; 0 when nothing broke.
pub fn run(house: &House, mix: &Mix) -> i32 {
    let Mix { cpus, mem, seconds, ref names, .. } = *mix;
    let chosen: Vec<_> = catalogue::ALL
        .iter()
        .filter(|workload| workload.stress && (names.is_empty() || names.iter().any(|name| name == workload.name)))
        .collect();
    if let Some(unknown) = names.iter().find(|name| !chosen.iter().any(|workload| workload.name == **name)) {
        let known: Vec<_> =
            catalogue::ALL.iter().filter(|workload| workload.stress).map(|workload| workload.name).collect();
        eprintln!("quire: no stress workload is called {unknown}; there are {}", known.join(", "));
        return 2;
    }
    let minutes = mix.minutes.or(mix.boots.is_none().then_some(10.0));
    let end = minutes.map(|minutes| Instant::now() + Duration::from_secs_f64(minutes.clamp(0.0, 1e6) * 60.0));
    let length = match (minutes, mix.boots) {
        (Some(minutes), None) => format!("{minutes} minutes"),
        (None, boots) => format!("{} boots", boots.unwrap_or(0)),
        (Some(minutes), Some(boots)) => format!("{minutes} minutes or {boots} boots"),
    };
    let mut seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64) | 1;
    println!("stress: {length}, {cpus} CPUs, {mem} MiB, seed {seed}");
    let (mut boots, mut runs, mut failures) = (0u64, 0u64, 0u64);
    let goes_on = |boots| end.is_none_or(|end| Instant::now() < end) && mix.boots.is_none_or(|most| boots < most);
    while goes_on(boots) && failures == 0 {
        let mut cases: Vec<Case> =
            chosen.iter().map(|workload| Case::new(house, workload.name, &[&format!("{seconds}s")])).collect();
        for index in (1..cases.len()).rev() {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            cases.swap(index, (seed % (index as u64 + 1)) as usize);
        }
        let mut machine = guest::machine(house, cpus, seconds * 4 * cases.len() as u64 + PATIENCE);
        machine.memory = mem;
        machine.swap = mix.swap.clone();
        boots += 1;
        guest::run(&machine, &cases, |case, report| {
            runs += 1;
            let broken = match report {
                Ok(report) if report.how == How::Exited(0) && report.audit_clean => None,
                Ok(report) => Some(format!(
                    "{:?}, audit clean: {}; {}",
                    report.how,
                    report.audit_clean,
                    String::from_utf8_lossy(&report.stderr).trim()
                )),
                Err(broken) => Some(broken.0),
            };
            if let Some(why) = broken {
                failures += 1;
                println!("FAILED  boot {boots}, {}: {why}", case.name);
            }
        });
        let left = end.map(|end| end.saturating_duration_since(Instant::now()).as_secs());
        let left = left.map_or(String::new(), |left| format!(", {left} s left"));
        println!("boot {boots}: {runs} workloads run, {failures} failures{left}");
    }
    println!("stress: {boots} boots, {runs} workloads, {failures} failures");
    i32::from(failures != 0)
}
