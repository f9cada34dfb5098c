//! What a program shows: its mappings, its counters, what is in memory, contents. No look allocates memory.

use std::cell::UnsafeCell;
use std::fmt::{self, Write};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::run::World;
use super::{PAGES, touch};
use crate::PAGE;

/// Text in memory that a parent and its children share, so that nothing is lost when one of them is killed.
#[derive(Debug)]
pub struct Board(&'static Shared);

#[repr(C)]
#[derive(Debug)]
struct Shared {
    length: AtomicUsize,
    bytes: UnsafeCell<[u8; SIZE]>,
}

const SIZE: usize = 1 << 20;

impl Board {
    /// An empty one, for as long as the process lives.
    pub fn shared() -> Self {
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: fresh memory, all zeros, which is an empty board.
        unsafe {
            let at = libc::mmap(std::ptr::null_mut(), size_of::<Shared>(), 3, flags, -1, 0);
            crate::check!(at != libc::MAP_FAILED, "mmap of a board: {}", std::io::Error::last_os_error());
            Self(&*at.cast())
        }
    }

    /// Nothing on it.
    pub fn clear(&mut self) {
        self.0.length.store(0, Ordering::Relaxed);
    }

    /// What is on it.
    pub fn text(&self) -> &[u8] {
        // SAFETY: nobody writes while it is read: one process at a time uses a board.
        let bytes = unsafe { &*self.0.bytes.get() };
        &bytes[..self.0.length.load(Ordering::Relaxed)]
    }
}

impl Write for Board {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let length = self.0.length.load(Ordering::Relaxed);
        // SAFETY: as in `text`.
        let bytes = unsafe { &mut *self.0.bytes.get() };
        bytes.get_mut(length..length + text.len()).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.0.length.store(length + text.len(), Ordering::Relaxed);
        Ok(())
    }
}

/// A number that stands for what is written to it (FNV-1a).
pub struct Digest(pub u64);

impl Digest {
    /// Of nothing.
    pub fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// Of these bytes, too.
    pub fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}

impl Default for Digest {
    fn default() -> Self {
        Self::new()
    }
}

impl Write for Digest {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.add(text.as_bytes());
        Ok(())
    }
}

struct Buffer<const N: usize>(UnsafeCell<[u8; N]>);
// SAFETY: programs have one thread.
unsafe impl<const N: usize> Sync for Buffer<N> {}
static FILE: Buffer<{ 1 << 18 }> = Buffer(UnsafeCell::new([0; 1 << 18]));

/// A file of /proc, whole.
pub fn read_proc(path: &std::ffi::CStr) -> &'static str {
    // SAFETY: one thread, and each user is done with the text before it reads the next file.
    let buffer = unsafe { &mut *FILE.0.get() };
    let mut length = 0;
    // SAFETY: a name that ends with zero; reads go into the buffer.
    unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_RDONLY);
        loop {
            let n = libc::read(fd, buffer[length..].as_mut_ptr().cast(), buffer.len() - length);
            if n <= 0 {
                break;
            }
            length += n as usize;
        }
        libc::close(fd);
    }
    std::str::from_utf8(&buffer[..length]).unwrap_or("")
}

/// Sizes of the address space, in KiB.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sizes {
    /// VmSize, VmLck, VmData, VmStk.
    pub of: [i64; 4],
}

impl Sizes {
    /// As they are.
    pub fn now() -> Self {
        let mut sizes = Self::default();
        for line in read_proc(c"/proc/self/status").lines() {
            for (name, size) in ["VmSize:", "VmLck:", "VmData:", "VmStk:"].iter().zip(&mut sizes.of) {
                if let Some(rest) = line.strip_prefix(name) {
                    *size = rest.trim().trim_end_matches(" kB").parse().unwrap_or(-1);
                }
            }
        }
        sizes
    }
}

/// A line of `/proc/self/maps`.
#[derive(Clone, Copy)]
struct Line<'a> {
    start: u64,
    end: u64,
    rights: &'a str,
    offset: u64,
    name: &'a str,
}

impl<'a> Line<'a> {
    fn parse(text: &'a str) -> Self {
        let mut words = text.splitn(6, ' ');
        let mut word = || words.next().unwrap_or("");
        let (range, rights, offset) = (word(), word(), word());
        let (_, _, name) = (word(), word(), word().trim());
        let (start, end) = range.split_once('-').unwrap_or(("", ""));
        let hex = |text: &str| u64::from_str_radix(text, 16).unwrap_or(0);
        let name = if name.contains("/differ") { "file" } else { name };
        // A private mapping of /dev/zero is anonymous memory, whatever name and offset it shows.
        let name = if name == "[heap]" || name == "/dev/zero" { "" } else { name };
        Line { start: hex(start), end: hex(end), rights, offset: hex(offset), name }
    }

