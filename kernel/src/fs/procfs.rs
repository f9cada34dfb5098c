//! /proc and /sys, as far as allocators, run-time libraries and curious programs read them.

use super::busy::Running;
use super::entry::{LINKS, Place, ProcEntry, SYSCTL, SYSTEM, System, TEXTS, Text, Who};
use super::inode::new_number;
use super::proc_text as text;
use super::stat::kind;
use super::text::copied;
use super::walk::{root, shown_path};
use super::{Inode, Kind};
use crate::mem::memory;
use crate::proc::charge;
use crate::proc::process::Process;
use crate::proc::thread::{self, of};
use crate::proc::{oom, tree};
use crate::swap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Bound;
use core::sync::atomic::Ordering;
use quire_base::errno::*;
use quire_sched::ThreadRef;
use spin::Once;

const MOUNTS: &[u8] = b"rootfs / rootfs rw 0 0\nproc /proc proc rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n";

fn node(entry: ProcEntry) -> Arc<Inode> {
    let mode = match entry {
        entry if entry.is_written() => 0o644,
        entry if entry.file_type() == kind::REG => 0o444,
        _ => 0o555,
    };
    Inode::new(Kind::Proc(entry), mode)
}

/// A number as /proc writes it: no sign, and no zero before it.
fn number(name: &[u8]) -> Option<u32> {
    let is_plain = name.iter().all(u8::is_ascii_digit) && (name == b"0" || name.first() != Some(&b'0'));
    core::str::from_utf8(name).ok().filter(|_| is_plain)?.parse().ok()
}

/// The entry `name` of a directory.
pub fn lookup(dir: &ProcEntry, name: &[u8]) -> Option<Arc<Inode>> {
    let text = core::str::from_utf8(name).ok()?;
    let found = match dir {
        ProcEntry::Root => match text {
            "self" => ProcEntry::SelfLink,
            "thread-self" => ProcEntry::ThreadSelf,
            "mounts" => ProcEntry::Of(Who::of(thread::current()), Text::Mounts),
            "sys" => return Some(sysctl()),
            _ => match SYSTEM.iter().find(|(n, _)| *n == text) {
                Some((_, file)) => ProcEntry::System(*file),
                None => ProcEntry::Process(Who::of(&*tree::process_of(number(name)?)?)),
            },
        },
        ProcEntry::Process(_) | ProcEntry::Tasks(_) | ProcEntry::Task(_) if !dir.is_there() => return None,
        ProcEntry::Process(who) if text == "task" => ProcEntry::Tasks(*who),
        ProcEntry::Process(who) | ProcEntry::Task(who) if text == "fd" => ProcEntry::Fds(*who),
        ProcEntry::Process(who) | ProcEntry::Task(who) => {
            let link = LINKS.iter().find(|(n, _)| *n == text).map(|(_, place)| ProcEntry::Link(*who, *place));
            let file = || TEXTS.iter().find(|(n, _)| *n == text).map(|(_, text)| ProcEntry::Of(*who, *text));
            link.or_else(file)?
        }
        ProcEntry::Tasks(who) => ProcEntry::Task(who.thread_of(number(name)?)?),
        ProcEntry::Fds(who) => {
            let fd = number(name)? as i32;
            who.file(fd).ok()?;
            ProcEntry::Fd(*who, fd)
        }
        _ => return None,
    };
    Some(node(found))
}

/// The directories and constants of /proc/sys.
static SYSCTL_ROOT: Once<Arc<Inode>> = Once::new();

/// /proc/sys
pub fn sysctl() -> Arc<Inode> {
    SYSCTL_ROOT.call_once(make_sysctl).clone()
}

fn make_sysctl() -> Arc<Inode> {
    let root = Inode::directory(0o555);
    for (path, file) in SYSCTL {
        let mut at = root.clone();
        let mut parts = path.split('/').peekable();
        while let Some(part) = parts.next() {
            let next = {
                let Kind::Dir(entries) = &at.kind else { break };
                let last = parts.peek().is_none();
                let make = || if last { node(ProcEntry::System(file)) } else { Inode::directory(0o555) };
                entries.lock().entry(part.as_bytes().to_vec()).or_insert_with(make).clone()
            };
            at = next;
        }
    }
    root
}

/// Name, inode number and type of what is in a directory, as [`super::directory`] gives them.
type Listed = (Vec<u8>, u64, u32);

/// The numbers that `next` names, each with the one before it: what programs make many of is looked at one by one, locked for that alone.
fn numbers(mut next: impl FnMut(Option<u32>) -> Option<u32>) -> impl Iterator<Item = u32> {
    let (mut last, mut n) = (None, 0);
    core::iter::from_fn(move || {
        n += 1;
        last = next(last).filter(|_| charge::go_on(n));
        last
    })
}

