//! /proc and /sys, as far as allocators, run-time libraries and curious programs read them.

use super::busy::Running;
use super::proc_text as text;
use super::stat::kind;
use super::text::copied;
use super::walk::{root, shown_path};
use super::{FileTable, Inode, Kind, OpenFile};
use crate::mem::memory;
use crate::proc::charge;
use crate::proc::process::Process;
use crate::proc::thread::{self, of};
use crate::proc::{oom, tree};
use crate::sched::ThreadRef;
use crate::swap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Bound;
use core::sync::atomic::Ordering;
use quire_base::errno::*;
use spin::Once;

/// One thing in /proc or /sys.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ProcEntry {
    /// /proc itself.
    Root,
    /// /proc/self: a link to the number.
    SelfLink,
    /// /proc/thread-self: a link to the current thread's directory.
    ThreadSelf,
    /// /proc/N.
    Process(u32),
    /// /proc/N/task.
    Tasks(u32),
    /// /proc/N/task/T: the process and the thread.
    Task(u32, u32),
    /// /proc/N/fd.
    Fds(u32),
    /// /proc/N/fd/M.
    Fd(u32, i32),
    /// /proc/N/exe, cwd, root.
    Link(u32, Place),
    /// A file of a process.
    Of(u32, Text),
    /// A file of a thread.
    OfTask(u32, Text),
    /// A file of the system.
    System(System),
}

/// Where a process's links lead.
#[derive(Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the links")]
pub enum Place {
    Exe,
    Cwd,
    Root,
}

/// The text files of a process.
#[derive(Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the files")]
pub enum Text {
    Maps,
    Status,
    Stat,
    Statm,
    Cmdline,
    Comm,
    Environ,
    Limits,
    Cgroup,
    Mounts,
    OomScore,
    OomScoreAdj,
}

/// The text files of the system.
#[derive(Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the files")]
pub enum System {
    Meminfo,
    Swaps,
    Vmstat,
    Cpuinfo,
    Stat,
    Uptime,
    Version,
    Loadavg,
    Filesystems,
    Counters,
    Cpus,
    MaxMapCount,
    Fixed(&'static str),
}

const TEXTS: [(&str, Text); 12] = [
    ("maps", Text::Maps),
    ("status", Text::Status),
    ("stat", Text::Stat),
    ("statm", Text::Statm),
    ("cmdline", Text::Cmdline),
    ("comm", Text::Comm),
    ("environ", Text::Environ),
    ("limits", Text::Limits),
    ("cgroup", Text::Cgroup),
    ("mounts", Text::Mounts),
    ("oom_score", Text::OomScore),
    ("oom_score_adj", Text::OomScoreAdj),
];
const LINKS: [(&str, Place); 3] = [("exe", Place::Exe), ("cwd", Place::Cwd), ("root", Place::Root)];
const SYSTEM: [(&str, System); 10] = [
    ("meminfo", System::Meminfo),
    ("swaps", System::Swaps),
    ("vmstat", System::Vmstat),
    ("cpuinfo", System::Cpuinfo),
    ("stat", System::Stat),
    ("uptime", System::Uptime),
    ("version", System::Version),
    ("loadavg", System::Loadavg),
    ("filesystems", System::Filesystems),
    ("quire", System::Counters),
];
const SYSCTL: [(&str, System); 13] = [
    ("vm/overcommit_memory", System::Fixed("0\n")),
    ("vm/max_map_count", System::MaxMapCount),
    ("vm/mmap_min_addr", System::Fixed("65536\n")),
    ("kernel/pid_max", System::Fixed("4194304\n")),
    ("kernel/threads-max", System::Fixed("126000\n")),
    ("kernel/osrelease", System::Fixed("6.12.0-quire\n")),
    ("kernel/ostype", System::Fixed("Linux\n")),
    ("kernel/randomize_va_space", System::Fixed("0\n")),
    ("kernel/shmall", System::Fixed("18446744073692774399\n")),
    ("kernel/shmmax", System::Fixed("18446744073692774399\n")),
    ("kernel/shmmni", System::Fixed("4096\n")),
    ("kernel/tainted", System::Fixed("0\n")),
    ("net/core/somaxconn", System::Fixed("4096\n")),
];

impl ProcEntry {
    /// Files that live in ordinary directories outside /proc.
    pub const SYSTEM_FILES: &'static [(&'static [u8], ProcEntry)] = &[
        (b"sys/devices/system/cpu/online", ProcEntry::System(System::Cpus)),
        (b"sys/devices/system/cpu/possible", ProcEntry::System(System::Cpus)),
        (b"sys/devices/system/cpu/present", ProcEntry::System(System::Cpus)),
        (b"sys/devices/system/node/online", ProcEntry::System(System::Fixed("0\n"))),
        (b"sys/kernel/mm/transparent_hugepage/enabled", ProcEntry::System(System::Fixed("always madvise [never]\n"))),
        (b"sys/kernel/mm/transparent_hugepage/hpage_pmd_size", ProcEntry::System(System::Fixed("2097152\n"))),
    ];

    /// Whether it takes what is written to it.
    pub fn is_written(&self) -> bool {
        matches!(
            self,
            ProcEntry::Of(_, Text::OomScoreAdj | Text::Comm)
                | ProcEntry::OfTask(_, Text::OomScoreAdj | Text::Comm)
                | ProcEntry::System(System::MaxMapCount)
        )
    }

    /// Whether it has entries.
    pub fn is_dir(&self) -> bool {
        matches!(
            self,
            ProcEntry::Root | ProcEntry::Process(_) | ProcEntry::Tasks(_) | ProcEntry::Task(..) | ProcEntry::Fds(_)
        )
    }
    /// Its file type.
    pub fn file_type(&self) -> u32 {
        match self {
            e if e.is_dir() => kind::DIR,
            ProcEntry::SelfLink | ProcEntry::ThreadSelf | ProcEntry::Fd(..) | ProcEntry::Link(..) => kind::LINK,
            _ => kind::REG,
        }
    }
}

