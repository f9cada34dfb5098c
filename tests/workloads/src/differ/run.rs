//! Runs one program, in a process of its own.

use std::ffi::CStr;
use std::fmt::{self, Write};

use super::call::{Address, Call, Step};
use super::look::{self, Board, Digest, Sizes};
use super::{PAGES, Program, WINDOWS, touch};
use crate::PAGE;

/// Instead of a file.
pub const NO_FILE: u32 = u32::MAX;

/// How much of what is seen is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Show {
    /// Words instead of digests.
    pub words: bool,
    /// The whole state after every step, not only after some: for the programs that differ.
    pub closely: bool,
    /// Pages may go to a swap area, so which are in memory says nothing.
    pub swaps: bool,
    /// MADV_PAGEOUT is called: of files, Linux drops what was only read.
    pub pages_out: bool,
    /// Something that grows down may move, so the limit of stacks is left alone.
    pub moves_stacks: bool,
}

/// What a program's steps work with.
pub struct World {
    /// The window's first address.
    pub base: u64,
    /// Where the heap ended.
    pub heap: u64,
    /// The sizes at the beginning.
    pub sizes: Sizes,
    /// This process is a child.
    pub is_child: bool,
    /// MCL_CURRENT was called: all of the process is locked, and how much that is is no matter of the program's.
    pub all_locked: bool,
    /// MREMAP_DONTUNMAP was called: Linux goes on counting what it unlocks.
    pub lock_miscounted: bool,
    files: [i32; 10],
    pipe: [i32; 2],
    segment: i32,
}

/// The error of the last call.
pub fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

fn expect(what: &str, value: i32) -> i32 {
    crate::check!(value >= 0, "{what}: {}", std::io::Error::last_os_error());
    value
}

/// Where files that live in memory can be made.
fn directory() -> &'static CStr {
    // SAFETY: a name that ends with zero.
    if unsafe { libc::access(c"/dev/shm".as_ptr(), libc::W_OK) } == 0 { c"/dev/shm" } else { c"/tmp" }
}

impl World {
    /// The files, 8 pages each of which every other one was never written, the pipe, System V's segment (which the caller removes).
    /// `sizes`: those of a process that has done nothing yet.
    pub fn new(window: usize, segment: i32, sizes: Sizes) -> Self {
        let mut name = [0u8; 64];
        let mut writer = std::io::Cursor::new(&mut name[..]);
        // SAFETY: calls on names that end with zero and on numbers; the break only grows.
        unsafe {
            let _ = std::io::Write::write_fmt(
                &mut writer,
                format_args!("{}/differ.{}\0", directory().to_string_lossy(), libc::getpid()),
            );
            let path = name.as_ptr().cast();
            let open = |flags| expect("open", libc::open(path, flags, 0o600));
            let file = open(libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC);
            let (reader, writer) = (open(libc::O_RDONLY), open(libc::O_WRONLY));
            libc::unlink(path);
            let memfd = expect("memfd_create", libc::memfd_create(c"plain".as_ptr(), 0));
            let sealable = expect("memfd_create", libc::memfd_create(c"sealable".as_ptr(), libc::MFD_ALLOW_SEALING));
            let mut again = std::io::Cursor::new(&mut name[..]);
            let _ = std::io::Write::write_fmt(&mut again, format_args!("/proc/self/fd/{sealable}\0"));
            let sealed_reader = expect("open of a memfd", libc::open(name.as_ptr().cast(), libc::O_RDONLY));
            let zero = expect("open of /dev/zero", libc::open(c"/dev/zero".as_ptr(), libc::O_RDWR));
            let folder = expect("open of /", libc::open(c"/".as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY));
            let (mut pipe, mut other) = ([0; 2], [0; 2]);
            expect("pipe", libc::pipe2(pipe.as_mut_ptr(), libc::O_NONBLOCK));
            expect("pipe", libc::pipe2(other.as_mut_ptr(), libc::O_NONBLOCK));
            for (index, fd) in [file, memfd, sealable].into_iter().enumerate() {
                for page in [0, 2, 3, 5, 7u64] {
                    let word = tag(1000 + index, page);
                    libc::pwrite(fd, (&raw const word).cast(), 8, page as i64 * PAGE as i64);
                }
                libc::ftruncate(fd, 8 * PAGE as i64);
            }
            let heap = (libc::sbrk(0) as u64).next_multiple_of(PAGE as u64);
            libc::brk(heap as *mut _);
            libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0);
            let files = [file, reader, writer, memfd, sealable, sealed_reader, zero, other[1], folder, 1000];
            // Whatever a program asks for, the machine has it.
            let limit =
                libc::rlimit { rlim_cur: (sizes.of[0] as u64 + (256 << 10)) << 10, rlim_max: libc::RLIM_INFINITY };
            libc::setrlimit(libc::RLIMIT_AS, &raw const limit);
            Self {
                base: WINDOWS[window],
                heap,
                sizes,
                is_child: false,
                all_locked: false,
                lock_miscounted: false,
                files,
                pipe,
                segment,
            }
        }
    }

    fn file(&self, number: u64) -> i32 {
        self.files.get(number as usize).copied().unwrap_or(-1)
    }

    /// What `/proc/self/maps` calls a file.
    fn name(&self, number: u64) -> &'static str {
        match number {
            0..=2 => "file",
            3 => "/memfd:plain (deleted)",
            4 | 5 => "/memfd:sealable (deleted)",
            _ => "none of them",
        }
    }

    fn address(&self, encoded: u64) -> u64 {
        match Address::decode(encoded) {
            Address::Window(offset) => self.base.wrapping_add_signed(offset),
            Address::Heap(offset) => self.heap.wrapping_add_signed(offset),
            Address::Raw(value) => value,
        }
    }

    /// Lets the kernel copy from an address into the pipe: how many bytes went in, or less than nothing: why not.
    pub fn into_pipe(&self, from: u64, bytes: usize) -> isize {
        // SAFETY: the kernel checks the address.
        match unsafe { libc::write(self.pipe[1], from as *const _, bytes) } {
            -1 => -errno() as isize,
            done => done,
        }
    }

    /// Takes out of the pipe what went in.
    pub fn out_of_pipe<T: Copy>(&self, to: &mut [T]) {
        let bytes = size_of_val(to);
        let mut left = bytes;
        while left > 0 {
            // SAFETY: room for as much; any bytes are numbers.
            let n = unsafe {
                let at = to.as_mut_ptr().cast::<u8>().add(bytes - left);
                libc::read(self.pipe[0], at.cast(), left)
            };
            crate::check!(n > 0, "the pipe lost {left} bytes");
            left -= n as usize;
        }
    }
}