/// Adds to `out` up to `room` of what is in a directory, but for the first `skip`. There is room for them in `out`.
pub fn list(dir: &ProcEntry, skip: usize, room: usize, out: &mut Vec<Listed>) {
    let number = |entry: &ProcEntry| entry.number().unwrap_or_else(new_number);
    let one = |name: &str, entry: ProcEntry| (name.as_bytes().to_vec(), number(&entry), entry.file_type());
    let numbered = |n: u32, entry: ProcEntry| one(&alloc::format!("{n}"), entry);
    match dir {
        ProcEntry::Root => {
            let fixed = SYSTEM.iter().map(|(n, file)| one(n, ProcEntry::System(*file)));
            let own = [one("self", ProcEntry::SelfLink), one("thread-self", ProcEntry::ThreadSelf)];
            let sys = [(b"sys".to_vec(), sysctl().ino, kind::DIR)];
            let pids = numbers(|last| {
                let from = last.map_or(Bound::Unbounded, Bound::Excluded);
                tree::lock().processes.range((from, Bound::Unbounded)).next().map(|(pid, _)| *pid)
            });
            let all = fixed.chain(own).chain(sys).map(Ok).chain(pids.map(Err)).skip(skip).take(room);
            out.extend(
                all.map(|entry| entry.unwrap_or_else(|pid| numbered(pid, ProcEntry::Process(Who::listed(pid, 0))))),
            );
        }
        ProcEntry::Process(who) | ProcEntry::Task(who) => {
            let texts = TEXTS.iter().map(|(n, text)| one(n, ProcEntry::Of(*who, *text)));
            let links = LINKS.iter().map(|(n, place)| one(n, ProcEntry::Link(*who, *place)));
            let tasks = (who.tid == 0).then(|| one("task", ProcEntry::Tasks(*who)));
            let dirs = [one("fd", ProcEntry::Fds(*who))].into_iter().chain(tasks);
            out.extend(texts.chain(links).chain(dirs).skip(skip).take(room));
        }
        ProcEntry::Tasks(who) => {
            let Some(process) = who.process() else { return };
            let mut n = skip;
            let tids = numbers(|_| {
                let threads = process.threads.lock();
                n += 1;
                match threads.leader_ended {
                    Some(_) if n == 1 => Some(who.pid),
                    gone => threads.list.get(n - 1 - usize::from(gone.is_some())).map(|t| of(t).tid()),
                }
            });
            out.extend(tids.take(room).map(|tid| numbered(tid, ProcEntry::Task(Who::listed(who.pid, tid)))));
        }
        ProcEntry::Fds(who) => {
            let Ok(files) = who.files() else { return };
            let fds = numbers(|last| files.next(last.map_or(0, |fd| fd as usize + 1)).map(|fd| fd as u32));
            out.extend(fds.skip(skip).take(room).map(|fd| numbered(fd, ProcEntry::Fd(*who, fd as i32))));
        }
        _ => {}
    }
}

/// The program of a process, as long as that, or the thread that is asked about, has its memory.
fn exe_of(who: Who) -> Result<(Arc<[u8]>, Running), Errno> {
    let (process, thread) = who.with_thread().ok_or(ENOENT)?;
    process.shown_memory(thread.as_ref()).ok_or(ENOENT)?;
    let exe = process.exe.lock().clone();
    exe.file.map(|file| (exe.path, file)).ok_or(ENOENT)
}

/// What a link says; `None` when the entry is no link.
pub fn read_link(entry: &ProcEntry) -> Option<Result<Vec<u8>, Errno>> {
    let result = match entry {
        ProcEntry::SelfLink => Ok(alloc::format!("/proc/{}", thread::current().pid).into_bytes()),
        ProcEntry::ThreadSelf => {
            let me = thread::user();
            Ok(alloc::format!("/proc/{}/task/{}", me.process.pid, me.tid()).into_bytes())
        }
        ProcEntry::Fd(who, fd) => who.file(*fd).and_then(|file| file.shown_path()),
        ProcEntry::Link(who, Place::Exe) => exe_of(*who).and_then(|(path, file)| shown_path(file.node(), &path)),
        ProcEntry::Link(who, Place::Cwd) => who.fs().and_then(|fs| fs.map_or(Ok(b"/".to_vec()), |fs| fs.shown_cwd())),
        ProcEntry::Link(who, Place::Root) => who.fs().map(|_| b"/".to_vec()),
        _ => return None,
    };
    Some(result)
}

/// What a link leads to, and the path by which it was opened.
pub type Followed = (Arc<Inode>, Vec<u8>);

