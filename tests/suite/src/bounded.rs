//! The output of another program, within a limit of time.
//!
//! The end of a pipe comes when everybody has closed it, so who waits for it waits for children of the program, too. Each program has a
//! process group of its own, and when it is over, or its time is, the whole group goes.

use std::fmt::Display;
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, parent_id};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

/// Time for programs that have a limit of their own, and should have ended by it.
pub const OWN_LIMIT: Duration = Duration::from_secs(900);

/// Runs the command with this standard input, to its end and to that of its output. An error says which program it was.
pub fn output(command: &mut Command, input: &[u8], limit: Duration) -> Result<Output, String> {
    let end = Instant::now() + limit;
    command.stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() });
    let mut group = Group(start(command).map_err(|error| told(command, &error))?);
    let (stdin, input) = (group.0.stdin.take(), input.to_vec());
    // The program may end without having read it all.
    thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(&input)));
    let (stdout, stderr) = (bytes_of(group.0.stdout.take()), bytes_of(group.0.stderr.take()));
    let collected = left(&stdout, end).zip(left(&stderr, end));
    let over = group.is_over_by(end);
    let status = group.end().map_err(|error| told(command, &error))?;
    match collected {
        Some((stdout, stderr)) if over => Ok(Output { status, stdout, stderr }),
        _ => {
            let why = if over { "it ended, but a child of it keeps its output open" } else { "it still runs" };
            Err(told(command, &format_args!("no end within {} s: {why}", limit.as_secs())))
        }
    }
}

fn told(command: &Command, what: &dyn Display) -> String {
    let mut words = vec![command.get_program().to_string_lossy()];
    words.extend(command.get_args().map(|word| word.to_string_lossy()));
    format!("{}: {what}", words.join(" "))
}

fn start(command: &mut Command) -> io::Result<Child> {
    let parent = std::process::id();
    // SAFETY: `follow` makes system calls only, each of which may be made between fork and exec.
    unsafe { command.pre_exec(move || follow(parent)) };
    command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
}

/// In the child: it ends with its parent, which a terminal's signal ends alone now.
fn follow(parent: u32) -> io::Result<()> {
    // SAFETY: a system call on values.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // The parent may have died before: then nobody would send the signal.
    if parent_id() == parent { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) }
}

/// Reads to the end beside the caller. A process that has left the group may keep the reader for ever, but not the caller.
fn bytes_of(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
        // Nobody receives when the time was over.
        let _ = send.send(bytes);
    });
    receive
}

fn left<T>(receive: &Receiver<T>, end: Instant) -> Option<T> {
    receive.recv_timeout(end.saturating_duration_since(Instant::now())).ok()
}

/// A child that leads a process group. It is reaped after its group was killed, so that the number is still the group's.
struct Group(Child);

impl Group {
    /// Waits for the end of the child itself, which stays a zombie.
    fn is_over_by(&self, end: Instant) -> bool {
        loop {
            // SAFETY: the structure is written in place; all zero is a value of it.
            let over = unsafe {
                let mut info: libc::siginfo_t = std::mem::zeroed();
                let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
                libc::waitid(libc::P_PID, self.0.id(), &raw mut info, options) == 0 && info.si_pid() != 0
            };
            if over || Instant::now() >= end {
                return over;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn end(&mut self) -> io::Result<std::process::ExitStatus> {
        // SAFETY: a system call on values; the number is this child's, which has not been reaped.
        unsafe { libc::kill(-self.0.id().cast_signed(), libc::SIGKILL) };
        self.0.wait()
    }
}
