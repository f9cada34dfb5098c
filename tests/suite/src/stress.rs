//! The stress mix: the workloads in a new order in every boot, each for a few seconds, until the time is over or
//! something breaks.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use quire_launch::{How, Swap};

use crate::House;
use crate::catalogue;
use crate::guest::{self, Case};

/// Seconds of each workload in one boot.
const SLICE: u64 = 5;
/// A boot in which nothing ends within this time stands still.
const PATIENCE: u64 = 180;

/// Runs the mix; 0 when nothing broke.
pub fn run(house: &House, minutes: f64, cpus: u32, memory: u32, swap: Option<&Swap>, names: &[String]) -> i32 {
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
    let end = Instant::now() + Duration::from_secs_f64(minutes.max(0.0) * 60.0);
    let mut seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64) | 1;
    println!("stress: {minutes} minutes, {cpus} CPUs, {memory} MiB, seed {seed}");
    let (mut boots, mut runs, mut failures) = (0u64, 0u64, 0u64);
    while Instant::now() < end && failures == 0 {
        let mut cases: Vec<Case> =
            chosen.iter().map(|workload| Case::new(house, workload.name, &[&format!("{SLICE}s")])).collect();
        for index in (1..cases.len()).rev() {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            cases.swap(index, (seed % (index as u64 + 1)) as usize);
        }
        let mut machine = guest::machine(house, cpus, SLICE * 4 * cases.len() as u64 + PATIENCE);
        machine.memory = memory;
        machine.swap = swap.cloned();
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
        let left = end.saturating_duration_since(Instant::now()).as_secs();
        println!("boot {boots}: {runs} workloads run, {failures} failures, {left} s left");
    }
    println!("stress: {boots} boots, {runs} workloads, {failures} failures");
    i32::from(failures != 0)
}