    /// Whether it is private and shows no file.
    fn is_own(&self) -> bool {
        self.rights.ends_with('p') && self.name.is_empty()
    }

    /// Whether it only goes on with what the line before it says.
    fn continues(&self, before: &Line<'_>) -> bool {
        before.end == self.start
            && before.rights == self.rights
            && before.name == self.name
            && (self.name.is_empty() || before.offset + before.end - before.start == self.offset)
    }
}

/// All of them.
fn lines() -> impl Iterator<Item = Line<'static>> {
    read_proc(c"/proc/self/maps").lines().map(Line::parse)
}

/// The lines of `/proc/self/maps` in and around the window and at the heap's end, as they were at one moment: until another file of
/// /proc is read.
pub struct Maps {
    lines: [Line<'static>; 128],
    count: usize,
}

impl Maps {
    /// As they are.
    pub fn now(world: &World) -> Self {
        let mut maps = Maps { lines: [Line { start: 0, end: 0, rights: "", offset: 0, name: "" }; 128], count: 0 };
        let window = |line: &Line<'_>| {
            line.start < world.base + (PAGES + AROUND) * 4096 && line.end > world.base - AROUND * 4096
        };
        let heap = |line: &Line<'_>| line.start < world.heap + HEAP && line.end > world.heap;
        let shown = lines().filter(|line| window(line) || heap(line));
        for (place, line) in maps.lines.iter_mut().zip(shown) {
            *place = line;
            maps.count += 1;
        }
        maps
    }

    /// Each line with its pages in the window, where it has some.
    fn in_window(&self, world: &World) -> impl Iterator<Item = (&Line<'static>, Range<u64>)> {
        let base = world.base;
        let page = move |at: u64| (at.clamp(base, base + PAGES * 4096) - base) / 4096;
        let lines = self.lines[..self.count].iter();
        lines.map(move |line| (line, page(line.start)..page(line.end))).filter(|(_, pages)| !pages.is_empty())
    }
}

/// The mappings; equal neighbours as one.
pub fn maps(world: &World, maps: &Maps, to: &mut dyn Write) -> fmt::Result {
    let show = |line: &Line<'_>, to: &mut dyn Write| {
        let (base, from) = if line.start >= world.heap && line.start < world.heap + HEAP {
            ("h", world.heap)
        } else {
            ("w", world.base)
        };
        let page = |at: u64| (at as i64 - from as i64) / PAGE as i64;
        write!(to, " {base}{}..{} {}", page(line.start), page(line.end), line.rights)?;
        if line.name.is_empty() { Ok(()) } else { write!(to, " {:x} {}", line.offset / PAGE as u64, line.name) }
    };
    let mut last: Option<Line<'_>> = None;
    for mut line in maps.lines[..maps.count].iter().copied() {
        if line.start < world.heap && line.end > world.heap {
            line.start = world.heap;
        }
        match &mut last {
            Some(before) if line.continues(before) => before.end = line.end,
            _ => {
                if let Some(before) = &last {
                    show(before, to)?;
                }
                last = Some(line);
            }
        }
    }
    last.map_or(Ok(()), |line| show(&line, to))
}

fn lines_in(from: u64, bytes: u64) -> impl Iterator<Item = Line<'static>> {
    lines().filter(move |line| line.end > from && line.start < from.saturating_add(bytes))
}

/// Whether a range has equal neighbours that are nevertheless several lines: mappings that the system keeps apart.
pub fn are_apart(from: u64, bytes: u64) -> bool {
    let mut last: Option<Line<'_>> = None;
    lines_in(from, bytes).any(|line| last.replace(line).is_some_and(|before| line.continues(&before)))
}

/// Says so where they are.
pub fn seams(from: u64, bytes: u64, to: &mut dyn Write) -> fmt::Result {
    if are_apart(from, bytes) { to.write_str(SEAM) } else { Ok(()) }
}

/// Whether a range shows a file.
pub fn shows(from: u64, bytes: u64, name: &str) -> bool {
    lines_in(from, bytes).any(|line| line.name == name)
}

/// What [`seams`] says.
pub const SEAM: &str = " of equal neighbours";

/// Pages around the window that count, too: what grows down may leave it.
const AROUND: u64 = 600;
/// Bytes behind the heap's first end that count.
const HEAP: u64 = 1 << 24;

/// How the sizes differ from those at the beginning.
pub fn sizes(world: &World, to: &mut dyn Write) -> fmt::Result {
    let now = Sizes::now();
    for (index, name) in ["size", "locked", "data", "stack"].iter().enumerate() {
        if index == LOCKED && (world.all_locked || world.lock_miscounted) {
            continue;
        }
        match now.of[index] - world.sizes.of[index] {
            0 => {}
            more => write!(to, " {name}{more:+}K")?,
        }
    }
    Ok(())
}

