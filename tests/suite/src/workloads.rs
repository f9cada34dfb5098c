//! The workloads: as a table for people, and as tests on 1, 2, 4 and 8 CPUs.

use crate::House;
use crate::catalogue;
use crate::guest::{self, compare};
use crate::tally::Tally;

/// Runs the standard workloads on four CPUs: a line for each while it runs, a table at the end.
pub fn table(house: &House) -> i32 {
    let cases = catalogue::short_cases(house);
    let machine = guest::machine(house, 4, 300);
    println!("Quire, {} CPUs, {} MiB: {} workloads", machine.cpus, machine.memory, cases.len());
    let mut rows = Vec::new();
    guest::run(&machine, &cases, |case, report| {
        let (millis, verdict) = match report {
            Ok(report) => (report.millis, compare(report, case.oracle())),
            Err(broken) => (0, Err(broken.0)),
        };
        let word = if verdict.is_ok() { "ok" } else { "FAILED" };
        println!("{word:6}  {}{}", case.name, verdict.as_ref().err().map(|why| format!(": {why}")).unwrap_or_default());
        rows.push((case.name.clone(), millis, verdict.is_ok()));
    });
    println!("\n{:<16} {:>9}  same as on Linux, audit clean", "workload", "ms");
    for (name, millis, passed) in &rows {
        println!("{name:<16} {millis:>9}  {}", if *passed { "yes" } else { "NO" });
    }
    i32::from(rows.iter().any(|row| !row.2))
}

/// All workloads on several numbers of CPUs, each compared with Linux, each with the audit.
pub fn test(house: &House, tally: &mut Tally) {
    let cases = catalogue::short_cases(house);
    for cpus in [1, 2, 4, 8] {
        tally.part(&format!("workloads on {cpus} CPUs"));
        guest::run(&guest::machine(house, cpus, 300), &cases, |case, report| {
            let outcome = report.map_err(|broken| broken.0).and_then(|report| compare(report, case.oracle()));
            tally.result(&format!("{} on {cpus} CPUs", case.name), outcome);
        });
    }
}
