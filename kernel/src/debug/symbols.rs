//! Names for addresses, from the kernel's own ELF file.
//!
//! The loader does not load symbols, so the file itself is read, at the time of the report, from QEMU's firmware configuration
//! device: `-fw_cfg name=opt/quire/kernel,file=KERNEL`. Without that the addresses stand alone. The layout is that of QEMU's
//! `docs/specs/fw_cfg.rst`.

use core::cell::UnsafeCell;
use core::fmt::Write;
use core::sync::atomic::{Ordering, compiler_fence};
use quire_arch::backtrace::DEPTH;
use quire_base::layout::virt_to_phys;
use rustc_demangle::demangle;
use x86::io::{inb, outl, outw};

const SIGNATURE: u16 = 0;
const FEATURES: u16 = 1;
const DIRECTORY: u16 = 0x19;

const DMA_ERROR: u32 = 1;
const DMA_READ: u32 = 2;
const DMA_SKIP: u32 = 4;
const DMA_SELECT: u32 = 8;

/// Bytes of a symbol, and how many are read at once.
const SYMBOL: usize = 24;
const SYMBOLS: usize = 170;

/// What the device reads and writes by itself. It lies in the image, so its physical addresses have no gaps.
#[repr(C, align(4096))]
struct Shared {
    /// Control, length, address: big-endian.
    request: [u32; 4],
    data: [u8; SYMBOL * SYMBOLS],
}
struct Buffer(UnsafeCell<Shared>);
// SAFETY: one report is written at a time, and a panic stops all others first.
unsafe impl Sync for Buffer {}
static BUFFER: Buffer = Buffer(UnsafeCell::new(Shared { request: [0; 4], data: [0; SYMBOL * SYMBOLS] }));

fn select(selector: u16) {
    // SAFETY: the selector port of the firmware configuration device; without the device nobody listens.
    unsafe { outw(0x510, selector) };
}

fn read_port(to: &mut [u8]) {
    for b in to {
        // SAFETY: its data port.
        *b = unsafe { inb(0x511) };
    }
}

/// Lets the device do one thing with `length` bytes. False: it refused.
fn transfer(control: u32, length: usize) -> bool {
    let shared = BUFFER.0.get();
    // SAFETY: see `Buffer`; the device is done when the last port write returns.
    unsafe {
        let at = virt_to_phys((&raw const (*shared).data).cast());
        let words = [control, length as u32, (at >> 32) as u32, at as u32].map(u32::to_be);
        (&raw mut (*shared).request).write_volatile(words);
        let request = virt_to_phys(shared.cast());
        compiler_fence(Ordering::SeqCst);
        outl(0x514, ((request >> 32) as u32).to_be());
        outl(0x518, (request as u32).to_be());
        compiler_fence(Ordering::SeqCst);
        u32::from_be((&raw const (*shared).request).read_volatile()[0]) & DMA_ERROR == 0
    }
}

/// A file of the device.
struct File {
    selector: u16,
}

impl File {
    fn open(name: &[u8]) -> Option<File> {
        let mut word = [0; 4];
        select(SIGNATURE);
        read_port(&mut word);
        if &word != b"QEMU" {
            return None;
        }
        select(FEATURES);
        read_port(&mut word);
        if u32::from_le_bytes(word) & 2 == 0 {
            return None;
        }
        select(DIRECTORY);
        read_port(&mut word);
        for _ in 0..u32::from_be_bytes(word).min(1000) {
            let mut entry = [0u8; 64];
            read_port(&mut entry);
            if entry[8..].starts_with(name) && entry[8 + name.len()] == 0 {
                return Some(File { selector: u16::from_be_bytes([entry[4], entry[5]]) });
            }
        }
        None
    }

    /// The `len` bytes from `at` on; zeros where the file has none. They change with the next call.
    fn bytes(&self, at: u64, len: usize) -> &[u8] {
        let len = len.min(SYMBOL * SYMBOLS);
        let selected = (self.selector as u32) << 16 | DMA_SELECT | DMA_SKIP;
        let ok = transfer(selected, at as usize) && transfer(DMA_READ, len);
        // SAFETY: see `Buffer`; the device is done with it.
        let data = unsafe { &(*BUFFER.0.get()).data };
        if ok { &data[..len] } else { &[] }
    }

    fn read<const N: usize>(&self, at: u64) -> [u8; N] {
        let mut copy = [0; N];
        let bytes = self.bytes(at, N);
        copy[..bytes.len()].copy_from_slice(bytes);
        copy
    }
}

fn word(b: &[u8], at: usize) -> u64 {
    b[at..at + 8].iter().rev().fold(0, |v, &b| v << 8 | b as u64)
}
fn half(b: &[u8], at: usize) -> u64 {
    b[at..at + 4].iter().rev().fold(0, |v, &b| v << 8 | b as u64)
}

/// The best symbol so far for one address.
#[derive(Clone, Copy, Default)]
struct Best {
    value: u64,
    name: u64,
}

/// Finds the functions of `frames`; returns where the names are in the file.
fn find(file: &File, frames: &[u64], best: &mut [Best]) -> u64 {
    const FUNCTION: u8 = 2;
    let header: [u8; 64] = file.read(0);
    let (sections, count) = (word(&header, 40), u16::from_le_bytes([header[60], header[61]]));
    let (mut table, mut size, mut link) = (0, 0, 0);
    for i in 0..u64::from(count) {
        let s: [u8; 64] = file.read(sections + i * 64);
        if half(&s, 4) == 2 {
            (table, size, link) = (word(&s, 24), word(&s, 32), half(&s, 40));
        }
    }
    if table == 0 {
        return 0;
    }
    let step = (SYMBOL * SYMBOLS) as u64;
    for at in (0..size).step_by(SYMBOL * SYMBOLS) {
        let symbols = file.bytes(table + at, step.min(size - at) as usize);
        for s in symbols.chunks_exact(SYMBOL).filter(|s| s[4] & 15 == FUNCTION) {
            let value = word(s, 8);
            for (b, &f) in best.iter_mut().zip(frames) {
                if value <= f && value > b.value {
                    *b = Best { value, name: half(s, 0) };
                }
            }
        }
    }
    let s: [u8; 64] = file.read(sections + link * 64);
    word(&s, 24)
}

/// Prints each address with its function.
pub fn print(out: &mut dyn Write, frames: &[u64]) {
    let mut best = [Best::default(); DEPTH];
    let file = if frames.is_empty() { None } else { File::open(b"opt/quire/kernel") };
    let Some(file) = file else {
        for f in frames {
            let _ = writeln!(out, "  {f:#018x}");
        }
        return;
    };
    let strings = find(&file, frames, &mut best);
    for (b, &f) in best.iter().zip(frames) {
        let name: [u8; 200] = if b.value == 0 { [0; 200] } else { file.read(strings + b.name) };
        let end = name.iter().position(|&c| c == 0).unwrap_or(name.len());
        let text = core::str::from_utf8(&name[..end]).unwrap_or("?");
        let _ = writeln!(out, "  {f:#018x} {:#}+{:#x}", demangle(text), f.wrapping_sub(b.value));
    }
}
