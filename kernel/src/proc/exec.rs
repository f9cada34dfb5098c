//! execve: a new program in an old process.

use super::limits;
use super::memory::{Heap, Layout};
use super::process::{Arguments, Ended, Exe, Process, arc};
use super::signal::frame;
use super::signal::{self, AltStack, SIGCHLD, SIGKILL};
use super::thread::{UserThread, of, user};
use super::{Memory, exit, fpu, tree, vm};
use crate::fs::Regular;
use crate::fs::busy::Running;
use crate::fs::{self, Kind};
use crate::mem::user::{USER_END, UserPtr, UserSlice, read_cstr, read_path};
use crate::mem::{Backing, EditError, Flags, GUARD, Page, Place, Prot, Space};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::arch::x86_64::__cpuid;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as l;
use quire_arch::UserRegs;
use quire_base::errno::*;
use quire_base::random;
use quire_sched::{self as sched, Space as _};
use quire_unix::elf::{self, Malformed, Source};
use quire_unix::script::{self, Line};
use quire_unix::stack::{self, Facts};

/// Where position-independent programs go, as on Linux without randomisation.
const PIE_BASE: u64 = 0x5555_5555_4000;
/// First address above the stack.
const STACK_TOP: u64 = USER_END as u64 - 0x1000;
/// The room for the stack above everything that is put there at the start: as large as its limit is then, but not less and not more.
/// [`Space`] puts nothing into the topmost 256 GiB by itself.
const STACK_ROOM: (u64, u64) = (128 << 20, 128 << 30);
/// What a stack has below its first pointer, if its limit allows.
const FIRST_STACK: u64 = 128 << 10;

/// Everything that execve needs, checked before the old program is given up.
pub struct Image {
    file: Running,
    program: Program,
    /// Nobody writes it until it is loaded; then it is a file like any other.
    interpreter: Option<(Program, Running)>,
    name: Vec<u8>,
    path: Arc<[u8]>,
    args: Vec<Vec<u8>>,
    envs: Vec<Vec<u8>>,
}

/// Where a loaded program begins.
pub struct Start {
    /// First instruction.
    pub rip: u64,
    /// Stack pointer.
    pub rsp: u64,
}

impl Source for Regular {
    fn size(&self) -> u64 {
        self.len()
    }
    fn read_at(&self, at: u64, to: &mut [u8]) -> usize {
        Regular::read_at(self, at, to).unwrap_or(0)
    }
}

/// A checked program file.
pub type Program = elf::Program<Arc<Regular>>;

/// Checks a program's file. What is wrong is in the log; the number is always ENOEXEC (or ENOMEM).
fn read_program(file: &Arc<Regular>, path: &Arc<[u8]>) -> Result<Program, Errno> {
    elf::parse(file.clone(), path.clone()).map_err(|why| match why {
        Malformed("") => ENOMEM,
        Malformed(why) => {
            log::info!("exec: {}: not a program: {why}", fs::Printable(path));
            ENOEXEC
        }
    })
}

/// The first line of a script; `None`: it is none.
fn first_line(file: &Regular) -> Result<Option<Line>, Errno> {
    let mut head = [0; script::LONGEST];
    file.read_at(0, &mut head)?;
    script::parse(&head)
}

impl Image {
    /// Finds and checks the program `name` as seen from `cwd`.
    pub fn open(cwd: &[u8], name: &[u8], args: Vec<Vec<u8>>, envs: Vec<Vec<u8>>) -> Result<Self, Errno> {
        Self::of(executable(cwd, name, true)?, |_| Ok(cwd.to_vec()), name.to_vec(), false, args, envs)
    }

    /// As [`Image::open`], of a program that has been found already, with its path. `base` says where a path begins; `hidden`: the new
    /// program cannot find it by its name.
    fn of(
        (mut file, mut path): (Running, Vec<u8>),
        base: impl Fn(&[u8]) -> Result<Vec<u8>, Errno>,
        name: Vec<u8>,
        hidden: bool,
        mut args: Vec<Vec<u8>>,
        envs: Vec<Vec<u8>>,
    ) -> Result<Self, Errno> {
        let mut called = name.clone();
        for depth in 1.. {
            let Some(Line { interpreter, argument }) = first_line(file.file())? else { break };
            if hidden {
                return Err(ENOENT);
            }
            let mut front = Vec::new();
            front.push(interpreter.clone());
            front.extend(argument);
            front.push(core::mem::replace(&mut called, interpreter));
            front.extend(args.into_iter().skip(1));
            args = front;
            (file, path) = executable(&base(&called)?, &called, true)?;
            if depth > script::DEEPEST {
                return Err(ELOOP);
            }
        }
        stack::check(limits::stack_limit(), &name, &args, &envs)?;
        let path: Arc<[u8]> = Arc::from(path);
        let program = read_program(file.file(), &path)?;
        let interpreter = match &program.interpreter {
            Some(at) => {
                let (file, path) = executable(&base(at)?, at, true)?;
                Some((read_program(file.file(), &Arc::from(path))?, file))
            }
            None => None,
        };
        Ok(Image { file, program, interpreter, name, path, args, envs })
    }