/// What step `step` writes into a page.
fn tag(step: usize, page: u64) -> u64 {
    0x51ee << 48 | (step as u64) << 16 | page & 0xffff
}

/// Runs the program; this process, or a child of it that a step made, ends with it.
pub fn run(program: &Program, segment: i32, sizes: Sizes, mut show: Show, board: &mut Board) -> ! {
    let steps = |of: &dyn Fn(&Step) -> bool| program.steps.iter().filter(|step| of(step)).count();
    // Which pages it takes depends on queues of each processor's, on Linux.
    let pages_out = steps(&|step| step.call == Call::Madvise && step.arguments[2] == libc::MADV_PAGEOUT as u64);
    // Pages that were set aside count as being in memory when they are set aside once more.
    let set_aside = steps(&|step| step.call == Call::Fallocate && step.arguments[1] & !1 == 0);
    show.pages_out = pages_out > 0;
    show.swaps |= pages_out > 0 || set_aside > 1;
    // How far a segment may grow down depends on how Linux keeps what has moved to it.
    let grows = steps(&|step| step.call == Call::Mmap && step.arguments[3] & libc::MAP_GROWSDOWN as u64 != 0);
    show.moves_stacks = grows > 0 && steps(&|step| step.call == Call::Mremap) > 0;
    touch::install();
    // SAFETY: calls on numbers.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        libc::alarm(60);
    }
    let mut world = World::new(program.window, segment, sizes);
    let mut depth = 0;
    let mut index = 0;
    while index < program.steps.len() {
        let step = &program.steps[index];
        if step.call == Call::Exit && depth > 0 {
            break;
        }
        let _ = write!(board, "{:depth$}{index} {} =", "", step.call.name());
        if step.call == Call::Fork {
            match fork(board) {
                Some(0) => {
                    depth += 1;
                    world.is_child = true;
                    // Locks are not inherited.
                    (world.all_locked, world.lock_miscounted) = (false, false);
                }
                None => {}
                // What the child did is not for the parent.
                Some(_) => index = end_of_child(program, index),
            }
        } else {
            let _ = world.take(step, index, show, board);
        }
        // A look costs more than a call.
        if show.closely || index % 4 == 3 {
            let _ = world.state(show, show.closely, board);
        }
        let _ = board.write_str("\n");
        index += 1;
    }
    let _ = write!(board, "{:depth$}end =", "");
    let pages = look::worth_a_look(&world);
    let _ = words(show, board, |to| look::by_kernel(&world, pages, to));
    let _ = words(show, board, |to| look::by_loads(&world, pages, to));
    let _ = world.state(show, true, board);
    let _ = board.write_str("\n");
    crate::process::leave(0)
}

