//! `quire-launch`: runs one program on Quire as if it ran here.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Write};
use std::os::fd::FromRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::exit;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use quire_launch::monitor::stalls;
use quire_launch::{Accel, Boot, End, Event, How, Image, Input, Job, Machine, Sink, Swap};

/// The statuses that are the launcher's own. A program may end with the same numbers: then nothing that begins with
/// `quire:` stands on standard error.
mod status {
    /// The kernel panicked.
    pub const PANIC: i32 = 120;
    /// The audit at exit found something wrong.
    pub const AUDIT: i32 = 121;
    /// The machine stopped, or spoke nonsense, before the program had ended.
    pub const BROKEN: i32 = 122;
    /// Time ran out.
    pub const TIMEOUT: i32 = 124;
    /// The run could not be set up.
    pub const SETUP: i32 = 125;
    /// The file is not a program that can be run.
    pub const NOT_RUNNABLE: i32 = 126;
    /// There is no such file.
    pub const NOT_FOUND: i32 = 127;
    /// A signal ended the program: this and its number.
    pub const SIGNAL: i32 = 128;
}

const STATUSES: &str = "Exit status: the program's own; 128+N when signal N ended it; 120 the kernel panicked; 121 the \
audit failed; 122 the machine stopped before the program did; 124 time ran out; 125 the run could not be set up; 126 \
the file is not a program that can be run; 127 there is no such file; 2 wrong usage.";

/// Runs a Linux program on the Quire kernel under QEMU.
#[derive(Parser)]
#[command(name = "run.sh exec", bin_name = "run.sh exec", after_help = STATUSES)]
#[command(override_usage = "run.sh exec [OPTIONS] PROGRAM [ARGUMENT]...", args_override_self = true)]
struct Options {
    /// Number of CPUs
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    cpus: u32,
    /// Memory in MiB
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = clap::value_parser!(u32).range(32..))]
    mem: u32,
    /// Swap to a disk: SIZE (512M, 1G; a new image, gone afterwards) or FILE (a raw image or a device prepared by mkswap)
    #[arg(long, value_name = "SIZE|FILE", value_parser = SwapParser)]
    swap: Option<Swap>,
    /// Stop after this many seconds (status 124); 0 means never
    #[arg(long, value_name = "S", default_value_t = 60.0, value_parser = seconds)]
    timeout: f64,
    /// Add to the program's environment, or replace what is there
    #[arg(long, value_name = "NAME=VALUE", value_parser = AssignmentParser)]
    env: Vec<OsString>,
    /// Put a file or a directory into the guest, at its own path or at another one
    #[arg(long, value_name = "PATH[:GUEST]")]
    file: Vec<PathBuf>,
    /// Check every frame, table and reference when the program has ended (status 121)
    #[arg(long)]
    audit: bool,
    /// Print the kernel's counters on standard error at exit
    #[arg(long)]
    stats: bool,
    /// Count instructions instead of time: one nanosecond of guest time each
    #[arg(long)]
    icount: bool,
    /// What executes the guest's instructions
    #[arg(long, value_enum, default_value_t = Engine::Tcg)]
    accel: Engine,
    /// Show the kernel's log on standard error
    #[arg(long)]
    verbose: bool,
    /// For tests: more options for QEMU's -drive of the swap disk
    #[arg(long, hide = true, value_name = "OPTIONS", requires = "swap", default_value = "", hide_default_value = true)]
    swap_drive: String,
    /// For tests: a configuration of QEMU's blkdebug for the swap disk
    #[arg(long, hide = true, value_name = "FILE", requires = "swap")]
    swap_blkdebug: Option<PathBuf>,
    /// For tests: leave it to the kernel to refuse the swap disk
    #[arg(long, hide = true, requires = "swap")]
    swap_unchecked: bool,
    /// For tests: seconds after which a swap disk that does not answer counts as dead
    #[arg(long, hide = true, value_name = "S", requires = "swap")]
    swap_limit: Option<u32>,
    /// For tests: options for the kernel
    #[arg(long, hide = true, value_name = "OPTION")]
    option: Vec<String>,
    #[arg(long, hide = true)]
    kernel: PathBuf,
    #[arg(long, hide = true, default_value = "target/logs")]
    logs: PathBuf,
    #[arg(long, hide = true, default_value = "qemu-system-x86_64")]
    qemu: PathBuf,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "PROGRAM")]
    command: Vec<OsString>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Engine {
    /// QEMU's translator
    Tcg,
    /// The host's virtualisation
    Kvm,
    /// The host's virtualisation where it can be used, else the translator
    Auto,
}