    /// What a process runs that runs it.
    pub fn exe(&self) -> Exe {
        Exe { path: self.path.clone(), file: Some(self.file.clone()) }
    }

    /// The arguments and the environment as /proc shows them.
    pub fn arguments(&self) -> Result<Arc<Arguments>, Errno> {
        arc(Arguments { args: joined(&self.args)?, envs: joined(&self.envs)? })
    }

    /// The last part of the name, as the thread is called.
    pub fn thread_name(&self) -> [u8; 16] {
        // Of one that is named by its descriptor: the file's name, as Linux does since 6.14.
        let name = match self.name.strip_prefix(b"/dev/fd/") {
            Some(fd) if !fd.contains(&b'/') => self.path.strip_suffix(b" (deleted)").unwrap_or(&self.path),
            _ => &self.name,
        };
        let base = name.rsplit(|b| *b == b'/').next().unwrap_or_default();
        let mut name = [0u8; 16];
        let len = base.len().min(15);
        name[..len].copy_from_slice(&base[..len]);
        name
    }

    /// Fills the current thread's new, empty space.
    pub fn load(&self, space: &Arc<Space>, stack_limit: u64) -> Result<(Start, Arc<Memory>), Errno> {
        let bias = if self.program.relocatable {
            let low = self.program.pieces[0].address & !4095;
            (PIE_BASE.next_multiple_of(self.program.align)).wrapping_sub(low & !(self.program.align - 1))
        } else {
            0
        };
        let end = map_program(space, &self.program, bias)?;
        let mut facts = Facts {
            headers: if self.program.headers == 0 { 0 } else { self.program.headers.wrapping_add(bias) },
            header_count: self.program.header_count,
            interpreter_base: 0,
            entry: self.program.entry.wrapping_add(bias),
            signal_stack: frame::minimum_stack(),
            hwcap: u64::from(__cpuid(1).edx),
            random: [0; 16],
        };
        random::fill(&mut facts.random);
        let mut rip = facts.entry;
        if let Some((interpreter, _)) = &self.interpreter {
            let room = stack_limit.clamp(STACK_ROOM.0, STACK_ROOM.1) + (u64::from(GUARD) << 12);
            let top = STACK_TOP - room - interpreter.span();
            let at = if interpreter.relocatable { top & !(interpreter.align.max(2 << 20) - 1) } else { 0 };
            map_program(space, interpreter, at)?;
            facts.interpreter_base = at;
            rip = interpreter.entry.wrapping_add(at);
        }

        let bytes = stack::image(STACK_TOP, &self.name, &self.args, &self.envs, &facts)?;
        let image = (bytes.len() as u64).next_multiple_of(4096);
        let size = image.max((image + FIRST_STACK).min(stack_limit & !4095));
        let mut prot = Prot::READ | Prot::WRITE;
        prot.set(Prot::EXEC, self.program.exec_stack);
        let base = STACK_TOP - size;
        map(space, base, size, prot, Backing::Anonymous, Flags::STACK | Flags::GROWS_DOWN | Flags::NORESERVE)?;
        let rsp = STACK_TOP - bytes.len() as u64;
        UserSlice::new(rsp as usize, bytes.len())?.copy_out(&bytes)?;

        let heap_at = end.next_multiple_of(4096) + if self.program.relocatable { 0 } else { 4096 };
        let code = self.program.pieces.iter().find(|p| p.prot.contains(Prot::EXEC));
        let code =
            code.map_or((0, 0), |p| (p.address.wrapping_add(bias), p.address.wrapping_add(bias) + p.memory_size));
        let data = self.program.pieces.last();
        let data = data.map_or((0, 0), |p| (p.address.wrapping_add(bias), p.address.wrapping_add(bias) + p.file_size));
        let layout = Layout { code, data, stack_start: rsp };
        let memory = Memory::new(space.clone(), Heap { start: heap_at, end: heap_at }, layout)?;
        if rip as usize >= USER_END {
            return Err(ENOEXEC);
        }
        Ok((Start { rip, rsp }, memory))
    }
}

/// The program that a path names, and its absolute path.
fn executable(cwd: &[u8], name: &[u8], follow: bool) -> Result<(Running, Vec<u8>), Errno> {
    let (node, path) = fs::resolve(cwd, name, follow)?;
    if matches!(node.kind, Kind::Link(_)) {
        return Err(ELOOP);
    }
    if node.regular().is_none() || node.mode() & 0o111 == 0 {
        return Err(EACCES);
    }
    Ok((Running::new(&node)?, path))
}