/// The step that ends the child which step `fork` makes.
fn end_of_child(program: &Program, fork: usize) -> usize {
    let mut open = 0;
    for (index, step) in program.steps.iter().enumerate().skip(fork) {
        match step.call {
            Call::Fork => open += 1,
            Call::Exit => open -= 1,
            _ => {}
        }
        if open == 0 {
            return index;
        }
    }
    program.steps.len()
}

/// In the parent it returns when the child has ended.
fn fork(board: &mut Board) -> Option<i32> {
    // SAFETY: one thread, which goes on with the program in both.
    let pid = unsafe { libc::fork() };
    let mut status = 0;
    match pid {
        -1 => _ = write!(board, " e{}", errno()),
        0 => {
            // SAFETY: a number.
            unsafe { libc::alarm(60) };
            let _ = board.write_str(" child");
        }
        pid => {
            // SAFETY: room for a status.
            unsafe { libc::waitpid(pid, &raw mut status, 0) };
            let _ = write!(board, "parent's fork = child ended with {status:#x}");
        }
    }
    (pid >= 0).then_some(pid)
}

/// Writes what `look` shows, or its digest.
fn words(show: Show, board: &mut Board, look: impl FnOnce(&mut dyn Write) -> fmt::Result) -> fmt::Result {
    if show.words {
        return look(board);
    }
    let mut digest = Digest::new();
    look(&mut digest)?;
    write!(board, " #{:08x}", digest.0 as u32 ^ (digest.0 >> 32) as u32)
}

impl World {
    fn state(&self, show: Show, sizes: bool, board: &mut Board) -> fmt::Result {
        words(show, board, |to| {
            to.write_str(" |")?;
            let maps = look::Maps::now(self);
            look::maps(self, &maps, to)?;
            if !show.swaps {
                look::resident(self, &maps, to)?;
            }
            if sizes { look::sizes(self, to) } else { Ok(()) }
        })
    }

    /// A call that gives zero or an error.
    fn done(board: &mut Board, value: i64) -> fmt::Result {
        if value == -1 { write!(board, " e{}", errno()) } else { write!(board, " {value}") }
    }

    /// A call that gives an address; what is outside the window goes away again.
    fn placed(&self, board: &mut Board, at: i64, bytes: u64) -> fmt::Result {
        if at == -1 {
            return write!(board, " e{}", errno());
        }
        let offset = at - self.base as i64;
        if (-1024..1024).contains(&(offset / 4096)) {
            return write!(board, " w{}", offset / 4096);
        }
        let pages = bytes.div_ceil(4096);
        board.write_str(" elsewhere")?;
        for page in 0..pages.min(PAGES) {
            board.write_str(" ")?;
            look::loaded(at as u64 + page * 4096, board)?;
        }
        // SAFETY: what the call before has made, and nobody else knows.
        Self::done(board, i64::from(unsafe { libc::munmap(at as *mut _, bytes as usize) }))
    }