/// Takes a path that is not UTF-8, too.
#[derive(Clone)]
struct SwapParser;

impl clap::builder::TypedValueParser for SwapParser {
    type Value = Swap;
    fn parse_ref(&self, command: &clap::Command, _: Option<&clap::Arg>, text: &OsStr) -> Result<Swap, clap::Error> {
        Swap::parse(text).map_err(|why| {
            let what = format!("invalid value '{}' for '--swap <SIZE|FILE>': {why}\n", show(text));
            clap::Error::raw(clap::error::ErrorKind::ValueValidation, what).with_cmd(command)
        })
    }
}

/// `NAME=VALUE`, in any bytes.
#[derive(Clone)]
struct AssignmentParser;

impl clap::builder::TypedValueParser for AssignmentParser {
    type Value = OsString;
    fn parse_ref(&self, command: &clap::Command, _: Option<&clap::Arg>, text: &OsStr) -> Result<OsString, clap::Error> {
        if text.as_encoded_bytes().iter().position(|b| *b == b'=').is_some_and(|name| name != 0) {
            return Ok(text.to_owned());
        }
        let what = format!("invalid value '{}' for '--env <NAME=VALUE>': no NAME= in it", show(text));
        Err(command.clone().error(clap::error::ErrorKind::ValueValidation, what))
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=1e9).contains(&value) => Ok(value),
        _ => Err("not a number of seconds".into()),
    }
}

fn main() {
    let options = Options::parse();
    let (name, arguments) = options.command.split_first().unwrap_or_else(|| exit(2));
    let program = find(name).unwrap_or_else(|| fail(status::NOT_FOUND, format_args!("{}: not found", show(name))));
    if let Some(reason) = unfit(&program) {
        fail(status::NOT_RUNNABLE, format_args!("{}: {reason}", show(name)));
    }
    let image = image(&options, &program, name, arguments)
        .unwrap_or_else(|error| fail(status::SETUP, format_args!("cannot pack the programs: {error}")));
    let machine = machine(&options);
    guard(machine.timeout);
    let mut carrier = Carrier { name, outcome: None, audit_failed: false };
    let ended = Boot { machine: &machine, image: &image }
        .run(Input::Inherit, &mut carrier)
        .unwrap_or_else(|error| fail(status::SETUP, format_args!("cannot start the machine: {error}")));

    let stalled = stalls(&ended.log);
    let about_log = || eprintln!("quire: log: {}", ended.log.display());
    let wrong = |status: i32, what: std::fmt::Arguments<'_>| -> ! {
        eprintln!("quire: {what}");
        stalled.lines().for_each(|line| eprintln!("quire: {line}"));
        about_log();
        exit(status)
    };
    match ended.end {
        End::Panicked => wrong(status::PANIC, format_args!("the kernel panicked")),
        End::TimedOut => wrong(status::TIMEOUT, format_args!("timed out after {} s", options.timeout)),
        End::Broken(reason) => wrong(status::BROKEN, format_args!("{reason}")),
        End::Refused(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            // Whoever read the output has gone; Linux would have ended the program with SIGPIPE.
            let _ = fs::remove_file(&ended.log);
            exit(status::SIGNAL + libc::SIGPIPE);
        }
        End::Refused(error) => wrong(status::SETUP, format_args!("cannot write the output: {error}")),
        End::Done => {}
    }
    if carrier.audit_failed {
        wrong(status::AUDIT, format_args!("the audit failed"));
    }
    match carrier.outcome {
        None => wrong(status::BROKEN, format_args!("the machine stopped without a result")),
        Some(How::NotStarted(errno)) => {
            let reason = io::Error::from_raw_os_error(errno);
            wrong(status::NOT_RUNNABLE, format_args!("{}: {reason}", show(name)))
        }
        Some(how) => {
            match stalled.lines().next() {
                None => drop(fs::remove_file(&ended.log)),
                // It went on, so the host may have been busy: the whole report is in the log.
                Some(first) => {
                    eprintln!("quire: for a while it {first}");
                    about_log();
                }
            }
            exit(match how {
                How::Exited(status) => status & 0xff,
                How::Signalled(signal) => status::SIGNAL + (signal & 0x7f),
                How::NotStarted(_) | How::AuditFailed => status::BROKEN,
            })
        }
    }
}

