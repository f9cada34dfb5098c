//! What the files of /proc say.

use crate::fs::text::Text;
use crate::mem::{Backing, Flags, Page, PageRange, Prot, Segment, memory};
use crate::proc::account::Counts;
use crate::proc::charge;
use crate::proc::policy;
use crate::proc::process::{ALL_CAPABILITIES, Ended, Process};
use crate::proc::signal::{MAX, bit, places};
use crate::proc::thread::of;
use crate::proc::tree;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::arch::x86_64::__cpuid;
use core::fmt::{self, Write};
use core::sync::atomic::Ordering;
use linux_raw_sys::general as l;
use quire_arch::cpu_count;
use quire_base::errno::*;
use quire_base::units::TICK;
use quire_sched::{ThreadRef, timer};
use quire_unix::policy::Policy;

/// /proc/meminfo
pub fn meminfo() -> Vec<u8> {
    let m = memory();
    let (total, free) = (m.total_frames() * 4, m.free_frames() * 4);
    let (swap_total, swap_free) = crate::swap::report::pages();
    let (swap_total, swap_free, swap_cached) = (swap_total * 4, swap_free * 4, crate::swap::report::cached() * 4);
    let limit = total / 2 + swap_total;
    format!(
        "MemTotal:       {total:8} kB\nMemFree:        {free:8} kB\nMemAvailable:   {free:8} kB\n\
         Buffers:               0 kB\nCached:                0 kB\nSwapCached:     {swap_cached:8} kB\n\
         Active:                0 kB\nInactive:              0 kB\nSwapTotal:      {swap_total:8} kB\n\
         SwapFree:       {swap_free:8} kB\nDirty:                 0 kB\nShmem:                 0 kB\n\
         CommitLimit:    {limit:8} kB\nCommitted_AS:          0 kB\nHugePages_Total:       0\n\
         HugePages_Free:        0\nHugepagesize:       2048 kB\n"
    )
    .into_bytes()
}

/// /proc/cpuinfo
pub fn cpuinfo() -> Vec<u8> {
    let id = __cpuid(0);
    let vendor: Vec<u8> = [id.ebx, id.edx, id.ecx].iter().flat_map(|r| r.to_le_bytes()).collect();
    let vendor = String::from_utf8_lossy(&vendor).into_owned();
    let mut brand = Vec::new();
    if __cpuid(0x8000_0000).eax >= 0x8000_0004 {
        for leaf in 0x8000_0002..=0x8000_0004u32 {
            let r = __cpuid(leaf);
            brand.extend([r.eax, r.ebx, r.ecx, r.edx].iter().flat_map(|r| r.to_le_bytes()));
        }
    }
    let brand = String::from_utf8_lossy(&brand).trim_matches(['\0', ' ']).into();
    let brand: String = brand;
    let mut out = String::new();
    for cpu in 0..cpu_count() {
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            "processor\t: {cpu}\nvendor_id\t: {vendor}\ncpu family\t: 6\nmodel\t\t: 6\nmodel name\t: {brand}\nstepping\t: 3\n\
             cpu MHz\t\t: 2000.000\ncache size\t: 16384 KB\nphysical id\t: 0\nsiblings\t: {n}\ncore id\t\t: {cpu}\n\
             cpu cores\t: {n}\nfpu\t\t: yes\nflags\t\t: fpu tsc msr cx8 cmov mmx fxsr sse sse2 syscall nx lm\n\n",
            n = cpu_count()
        );
    }
    out.into_bytes()
}

/// /proc/stat
pub fn stat() -> Vec<u8> {
    let mut out = String::from("cpu  0 0 0 0 0 0 0 0 0 0\n");
    for cpu in 0..cpu_count() {
        let _ = writeln!(out, "cpu{cpu} 0 0 0 0 0 0 0 0 0 0");
    }
    let boot = (timer::realtime_ns() - timer::now_ns()) / 1_000_000_000;
    let _ = write!(out, "intr 0\nctxt 0\nbtime {boot}\nprocesses 1\nprocs_running 1\nprocs_blocked 0\n");
    out.into_bytes()
}

/// /proc/uptime
pub fn uptime() -> Vec<u8> {
    let t = timer::now_ns() / TICK;
    format!("{}.{:02} 0.00\n", t / 100, t % 100).into_bytes()
}

/// The thread that a file of /proc is about: the one it belongs to, or else the process's leader while that lives.
fn shown(process: &Process, thread: Option<&ThreadRef>) -> Option<ThreadRef> {
    thread.cloned().or_else(|| process.leader())
}

