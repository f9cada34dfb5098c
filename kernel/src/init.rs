//! Process 1: runs the jobs that the host asks for, one after the other, and reports how each ended.

use crate::debug::provoke;
use crate::fs::console::Console;
use crate::fs::{self, FileTable, OpenFile};
use crate::host;
use crate::proc::exec::{Image, enter, new_space};
use crate::proc::exit::{self, JOB};
use crate::proc::process::{Arguments, Ended, Exe, FsContext, Process, arc};
use crate::proc::signal::{Actions, SIGKILL};
use crate::proc::thread::{UserThread, of};
use crate::proc::tree;
use crate::report::{audit, counters};
use crate::swap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use linux_raw_sys::general as l;
use log::info;
use quire_arch::UserRegs;
use quire_base::errno::*;
use quire_base::lock::Mutex;
use quire_base::wait;
use quire_mm::Report;
use quire_sched::{self as sched, timer};
use spin::Once;

/// What quire.job asks for.
#[derive(Default)]
struct Job {
    path: Vec<u8>,
    args: Vec<Vec<u8>>,
    envs: Vec<Vec<u8>>,
    cwd: Vec<u8>,
}

/// The options of a run.
#[derive(Default)]
struct Options {
    audit: bool,
    stats: bool,
    /// Swap to the disk.
    swap: bool,
    /// Seconds after which the disk counts as dead.
    swap_limit: Option<u64>,
    /// Seconds after which something stands still.
    stall_limit: Option<u64>,
    /// What shall stand still, for the tests of the watchdog.
    stall: &'static [u8],
}

static FIRST: Once<Arc<Process>> = Once::new();
/// How long processes that outlive their job may go on.
const GRACE: u64 = 1_000_000_000;

static ARCHIVE: Once<&'static [u8]> = Once::new();

/// Starts process 1 as a thread of the kernel.
pub fn start_init(initramfs: &'static [u8]) {
    ARCHIVE.call_once(|| initramfs);
    if sched::spawn_kernel("init", init, 0).is_err() {
        info!("init: no memory for its thread");
        host::finish();
    }
}

/// Builds the file tree from the initramfs, runs all jobs, and tells the host that this is all.
fn init(_: usize) {
    let initramfs = ARCHIVE.get().copied().unwrap_or(&[]);
    let script = fs::initramfs::mount(initramfs).unwrap_or(b"");
    let (options, jobs) = parse(script);
    let first = match first_process() {
        Ok(first) => first,
        Err(error) => {
            info!("init: no memory for process 1 ({error:?})");
            host::finish();
        }
    };
    if crate::proc::timers::start().is_err() {
        info!("init: no memory for the timers' thread");
        host::finish();
    }
    if let Some(seconds) = options.swap_limit {
        swap::disk::set_limit(seconds);
    }
    if let Some(seconds) = options.stall_limit {
        wait::set_limit(seconds);
    }
    if !options.stall.is_empty() && !provoke::start(options.stall) {
        log::warn!("cannot stall: {}", fs::Printable(options.stall));
    }
    if options.swap
        && let Err(why) = swap::area::open()
    {
        log::warn!("swap: {why}");
        host::line(&alloc::format!("quire: swap: {why}"));
    }
    for (index, job) in jobs.iter().enumerate() {
        let (kind, value) = match run(&first, job) {
            Ok(Ended::Exited(code)) => (0u8, i32::from(code)),
            Ok(Ended::Killed(signal)) => (1, i32::from(signal)),
            Err(error) => (2, i32::from(error.0)),
        };
        end_stragglers(&first);
        fs::initramfs::clean();
        // Before the audit, which sends requests of its own.
        let text = options.stats.then(counters::text);
        let mut kind = kind;
        if options.audit || options.stats {
            let report = audit::audit(&[]);
            if options.audit && !judge(&report) {
                kind = 3;
            }
            if let (Some(text), Ok(report)) = (text, report) {
                tell(&text);
                tell(&counters::frames(&report));
            }
        }
        host::job_ended(index as u32, kind, value);
    }
    host::finish();
}

/// The job file: NUL-terminated strings, keys and values in turn.
fn parse(script: &'static [u8]) -> (Options, Vec<Job>) {
    let mut options = Options::default();
    let mut jobs: Vec<Job> = Vec::new();
    let mut strings = script.split(|b| *b == 0);
    while let (Some(key), Some(value)) = (strings.next(), strings.next()) {
        match (key, jobs.last_mut()) {
            (b"option", _) => match value {
                b"audit" => options.audit = true,
                b"stats" => options.stats = true,
                b"swap" => options.swap = true,
                v if v.starts_with(b"stall-limit=") => options.stall_limit = number(&v[12..]),
                v if v.starts_with(b"stall=") => options.stall = &v[6..],
                v if v.starts_with(b"swap-limit=") => options.swap_limit = number(&v[11..]),
                _ => {}
            },
            (b"job", _) => jobs.push(Job { path: value.to_vec(), cwd: b"/".to_vec(), ..Job::default() }),
            (b"arg", Some(job)) => job.args.push(value.to_vec()),
            (b"env", Some(job)) => job.envs.push(value.to_vec()),
            (b"cwd", Some(job)) => job.cwd = value.to_vec(),
            _ => info!("init: quire.job: unknown key {}", fs::Printable(key)),
        }
    }
    (options, jobs)
}