/// The file that a shell would run under this name, except that the current directory is looked at first.
fn find(name: &OsStr) -> Option<PathBuf> {
    let path = Path::new(name);
    if path.exists() || path.components().count() != 1 {
        return path.exists().then(|| path.to_owned());
    }
    let directories = std::env::var_os("PATH")?;
    std::env::split_paths(&directories).map(|directory| directory.join(path)).find(|path| path.is_file())
}

/// Why this file is not even worth a boot.
fn unfit(program: &Path) -> Option<String> {
    let facts = match fs::metadata(program) {
        Ok(facts) => facts,
        Err(error) => return Some(error.to_string()),
    };
    if facts.is_dir() {
        return Some("Is a directory".into());
    }
    (facts.permissions().mode() & 0o111 == 0).then(|| "Permission denied (the file is not executable)".into())
}

fn image(options: &Options, program: &Path, name: &OsStr, arguments: &[OsString]) -> io::Result<Image> {
    let mut image = Image::new();
    for (wanted, option) in [(options.audit, "audit"), (options.stats, "stats"), (options.verbose, "verbose")] {
        if wanted {
            image.option(option);
        }
    }
    options.option.iter().for_each(|option| image.option(option));
    for file in &options.file {
        let text = file.to_string_lossy();
        match text.rsplit_once(':') {
            Some((here, guest)) if !file.exists() => image.file(Path::new(here), Path::new(guest))?,
            _ => image.file(file, file)?,
        }
    }
    let mut job = Job::new(program, name)?.args(arguments);
    for setting in &options.env {
        job = job.env(setting);
    }
    image.job(job)?;
    Ok(image)
}

fn machine(options: &Options) -> Machine {
    let mut machine = Machine::new(&options.kernel, &options.logs);
    machine.qemu.clone_from(&options.qemu);
    machine.cpus = options.cpus;
    machine.memory = options.mem;
    machine.accel = match options.accel {
        Engine::Tcg => Accel::Tcg,
        Engine::Kvm => Accel::Kvm,
        Engine::Auto => Accel::detect(),
    };
    machine.icount = options.icount;
    machine.swap = options.swap.clone().map(|swap| Swap {
        drive: options.swap_drive.clone(),
        blkdebug: options.swap_blkdebug.clone(),
        unchecked: options.swap_unchecked,
        limit: options.swap_limit,
        ..swap
    });
    machine.timeout = (options.timeout > 0.0).then(|| Duration::from_secs_f64(options.timeout));
    machine.verbose = options.verbose;
    machine
}

/// Ends this process when the time is long over and the orderly way is stuck, for instance in a write that nobody reads.
fn guard(timeout: Option<Duration>) {
    let Some(timeout) = timeout else { return };
    std::thread::spawn(move || {
        std::thread::sleep(timeout + Duration::from_secs(12));
        fail(status::TIMEOUT, format_args!("timed out"));
    });
}

/// Carries the program's output to this process's own, unbuffered and unchanged.
struct Carrier<'a> {
    name: &'a OsStr,
    outcome: Option<How>,
    audit_failed: bool,
}

impl Sink for Carrier<'_> {
    fn take(&mut self, event: &Event<'_>) -> io::Result<()> {
        match *event {
            Event::Stdout(bytes) => write_all(1, bytes)?,
            // A closed standard error is no reason to end the program.
            Event::Stderr(bytes) => drop(write_all(2, bytes)),
            Event::Line(line) => eprintln!("{}", line.trim_end()),
            Event::Panicked(report) => eprintln!("quire: {}: {}", show(self.name), report.trim_end()),
            Event::Ended(_, How::AuditFailed) => self.audit_failed = true,
            Event::Ended(_, how) => self.outcome = Some(how),
            Event::Done | Event::Started(_) => {}
        }
        Ok(())
    }
}

/// Writes past the standard library's line buffer.
fn write_all(fd: i32, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: the descriptor is this process's standard output or error; `ManuallyDrop` keeps it from being closed.
    let mut file = std::mem::ManuallyDrop::new(unsafe { fs::File::from_raw_fd(fd) });
    file.write_all(bytes)
}

fn show(name: &OsStr) -> std::path::Display<'_> {
    Path::new(name).display()
}

fn fail(status: i32, what: std::fmt::Arguments<'_>) -> ! {
    eprintln!("quire: {what}");
    exit(status)
}
