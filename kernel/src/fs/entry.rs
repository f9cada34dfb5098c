//! What there is in /proc and /sys: whom it is about, names, types and numbers.

use super::stat::kind;

/// A process, or one of its threads. Its number may be another's later, so it says when this one began: what is open shows nobody else.
///
/// What /proc shows of a process is what its leader has, as on Linux, and is gone with that while other threads go on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Who {
    /// The process.
    pub pid: u32,
    /// The thread; 0: it is about the whole process.
    pub tid: u32,
    /// When it began.
    pub began: u64,
}

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
    Process(Who),
    /// /proc/N/task.
    Tasks(Who),
    /// /proc/N/task/T.
    Task(Who),
    /// /proc/N/fd, and that of a thread.
    Fds(Who),
    /// /proc/N/fd/M.
    Fd(Who, i32),
    /// /proc/N/exe, cwd, root.
    Link(Who, Place),
    /// A file of a process or a thread.
    Of(Who, Text),
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

/// The names of the text files of a process.
pub const TEXTS: [(&str, Text); 12] = [
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
/// The names of the links of a process.
pub const LINKS: [(&str, Place); 3] = [("exe", Place::Exe), ("cwd", Place::Cwd), ("root", Place::Root)];
/// The names of the files of the system in /proc.
pub const SYSTEM: [(&str, System); 10] = [
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
/// Those below /proc/sys.
pub const SYSCTL: [(&str, System); 13] = [
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
        matches!(self, ProcEntry::Of(_, Text::OomScoreAdj | Text::Comm) | ProcEntry::System(System::MaxMapCount))
    }

    /// Whether it has entries.
    pub fn is_dir(&self) -> bool {
        matches!(
            self,
            ProcEntry::Root | ProcEntry::Process(_) | ProcEntry::Tasks(_) | ProcEntry::Task(_) | ProcEntry::Fds(_)
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
    /// Whom it is about, if it is not of the system.
    pub fn who(&self) -> Option<Who> {
        match *self {
            ProcEntry::Process(who) | ProcEntry::Tasks(who) | ProcEntry::Task(who) | ProcEntry::Fds(who) => Some(who),
            ProcEntry::Fd(who, _) | ProcEntry::Link(who, _) | ProcEntry::Of(who, _) => Some(who),
            ProcEntry::Root | ProcEntry::SelfLink | ProcEntry::ThreadSelf | ProcEntry::System(_) => None,
        }
    }

    /// The inode number, the same whenever somebody looks. `None` for constants, whose nodes are made once.
    pub fn number(&self) -> Option<u64> {
        let (code, which) = match *self {
            ProcEntry::Root => (1, 0),
            ProcEntry::SelfLink => (2, 0),
            ProcEntry::Process(_) => (3, 0),
            ProcEntry::Tasks(_) => (4, 0),
            ProcEntry::Fds(_) => (5, 0),
            ProcEntry::Fd(_, fd) => (6, fd as u64),
            ProcEntry::Link(_, place) => (7, place as u64),
            ProcEntry::Of(_, text) => (8, text as u64),
            ProcEntry::Task(_) => (10, 0),
            ProcEntry::ThreadSelf => (12, 0),
            ProcEntry::System(System::Fixed(_)) => return None,
            ProcEntry::System(file) => (9, SYSTEM.iter().position(|(_, s)| *s == file).unwrap_or(SYSTEM.len()) as u64),
        };
        // Of a thread by its own number, and all unlike those of the process.
        let (of_thread, id) = match self.who() {
            Some(Who { tid: 0, pid, .. }) => (0, pid),
            Some(Who { tid, .. }) => (16, tid),
            None => (0, 0),
        };
        // Descriptors are smaller than 2^20, process ids than 2^22.
        Some(1 << 62 | (code + of_thread) << 48 | u64::from(id) << 20 | which)
    }
}
