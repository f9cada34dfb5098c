//! Swapping: workloads larger than memory, each with the audit, which counts slots too; and disks that fail.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use quire_launch::{Store, Swap};

use crate::House;
use crate::bounded;
use crate::guest::{self, Case, Scratch, compare};
use crate::tally::Tally;

const MIB: u64 = 1 << 20;
const PAGE: usize = 4096;
/// Seconds for a boot, which takes about 15 on two idle cores.
const PATIENCE: u64 = 400;

/// A group of workloads that share a boot: memory in MiB, bytes of swap, CPUs, programs with their arguments.
type Group = (u32, u64, u32, &'static [&'static [&'static str]]);

const GROUPS: &[Group] = &[
    (64, 256 * MIB, 1, &[&["swap_verify", "96", "1"], &["swap_fork", "40", "1"]]),
    (
        64,
        256 * MIB,
        4,
        &[
            &["swap_verify", "96", "4"],
            &["swap_verify", "80", "16"],
            &["swap_fork", "48", "2"],
            &["swap_shared", "72", "3"],
            &["swap_shared", "48", "2", "file"],
        ],
    ),
    (64, 256 * MIB, 4, &[&["thrash", "1", "16", "10"]]),
    (64, 64 * MIB, 4, &[&["swap_full", "4", "2"], &["shortage", "1"]]),
    (64, 32 * MIB, 1, &[&["shortage", "1"]]),
    (64, 128 * MIB, 4, &[&["swapoff_under_load", "24", "2"]]),
    // 49 slots for everybody.
    (64, 50 * 4096, 1, &[&["swap_races", "12"]]),
    (64, 50 * 4096, 4, &[&["swap_races", "20"]]),
];

/// Tests all of it.
pub fn test(house: &House, tally: &mut Tally) {
    tally.part("swapping");
    for &(memory, bytes, cpus, programs) in GROUPS {
        let cases: Vec<Case> = programs
            .iter()
            .map(|words| Case::new(house, words[0], &words[1..]).named(format!("{} on {cpus} CPUs", words.join(" "))))
            .collect();
        let mut machine = guest::machine(house, cpus, PATIENCE);
        machine.memory = memory;
        machine.swap = Some(Swap::new(Store::Size(bytes)));
        guest::run(&machine, &cases, |case, report| {
            let outcome = report.map_err(|broken| broken.0).and_then(|report| compare(report, case.oracle()));
            tally.result(&case.name, outcome);
        });
    }
    tally.part("disks that fail");
    match Scratch::new(house, "disks") {
        Ok(scratch) => {
            for (name, check) in CHECKS {
                tally.result(name, check(&Disks { house, scratch: scratch.path() }));
            }
        }
        Err(error) => tally.result("disks that fail", Err(error.to_string())),
    }
}

struct Disks<'a> {
    house: &'a House,
    scratch: &'a Path,
}

/// A run, with the kernel's log and counters on standard error.
struct Ran {
    output: Output,
    said: String,
}

impl Disks<'_> {
    fn exec(&self, options: &[&str], program: &[&str]) -> Result<Ran, String> {
        let house = self.house;
        let mut command = Command::new(&house.launch);
        command.arg("--kernel").arg(&house.kernel).arg("--logs").arg(&house.logs);
        command.args(["--mem", "64", "--timeout", "100", "--audit", "--stats", "--verbose"]).args(options);
        command.arg(house.program(program[0])).args(&program[1..]);
        let output = bounded::output(&mut command, b"", bounded::OWN_LIMIT)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok(Ran { output, said })
    }

    /// A configuration of blkdebug: every request of one kind that touches a page of the disk fails.
    fn failing(&self, kind: &str, page: u64) -> Result<String, String> {
        let path = self.scratch.join(format!("{kind}.conf"));
        let event = format!("{kind}_aio");
        let text = format!(
            "[inject-error]\nevent = \"{event}\"\niotype = \"{kind}\"\nerrno = \"5\"\nsector = \"{}\"\nonce = \"off\"\n",
            page * 8
        );
        fs::write(&path, text).map_err(|error| error.to_string())?;
        Ok(path.display().to_string())
    }

    /// A raw image of `pages` pages, each full of one byte, with a header that says `area` pages, changed by `edit`.
    fn image(&self, name: &str, pages: usize, area: u64, edit: fn(&mut [u8])) -> Result<PathBuf, String> {
        let path = self.scratch.join(name);
        let mut bytes = vec![0x5a; pages * PAGE];
        let uuid = quire_swapd::header::Uuid([7; 16]);
        let header = quire_swapd::header::format(area, uuid, "tested").map_err(|error| format!("{error:?}"))?;
        bytes[1024..PAGE].copy_from_slice(&header[1024..]);
        edit(&mut bytes);
        fs::write(&path, bytes).map_err(|error| error.to_string())?;
        Ok(path)
    }

    /// The kernel refuses the image for this reason, leaves it as it is, and runs the program without swap.
    fn refused(&self, image: &Path, why: &str) -> Result<(), String> {
        let before = fs::read(image).map_err(|error| error.to_string())?;
        let name = image.display().to_string();
        let ran = self.exec(&["--swap", &name, "--swap-unchecked"], &["hello"])?;
        ran.ok()?;
        ran.says(why)?;
        if fs::read(image).map_err(|error| error.to_string())? != before {
            return Err("the image was changed".into());
        }
        // Without the option for tests it is refused before anything starts.
        let ran = self.exec(&["--swap", &name], &["hello"])?;
        if ran.output.status.code() == Some(125) { Ok(()) } else { Err(format!("not refused: {}", ran.said)) }
    }
}