/// The name of a thread, or else of the process's leader; the first process has none.
pub fn name_of(process: &Process, thread: Option<&ThreadRef>) -> Vec<u8> {
    let of_gone = || process.threads.lock().leader_ended;
    let living = shown(process, thread).map(|t| *of(&t).name.lock());
    let name = living.or_else(of_gone).unwrap_or(*b"init\0\0\0\0\0\0\0\0\0\0\0\0");
    name.iter().copied().take_while(|b| *b != 0).collect()
}

/// Whether the second of two segments only continues the first: to the program they are one mapping, for instance where they lie in two
/// arenas.
fn continues(a: &Segment, b: &Segment) -> bool {
    let backing = match (&a.backing, &b.backing) {
        (Backing::Anonymous, Backing::Anonymous) => true,
        (
            Backing::Object { object: x, offset: from, shared: s },
            Backing::Object { object: y, offset: to, shared: t },
        ) => x.id() == y.id() && s == t && from + a.range.pages() == *to,
        _ => false,
    };
    backing && a.range.end == b.range.start && a.prot == b.prot && a.flags == b.flags
}

/// A line of /proc/self/maps.
fn maps_line(out: &mut Text, s: &Segment) -> fmt::Result {
    let has = |p: Prot, c: char| if s.prot.contains(p) { c } else { '-' };
    let (offset, shared) = match &s.backing {
        Backing::Object { offset, shared, .. } => (offset * 4096, *shared),
        Backing::Anonymous => (0, false),
    };
    let begin = out.0.len();
    write!(
        out,
        "{:08x}-{:08x} {}{}{}{} {offset:08x} 00:00 {} ",
        s.range.start.addr(),
        s.range.end.addr(),
        has(Prot::READ, 'r'),
        has(Prot::WRITE, 'w'),
        has(Prot::EXEC, 'x'),
        if shared { 's' } else { 'p' },
        u8::from(matches!(s.backing, Backing::Object { .. })),
    )?;
    let used = out.0.len() - begin;
    let mut name = |name: &[u8]| {
        write!(out, "{:1$}", "", 73usize.saturating_sub(used))?;
        out.name(name, "\\012")
    };
    match &s.backing {
        Backing::Object { object, shared, .. } => match crate::fs::regular::path_of(object) {
            Some(path) => name(&path)?,
            None if *shared => name(b"/dev/zero (deleted)")?,
            None => {}
        },
        Backing::Anonymous if s.flags.contains(Flags::STACK) => name(b"[stack]")?,
        Backing::Anonymous if s.flags.contains(Flags::HEAP) => name(b"[heap]")?,
        Backing::Anonymous => {}
    }
    out.write_char('\n')
}

/// /proc/self/maps
pub fn maps(process: &Process, thread: Option<&ThreadRef>) -> Result<Vec<u8>, Errno> {
    let Some(memory) = process.shown_memory(thread) else { return Ok(Vec::new()) };
    let mut out = Text(Vec::new());
    let mut line = |s: &Segment| maps_line(&mut out, s).map_err(|_| ENOMEM);
    let (mut at, mut last, mut n): (Page, Option<Segment>, usize) = (Page(0), None, 0);
    while let Some(s) = Some(at).filter(|at| *at < PageRange::LIMIT).and_then(|at| memory.space.find_arrived(at)) {
        at = s.range.end;
        match &mut last {
            Some(last) if continues(last, &s) => last.range.end = s.range.end,
            last => {
                last.as_ref().map_or(Ok(()), &mut line)?;
                *last = Some(s);
            }
        }
        n += 1;
        if !charge::go_on(n) {
            return Err(EINTR);
        }
    }
    last.as_ref().map_or(Ok(()), &mut line)?;
    Ok(out.0)
}

/// What is mapped, and how many pages are in memory.
fn sizes(process: &Process, thread: Option<&ThreadRef>) -> (Counts, u64) {
    process.shown_memory(thread).map_or((Counts::default(), 0), |m| (m.counts(), m.space.usage().resident))
}

/// /proc/self/statm
pub fn statm(process: &Process, thread: Option<&ThreadRef>) -> Vec<u8> {
    let (mapped, resident) = sizes(process, thread);
    let (all, code, data) = (mapped.all, mapped.code, mapped.data + mapped.stack);
    format!("{all} {resident} 0 {code} 0 {data} 0\n").into_bytes()
}

/// The state of a thread, or of the process's leader, as Linux shows it: that is gone before the others where the letter is Z.
fn state(process: &Process, thread: Option<&ThreadRef>) -> char {
    match shown(process, thread) {
        None if process.has_lost_leader() => 'Z',
        // The first process has no threads.
        None => 'S',
        Some(_) if process.stopped.load(Ordering::Relaxed) => 'T',
        Some(thread) if thread.is_runnable() => 'R',
        Some(_) => 'S',
    }
}