/// VmLck among the sizes.
const LOCKED: usize = 1;

/// In a child, a bit for each of the 128 pages from an address on that are private and show no file. Whether a fork copies the zeros
/// there that were only read depends on what was ever done to that mapping, on Linux, so nothing is told of them.
pub fn own_pages(world: &World, from: u64) -> u128 {
    let mut own = 0;
    if !world.is_child {
        return own;
    }
    for line in lines().filter(Line::is_own) {
        let page = |at: u64| (at.max(from) - from) / PAGE as u64;
        (page(line.start)..page(line.end).min(128)).for_each(|page| own |= 1 << page);
    }
    own
}

/// Which pages of the window `mincore` calls resident; in a child, nothing of those of [`own_pages`].
pub fn resident(world: &World, maps: &Maps, to: &mut dyn Write) -> fmt::Result {
    let mut seen = [b'-'; PAGES as usize];
    for (line, pages) in maps.in_window(world) {
        let of = &mut seen[pages.start as usize..pages.end as usize];
        if world.is_child && line.is_own() {
            of.fill(b'p');
            continue;
        }
        let mut bytes = [9u8; PAGES as usize];
        let at = (world.base + pages.start * 4096) as *mut _;
        // SAFETY: a byte for each page.
        let done = unsafe { libc::mincore(at, of.len() * PAGE, bytes.as_mut_ptr()) };
        of.iter_mut().zip(bytes).for_each(|(page, byte)| *page = if done != 0 { b'?' } else { b'0' + (byte & 1) });
    }
    write!(to, " in {}", std::str::from_utf8(&seen).unwrap_or(""))
}

/// The pages of the window at which a look is worth its time, each a bit: what is mapped, the pages beside, and some of the others.
pub fn worth_a_look(world: &World) -> u64 {
    let mut mapped = 0u64;
    Maps::now(world).in_window(world).for_each(|(_, pages)| pages.for_each(|page| mapped |= 1 << page));
    mapped | mapped << 1 | mapped >> 1 | 0x0101_0101_0101_0101
}

fn pages_of(bits: u64) -> impl Iterator<Item = u64> {
    (0..PAGES).filter(move |page| bits >> page & 1 != 0)
}

/// The contents of some pages of the window by loads, which bring them in.
pub fn by_loads(world: &World, pages: u64, to: &mut dyn Write) -> fmt::Result {
    pages_of(pages).try_for_each(|page| {
        to.write_char(' ')?;
        loaded(world.base + page * 4096, to)
    })
}

/// What a load at an address gives.
pub fn loaded(at: u64, to: &mut dyn Write) -> fmt::Result {
    match touch::load(at) {
        Ok(value) => show(value, to),
        Err(why) => refused(why, to),
    }
}

/// A word: who wrote it.
pub fn show(value: u64, to: &mut dyn Write) -> fmt::Result {
    match value {
        0 => to.write_char('0'),
        touch::RETURN => to.write_str("ret"),
        value if value >> 48 == 0x51ee => write!(to, "{}.{}", value >> 16 & 0xffff_ffff, value & 0xffff),
        value => write!(to, "{value:x}"),
    }
}

/// Why not.
pub fn refused(why: touch::Refused, to: &mut dyn Write) -> fmt::Result {
    match (why.signal, why.code, why.named) {
        (libc::SIGSEGV, 1, true) => to.write_char('-'),
        (libc::SIGSEGV, 2, true) => to.write_char('x'),
        (libc::SIGBUS, 2, true) => to.write_char('!'),
        (signal, code, named) => write!(to, "signal {signal} code {code}{}", if named { "" } else { " elsewhere" }),
    }
}

/// The contents of some pages of the window as the kernel copies them, eight bytes of each.
pub fn by_kernel(world: &World, pages: u64, to: &mut dyn Write) -> fmt::Result {
    let mut words = [0u64; PAGES as usize];
    let mut copied = [0; PAGES as usize];
    pages_of(pages).for_each(|page| copied[page as usize] = world.into_pipe(world.base + page * 4096, 8));
    world.out_of_pipe(&mut words[..copied.iter().filter(|&&n| n == 8).count()]);
    let mut words = words.iter();
    pages_of(pages).try_for_each(|page| match copied[page as usize] {
        8 => {
            to.write_char(' ')?;
            show(*words.next().unwrap_or(&0), to)
        }
        n if n < 0 => write!(to, " e{}", -n),
        n => write!(to, " {n} bytes"),
    })
}
