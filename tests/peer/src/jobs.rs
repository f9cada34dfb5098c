//! The jobs of `quire.job`: NUL-terminated strings in pairs, a key and its value (`option`, then for each job `job`,
//! `arg`..., `env`..., `cwd`).

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};

use crate::frames::Host;

/// What to do.
#[derive(Default)]
pub struct Script {
    /// Options for the kernel; only `swap` means anything here.
    pub options: Vec<OsString>,
    /// Programs, one after the other.
    pub jobs: Vec<Job>,
}

/// One program.
#[derive(Default)]
pub struct Job {
    program: OsString,
    /// `argv`, the program's own name first.
    arguments: Vec<OsString>,
    environment: Vec<OsString>,
    directory: OsString,
}

/// Reads the script. What it does not know it leaves out, as the kernel does.
pub fn read(bytes: &[u8]) -> Script {
    let mut script = Script::default();
    let mut parts = bytes.split(|&byte| byte == 0);
    while let (Some(key), Some(value)) = (parts.next(), parts.next()) {
        let value = OsString::from_vec(value.to_vec());
        match (key, script.jobs.last_mut()) {
            (b"option", _) => script.options.push(value),
            (b"job", _) => script.jobs.push(Job { program: value, ..Job::default() }),
            (b"arg", Some(job)) => job.arguments.push(value),
            (b"env", Some(job)) => job.environment.push(value),
            (b"cwd", Some(job)) => job.directory = value,
            _ => {}
        }
    }
    script
}

/// Runs one job to its end, then tells what it wrote and how it ended.
pub fn run(job: &Job, number: u32, host: &mut Host) -> io::Result<()> {
    let (mut stdout, mut stderr) = (memory_file()?, memory_file()?);
    let how = start(job, stdout.try_clone()?, stderr.try_clone()?);
    host.stdout(&whole(&mut stdout)?)?;
    host.stderr(&whole(&mut stderr)?)?;
    host.ended(number, &how)
}

fn start(job: &Job, stdout: File, stderr: File) -> io::Result<ExitStatus> {
    let mut command = Command::new(&job.program);
    if let Some((name, rest)) = job.arguments.split_first() {
        command.arg0(name).args(rest);
    }
    command.env_clear();
    for setting in &job.environment {
        if let Some((name, value)) = split(setting) {
            command.env(name, value);
        }
    }
    command.current_dir(&job.directory).stdin(Stdio::null()).stdout(stdout).stderr(stderr).status()
}

/// `NAME=VALUE` in two.
fn split(setting: &OsString) -> Option<(OsString, OsString)> {
    let bytes = setting.as_encoded_bytes();
    let at = bytes.iter().position(|&byte| byte == b'=')?;
    Some((OsString::from_vec(bytes[..at].to_vec()), OsString::from_vec(bytes[at + 1..].to_vec())))
}

fn memory_file() -> io::Result<File> {
    // SAFETY: the name is a NUL-terminated string that lives through the call.
    let fd = unsafe { libc::memfd_create(c"output".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so `fd` is open, and nobody else owns it.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

fn whole(file: &mut File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}