/// What a link of a process leads to, and the path by which that was opened, or made a program: the thing itself, which need not have
/// a path any more. `None` when the entry is no such link.
pub fn follow(entry: &ProcEntry) -> Option<Result<Followed, Errno>> {
    let at_root = || (root(), b"/".to_vec());
    Some(match *entry {
        ProcEntry::Fd(who, fd) => who.file(fd).map(|file| (file.node(), file.path.to_vec())),
        ProcEntry::Link(who, Place::Exe) => exe_of(who).map(|(path, file)| (file.node().clone(), path.to_vec())),
        ProcEntry::Link(who, Place::Cwd) => who.fs().map(|fs| fs.map_or_else(at_root, |fs| fs.cwd.lock().clone())),
        ProcEntry::Link(who, Place::Root) => who.fs().map(|_| at_root()),
        _ => return None,
    })
}

/// Whether a file can be opened: some need what a process that is ending has no more. What is open can be read afterwards.
pub fn opens(entry: &ProcEntry) -> Result<(), Errno> {
    let ProcEntry::Of(who, text) = entry else { return Ok(()) };
    let (process, thread) = who.with_thread().ok_or(ENOENT)?;
    let is_gone = thread.is_none() && process.has_lost_leader();
    match text {
        Text::Environ if is_gone => Err(ESRCH),
        Text::Mounts if is_gone => Err(EINVAL),
        _ => Ok(()),
    }
}

/// Whether a file's process is looked for even by who reads no bytes: on Linux, those two are no sequences.
pub fn always_looks(entry: &ProcEntry) -> bool {
    matches!(entry, ProcEntry::Of(_, Text::Cmdline | Text::OomScoreAdj))
}

/// The contents of a file, made now.
pub fn contents(entry: &ProcEntry) -> Result<Vec<u8>, Errno> {
    match entry {
        ProcEntry::Of(who, text) => match (who.with_thread(), text) {
            (Some((process, thread)), _) => of_process(&process, thread.as_ref(), *text),
            // What was there when it was opened.
            (None, Text::Mounts) => Ok(MOUNTS.to_vec()),
            (None, Text::Environ) => Ok(Vec::new()),
            (None, _) => Err(ESRCH),
        },
        ProcEntry::System(System::Fixed(text)) => Ok(text.as_bytes().to_vec()),
        ProcEntry::System(System::Meminfo) => Ok(text::meminfo()),
        ProcEntry::System(System::Vmstat) => Ok(swap::report::vmstat().into_bytes()),
        ProcEntry::System(System::Swaps) => Ok(swap::report::swaps().into_bytes()),
        ProcEntry::System(System::Cpuinfo) => Ok(text::cpuinfo()),
        ProcEntry::System(System::Stat) => Ok(text::stat()),
        ProcEntry::System(System::Uptime) => Ok(text::uptime()),
        ProcEntry::System(System::Version) => Ok(b"Linux version 6.12.0-quire (quire) #1 SMP\n".to_vec()),
        ProcEntry::System(System::Loadavg) => Ok(b"0.00 0.00 0.00 1/1 1\n".to_vec()),
        ProcEntry::System(System::Filesystems) => Ok(b"nodev\tproc\nnodev\ttmpfs\n".to_vec()),
        ProcEntry::System(System::Counters) => Ok(crate::report::counters::text().into_bytes()),
        ProcEntry::System(System::MaxMapCount) => Ok(alloc::format!("{}\n", memory().most_segments()).into_bytes()),
        ProcEntry::System(System::Cpus) => {
            let last = quire_arch::cpu_count() - 1;
            Ok(if last == 0 { b"0\n".to_vec() } else { alloc::format!("0-{last}\n").into_bytes() })
        }
        _ => Err(EINVAL),
    }
}

/// A file of a process; where a thread is given, of that one, as far as the file is about threads.
fn of_process(process: &Arc<Process>, thread: Option<&ThreadRef>, text: Text) -> Result<Vec<u8>, Errno> {
    let arguments = || process.shown_memory(thread).map(|_| process.arguments.lock().clone());
    Ok(match text {
        Text::Maps => text::maps(process, thread)?,
        Text::Status => text::status(process, thread),
        Text::Stat => text::process_stat(process, thread),
        Text::Statm => text::statm(process, thread),
        Text::Cmdline => arguments().map_or(Ok(Vec::new()), |arguments| copied(&arguments.args))?,
        Text::Comm => {
            let mut name = text::name_of(process, thread);
            name.push(b'\n');
            name
        }
        Text::Environ => arguments().map_or(Ok(Vec::new()), |arguments| copied(&arguments.envs))?,
        Text::Limits => text::limits(process),
        Text::Cgroup => b"0::/\n".to_vec(),
        Text::Mounts => MOUNTS.to_vec(),
        Text::OomScore => alloc::format!("{}\n", oom::score(process)).into_bytes(),
        Text::OomScoreAdj => alloc::format!("{}\n", process.oom_adj.load(Ordering::Relaxed)).into_bytes(),
    })
}