/// The program that a descriptor means, whatever its path names by now.
fn opened(fd: i32) -> Result<(Running, Vec<u8>), Errno> {
    if fd == l::AT_FDCWD {
        // A directory is no program.
        return Err(EACCES);
    }
    let open = user().files().get_any(fd)?;
    let node = open.node();
    if node.regular().is_none() || node.mode() & 0o111 == 0 {
        return Err(EACCES);
    }
    Ok((Running::new(&node)?, open.path.to_vec()))
}

/// Strings one after the other, each with the zero behind it.
fn joined(strings: &[Vec<u8>]) -> Result<Vec<u8>, Errno> {
    let mut out = Vec::new();
    out.try_reserve_exact(strings.iter().map(|s| s.len() + 1).sum()).map_err(|_| ENOMEM)?;
    strings.iter().for_each(|s| out.extend(s.iter().chain(&[0])));
    Ok(out)
}

fn map(space: &Space, at: u64, size: u64, prot: Prot, backing: Backing, flags: Flags) -> Result<(), Errno> {
    let place = || Place::Fixed(Page::containing(at));
    vm::retry(|| space.map(place(), size / 4096, prot, &backing, flags)).map(|_| ())
}

/// Maps the pieces; returns the end of the highest one.
fn map_program(space: &Space, program: &Program, bias: u64) -> Result<u64, Errno> {
    let object = program.file.object()?;
    program.file.note_mapped(&object, &program.path);
    let mut end = 0;
    for piece in &program.pieces {
        let address = piece.address.wrapping_add(bias);
        let start = address & !4095;
        let file_end = address + piece.file_size;
        let memory_end = address + piece.memory_size;
        if memory_end > USER_END as u64 || memory_end < address {
            return Err(ENOEXEC);
        }
        let mapped_end = if piece.file_size == 0 { start } else { file_end.next_multiple_of(4096) };
        if piece.file_size != 0 {
            let offset = (piece.offset - (address - start)) / 4096;
            let backing = Backing::Object { object: object.clone(), offset, shared: false };
            map(space, start, mapped_end - start, piece.prot, backing, Flags::empty())?;
            // The file's page goes on behind the segment: memory must be zero there.
            if piece.memory_size > piece.file_size && file_end < mapped_end && piece.prot.contains(Prot::WRITE) {
                let tail = (mapped_end - file_end) as usize;
                if UserSlice::new(file_end as usize, tail)?.zero_some() < tail {
                    return Err(EFAULT);
                }
            }
        }
        if memory_end > mapped_end {
            let size = memory_end.next_multiple_of(4096) - mapped_end;
            map(space, mapped_end, size, piece.prot, Backing::Anonymous, Flags::empty())?;
        }
        end = end.max(memory_end);
    }
    Ok(end)
}

/// Makes the current thread run in `space`.
pub fn enter(space: &Arc<Space>) -> Result<(), Errno> {
    vm::retry(|| if space.prepare_here() { Ok(()) } else { Err(EditError::OutOfFrames) })?;
    sched::current().set_space(Some(space.clone()));
    Ok(())
}

/// An empty space. Not inlined: it passes over the stack.
#[inline(never)]
pub fn new_space() -> Result<Arc<Space>, Errno> {
    arc(Space::new())
}

fn read_strings(at: usize) -> Result<Vec<Vec<u8>>, Errno> {
    let mut out = Vec::new();
    let mut total = 0;
    if at == 0 {
        return Ok(out);
    }
    for index in 0.. {
        let pointer = UserPtr::<usize>::new(at).at(index).read()?;
        if pointer == 0 {
            break;
        }
        let string = read_cstr(pointer, (128 << 10) - 1).map_err(|e| if e == ENAMETOOLONG { E2BIG } else { e })?;
        total += string.len() + 9;
        if total > stack::MOST_STRINGS {
            return Err(E2BIG);
        }
        out.try_reserve(1).map_err(|_| ENOMEM)?;
        out.push(string);
    }
    Ok(out)
}

/// `execve`
pub fn execve(r: &mut UserRegs) -> SysResult {
    let name = read_path(r.a0())?;
    let (args, envs) = (r.a1(), r.a2());
    let program = executable(&cwd(&name)?, &name, true)?;
    run(r, program, name, false, args, envs)
}

/// Where a path of the program's begins.
fn cwd(path: &[u8]) -> Result<Vec<u8>, Errno> {
    fs::base_of(l::AT_FDCWD, path)
}

