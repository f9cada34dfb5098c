//! What Linux says: the same program, the same arguments, run on the host.

use std::collections::HashMap;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{LazyLock, Mutex};

use quire_launch::How;

/// What a program did on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Standard output.
    pub stdout: Vec<u8>,
    /// How it ended.
    pub how: How,
}

/// Runs the program here, once for each set of arguments, with the environment that Quire gives.
pub fn ask(program: &Path, arguments: &[String]) -> Answer {
    static KNOWN: LazyLock<Mutex<HashMap<String, Answer>>> = LazyLock::new(Mutex::default);
    let key = format!("{} {arguments:?}", program.display());
    if let Some(answer) = KNOWN.lock().ok().and_then(|known| known.get(&key).cloned()) {
        return answer;
    }
    let answer = run(program, arguments);
    if let Ok(mut known) = KNOWN.lock() {
        known.insert(key, answer.clone());
    }
    answer
}

fn run(program: &Path, arguments: &[String]) -> Answer {
    let mut command = Command::new(program);
    command.arg0(program.file_name().unwrap_or_default()).args(arguments).stdin(Stdio::null()).stderr(Stdio::null());
    command.env_clear().envs([
        ("PATH", "/usr/bin:/bin"),
        ("HOME", "/"),
        ("TERM", "dumb"),
        ("LANG", "C"),
        ("USER", "root"),
    ]);
    match command.output() {
        Ok(output) => Answer {
            stdout: output.stdout,
            how: match output.status.signal() {
                Some(signal) => How::Signalled(signal),
                None => How::Exited(output.status.code().unwrap_or(-1)),
            },
        },
        Err(error) => Answer { stdout: Vec::new(), how: How::NotStarted(error.raw_os_error().unwrap_or(0)) },
    }
}