    fn take(&mut self, step: &Step, index: usize, show: Show, board: &mut Board) -> fmt::Result {
        let [a, b, c, d, e, f] = step.arguments;
        let at = self.address(a);
        // SAFETY: the generator's addresses lie in the window, in the heap behind its first end, or where the kernel has to
        // refuse them; this process has nothing there that it needs.
        unsafe {
            let call = |number, arguments: [u64; 6]| {
                let [a, b, c, d, e, f] = arguments;
                libc::syscall(number, a, b, c, d, e, f)
            };
            match step.call {
                Call::Mmap => {
                    let value = call(libc::SYS_mmap, [at, b, c, d, self.file(e) as u64, f]);
                    self.placed(board, value, b)
                }
                Call::Mremap => {
                    let value = call(libc::SYS_mremap, [at, b, c, d, self.address(e), 0]);
                    let split = value == -1 && errno() == libc::EFAULT;
                    self.placed(board, value, c)?;
                    if d & libc::MREMAP_DONTUNMAP as u64 != 0 {
                        // Linux unlocks the whole mapping, with what it joins the copy to, and goes on counting it.
                        self.lock_miscounted = true;
                        call(libc::SYS_munlockall, [0; 6]);
                    }
                    if split { look::seams(at, b, board) } else { Ok(()) }
                }
                Call::Shmat => {
                    let value = call(libc::SYS_shmat, [self.segment as u64, at, b, 0, 0, 0]);
                    self.placed(board, value, 0)?;
                    if value != -1 && (value - self.base as i64).unsigned_abs() > 1 << 22 {
                        libc::syscall(libc::SYS_shmdt, value);
                    }
                    Ok(())
                }
                Call::Munmap => Self::done(board, call(libc::SYS_munmap, [at, b, 0, 0, 0, 0])),
                Call::Mprotect => {
                    // With PROT_GROWSDOWN it begins where the mapping does.
                    let seam = c & u64::from(libc::PROT_GROWSDOWN as u32) != 0
                        && look::are_apart(self.base, at + 1 - self.base);
                    Self::done(board, call(libc::SYS_mprotect, [at, b, c, 0, 0, 0]))?;
                    if seam { board.write_str(look::SEAM) } else { Ok(()) }
                }
                Call::Madvise => {
                    let value = call(libc::SYS_madvise, [at, b, c, 0, 0, 0]);
                    Self::done(board, value)?;
                    let then = match c as i32 {
                        // Freed contents may stay or go, as the system likes: here they go.
                        libc::MADV_FREE => Some(libc::MADV_DONTNEED),
                        // Hints split mappings on Linux, which only a later mremap shows.
                        libc::MADV_RANDOM | libc::MADV_SEQUENTIAL => Some(libc::MADV_NORMAL),
                        libc::MADV_DONTDUMP => Some(libc::MADV_DODUMP),
                        libc::MADV_MERGEABLE => Some(libc::MADV_UNMERGEABLE),
                        _ => None,
                    };
                    then.inspect(|&then| _ = call(libc::SYS_madvise, [at, b, then as u64, 0, 0, 0]));
                    Ok(())
                }
                Call::Mlock => Self::done(board, call(libc::SYS_mlock, [at, b, 0, 0, 0, 0])),
                Call::Mlock2 => Self::done(board, call(libc::SYS_mlock2, [at, b, c, 0, 0, 0])),
                Call::Munlock => Self::done(board, call(libc::SYS_munlock, [at, b, 0, 0, 0, 0])),
                Call::Mlockall => {
                    let value = call(libc::SYS_mlockall, [a, 0, 0, 0, 0, 0]);
                    self.all_locked |= a & 1 != 0 && value == 0;
                    Self::done(board, value)
                }
                Call::Munlockall => {
                    self.all_locked = false;
                    Self::done(board, call(libc::SYS_munlockall, [0; 6]))
                }
                Call::Msync => Self::done(board, call(libc::SYS_msync, [at, b, c, 0, 0, 0])),
                Call::Mincore => self.mincore(at, b, self.address(c), show, board),
                Call::Brk => {
                    let value = call(libc::SYS_brk, [at, 0, 0, 0, 0, 0]) - self.heap as i64;
                    write!(board, " h{value:+}")
                }
                Call::Shmdt => Self::done(board, call(libc::SYS_shmdt, [at, 0, 0, 0, 0, 0])),
                Call::Store => (0..b).try_for_each(|page| {
                    for word in [0, 4088] {
                        match touch::store(at + page * 4096 + word, tag(index, page)) {
                            Ok(()) => board.write_str(if word == 0 { " ok" } else { "" })?,
                            Err(why) => {
                                board.write_str(" ")?;
                                look::refused(why, board)?;
                            }
                        }
                    }
                    Ok(())
                }),
                Call::Load => (0..b).try_for_each(|page| {
                    board.write_str(" ")?;
                    look::loaded(at + page * 4096, board)?;
                    board.write_str(":")?;
                    look::loaded(at + page * 4096 + 4088, board)
                }),
                Call::Run => Self::jump(at, board),
                Call::Pread | Call::Pwrite if look::shows(self.address(b), c, self.name(a)) => {
                    // In which pieces, and from which end, is the system's affair.
                    board.write_str(" not copied onto itself")
                }
                Call::Pread => {
                    Self::done(board, call(libc::SYS_pread64, [self.file(a) as u64, self.address(b), c, d, 0, 0]))
                }
                Call::Pwrite => {
                    // What a write that cannot read its source leaves in a file of tmpfs is another thing since Linux 6.16: a page, and
                    // a length. So it is only told to write what can be read.
                    let from = self.address(b);
                    let bytes = touch::readable(from, c);
                    if bytes < c {
                        write!(board, " {bytes} readable")?;
                    }
                    if bytes == 0 && c != 0 {
                        return Ok(());
                    }
                    Self::done(board, call(libc::SYS_pwrite64, [self.file(a) as u64, from, bytes, d, 0, 0]))
                }
                Call::PipeWrite => {
                    let mut copy = [0u8; 16 * PAGE];
                    let value = self.into_pipe(at, (b as usize).min(copy.len()));
                    let copy = &mut copy[..value.max(0) as usize];
                    self.out_of_pipe(copy);
                    if value < 0 { write!(board, " e{}", -value) } else { write!(board, " {value}") }?;
                    let mut digest = Digest::new();
                    digest.add(copy);
                    write!(board, " #{:08x}", digest.0 as u32)
                }
                Call::Ftruncate => Self::done(board, call(libc::SYS_ftruncate, [self.file(a) as u64, b, 0, 0, 0, 0])),
                Call::Fallocate => Self::done(board, call(libc::SYS_fallocate, [self.file(a) as u64, b, c, d, 0, 0])),
                Call::AddSeals => {
                    let file = self.file(a);
                    Self::done(board, i64::from(libc::fcntl(file, libc::F_ADD_SEALS, b as i32)))?;
                    Self::done(board, i64::from(libc::fcntl(file, libc::F_GET_SEALS)))
                }
                Call::Lseek if show.pages_out && matches!(c as i32, libc::SEEK_HOLE | libc::SEEK_DATA) => {
                    board.write_str(" not asked for")
                }
                Call::Lseek => Self::done(board, libc::lseek(self.file(a), b as i64, c as i32)),
                Call::Limit if show.moves_stacks && a as u32 == libc::RLIMIT_STACK => board.write_str(" left alone"),
                Call::Limit => {
                    let now = Sizes::now();
                    let used = match a as u32 {
                        libc::RLIMIT_AS => now.of[0] as u64 * 1024,
                        libc::RLIMIT_DATA => now.of[2] as u64 * 1024,
                        libc::RLIMIT_MEMLOCK => now.of[1] as u64 * 1024,
                        _ => 0,
                    };
                    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
                    libc::getrlimit(a as u32, &raw mut limit);
                    limit.rlim_cur = used + b;
                    Self::done(board, i64::from(libc::setrlimit(a as u32, &raw const limit)))
                }
                Call::LookByLoads => {
                    let pages = look::worth_a_look(self);
                    words(show, board, |to| look::by_loads(self, pages, to))
                }
                Call::LookByKernel => {
                    let pages = look::worth_a_look(self);
                    words(show, board, |to| look::by_kernel(self, pages, to))
                }
                // An end without a child, and what `run` does itself.
                Call::Exit | Call::Fork => Ok(()),
            }
        }
    }