/// `execveat`
pub fn execveat(r: &mut UserRegs) -> SysResult {
    let name = read_path(r.a1())?;
    let (fd, args, envs, flags) = (r.a0() as i32, r.a2(), r.a3(), r.a4() as u32);
    if flags & !(l::AT_SYMLINK_NOFOLLOW | l::AT_EMPTY_PATH) != 0 {
        return Err(EINVAL);
    }
    if name.is_empty() && flags & l::AT_EMPTY_PATH == 0 {
        return Err(ENOENT);
    }
    let program = match name.is_empty() {
        true => opened(fd)?,
        false => executable(&fs::base_of(fd, &name)?, &name, flags & l::AT_SYMLINK_NOFOLLOW == 0)?,
    };
    // Under this name a script's interpreter finds it, if the descriptor is still there.
    let by_fd = fd != l::AT_FDCWD && name.first() != Some(&b'/');
    let (name, hidden) = match by_fd {
        true if name.is_empty() => (format!("/dev/fd/{fd}").into_bytes(), user().files().close_on_exec_of(fd)?),
        true => ([format!("/dev/fd/{fd}/").as_bytes(), &name].concat(), user().files().close_on_exec_of(fd)?),
        false => (name, false),
    };
    run(r, program, name, hidden, args, envs)
}

fn run(
    r: &mut UserRegs,
    program: (Running, Vec<u8>),
    name: Vec<u8>,
    hidden: bool,
    args: usize,
    envs: usize,
) -> SysResult {
    let mut args = read_strings(args)?;
    if args.is_empty() {
        // Linux gives a program without arguments one empty argument.
        args.push(Vec::new());
    }
    let image = Image::of(program, cwd, name, hidden, args, read_strings(envs)?)?;
    let arguments = image.arguments()?;
    let space = new_space()?;
    let thread = user();
    let process = thread.process.clone();
    let actions = process.actions.lock().clone();
    let actions = signal::actions_for_exec(&actions)?;
    let files = thread.files().copy()?;
    let registers = fpu::State::empty()?;
    alone(thread, &process)?;

    // From here on there is no way back: the old program's memory goes.
    process.note_resident();
    exit::leave_memory();
    let stack_limit = process.limit(l::RLIMIT_STACK);
    let (start, memory) = match enter(&space).and_then(|()| image.load(&space, stack_limit)) {
        Ok(loaded) => loaded,
        Err(error) => {
            // Nothing is left to return to: the thread ends on its way there, and lets go of what it holds here.
            exit::end_process(&process, Ended::Killed(SIGKILL));
            return Err(error);
        }
    };
    thread.set_memory(Some(memory.clone()));
    let old_memory = process.memory.lock().replace(memory);
    drop(old_memory);
    // As on Linux, a table that nobody shared is the old one, and as large.
    if Arc::strong_count(thread.files()) == 1 {
        files.keep_room_of(thread.files());
    }
    let old_files = thread.set_files(Some(files));
    drop(old_files);
    thread.files().close_on_exec();
    *process.actions.lock() = actions;
    thread.signals.alt.set(AltStack::default());
    *thread.name.lock() = image.thread_name();
    let old_exe = core::mem::replace(&mut *process.exe.lock(), image.exe());
    drop(old_exe);
    let old_arguments = core::mem::replace(&mut *process.arguments.lock(), arguments);
    drop(old_arguments);
    process.did_exec.store(true, Ordering::Relaxed);
    thread.settings.lock().keep_caps = false;
    process.dumpable.store(true, Ordering::Relaxed);
    // Whatever its clone has asked for: the parent of another program is told in the ordinary way.
    tree::lock().links(&process).exit_signal = SIGCHLD;
    super::interval::forget(&process);
    sched::current().set_fs_base(0);
    sched::current().set_gs_base(0);
    registers.load();
    *r = UserRegs::start(start.rip, start.rsp);
    Ok(0)
}

/// Ends all other threads of the process and takes the leader's id.
fn alone(thread: &UserThread, process: &Arc<Process>) -> Result<(), Errno> {
    let me = thread.tid();
    let others = {
        let mut threads = process.threads.lock();
        if threads.ending.is_some() || threads.exec.is_some() {
            return Err(EINTR);
        }
        if threads.list.len() == 1 && me == process.pid {
            return Ok(());
        }
        threads.exec = Some(me);
        process.must_stop.store(true, Ordering::SeqCst);
        threads.list.clone()
    };
    for other in others.iter().filter(|t| of(t).tid() != me) {
        signal::send::poke(other);
    }
    drop(others);
    let gone = || (process.threads.lock().list.len() == 1).then_some(());
    while process.threads_gone.wait(None, false, gone).is_err() {}
    {
        let mut threads = process.threads.lock();
        threads.exec = None;
        threads.leader_ended = None;
        process.must_stop.store(threads.ending.is_some(), Ordering::SeqCst);
    }
    if me != process.pid {
        let mut tree = tree::lock();
        tree.threads.remove(&me);
        tree.threads.insert(process.pid, sched::current_ref());
        thread.set_tid(process.pid);
    }
    Ok(())
}