/// What /proc/self/status says of signals: of the leader's while it lives.
fn signals(process: &Process, thread: Option<&ThreadRef>) -> String {
    let leader = shown(process, thread);
    let (pending, blocked) =
        leader.map_or((0, 0), |t| (of(&t).pending.lock().bits(), of(&t).blocked.load(Ordering::Relaxed)));
    let actions = process.actions.lock().clone();
    let (mut ignored, mut caught) = (0, 0);
    for signal in 1..=MAX {
        let action = actions.get(signal);
        match (action.is_ignore(), action.is_default()) {
            (true, _) => ignored |= bit(signal),
            (_, false) => caught |= bit(signal),
            _ => {}
        }
    }
    let queued = places();
    format!(
        "SigQ:\t{queued}/{}\nSigPnd:\t{pending:016x}\nShdPnd:\t{:016x}\nSigBlk:\t{blocked:016x}\nSigIgn:\t{ignored:016x}\nSigCgt:\t{caught:016x}\n",
        process.limit(l::RLIMIT_SIGPENDING),
        process.pending_bits.load(Ordering::Relaxed),
    )
}

/// What /proc/self/status says of memory; nothing where there is none any more.
fn memory_lines(process: &Process, thread: Option<&ThreadRef>) -> String {
    let Some(memory) = process.shown_memory(thread) else { return String::new() };
    let mapped = memory.counts();
    // One walk through the tables for all.
    let usage = process.note_resident();
    format!(
        "VmPeak:\t{vm:8} kB\nVmSize:\t{vm:8} kB\nVmLck:\t{locked:8} kB\nVmPin:\t       0 kB\nVmHWM:\t{peak:8} kB\n\
         VmRSS:\t{rss:8} kB\nRssAnon:\t{rss:8} kB\nRssFile:\t       0 kB\nRssShmem:\t       0 kB\nVmData:\t{data:8} kB\n\
         VmStk:\t{stack:8} kB\nVmPTE:\t{tables:8} kB\nVmSwap:\t{swapped:8} kB\n",
        vm = mapped.all * 4,
        locked = mapped.locked * 4,
        peak = process.max_resident.load(Ordering::Relaxed) * 4,
        rss = usage.resident * 4,
        data = mapped.data * 4,
        stack = mapped.stack * 4,
        tables = usage.tables * 4,
        swapped = usage.swapped * 4,
    )
}

/// /proc/self/status, and that of a thread
pub fn status(process: &Process, thread: Option<&ThreadRef>) -> Vec<u8> {
    let name = name_of(process, thread);
    let letter = state(process, thread);
    let long = match letter {
        'R' => "running",
        'T' => "stopped",
        'Z' => "zombie",
        _ => "sleeping",
    };
    // Statements of their own: a guard in an argument would live until the text is made.
    let living = shown(process, thread);
    let umask = living.as_ref().map(|t| of(t).fs.umask.load(Ordering::Relaxed));
    let umask = umask.map_or_else(String::new, |umask| format!("Umask:\t{umask:04o}\n"));
    let room = living.as_ref().and_then(|t| of(t).shown_files()).map_or(0, |files| files.room());
    let confined = living.as_ref().is_some_and(|t| of(t).settings.lock().no_new_privs);
    let n = cpu_count();
    let mask: u64 = if n >= 64 { u64::MAX } else { (1 << n) - 1 };
    let rest = format!(
        "\n{umask}State:\t{letter} ({long})\nTgid:\t{pid}\nNgid:\t0\nPid:\t{tid}\nPPid:\t{ppid}\n\
         TracerPid:\t0\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nFDSize:\t{room}\nGroups:\t0 \n{memory}\
         Threads:\t{threads}\n{signals}CapInh:\t{none:016x}\nCapPrm:\t{all:016x}\nCapEff:\t{all:016x}\nCapBnd:\t{all:016x}\n\
         CapAmb:\t{none:016x}\nNoNewPrivs:\t{confined}\nSeccomp:\t0\nCpus_allowed:\t{mask:x}\nCpus_allowed_list:\t0-{last}\n\
         Mems_allowed:\t1\nMems_allowed_list:\t0\n",
        pid = process.pid,
        tid = thread.map_or(process.pid, |t| of(t).tid()),
        ppid = tree::parent_pid(process),
        memory = memory_lines(process, thread),
        threads = process.thread_count(),
        signals = signals(process, thread),
        none = 0,
        confined = u8::from(confined),
        all = ALL_CAPABILITIES,
        last = n - 1,
    );
    let mut shown = Vec::new();
    for byte in name {
        match byte {
            b'\n' => shown.extend_from_slice(b"\\n"),
            b'\\' => shown.extend_from_slice(b"\\\\"),
            other => shown.push(other),
        }
    }
    [b"Name:\t", &shown[..], rest.as_bytes()].concat()
}

