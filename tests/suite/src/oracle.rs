//! What Linux says: the same program, the same arguments, run on the host.

use std::collections::HashMap;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::Command;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use quire_launch::How;

use crate::bounded;

/// As long as a whole boot may take: the host may be busy.
const LIMIT: Duration = Duration::from_secs(300);

/// What a program did on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Standard output.
    pub stdout: Vec<u8>,
    /// How it ended.
    pub how: How,
}

/// Runs the program here, once for each set of arguments, with the environment that Quire gives. An error: it came to no end.
pub fn ask(program: &Path, arguments: &[String]) -> Result<Answer, String> {
    static KNOWN: LazyLock<Mutex<HashMap<String, Answer>>> = LazyLock::new(Mutex::default);
    let key = format!("{} {arguments:?}", program.display());
    if let Some(answer) = KNOWN.lock().ok().and_then(|known| known.get(&key).cloned()) {
        return Ok(answer);
    }
    let answer = run(program, arguments)?;
    if let Ok(mut known) = KNOWN.lock() {
        known.insert(key, answer.clone());
    }
    Ok(answer)
}

fn run(program: &Path, arguments: &[String]) -> Result<Answer, String> {
    let mut command = Command::new(program);
    command.arg0(program.file_name().unwrap_or_default()).args(arguments);
    command.env_clear().envs([
        ("PATH", "/usr/bin:/bin"),
        ("HOME", "/"),
        ("TERM", "dumb"),
        ("LANG", "C"),
        ("USER", "root"),
    ]);
    let output = bounded::output(&mut command, b"", LIMIT)?;
    let how = match output.status.signal() {
        Some(signal) => How::Signalled(signal),
        None => How::Exited(output.status.code().unwrap_or(-1)),
    };
    Ok(Answer { stdout: output.stdout, how })
}