impl Ran {
    fn ok(&self) -> Result<(), String> {
        if self.output.status.success() {
            return Ok(());
        }
        let tail: Vec<&str> = self.said.lines().rev().take(12).collect();
        Err(format!("{}; {}", self.output.status, tail.into_iter().rev().collect::<Vec<_>>().join(" | ")))
    }

    fn says(&self, what: &str) -> Result<(), String> {
        if self.said.contains(what) { Ok(()) } else { Err(format!("no word of \"{what}\": {}", self.said)) }
    }

    fn counter(&self, name: &str) -> u64 {
        let line = self.said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or(0)
    }

    fn at_least(&self, name: &str, least: u64) -> Result<(), String> {
        let value = self.counter(name);
        if value >= least { Ok(()) } else { Err(format!("{name} is {value}, not {least} or more")) }
    }
}

type Check = fn(&Disks<'_>) -> Result<(), String>;

/// Each child of `swap_lost` is larger than the memory that is free: it swaps even when it runs alone.
const CHECKS: &[(&str, Check)] = &[
    ("read errors: SIGBUS for who needs the page, for nobody else", |disks| {
        let conf = disks.failing("read", 2000)?;
        let ran = disks.exec(&["--swap", "128M", "--swap-blkdebug", &conf], &["swap_lost", "60", "2", "1"])?;
        ran.ok()?;
        ran.at_least("swap_read_errors", 1)?;
        ran.at_least("pswpin", 1000)
    }),
    ("write errors: the page stays, its slot is marked", |disks| {
        let conf = disks.failing("write", 2000)?;
        let ran = disks.exec(&["--swap", "128M", "--swap-blkdebug", &conf], &["swap_lost", "60", "2", "0"])?;
        ran.ok()?;
        ran.at_least("swap_write_errors", 1)?;
        ran.at_least("swap_slots_bad", 1)
    }),
    ("a throttled device", |disks| {
        let drive = "throttling.iops-total=500";
        let ran = disks.exec(&["--swap", "128M", "--swap-drive", drive], &["swap_lost", "60", "2", "0"])?;
        ran.ok()?;
        ran.at_least("pswpout", 1000)
    }),
    ("a device that stops answering: a report, and who does not need it goes on", |disks| {
        // Some MiB at once, then a byte a second.
        let drive = "throttling.bps-total=1,throttling.bps-total-max=4000000";
        let options = ["--swap", "128M", "--swap-limit", "3", "--swap-drive", drive];
        let ran = disks.exec(&options, &["swap_lost", "60", "2", "2"])?;
        ran.ok()?;
        ran.says("the disk does not answer")
    }),
    ("a disk that cannot be read: refused swapons cost nothing", |disks| {
        let conf = disks.failing("read", 0)?;
        let ran = disks.exec(&["--swap", "16M", "--swap-blkdebug", &conf], &["swap_admin", "refused"])?;
        ran.ok()?;
        ran.says("cannot be read")
    }),
    ("a device that stops answering: swapoff says so", |disks| {
        let drive = "throttling.bps-total=1,throttling.bps-total-max=4000000";
        let options = ["--swap", "128M", "--swap-limit", "3", "--swap-drive", drive];
        let ran = disks.exec(&options, &["swap_admin", "dead"])?;
        ran.ok()?;
        ran.says("the disk does not answer")
    }),
    ("advice about terabytes", |disks| disks.exec(&["--swap", "16M"], &["swap_admin", "needed"])?.ok()),
    ("a read-only image", |disks| {
        let image = disks.image("read-only", 64, 64, |_| {})?;
        let name = image.display().to_string();
        let before = fs::read(&image).map_err(|error| error.to_string())?;
        let ran = disks.exec(&["--swap", &name, "--swap-drive", "readonly=on"], &["swap_lost", "1", "2", "0"])?;
        ran.ok()?;
        ran.says("the disk is read-only")?;
        if fs::read(&image).is_ok_and(|now| now == before) { Ok(()) } else { Err("the image was changed".into()) }
    }),
    ("an image shorter than its header says", |disks| {
        let image = disks.image("short", 20, 100, |_| {})?;
        disks.refused(&image, "page 99 is the last, but there are only 20")
    }),
    ("no signature", |disks| {
        let image = disks.image("unsigned", 64, 64, |bytes| bytes[PAGE - 1] ^= 1)?;
        disks.refused(&image, "no SWAPSPACE2 signature")
    }),
    ("corrupt headers", |disks| {
        let version = disks.image("version", 64, 64, |bytes| bytes[1024] = 9)?;
        disks.refused(&version, "version 9")?;
        let count = disks.image("count", 64, 64, |bytes| bytes[1032..1036].fill(0xff))?;
        disks.refused(&count, "bad pages")?;
        let bad = disks.image("bad", 64, 64, |bytes| {
            bytes[1032] = 1;
            bytes[1536..1540].fill(0xee);
        })?;
        disks.refused(&bad, "outside of the area")?;
        let empty = disks.image("empty", 64, 64, |bytes| bytes[1028..1032].fill(0))?;
        disks.refused(&empty, "without a usable page")
    }),
    ("nothing outside of the area is written, bad pages neither", |disks| {
        let (pages, area) = (8192, 8000);
        let image = disks.image("guarded", pages, area, |bytes| {
            // Pages 3 and 700 are bad.
            bytes[1032] = 2;
            bytes[1536..1544].copy_from_slice(&[3, 0, 0, 0, 0xbc, 2, 0, 0]);
        })?;
        let before = fs::read(&image).map_err(|error| error.to_string())?;
        let name = image.display().to_string();
        let ran = disks.exec(&["--swap", &name], &["swap_lost", "60", "1", "0"])?;
        ran.ok()?;
        ran.says("label tested")?;
        ran.says("2 of 7999 pages bad")?;
        ran.at_least("pswpout", 1000)?;
        let after = fs::read(&image).map_err(|error| error.to_string())?;
        let same = |page: usize| before[page * PAGE..][..PAGE] == after[page * PAGE..][..PAGE];
        match [0, 3, 700].into_iter().chain(area as usize..pages).find(|&page| !same(page)) {
            Some(page) => Err(format!("page {page} was written")),
            None if (1..100).filter(|&page| !same(page)).count() < 10 => Err("the area was not used".into()),
            None => Ok(()),
        }
    }),
];