impl ProcEntry {
    /// The inode number, the same whenever somebody looks; those of constants are given when their nodes are made, once.
    pub fn number(&self) -> u64 {
        let (code, pid, which) = match *self {
            ProcEntry::Root => (1, 0, 0),
            ProcEntry::SelfLink => (2, 0, 0),
            ProcEntry::Process(pid) => (3, pid, 0),
            ProcEntry::Tasks(pid) => (4, pid, 0),
            ProcEntry::Fds(pid) => (5, pid, 0),
            ProcEntry::Fd(pid, fd) => (6, pid, fd as u64),
            ProcEntry::Link(pid, place) => (7, pid, place as u64),
            ProcEntry::Of(pid, text) => (8, pid, text as u64),
            ProcEntry::Task(_, tid) => (10, tid, 0),
            ProcEntry::OfTask(tid, text) => (11, tid, text as u64),
            ProcEntry::ThreadSelf => (12, 0, 0),
            ProcEntry::System(System::Fixed(_)) => return super::inode::new_number(),
            ProcEntry::System(file) => {
                (9, 0, SYSTEM.iter().position(|(_, s)| *s == file).unwrap_or(SYSTEM.len()) as u64)
            }
        };
        // Descriptors are smaller than 2^20, process ids than 2^22.
        1 << 62 | code << 48 | u64::from(pid) << 20 | which
    }
}

fn node(entry: ProcEntry) -> Arc<Inode> {
    let mode = match entry {
        entry if entry.is_written() => 0o644,
        entry if entry.file_type() == kind::REG => 0o444,
        _ => 0o555,
    };
    Inode::new(Kind::Proc(entry), mode)
}

fn number(name: &[u8]) -> Option<u32> {
    core::str::from_utf8(name).ok()?.parse().ok()
}

