//! Boots, and what the programs in them printed: `name value` lines.

use std::fs;
use std::io;
use std::path::Path;

use quire_launch::{Boot, Collected, End, How, Image, Input, Job, Machine};

use super::kernel::Kernel;

/// What one boot printed, or the medians of several.
#[derive(Clone, Debug, PartialEq)]
pub struct Values(Vec<(String, f64)>);

impl Values {
    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(found, _)| found == name).map(|&(_, value)| value)
    }

    fn parse(text: &str) -> Self {
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        Self(pairs.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect())
    }

    /// For each name the middle value of all boots; of an even number the lower of the two in the middle.
    fn median(boots: &[Self]) -> Self {
        let names = boots.first().map_or(&[][..], |values| &values.0);
        let of = |name: &str| {
            let mut all: Vec<f64> = boots.iter().filter_map(|values| values.get(name)).collect();
            all.sort_by(f64::total_cmp);
            all[(all.len() - 1) / 2]
        };
        Self(names.iter().map(|(name, _)| (name.clone(), of(name))).collect())
    }
}

/// Runs the program `boots` times on each kernel, the kernels taking turns, so that whatever else the host does meets
/// all of them alike. The medians, in the order of the kernels. Standard error tells each boot's figures.
pub fn measure(
    kernels: &[Kernel],
    machine: &Machine,
    program: &Path,
    arguments: &[&str],
    boots: u32,
) -> Result<Vec<Values>, String> {
    let mut all = vec![Vec::new(); kernels.len()];
    for boot in 1..=boots {
        for (kernel, results) in kernels.iter().zip(&mut all) {
            let values = once(kernel, machine, program, arguments).map_err(|why| format!("{}: {why}", kernel.name))?;
            let shown: Vec<String> = values.0.iter().map(|(name, value)| format!("{name} {value}")).collect();
            let cpus = if machine.cpus == 1 { "1 CPU".to_owned() } else { format!("{} CPUs", machine.cpus) };
            eprintln!("quire: {}, {cpus}, boot {boot}, load {}: {}", kernel.name, load(), shown.join(", "));
            results.push(values);
        }
    }
    Ok(all.iter().map(|boots| Values::median(boots)).collect())
}

/// Processes of the host that run or wait for a CPU, the average of the last minute: QEMU's own among them.
fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// One boot.
fn once(kernel: &Kernel, machine: &Machine, program: &Path, arguments: &[&str]) -> Result<Values, String> {
    let (machine, mut image) = (kernel.on(machine), Image::new());
    let mut collected = Collected::new();
    let ended = kernel
        .pack(&mut image)
        .and_then(|()| Job::new(program, program.file_name().unwrap_or_default()))
        .and_then(|job| image.job(job.args(arguments)))
        .and_then(|()| Boot { machine: &machine, image: &image }.run(Input::Bytes(Vec::new()), &mut collected))
        .map_err(|error: io::Error| error.to_string())?;
    let report = match (&ended.end, collected.reports.first()) {
        (End::Done, Some(report)) if report.how == How::Exited(0) => report,
        (end, report) => {
            let said = report.map(|report| String::from_utf8_lossy(&report.stderr).into_owned());
            return Err(format!("{end:?}, {said:?}; log: {}", ended.log.display()));
        }
    };
    let _ = fs::remove_file(&ended.log);
    Ok(Values::parse(&String::from_utf8_lossy(&report.stdout)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_taken_name_by_name() {
        let boots = ["a 1\nb 9.5\nnoise", "a 3\nb 2", "a 2\nb 4"].map(Values::parse);
        assert_eq!(Values::median(&boots), Values::parse("a 2\nb 4"));
        assert_eq!(Values::median(&boots[..2]), Values::parse("a 1\nb 2"));
    }
}
