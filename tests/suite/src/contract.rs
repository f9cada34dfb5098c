//! What other people's scripts rely on: `run.sh exec` carries bytes, ends and statuses as they are.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Output};
use std::time::{Duration, Instant};

use crate::House;
use crate::bounded;
use crate::stall;
use crate::tally::Tally;

struct Door<'a> {
    house: &'a House,
}

impl Door<'_> {
    fn exec(&self, arguments: &[&str], input: &[u8]) -> Output {
        let house = self.house;
        let mut command = Command::new(&house.launch);
        command.args([OsStr::new("--kernel"), house.kernel.as_os_str(), OsStr::new("--logs"), house.logs.as_os_str()]);
        feed(command.args(arguments), input)
    }

    fn program(&self, name: &str) -> String {
        self.house.program(name).display().to_string()
    }
}

/// A run that comes to no end has the status of one whose time was up.
fn feed(command: &mut Command, input: &[u8]) -> Output {
    bounded::output(command, input, bounded::OWN_LIMIT).unwrap_or_else(|why| Output {
        status: ExitStatus::from_raw(124 << 8),
        stdout: Vec::new(),
        stderr: why.into_bytes(),
    })
}

fn expect(output: &Output, status: i32) -> Result<(), String> {
    if output.status.code() == Some(status) {
        return Ok(());
    }
    Err(format!("{} instead of {status}; {}", output.status, String::from_utf8_lossy(&output.stderr).trim()))
}

fn same(what: &str, found: &[u8], expected: &[u8]) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    let place = found.iter().zip(expected).position(|(a, b)| a != b);
    Err(format!("{what}: {} bytes, expected {}; the first difference is at {place:?}", found.len(), expected.len()))
}

