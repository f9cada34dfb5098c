//! One run: start QEMU, pump bytes both ways, learn how it ended.

use std::borrow::Cow;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::frame::{self, Event, Frames};
use crate::image::Image;
use crate::machine::{Machine, PANIC_STATUS};
use crate::monitor;
use crate::swap::Ready;

/// Bytes of standard input sent as one frame.
const CHUNK: usize = 16 << 10;

/// Where standard input comes from.
#[derive(Debug)]
pub enum Input {
    /// These bytes, then the end.
    Bytes(Vec<u8>),
    /// This process's own standard input, until its end. It is read ahead, as `ssh` does.
    Inherit,
}

/// Takes what the guest says.
pub trait Sink {
    /// One event; an error ends the run.
    fn take(&mut self, event: &Event<'_>) -> io::Result<()>;
}

/// How a run ended.
#[derive(Debug)]
pub enum End {
    /// Every job ran and the guest said so.
    Done,
    /// The kernel panicked.
    Panicked,
    /// Time ran out.
    TimedOut,
    /// QEMU ended without the guest's last word, for the reason given.
    Broken(String),
    /// The sink refused an event.
    Refused(io::Error),
}

/// A machine and what it shall run.
#[derive(Debug)]
pub struct Boot<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// Programs, files and options.
    pub image: &'a Image,
}

/// What is left of a run.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub end: End,
    /// The kernel's log and QEMU's own messages.
    pub log: PathBuf,
    /// From the start of QEMU to its end.
    pub took: Duration,
}