/// /proc/self/stat, and that of a thread
pub fn process_stat(process: &Process, thread: Option<&ThreadRef>) -> Vec<u8> {
    /// Linux's flags of a thread that is as any other, and of one that has ended.
    const FLAGS: u32 = 0x40_0000;
    const EXITING: u32 = 4;
    let (mapped, resident) = sizes(process, thread);
    let usage = thread.map_or_else(|| process.usage(), |t| t.usage());
    let name = name_of(process, thread);
    let living = shown(process, thread);
    let nice = living.as_ref().map_or(0, |t| t.nice());
    let policy = living.map_or(Policy::from_word(0), |t| policy::get(of(&t)));
    let letter = state(process, thread);
    let (pgid, sid, ended) = {
        let mut tree = tree::lock();
        let links = tree.links(process);
        (links.pgid, links.sid, links.ended)
    };
    let layout = process.shown_memory(thread).map(|m| m.layout).unwrap_or_default();
    let pid = thread.map_or(process.pid, |t| of(t).tid());
    // The name is as it is: programs look for the last bracket.
    let begin = [format!("{pid} (").as_bytes(), &name].concat();
    let rest = format!(
        ") {letter} {ppid} {pgid} {sid} 0 -1 {flags} {minor} 0 {major} 0 {user} {system} 0 0 {priority} {nice} {threads} 0 \
         {start} {vsize} {resident} 18446744073709551615 {c0} {c1} {stack} 0 0 0 0 0 0 0 0 0 17 0 {real_time} {policy} 0 0 0 0 0 0 0 0 0 0 {status}\n",
        ppid = tree::parent_pid(process),
        flags = if letter == 'Z' { FLAGS | EXITING } else { FLAGS },
        minor = usage.minor_faults,
        major = usage.major_faults,
        user = usage.user / TICK,
        system = usage.system / TICK,
        priority = if policy.is_realtime() { -1 - policy.priority as i32 } else { 20 + nice },
        real_time = policy.priority,
        policy = policy.policy,
        threads = process.thread_count(),
        start = thread.map_or(process.started, |t| of(t).started) / TICK,
        vsize = mapped.all * 4096,
        c0 = layout.code.0,
        c1 = layout.code.1,
        stack = layout.stack_start,
        status = ended.map_or(0, Ended::wait_status),
    );
    [&begin, rest.as_bytes()].concat()
}

/// /proc/self/limits
pub fn limits(process: &Process) -> Vec<u8> {
    let rows = [
        (l::RLIMIT_CPU, "Max cpu time", "seconds"),
        (l::RLIMIT_FSIZE, "Max file size", "bytes"),
        (l::RLIMIT_DATA, "Max data size", "bytes"),
        (l::RLIMIT_STACK, "Max stack size", "bytes"),
        (l::RLIMIT_CORE, "Max core file size", "bytes"),
        (l::RLIMIT_RSS, "Max resident set", "bytes"),
        (l::RLIMIT_NPROC, "Max processes", "processes"),
        (l::RLIMIT_NOFILE, "Max open files", "files"),
        (l::RLIMIT_MEMLOCK, "Max locked memory", "bytes"),
        (l::RLIMIT_AS, "Max address space", "bytes"),
        (l::RLIMIT_LOCKS, "Max file locks", "locks"),
        (l::RLIMIT_SIGPENDING, "Max pending signals", "signals"),
        (l::RLIMIT_MSGQUEUE, "Max msgqueue size", "bytes"),
        (l::RLIMIT_NICE, "Max nice priority", ""),
        (l::RLIMIT_RTPRIO, "Max realtime priority", ""),
        (l::RLIMIT_RTTIME, "Max realtime timeout", "us"),
    ];
    let show = |v: u64| if v == u64::MAX { "unlimited".into() } else { format!("{v}") };
    let mut out = String::from("Limit                     Soft Limit           Hard Limit           Units     \n");
    let table = process.limits.all();
    for (index, name, unit) in rows {
        let limit = table[index as usize];
        let width = if unit.is_empty() { 0 } else { 10 };
        let _ = writeln!(out, "{name:<25} {:<20} {:<20} {unit:<width$}", show(limit.soft), show(limit.hard));
    }
    out.into_bytes()
}