/// The entry `name` of a directory.
pub fn lookup(dir: &ProcEntry, name: &[u8]) -> Option<Arc<Inode>> {
    let text = core::str::from_utf8(name).ok()?;
    let found = match dir {
        ProcEntry::Root => match text {
            "self" => ProcEntry::SelfLink,
            "thread-self" => ProcEntry::ThreadSelf,
            "mounts" => ProcEntry::Of(thread::current().pid, Text::Mounts),
            "sys" => return Some(sysctl()),
            _ => match SYSTEM.iter().find(|(n, _)| *n == text) {
                Some((_, file)) => ProcEntry::System(*file),
                None => {
                    let pid = number(name)?;
                    let process = tree::process(pid).or_else(|| Some(of(&*tree::thread(pid)?).process.clone()))?;
                    ProcEntry::Process(process.pid)
                }
            },
        },
        ProcEntry::Process(pid) => match text {
            "fd" => ProcEntry::Fds(*pid),
            "task" => ProcEntry::Tasks(*pid),
            _ => {
                let link = LINKS.iter().find(|(n, _)| *n == text).map(|(_, p)| ProcEntry::Link(*pid, *p));
                let file = || TEXTS.iter().find(|(n, _)| *n == text).map(|(_, t)| ProcEntry::Of(*pid, *t));
                link.or_else(file)?
            }
        },
        ProcEntry::Tasks(pid) => {
            let tid = number(name)?;
            // A leader that is gone stays until the process is waited for.
            let is_leader = || tid == *pid && tree::process(tid).is_some();
            if tree::thread(tid).is_none_or(|t| of(&t).process.pid != *pid) && !is_leader() {
                return None;
            }
            ProcEntry::Task(*pid, tid)
        }
        ProcEntry::Task(pid, tid) => match text {
            "fd" => ProcEntry::Fds(*pid),
            _ => {
                let link = LINKS.iter().find(|(n, _)| *n == text).map(|(_, p)| ProcEntry::Link(*pid, *p));
                let file = || TEXTS.iter().find(|(n, _)| *n == text).map(|(_, t)| ProcEntry::OfTask(*tid, *t));
                link.or_else(file)?
            }
        },
        ProcEntry::Fds(pid) => {
            let fd = number(name)? as i32;
            file_of(*pid, fd).ok()?;
            ProcEntry::Fd(*pid, fd)
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
    let one = |name: &str, entry: ProcEntry| (name.as_bytes().to_vec(), entry.number(), entry.file_type());
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
            out.extend(all.map(|entry| entry.unwrap_or_else(|pid| numbered(pid, ProcEntry::Process(pid)))));
        }
        ProcEntry::Process(pid) => {
            let texts = TEXTS.iter().map(|(n, text)| one(n, ProcEntry::Of(*pid, *text)));
            let links = LINKS.iter().map(|(n, place)| one(n, ProcEntry::Link(*pid, *place)));
            let dirs = [one("fd", ProcEntry::Fds(*pid)), one("task", ProcEntry::Tasks(*pid))];
            out.extend(texts.chain(links).chain(dirs).skip(skip).take(room));
        }
        ProcEntry::Tasks(pid) => {
            let Some(process) = tree::process(*pid) else { return };
            let mut n = skip;
            let tids = numbers(|_| {
                let threads = process.threads.lock();
                n += 1;
                match threads.leader_ended {
                    Some(_) if n == 1 => Some(*pid),
                    gone => threads.list.get(n - 1 - usize::from(gone.is_some())).map(|t| of(t).tid()),
                }
            });
            out.extend(tids.take(room).map(|tid| numbered(tid, ProcEntry::Task(*pid, tid))));
        }
        ProcEntry::Task(pid, tid) => {
            let texts = TEXTS.iter().map(|(n, text)| one(n, ProcEntry::OfTask(*tid, *text)));
            let links = LINKS.iter().map(|(n, place)| one(n, ProcEntry::Link(*pid, *place)));
            out.extend(texts.chain(links).chain([one("fd", ProcEntry::Fds(*pid))]).skip(skip).take(room));
        }
        ProcEntry::Fds(pid) => {
            let Ok(files) = files_of(*pid) else { return };
            let fds = numbers(|last| files.next(last.map_or(0, |fd| fd as usize + 1)).map(|fd| fd as u32));
            out.extend(fds.skip(skip).take(room).map(|fd| numbered(fd, ProcEntry::Fd(*pid, fd as i32))));
        }
        _ => {}
    }
}