    fn mincore(&self, at: u64, bytes: u64, to: u64, show: Show, board: &mut Board) -> fmt::Result {
        let mut answer = [9u8; 4096];
        let own = to == Address::Raw(1).encode();
        // In a child the answer says which pages it has of its own: what was only read, Linux copies for some mappings.
        if (show.swaps || self.is_child) && !own {
            return board.write_str(" not asked for");
        }
        let to = if own { answer.as_mut_ptr() as u64 } else { to };
        // SAFETY: the answer has a byte for each page that the generator asks for.
        let value = unsafe { libc::syscall(libc::SYS_mincore, at, bytes, to) };
        Self::done(board, value)?;
        if !own || show.swaps {
            return Ok(());
        }
        let own = look::own_pages(self, at);
        board.write_str(" ")?;
        answer[..128].iter().enumerate().try_for_each(|(page, byte)| match own >> page & 1 {
            0 => board.write_char(char::from(b'0' + byte % 10)),
            _ => board.write_char('p'),
        })
    }

    /// Runs what is at an address where that is harmless: where it cannot be read, it cannot be run.
    fn jump(at: u64, board: &mut Board) -> fmt::Result {
        board.write_str(" ")?;
        match touch::load(at) {
            Ok(touch::RETURN) | Err(_) => match touch::jump(at) {
                Ok(()) => board.write_str("ran"),
                Err(why) => look::refused(why, board),
            },
            Ok(_) => {
                // Code for the next time.
                match touch::store(at, touch::RETURN) {
                    Ok(()) => board.write_str("written"),
                    Err(why) => look::refused(why, board),
                }
            }
        }
    }
}