/// Numbers that a program on the other side can make too.
fn pattern(length: usize) -> Vec<u8> {
    (0..length as u64).map(|index| (index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

/// What `--stats` tells at least.
const COUNTERS: &[&str] = &[
    "faults",
    "faults_zero_page",
    "faults_anonymous",
    "faults_object",
    "faults_rights",
    "faults_spurious",
    "faults_denied",
    "edits_map",
    "edits_unmap",
    "edits_protect",
    "edits_discard",
    "edits_move",
    "forks",
    "shootdowns_sent",
    "shootdowns_unmap",
    "shootdowns_protect",
    "shootdowns_discard",
    "shootdowns_cut",
    "shootdowns_move",
    "shootdowns_fork",
    "shootdowns_copy",
    "shootdowns_zero_page",
    "shootdowns_evict",
    "shootdowns_drain",
    "shootdown_interrupts",
    "shootdowns_served",
    "cow_copies",
    "cow_reuses",
    "retries_root",
    "retries_fault",
    "retries_sweep",
    "retries_table",
    "retries_claim",
    "retries_reference",
    "retries_object",
    "retries_frame_bitmap",
    "retries_slab_bitmap",
    "grace_periods",
    "frames_total",
    "frames_free",
    "frames_pages",
    "frames_tables",
    "frames_slabs",
    "frames_kernel",
];

/// `name value` lines, or `None` if a line is anything else.
fn counters(lines: &str) -> Option<BTreeMap<&str, u64>> {
    lines.lines().map(|line| line.split_once(' ').and_then(|(name, value)| Some((name, value.parse().ok()?)))).collect()
}

type Check = fn(&Door<'_>) -> Result<(), String>;

const CHECKS: &[(&str, Check)] = &[
    ("exit statuses are the program's", |door| {
        for status in [0, 1, 42, 120, 255] {
            expect(&door.exec(&[&door.program("carrier"), "exit", &status.to_string()], b""), status)?;
        }
        Ok(())
    }),
    ("a signal gives 128 and its number", |door| {
        for (case, status) in [("undefined", 132), ("write_null", 139), ("divide", 136)] {
            expect(&door.exec(&[&door.program("badinput-musl"), case], b""), status)?;
        }
        Ok(())
    }),
    ("every byte comes through unchanged", |door| {
        let bytes: Vec<u8> = (0..=255).cycle().take(4096).collect();
        let output = door.exec(&[&door.program("carrier"), "copy"], &bytes);
        expect(&output, 0)?;
        same("output", &output.stdout, &bytes)?;
        same("standard error", &output.stderr, b"")
    }),
    ("20 MiB of output", |door| {
        let output = door.exec(&[&door.program("carrier"), "pattern", &(20 << 20).to_string()], b"");
        expect(&output, 0)?;
        same("output", &output.stdout, &pattern(20 << 20))
    }),
    ("8 MiB of input, there and back", |door| {
        let bytes = pattern(8 << 20);
        let output = door.exec(&[&door.program("carrier"), "copy"], &bytes);
        expect(&output, 0)?;
        same("output", &output.stdout, &bytes)
    }),
    ("a program that reads slowly loses nothing", |door| {
        let bytes = pattern(1 << 20);
        let output = door.exec(&[&door.program("carrier"), "slow-copy"], &bytes);
        expect(&output, 0)?;
        same("output", &output.stdout, &bytes)
    }),
    ("input that nobody reads does not matter", |door| {
        expect(&door.exec(&[&door.program("hello")], &pattern(4 << 20)), 0)
    }),
    ("an empty input ends at once", |door| {
        let output = door.exec(&[&door.program("carrier"), "copy"], b"");
        expect(&output, 0)?;
        same("output", &output.stdout, b"")
    }),
    ("standard output and standard error stay apart", |door| {
        let output = door.exec(&[&door.program("carrier"), "both"], b"");
        expect(&output, 0)?;
        same("output", &output.stdout, b"out 1\nout 2\n")?;
        same("standard error", &output.stderr, b"err 1\nerr 2\n")
    }),
    ("arguments and environment arrive", |door| {
        let name = door.program("carrier");
        let output = door
            .exec(&["--env", "A=b c", "--env", "HOME=/x", "--", &name, "show", "", "--cpus", "a b", "\t\u{e9}"], b"");
        expect(&output, 0)?;
        let mut expected = format!("{name}\nshow\n\n--cpus\na b\n\t\u{e9}\n");
        expected += "A=b c\nHOME=/x\nLANG=C\nPATH=/usr/bin:/bin\nTERM=dumb\nUSER=root\n";
        same("output", &output.stdout, expected.as_bytes())
    }),
    ("files are carried in", |door| {
        let file = door.house.root.join("Cargo.toml").display().to_string();
        let output = door.exec(&["--file", &file, &door.program("carrier"), "cat", &file], b"");
        expect(&output, 0)?;
        same("output", &output.stdout, &std::fs::read(&file).unwrap_or_default())?;
        let output =
            door.exec(&["--file", &format!("{file}:/etc/given"), &door.program("carrier"), "cat", "/etc/given"], b"");
        expect(&output, 0)?;
        same("output", &output.stdout, &std::fs::read(&file).unwrap_or_default())
    }),
    ("time-out", |door| {
        let began = Instant::now();
        let output = door.exec(&["--timeout", "3", &door.program("carrier"), "for-ever"], b"");
        expect(&output, 124)?;
        same("output", &output.stdout, b"began\n")?;
        if began.elapsed() > Duration::from_secs(10) {
            return Err(format!("took {:?}", began.elapsed()));
        }
        Ok(())
    }),
    ("files that cannot be run", |door| {
        expect(&door.exec(&["/nonexistent"], b""), 127)?;
        expect(&door.exec(&["/etc/passwd"], b""), 126)?;
        let script = door.house.root.join("run.sh").display().to_string();
        expect(&door.exec(&[&script], b""), 126)
    }),
    ("wrong usage", |door| {
        for arguments in
            [&["--no-such-option", "x"][..], &["--cpus", "0", "x"], &["--cpus", "65", "x"], &["--env", "X", "x"], &[]]
        {
            let output = door.exec(arguments, b"");
            expect(&output, 2)?;
            same("output", &output.stdout, b"")?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            if !said.contains("Usage") && !said.contains("--help") {
                return Err(format!("{arguments:?}: no word about usage: {said}"));
            }
        }
        let script = door.house.root.join("run.sh");
        let output = feed(Command::new(&script).arg("--no-such-option"), b"");
        expect(&output, 2)?;
        same("output", &output.stdout, b"")?;
        if String::from_utf8_lossy(&output.stderr).contains("Usage") { Ok(()) } else { Err("no usage".into()) }
    }),
    ("the kernel's log is shown on demand only", |door| {
        let output = door.exec(&["--verbose", &door.program("hello")], b"");
        expect(&output, 0)?;
        same("output", &output.stdout, b"Hello from user space.\n")?;
        if output.stderr.is_empty() { Err("no log with --verbose".into()) } else { Ok(()) }
    }),
    ("audit and counters", |door| {
        let output = door.exec(&["--audit", &door.program("hello")], b"");
        expect(&output, 0)?;
        same("output", &output.stdout, b"Hello from user space.\n")?;
        let output = door.exec(&["--stats", &door.program("hello")], b"");
        expect(&output, 0)?;
        same("output", &output.stdout, b"Hello from user space.\n")?;
        let lines = String::from_utf8_lossy(&output.stderr).into_owned();
        let Some(counters) = counters(&lines) else { return Err(format!("not `name value` lines: {lines}")) };
        for name in COUNTERS {
            if !counters.contains_key(name) {
                return Err(format!("no {name} among the counters: {lines}"));
            }
        }
        if !(1..=100_000).contains(&counters["faults"]) || counters["edits_map"] == 0 {
            return Err(format!("a program cannot have run so: {lines}"));
        }
        let states = ["frames_free", "frames_pages", "frames_tables", "frames_slabs", "frames_kernel"];
        let (sum, total) = (states.map(|name| counters[name]).iter().sum::<u64>(), counters["frames_total"]);
        if sum == total { Ok(()) } else { Err(format!("{sum} frames in known states of {total}")) }
    }),
    ("small, large and wide machines", |door| {
        for (memory, cpus) in [("64", "1"), ("128", "4"), ("8192", "2"), ("512", "3"), ("512", "16"), ("1024", "64")] {
            let output = door.exec(&["--mem", memory, "--cpus", cpus, "--audit", &door.program("hello")], b"");
            expect(&output, 0).map_err(|error| format!("{memory} MiB, {cpus} CPUs: {error}"))?;
        }
        Ok(())
    }),
    ("too little memory on a wide machine, and on a narrow one", |door| {
        for (name, memory, cpus) in
            [("oom", "64", "16"), ("hoard", "64", "16"), ("shortage", "64", "16"), ("shortage", "128", "1")]
        {
            let output = door.exec(&["--mem", memory, "--cpus", cpus, "--audit", &door.program(name), "1"], b"");
            expect(&output, 0).map_err(|error| format!("{name}: {error}"))?;
            same("output", &output.stdout, format!("{name}: ok\n").as_bytes())?;
        }
        Ok(())
    }),
    ("more names and interests than the kernel has room for", |door| {
        let output = door.exec(&["--mem", "64", "--cpus", "2", "--audit", &door.program("crammed")], b"");
        expect(&output, 0)?;
        same("output", &output.stdout, b"crammed: ok\n")?;
        let output = door.exec(&["--mem", "96", "--audit", &door.program("crammed"), "selects"], b"");
        expect(&output, 0)?;
        same("output of selects", &output.stdout, b"crammed: ok\n")
    }),
    ("instructions counted twice give the same time", |door| {
        let arguments = ["--icount", "--cpus", "1", &door.program("carrier"), "clock"];
        let (one, two) = (door.exec(&arguments, b""), door.exec(&arguments, b""));
        expect(&one, 0)?;
        same("the second run's output", &two.stdout, &one.stdout)
    }),
    ("a dynamically linked program", |door| {
        if !Path::new("/bin/echo").exists() {
            return Ok(());
        }
        let output = door.exec(&["/bin/echo", "dynamic"], b"");
        expect(&output, 0)?;
        same("output", &output.stdout, b"dynamic\n")
    }),
    ("four runs at once", |door| {
        std::thread::scope(|scope| {
            let runs: Vec<_> = (0..4u8)
                .map(|index| {
                    scope.spawn(move || {
                        let bytes = vec![index; 100_000];
                        let output = door.exec(&["--cpus", "2", &door.program("carrier"), "copy"], &bytes);
                        expect(&output, 0)?;
                        same("output", &output.stdout, &bytes)
                    })
                })
                .collect();
            runs.into_iter().try_for_each(|run| run.join().unwrap_or(Err("a run failed".into())))
        })
    }),
    ("a child that keeps a program's output open is not waited for", |_| {
        let script = "sleep 1000 & echo $!";
        let mut command = Command::new("/bin/sh");
        let began = Instant::now();
        match bounded::output(command.args(["-c", script]), b"", Duration::from_secs(2)) {
            Err(why) if why.contains("a child of it") => {}
            other => return Err(format!("{other:?}")),
        }
        if began.elapsed() < Duration::from_secs(60) { Ok(()) } else { Err("it was waited for".into()) }
    }),
];

/// Checks all of it.
pub fn test(house: &House, tally: &mut Tally) {
    tally.part("the contract of run.sh exec");
    for (name, check) in CHECKS {
        tally.result(name, check(&Door { house }));
    }
    stall::test(house, tally);
}