/// The descriptors of a process, which may end meanwhile.
fn files_of(pid: u32) -> Result<Arc<FileTable>, Errno> {
    tree::process(pid).and_then(|process| process.files()).ok_or(ENOENT)
}

/// What a descriptor of a process means.
pub fn file_of(pid: u32, fd: i32) -> Result<Arc<OpenFile>, Errno> {
    files_of(pid)?.get_any(fd).map_err(|_| ENOENT)
}

/// The program of a process, which may have ended.
fn exe_of(process: &Process) -> Result<(Arc<[u8]>, Running), Errno> {
    process.shown_memory(None).ok_or(ENOENT)?;
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
        ProcEntry::Fd(pid, fd) => file_of(*pid, *fd).and_then(|f| f.shown_path()),
        ProcEntry::Link(pid, place) => match (place, tree::process(*pid)) {
            (_, None) => Err(ENOENT),
            (Place::Exe, Some(process)) => exe_of(&process).and_then(|(path, file)| shown_path(file.node(), &path)),
            (Place::Cwd, Some(process)) => process.fs().ok_or(ENOENT).and_then(|fs| fs.shown_cwd()),
            (Place::Root, Some(process)) => process.fs().ok_or(ENOENT).map(|_| b"/".to_vec()),
        },
        _ => return None,
    };
    Some(result)
}

/// What a link leads to, and the path by which it was opened.
pub type Followed = (Arc<Inode>, Vec<u8>);

/// What a link of a process leads to, and the path by which that was opened, or made a program: the thing itself, which need not have
/// a path any more. `None` when the entry is no such link.
pub fn follow(entry: &ProcEntry) -> Option<Result<Followed, Errno>> {
    let process = |pid| tree::process(pid).ok_or(ENOENT);
    Some(match *entry {
        ProcEntry::Fd(pid, fd) => file_of(pid, fd).map(|file| (file.node(), file.path.to_vec())),
        ProcEntry::Link(pid, Place::Exe) => process(pid).and_then(|process| {
            let (path, file) = exe_of(&process)?;
            Ok((file.node().clone(), path.to_vec()))
        }),
        ProcEntry::Link(pid, Place::Cwd) => {
            process(pid).and_then(|process| Ok(process.fs().ok_or(ENOENT)?.cwd.lock().clone()))
        }
        ProcEntry::Link(pid, Place::Root) => {
            process(pid).and_then(|process| process.fs().ok_or(ENOENT)).map(|_| (root(), b"/".to_vec()))
        }
        _ => return None,
    })
}

/// Whether a file can be opened: some need what a process that is ending has no more.
pub fn opens(entry: &ProcEntry) -> Result<(), Errno> {
    match entry {
        ProcEntry::Of(_, Text::Environ | Text::Mounts) => contents(entry).map(drop),
        _ => Ok(()),
    }
}

/// The contents of a file, made now.
pub fn contents(entry: &ProcEntry) -> Result<Vec<u8>, Errno> {
    match entry {
        ProcEntry::Of(pid, text) => {
            let process = tree::process(*pid).ok_or(ESRCH)?;
            of_process(&process, None, *text)
        }
        ProcEntry::OfTask(tid, text) => match tree::thread(*tid) {
            Some(thread) => of_process(&of(&thread).process, Some(&thread), *text),
            None => of_process(&tree::process(*tid).ok_or(ESRCH)?, None, *text),
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
            let last = quire_base::cpu::online().count_ones() - 1;
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
        Text::Environ => copied(&arguments().ok_or(ESRCH)?.envs)?,
        Text::Limits => text::limits(process),
        Text::Cgroup => b"0::/\n".to_vec(),
        Text::Mounts if thread.is_none() && process.leader().is_none() => return Err(EINVAL),
        Text::Mounts => b"rootfs / rootfs rw 0 0\nproc /proc proc rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n".to_vec(),
        Text::OomScore => alloc::format!("{}\n", oom::score(process)).into_bytes(),
        Text::OomScoreAdj => alloc::format!("{}\n", process.oom_adj.load(Ordering::Relaxed)).into_bytes(),
    })
}