fn number(text: &[u8]) -> Option<u64> {
    core::str::from_utf8(text).ok()?.parse().ok()
}

fn first_process() -> Result<Arc<Process>, Errno> {
    let none = arc(Arguments { args: Vec::new(), envs: Vec::new() })?;
    let exe = Exe { path: Arc::from(&b"/init"[..]), file: None };
    let first = Process::new(1, Weak::new(), 1, 1, arc(Actions::new())?, exe, none)?;
    tree::lock().processes.insert(1, first.clone());
    FIRST.call_once(|| first.clone());
    Ok(first)
}

fn run(first: &Arc<Process>, job: &Job) -> Result<Ended, Errno> {
    let process = start(first, job)?;
    let ended = wait(first, &process);
    let mut tree = tree::lock();
    crate::proc::wait::bury(&mut tree, Some(first), &process);
    JOB.store(0, Ordering::Relaxed);
    Ok(ended)
}

/// Makes the job's process, as fork and execve would.
fn start(first: &Arc<Process>, job: &Job) -> Result<Arc<Process>, Errno> {
    let cwd = if fs::resolve(b"/", &job.cwd, true).is_ok_and(|(n, _)| n.is_dir()) { &job.cwd[..] } else { b"/" };
    let mut args = job.args.clone();
    if args.is_empty() {
        args.push(job.path.clone());
    }
    let image = Image::open(cwd, &job.path, args, job.envs.clone())?;
    let pid = tree::lock().new_id()?;
    let result = build(first, job, cwd, &image, pid);
    tree::lock().settle_id(pid);
    result
}

fn build(first: &Arc<Process>, job: &Job, cwd: &[u8], image: &Image, pid: u32) -> Result<Arc<Process>, Errno> {
    let actions = arc(Actions::new())?;
    let (exe, arguments) = (image.exe(), image.arguments()?);
    let process = Process::new(pid, Arc::downgrade(first), pid, pid, actions, exe, arguments)?;
    let files = arc(FileTable::new())?;
    let streams = [
        (Console::Input, l::O_RDONLY, "pipe:[10]"),
        (Console::Output, l::O_WRONLY, "pipe:[11]"),
        (Console::Error, l::O_WRONLY, "pipe:[12]"),
    ];
    for (console, flags, name) in streams {
        files.add_first(OpenFile::new(arc(console)?, flags, name.as_bytes(), None)?)?;
    }
    let cwd = fs::resolve(b"/", cwd, true)?;
    let context = arc(FsContext { cwd: Mutex::new(cwd), umask: AtomicU32::new(0o022) })?;

    // The kernel thread borrows the new space to fill it.
    let space = new_space()?;
    enter(&space)?;
    let loaded = image.load(&space, process.limit(l::RLIMIT_STACK));
    sched::current().set_space(None);
    let (begin, memory) = loaded?;

    *process.memory.lock() = Some(memory.clone());
    let user = UserThread::new(pid, process.clone(), memory, files, context, 0, image.thread_name());
    let regs = UserRegs::start(begin.rip, begin.rsp);
    let thread = sched::spawn_user(pid, user.boxed()?, &regs, 0, false).map_err(|_| ENOMEM)?;
    thread.set_space(Some(space));
    thread.set_affinity(u64::MAX);
    process.threads.lock().list.push(thread.clone());
    {
        let mut tree = tree::lock();
        tree.links(first).children.push(process.clone());
        process.parent_pid.store(first.pid, Ordering::Relaxed);
        tree.processes.insert(pid, process.clone());
        tree.threads.insert(pid, thread.clone());
    }
    JOB.store(pid, Ordering::Relaxed);
    info!("job: {} is process {}", fs::Printable(&job.path), of(&thread).tid());
    host::started();
    sched::start(&thread);
    Ok(process)
}

fn wait(first: &Arc<Process>, process: &Arc<Process>) -> Ended {
    loop {
        // A kernel thread has no signals: only the wake-up ends the wait.
        if let Ok(ended) = first.child_changed.wait(None, false, || tree::lock().links(process).ended) {
            return ended;
        }
    }
}

/// Processes that are left over get a moment, then they are ended; returns when all are gone.
fn end_stragglers(first: &Arc<Process>) {
    let alone = || tree::living(|p, _| p.pid != 1).is_empty().then_some(());
    if first.child_changed.wait(Some(timer::now_ns() + GRACE), false, alone).is_ok() {
        return;
    }
    loop {
        for process in tree::living(|p, _| p.pid != 1) {
            info!("init: ending process {}, which outlived its job", process.pid);
            exit::end_process(&process, Ended::Killed(SIGKILL));
        }
        if first.child_changed.wait(Some(timer::now_ns() + GRACE / 10), false, alone).is_ok() {
            return;
        }
    }
}

/// Whether the audit found nothing amiss; says so if it did.
fn judge(report: &Result<Report, ()>) -> bool {
    match report {
        Ok(report) if report.is_clean() => true,
        Ok(report) => {
            info!("audit: {report:?}");
            host::line(&alloc::format!("audit: {report:?}"));
            false
        }
        Err(()) => {
            host::line("audit: no memory to count in");
            false
        }
    }
}

fn tell(lines: &str) {
    lines.lines().for_each(host::line);
}