impl Boot<'_> {
    /// Runs to the end. `Err` means that the run could not even begin.
    pub fn run(&self, input: Input, sink: &mut dyn Sink) -> io::Result<Ended> {
        let image = self.packed()?;
        let swap = self.machine.swap.as_ref().map(|swap| swap.ready(&self.machine.logs)).transpose()?;
        let log = new_log(&self.machine.logs)?;
        let began = Instant::now();
        let (monitor, theirs) = UnixStream::pair()?;
        let mut child = self.start(&image, &log, swap.as_ref(), &theirs)?;
        drop(theirs);
        let end = self.attend(&mut child, &log, monitor, input, sink);
        // Whatever happened, QEMU is gone and reaped before its log is anyone else's.
        let _ = child.kill();
        let status = child.wait()?;
        let end = match end {
            Watched::Ended(end) => end,
            Watched::Silent => silent_end(status),
        };
        Ok(Ended { end, log, took: began.elapsed() })
    }

    /// The archive, in a file without a name: nothing to clean up, however this process ends.
    fn packed(&self) -> io::Result<File> {
        // SAFETY: the name is a NUL-terminated string that lives through the call.
        let fd = unsafe { libc::memfd_create(c"initramfs".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded, so `fd` is open, and nobody else owns it.
        let mut file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        let mut image = Cow::Borrowed(self.image);
        if let Some(swap) = &self.machine.swap {
            image.to_mut().option("swap");
            if let Some(seconds) = swap.limit {
                image.to_mut().option(format!("swap-limit={seconds}"));
            }
        }
        image.write(io::BufWriter::with_capacity(1 << 20, &mut file))?;
        let (size, room) = (file.stream_position()?, u64::from(self.machine.memory) << 20);
        if size > room / 4 * 3 {
            return Err(io::Error::other(format!(
                "programs and files take {} MiB of a machine with {} MiB: give it more with --mem",
                size >> 20,
                room >> 20
            )));
        }
        Ok(file)
    }

    fn start(&self, image: &File, log: &Path, swap: Option<&Ready>, monitor: &UnixStream) -> io::Result<Child> {
        let machine = self.machine;
        let mut command = Command::new(&machine.qemu);
        command
            .args(machine.arguments(image.as_raw_fd(), log, swap, monitor.as_raw_fd()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        command.stderr(OpenOptions::new().append(true).open(log)?);
        let parent = std::process::id();
        let disk = swap.and_then(|swap| swap.file.as_ref()).map(AsRawFd::as_raw_fd);
        let kept = [Some(image.as_raw_fd()), Some(monitor.as_raw_fd()), disk];
        // SAFETY: `prepare` makes system calls only, each of which may be made between fork and exec.
        unsafe { command.pre_exec(move || prepare(parent, kept)) };
        let what = |error| io::Error::new(io::Error::kind(&error), format!("{}: {error}", machine.qemu.display()));
        let child = command.spawn().map_err(what)?;
        for fd in [child.stdin.as_ref().map(AsRawFd::as_raw_fd), child.stdout.as_ref().map(AsRawFd::as_raw_fd)] {
            // SAFETY: the descriptor is open as long as `child` is. A refusal costs speed only, so it is not looked at.
            unsafe { libc::fcntl(fd.unwrap_or(-1), libc::F_SETPIPE_SZ, 1 << 20) };
        }
        Ok(child)
    }

    /// Carries bytes until the guest has no more to say, then waits for QEMU to go by itself for a moment.
    fn attend(&self, child: &mut Child, log: &Path, monitor: UnixStream, input: Input, sink: &mut dyn Sink) -> Watched {
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else { return Watched::Silent };
        // QEMU throws output away when its standard input closes, so one copy of the pipe's end stays open to the end.
        let Ok(kept_open) = stdin.as_fd_owned() else { return Watched::Silent };
        let pid = child.id();
        let timeout = self.machine.timeout;
        thread::scope(|scope| {
            let (finished, watch) = mpsc::channel::<()>();
            let watchdog = scope.spawn(move || watchdog(&watch, timeout, pid, monitor, log));
            if let Input::Bytes(bytes) = input {
                scope.spawn(move || drop(feed(stdin, &bytes[..])));
            } else {
                // Not waited for: it may sit in a read of this process's own input for as long as it likes.
                thread::spawn(move || drop(feed(stdin, Inherited)));
            }
            let (quiet, tail) = mpsc::channel::<()>();
            if self.machine.verbose {
                scope.spawn(move || show_log(log, &tail));
            }
            let mut watched = pump(BufReader::with_capacity(1 << 16, stdout), sink);
            if !matches!(watched, Watched::Ended(End::Refused(_))) {
                let _ = wait_a_moment(child);
            }
            let _ = child.kill();
            drop(finished);
            drop(quiet);
            if watchdog.join().is_ok_and(|timed_out| timed_out) && matches!(watched, Watched::Silent) {
                watched = Watched::Ended(End::TimedOut);
            }
            drop(kept_open);
            watched
        })
    }
}

/// What the channel told.
enum Watched {
    Ended(End),
    /// It closed without a last word.
    Silent,
}

trait AsFdOwned {
    fn as_fd_owned(&self) -> io::Result<OwnedFd>;
}

impl AsFdOwned for ChildStdin {
    fn as_fd_owned(&self) -> io::Result<OwnedFd> {
        std::os::fd::AsFd::as_fd(self).try_clone_to_owned()
    }
}

/// In the child, before QEMU: die with the parent, keep the descriptors of archive, monitor and swap image.
fn prepare(parent: u32, kept: [Option<RawFd>; 3]) -> io::Result<()> {
    // SAFETY: plain system calls on values.
    let done = unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == 0
            && kept.into_iter().flatten().all(|fd| libc::fcntl(fd, libc::F_SETFD, 0) == 0)
    };
    if !done {
        return Err(io::Error::last_os_error());
    }
    // The parent may have died before the first call: then nobody would send the signal.
    if std::os::unix::process::parent_id() != parent {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    Ok(())
}

/// Hands every event on, to the last.
fn pump(from: impl Read, sink: &mut dyn Sink) -> Watched {
    let mut frames = Frames::new(from);
    let mut last = Watched::Silent;
    loop {
        match frames.next_event() {
            Ok(Some(event)) => {
                if let Err(error) = sink.take(&event) {
                    return Watched::Ended(End::Refused(error));
                }
                match event {
                    Event::Panicked(_) => last = Watched::Ended(End::Panicked),
                    Event::Done => return Watched::Ended(End::Done),
                    _ => {}
                }
            }
            Ok(None) => return last,
            Err(error) => return Watched::Ended(End::Broken(error.to_string())),
        }
    }
}

fn silent_end(status: ExitStatus) -> End {
    match status.code() {
        Some(PANIC_STATUS) => End::Panicked,
        _ => End::Broken(format!("the machine stopped without a word (QEMU: {status})")),
    }
}

/// Kills QEMU when time runs out, after the kernel has said where everything stands; true if it did. The process cannot have been reaped, and its number reused, before
/// the channel's other end is dropped.
fn watchdog(
    finished: &mpsc::Receiver<()>,
    timeout: Option<Duration>,
    pid: u32,
    monitor: UnixStream,
    log: &Path,
) -> bool {
    let timed_out = match timeout {
        Some(time) => matches!(finished.recv_timeout(time), Err(RecvTimeoutError::Timeout)),
        None => finished.recv().is_ok(),
    };
    if timed_out {
        monitor::report(monitor, log);
        // SAFETY: a system call on values.
        unsafe { libc::kill(pid.cast_signed(), libc::SIGKILL) };
    }
    timed_out
}

/// After its last word the guest powers off: that takes QEMU a few milliseconds.
fn wait_a_moment(child: &mut Child) -> io::Result<()> {
    let patience = Instant::now() + Duration::from_secs(2);
    while child.try_wait()?.is_none() && Instant::now() < patience {
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Sends `from` to its end. An error means that QEMU is gone, which others notice.
fn feed(mut to: ChildStdin, mut from: impl Read) -> io::Result<()> {
    let mut chunk = [0; CHUNK];
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return frame::send_end_of_input(&mut to),
            Ok(length) => frame::send_input(&mut to, &chunk[..length])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return frame::send_end_of_input(&mut to),
        }
    }
}

/// This process's standard input, unbuffered. A background job of a terminal is not stopped for reading what its
/// program never asked for: it reads when it is brought to the foreground.
struct Inherited;

impl Read for Inherited {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // SAFETY: system calls on values; each returns -1 where there is no terminal.
        while unsafe { libc::tcgetpgrp(0) >= 0 && libc::tcgetpgrp(0) != libc::getpgrp() } {
            thread::sleep(Duration::from_millis(100));
        }
        // SAFETY: `buffer` is writable for its length.
        let length = unsafe { libc::read(0, buffer.as_mut_ptr().cast(), buffer.len()) };
        usize::try_from(length).map_err(|_| io::Error::last_os_error())
    }
}

/// A log file of this run's own.
fn new_log(directory: &Path) -> io::Result<PathBuf> {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    fs::create_dir_all(directory)?;
    loop {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        let path = directory.join(format!("{}-{}-{run}.log", since.as_secs(), std::process::id()));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(_) => return std::path::absolute(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
        }
    }
}

/// Copies the growing log to standard error, until `quiet` closes, then its rest.
fn show_log(log: &Path, quiet: &mpsc::Receiver<()>) {
    let Ok(mut file) = File::open(log) else { return };
    loop {
        let last = !matches!(quiet.recv_timeout(Duration::from_millis(20)), Err(RecvTimeoutError::Timeout));
        let mut news = Vec::new();
        if file.read_to_end(&mut news).is_err() || io::stderr().write_all(&news).is_err() || last {
            return;
        }
    }
}
